"""Tries traces and metrics for real; `scripts/try-telemetry` starts this. Standard library only.

Kontor runs with a small model, an OpenTelemetry Collector and a Prometheus beside it, both with what lies in deploy/.
All of them have free ports and one folder, which is thrown away unless something was wrong. The first thing that is
wrong ends the trial with status 1.
"""

import os
import pathlib
import shutil
import signal
import sys
import tempfile

import metrics
import traces
from collector import Backend, Collector
from kontor import FILE, Kontor
from processes import Failure
from prometheus import Prometheus
from report import Report

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ["KONTOR_CACHE"])


def program_to_try():
    program = shutil.which(os.environ["KONTOR_BINARY"])
    if program is None:
        raise Failure(f"there is no program {os.environ['KONTOR_BINARY']}: run scripts/build, or set KONTOR_BINARY")
    if not (CACHE / "models" / FILE).exists():
        raise Failure(f"{FILE} is not in the cache: run scripts/fetch --only ci")
    return os.path.abspath(program)


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


def interrupted(*_):
    raise KeyboardInterrupt


def main():
    signal.signal(signal.SIGTERM, interrupted)  # so that what was started ends as well
    try:
        program = program_to_try()
    except Failure as failure:
        sys.exit(f"try-telemetry: {failure}")
    report, folder = Report(), pathlib.Path(tempfile.mkdtemp(prefix="kontor-telemetry-"))
    try:
        trial(report, program, folder)
    except Failure as failure:
        sys.exit(f"\ntry-telemetry: {failure}\n  The logs, traces and figures are in {folder}")
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        sys.exit("\ntry-telemetry: interrupted")
    shutil.rmtree(folder)
    print(f"\ntry-telemetry: {report.checks} checks, all well")


if __name__ == "__main__":
    main()
