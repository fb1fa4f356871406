"""What Prometheus must have after the requests of the trial."""

import re

from kontor import usage_of_stream
from processes import until
from product import MODEL
from prometheus import MAY_BE_EMPTY, promtool
from traces import REFUSED

SEE = "server/src/http/metrics.rs and crates/inference/src/observe/metrics.rs export; deploy/ asks"


def shipped(report, prometheus):
    """Before anything runs."""
    for words, file in ((("check", "config"), "prometheus.yaml"), (("test", "rules"), "alerts.test.yaml")):
        complaint = promtool(*words, prometheus.shipped / file)
        report.check(f"promtool {' '.join(words)} deploy/prometheus/{file}", not complaint, complaint)


def scraped(report, prometheus, kontor):
    report.equal("up", prometheus.becomes('up{job="kontor"}', 1.0), 1.0, "does metrics.addr listen, and is what it says in order?")
    targets, _ = prometheus.get("targets")
    target = targets["activeTargets"][0]
    report.equal("the last scrape failed with", target["lastError"], "", SEE)
    metadata, _ = prometheus.get("targets/metadata")
    plain = [one["metric"] for one in metadata if one["type"] == "unknown" or not one["help"]]
    report.check(f"{len(metadata)} metrics have a type and a description", len(metadata) > 30 and not plain, ", ".join(plain), SEE)
    odd = sorted({line.split("{")[0] for line in kontor.figures().splitlines() if re.match(r"kontor_\S+ (NaN|\+Inf|-)", line)})
    report.check("no figure is negative or no number", not odd, ", ".join(odd), SEE)


def counted(report, prometheus, sent):
    """The figures are those of what was asked."""
    answered = {name: answer for name, (_, answer) in sent.items() if name not in REFUSED}
    usages = [usage_of_stream(answer) if name == "stream" else answer.json()["usage"] for name, answer in answered.items()]
    route = 'route="/v1/chat/completions",method="POST"'
    total = {kind: sum(usage[key] for usage in usages) for kind, key in (("input", "prompt_tokens"), ("output", "completion_tokens"))}
    total["cached_input"] = sum(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
    expected = {
        f'kontor_http_requests_total{{{route},status="200"}}': len(answered),
        **{f'kontor_http_requests_total{{{route},status="{status}"}}': 1 for status, _ in REFUSED.values()},
        f'kontor_model_requests_total{{model="{MODEL}",purpose="api",outcome="ok"}}': len(answered),
        f'kontor_model_request_duration_seconds_count{{model="{MODEL}",purpose="api"}}': len(answered),
        f'kontor_model_time_to_first_token_seconds_count{{model="{MODEL}",purpose="api"}}': len(answered),
        **{f'kontor_refusals_total{{reason="{why}"}}': 1 for _, why in REFUSED.values()},
        # Also what happens for the first time is an increase.
        **{f'increase(kontor_refusals_total{{reason="{why}"}}[1h]) > bool 0': 1 for _, why in REFUSED.values()},
        "sum(kontor_worker_completion_tokens_total)": total["output"],
        "sum(kontor_worker_prompt_tokens_total)": total["input"],
        "sum(kontor_worker_answers_total)": len(answered),
        "sum(kontor_worker_failures_total)": 0,
        "sum(kontor_ledger_drift_tokens)": 0,
        "sum(kontor_ledger_rows_drift)": 0,
        # Rules come before money.
        'sum(kontor_guardrail_decisions_total{rule="trial",action="log"})': len(answered) + 1,
        **{f'kontor_model_tokens_total{{model="{MODEL}",type="{kind}"}}': tokens for kind, tokens in total.items()},
    }
    for expression, wanted in expected.items():
        report.equal(expression, prometheus.becomes(expression, float(wanted)), float(wanted), SEE)


def alerts(report, prometheus):
    """Each one is evaluated by Prometheus itself; while all is well none is about to fire."""
    written = (prometheus.shipped / "alerts.yaml").read_text().count("- alert:")
    rules = until("all alerts have been evaluated", 20, lambda: all(rule["health"] != "unknown" for rule in prometheus.alerts()) and prometheus.alerts())
    report.equal("alerts", len(rules), written, "deploy/prometheus/alerts.yaml")
    for rule in rules:
        prometheus.query(rule["query"])
    broken = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    report.check("all of them are evaluated", not broken, "; ".join(broken), "deploy/prometheus/alerts.yaml")
    stirred = [rule["name"] for rule in rules if rule["state"] != "inactive" and rule["name"] != "KontorSlowFirstToken"]
    report.check("no alert stirs while all is well", not stirred, ", ".join(stirred), "deploy/prometheus/alerts.yaml")


def dashboards(report, prometheus):
    """What Grafana would ask gets an answer with series in it."""
    for dashboard, panels in prometheus.panels().items():
        panels = [(title, query) for title, query in panels if not any(metric in query for metric in MAY_BE_EMPTY)]
        empty = [f"{title} ← {query}" for title, query in panels if not prometheus.query(query)]
        report.check(f"{dashboard}: all {len(panels)} queries have series", panels and not empty, "\n  ".join(["none in", *empty]), SEE)
    for place, values in prometheus.choices():
        report.check(f"{place} offers {', '.join(values)}", values, "nothing to choose from", SEE)


def down(report, prometheus):
    """Kontor has ended, and that is noticed."""
    report.equal("up, after the end", prometheus.becomes('up{job="kontor"}', 0.0), 0.0)
    state = lambda: next(rule["state"] for rule in prometheus.alerts() if rule["name"] == "KontorDown")
    until("KontorDown stirs", 10, lambda: state() in ("pending", "firing"))
    report.check("KontorDown stirs", True)
