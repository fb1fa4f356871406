"""A trial: what it tries, the folder that it works in, and how it ends."""

import http.client
import os
import pathlib
import shutil
import signal
import sys
import tempfile

from processes import Failure
from product import FILE
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


def interrupted(*_):
    raise KeyboardInterrupt


def run(name, steps):
    """Takes the steps in a folder of their own, which is thrown away unless something was wrong.

    The first thing that is wrong ends the trial with status 1.
    """
    signal.signal(signal.SIGTERM, interrupted)  # so that what was started ends as well
    try:
        program = program_to_try()
    except Failure as failure:
        sys.exit(f"{name}: {failure}")
    report, folder = Report(), pathlib.Path(tempfile.mkdtemp(prefix=f"kontor-{name.replace(' ', '-')}-"))
    try:
        steps(report, program, folder)
    except (Failure, OSError, http.client.HTTPException) as failure:
        sys.exit(f"\n{name}: {failure}\n  The logs and whatever else was written are in {folder}")
    except KeyboardInterrupt:
        shutil.rmtree(folder)
        sys.exit(f"\n{name}: interrupted")
    shutil.rmtree(folder)
    print(f"\n{name}: {report.checks} checks, all well")
