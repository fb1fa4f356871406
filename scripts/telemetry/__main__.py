"""Tries traces and metrics for real; `scripts/try-telemetry` starts this. Standard library only.

Kontor runs with a small model, an OpenTelemetry Collector and a Prometheus beside it, both with what lies in deploy/.
All of them have free ports and one folder.
"""

import os
import pathlib
import sys

# Before the modules of installed packages, which may have the same names, and behind this folder's own.
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "trial"))  # what trials have in common

import metrics
import traces
from collector import Backend, Collector
from kontor import Kontor
from prometheus import Prometheus
from trial import CACHE, REPOSITORY, run


def trial(report, program, folder):
    with (
        Backend() as backend,
        Collector(os.environ["OTELCOL"], REPOSITORY, folder, backend) as collector,
        Kontor(program, REPOSITORY, CACHE, folder, collector.endpoint) as kontor,
        Prometheus(REPOSITORY, folder, kontor.metrics) as prometheus,
    ):
        report.head("What is shipped")
        metrics.shipped(report, prometheus)
        collector.ready()
        prometheus.ready()
        kontor.prepare()
        report.head("Requests")
        sent = traces.send(kontor, report)
        report.head("Traces at the Collector")
        traces.check(report, sent, collector, backend, kontor)
        report.head("Metrics at Prometheus")
        metrics.scraped(report, prometheus, kontor)
        metrics.counted(report, prometheus, sent)
        metrics.alerts(report, prometheus)
        metrics.dashboards(report, prometheus)
        report.head("When Kontor ends")
        traces.at_the_end(report, kontor, collector)
        metrics.down(report, prometheus)
        report.head("Logs")
        for process in (collector.process, kontor.process, prometheus.process):
            complaints = process.complaints()
            report.check(f"{process.name} complains of nothing", not complaints, "\n  ".join(complaints[:5]))


if __name__ == "__main__":
    run("try-telemetry", trial)
