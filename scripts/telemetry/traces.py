"""What must be in the Collector's file after the requests of the trial."""

import time

from collector import KEY
from kontor import MARK, Trace, usage_of_stream
from processes import until
from product import MODEL

EDGE, FUNNEL, ATTEMPT, GENERATE = "POST /v1/chat/completions", f"chat {MODEL}", f"attempt {MODEL}", f"generate {MODEL}"
PHASES = ("queue", "prefill", "decode")
# name: service, kind, name of the span above it
CHAIN = {
    EDGE: ("kontor", "server", None),
    FUNNEL: ("kontor", "internal", EDGE),
    ATTEMPT: ("kontor", "client", FUNNEL),
    GENERATE: ("kontor-worker", "server", ATTEMPT),
    **{phase: ("kontor-worker", "internal", GENERATE) for phase in PHASES},
}
# request: its status, and why
REFUSED = {"unknown model": (404, "model_not_found"), "no money": (429, "budget")}
# Two processes read the clock, and one ends its span when it has heard of the other's end.
SLACK_NS = 100_000_000
SEE = "crates/telemetry makes spans, server/src/http/trace.rs the edge's, crates/inference/src/observe the funnel's, crates/worker/src/server the worker's"


def send(kontor, report):
    """All requests of the trial; what they were answered, for the checks."""
    whole, stream, unknown, poor, unsampled = Trace(), Trace(), Trace(), Trace(), Trace(sampled=False)
    sent = {"whole": (whole, kontor.complete(whole)), "unsampled": (unsampled, kontor.complete(unsampled)), "own": (None, kontor.complete())}
    sent["stream"] = (stream, kontor.complete(stream, stream=True, stream_options={"include_usage": True}))
    sent["unknown model"] = (unknown, kontor.complete(unknown, model=f"model-{MARK}"))
    sent["no money"] = (poor, kontor.complete(poor, key=kontor.poor))
    for name, (_, answer) in sent.items():
        status, _ = REFUSED.get(name, (200, ""))
        report.equal(f"request {name!r} is answered with", answer.status, status, answer.body.decode(errors="replace")[:500])
    return sent


def chain(report, collector, trace, parent, title):
    """One span of each kind, below one another; by name."""
    spans = collector.wait_for(trace, *CHAIN)
    named = {span.name: span for span in spans}
    report.equal(f"{title}: spans", sorted(span.name for span in spans), sorted(CHAIN), SEE)
    for name, (service, kind, above) in CHAIN.items():
        span, expected = named[name], parent if above is None else named[above].id
        found = (span.service, span.kind, span.parent, span.failed)
        what = f"{title}: {name!r} is of {service} ({kind}), below {repr(above) if above else 'the caller'}"
        report.check(what, found == (service, kind, expected, False), f"{found}, expected parent {expected}", SEE)
    lies_within(report, named, title)
    return named


def lies_within(report, named, title):
    """Times make sense: nothing begins before what it is part of, nothing goes on after it, phases follow one another."""
    for name, (_, _, above) in CHAIN.items():
        if above is not None:
            inner, outer = named[name], named[above]
            early, late = (outer.begin - inner.begin) / 1e6, (inner.end - outer.end) / 1e6
            what = f"{title}: {name!r} lies within {above!r}"
            report.check(what, max(early, late) * 1e6 <= SLACK_NS, f"it begins {early:.1f} ms before, ends {late:.1f} ms after", SEE)
    queue, prefill, decode = (named[phase] for phase in PHASES)
    report.check(f"{title}: queue, prefill and decode follow one another", queue.end <= prefill.begin and prefill.end <= decode.begin, do=SEE)


def figures(report, named, answer, usage, title):
    """The attributes tell what the caller was told."""
    edge, funnel, worker = (named[name].attributes for name in (EDGE, FUNNEL, GENERATE))
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "kontor",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 16,
        "gen_ai.request.temperature": 0,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.id": answer.headers["x-kontor-usage-id"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "kontor.purpose": "api",
        "kontor.outcome": "ok",
        "kontor.attempts": 1,
    }
    for name, wanted in expected.items():
        report.equal(f"{title}: {name}", funnel.get(name), wanted, SEE)
    for name in ("gen_ai.response.finish_reasons", "gen_ai.response.time_to_first_chunk", "kontor.cost", "kontor.tenant.id"):
        report.check(f"{title}: {name} ({funnel.get(name)})", funnel.get(name), do=SEE)
    expected = {"kontor.prompt_tokens": usage["prompt_tokens"], "kontor.cached_tokens": cached, "kontor.completion_tokens": usage["completion_tokens"]}
    for name, wanted in expected.items():
        report.equal(f"{title}: the worker's {name}", worker.get(name), wanted, SEE)
    path = "/v1/chat/completions"
    expected = {"http.request.method": "POST", "http.route": path, "http.response.status_code": 200, "url.path": path, "url.scheme": "http"}
    expected["kontor.request.id"] = answer.headers["x-request-id"]
    for name, wanted in expected.items():
        report.equal(f"{title}: the edge's {name}", edge.get(name), wanted, SEE)


def check(report, sent, collector, backend, kontor):
    trace, answer = sent["whole"]
    figures(report, chain(report, collector, trace, trace.span, "answer"), answer, answer.json()["usage"], "answer")
    trace, answer = sent["stream"]
    figures(report, chain(report, collector, trace, trace.span, "stream"), answer, usage_of_stream(answer), "stream")
    for name in REFUSED:
        refused(report, collector, name, *sent[name])
    begun_here(report, collector, sent["own"][1])
    trace, _ = sent["unsampled"]
    report.equal("a caller that does not record has no spans here", len(collector.trace(trace)), 0, SEE)
    handed_on(report, backend, sent)
    nothing_said(report, collector, backend, kontor, sent)


def refused(report, collector, name, trace, answer):
    status, why = REFUSED[name]
    # An unknown model gives no span its name.
    funnel_name = "chat" if why == "model_not_found" else FUNNEL
    named = {span.name: span for span in collector.wait_for(trace, EDGE, funnel_name)}
    edge, funnel = named[EDGE], named[funnel_name]
    report.equal(f"{name}: spans", sorted(named), [EDGE, funnel_name], SEE)
    report.equal(f"{name}: the edge's status", edge.attributes.get("http.response.status_code"), status, SEE)
    report.equal(f"{name}: the edge has the caller's request id", edge.attributes.get("kontor.request.id"), answer.headers["x-request-id"], SEE)
    report.check(f"{name}: the funnel's span lies below and is marked as failed", funnel.failed and funnel.parent == edge.id, do=SEE)
    report.equal(f"{name}: why", funnel.attributes.get("error.type"), why, SEE)


def begun_here(report, collector, answer):
    """Without a caller's trace one begins at the edge."""
    request = answer.headers["x-request-id"]
    edge = until("the trace that began here has come", 20, lambda: next((span for span in collector.spans() if span.attributes.get("kontor.request.id") == request), None))
    report.equal("without a caller's trace the edge's span is the first, above it", edge.parent, "", SEE)


def handed_on(report, backend, sent):
    """The shipped exporter reaches a backend, with the key that the Collector alone has."""
    expected = [sent[name][0] for name in ("whole", "stream", *REFUSED)]
    until("the Collector has handed the traces on", 10, lambda: all(backend.has(trace) for trace in expected))
    report.equal("the Collector hands on with the backend's key", backend.keys, {KEY}, "deploy/otel-collector/config.yaml")


def nothing_said(report, collector, backend, kontor, sent):
    """What people and models say, and keys, are in nothing that leaves."""
    said = sent["whole"][1].json()["choices"][0]["message"]["content"].strip()
    secrets = {"the question": MARK, "the answer": said[:20], "a key": kontor.key, "the other key": kontor.poor}
    report.check("the model has answered with words", len(said) > 8, repr(said))
    handed, figures = b"".join(backend.bodies), kontor.figures()
    # JSON escapes line breaks and quotes; the backend's protobuf does not.
    for name, text in secrets.items():
        held = [place for place, there in (("the file", text in collector.text()), ("the backend", text.encode() in handed), ("/metrics", text in figures)) if there]
        report.check(f"no trace and no metric has {name}", not held, f"in {', '.join(held)}", SEE)


def at_the_end(report, kontor, collector):
    """What was done right before a process ends comes as well."""
    trace = Trace()
    report.equal("a last request is answered with", kontor.complete(trace).status, 200)
    began = time.monotonic()
    kontor.process.stop()
    report.equal("Kontor ends well", kontor.process.child.returncode, 0, kontor.process.tail(5))
    chain(report, collector, trace, trace.span, f"last request ({time.monotonic() - began:.1f} s to the end)")
