"""Prometheus with the shipped configuration and alerts, and what Grafana would ask it."""

import json
import os
import shutil
import subprocess
import time
import urllib.parse

from processes import Failure, Process, ask, free_port, until

SECONDS = 1
# What Grafana puts in for its variables.
VARIABLES = {"$__rate_interval": "1m", "$model": ".*", "$worker": ".*"}
# Few machines tell what they draw.
MAY_BE_EMPTY = ("kontor_worker_device_power_watts", "kontor_worker_device_energy_joules")


class Prometheus:
    """`with` ends the process."""

    def __init__(self, repository, folder, target):
        self.shipped, self.port = repository / "deploy/prometheus", free_port()
        self.dashboards = sorted((repository / "deploy/grafana").glob("*.json"))
        config = folder / "prometheus.yaml"
        config.write_text(adapted((self.shipped / "prometheus.yaml").read_text(), target))
        shutil.copy(self.shipped / "alerts.yaml", folder)
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'prometheus'}"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        self.process = Process("prometheus", command, folder, dict(os.environ))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def ready(self):
        until("Prometheus is ready", 30, lambda: ask(f"http://127.0.0.1:{self.port}/-/ready").status == 200, self.process)

    def get(self, path, **parameters):
        """What its API says, and what it warns of."""
        told = ask(f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}").json()
        if told["status"] != "success":
            raise Failure(f"Prometheus refuses {parameters or path}: {told.get('error')}")
        return told["data"], told.get("warnings", []) + told.get("infos", [])

    def query(self, expression):
        """The series that an expression has now."""
        data, warnings = self.get("query", query=expression)
        if warnings:
            raise Failure(f"Prometheus warns of {expression}: {warnings}")
        return data["result"]

    def number(self, expression):
        """The one value of an expression; `None` if it has none."""
        series = self.query(expression)
        return float(series[0]["value"][1]) if len(series) == 1 else None

    def becomes(self, expression, expected, seconds=20):
        """Waits for a value, and says what there was last."""
        end = time.monotonic() + seconds
        while (found := self.number(expression)) != expected and time.monotonic() < end:
            time.sleep(0.3)
        return found

    def alerts(self):
        data, _ = self.get("rules")
        return [rule for group in data["groups"] for rule in group["rules"]]

    def panels(self):
        """The queries of each dashboard, with the variables put in, and the panels that ask them."""
        shown = {file.stem: json.loads(file.read_text())["panels"] for file in self.dashboards}
        return {
            dashboard: [(panel["title"], filled(target["expr"])) for panel in panels for target in panel.get("targets", [])]
            for dashboard, panels in shown.items()
        }

    def choices(self):
        """What the dashboards offer to choose from: the place, and the values."""
        for file in self.dashboards:
            for variable in json.loads(file.read_text())["templating"]["list"]:
                if variable["type"] == "query":
                    metric, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
                    data, _ = self.get(f"label/{label}/values", **{"match[]": metric})
                    yield f"{file.stem}: {variable['label']}", data


def adapted(config, target):
    """The shipped configuration for this trial: another target, and more often."""
    for shipped, ours in (
        ('["127.0.0.1:9464"]', f'["{target}"]'),
        ("scrape_interval: 15s", f"scrape_interval: {SECONDS}s"),
        ("evaluation_interval: 15s", f"evaluation_interval: {SECONDS}s"),
    ):
        if config.count(shipped) != 1:
            raise Failure(f"deploy/prometheus/prometheus.yaml has {shipped!r} {config.count(shipped)} times; the trial puts its own in the place of one")
        config = config.replace(shipped, ours)
    return config


def filled(expression):
    for name, ours in VARIABLES.items():
        expression = expression.replace(name, ours)
    if "$" in expression.replace("${1}", ""):
        raise Failure(f"a dashboard has a variable that the trial does not know: {expression}")
    return expression


def promtool(*words):
    """What it complains of; nothing if all is well."""
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip() if done.returncode else ""
