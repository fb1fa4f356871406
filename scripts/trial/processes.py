"""Programs that the trial starts, each with a log of its own, and how it asks them."""

import http.client
import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request

# How these programs write it: a word between blanks or tabs, or `level=warn`.
COMPLAINT = re.compile(r"(\s|level=)(warn|error|fatal|panic)\s", re.IGNORECASE)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# Never through a proxy: everything is on this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Failure(Exception):
    """Something is not as it should be; the text says what to do."""


class Answer:
    """What came back, also with a bad status."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def ask(url, body=None, headers=None, seconds=60):
    """A GET, or a POST of `body` as JSON, read to its end."""
    data = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **(headers or {})} if data else headers or {}
    try:
        with DIRECT.open(urllib.request.Request(url, data, given), timeout=seconds) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def until(what, seconds, probe, process=None):
    """Asks again until `probe` gives something, which is returned."""
    end = time.monotonic() + seconds
    while True:
        if process is not None:
            process.must_run()
        try:
            if (found := probe()) is not None and found is not False:
                return found
        except (OSError, http.client.HTTPException):
            pass  # not listening yet
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}" + (f"\n{process.tail()}" if process else ""))
        time.sleep(0.1)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One program. `with` ends it."""

    def __init__(self, name, command, folder, environment):
        self.name, self.log = name, folder / f"{name}.log"
        with open(self.log, "ab") as log:
            self.child = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def must_run(self):
        if self.child.poll() is not None:
            raise Failure(f"{self.name} ended with status {self.child.returncode}:\n{self.tail()}")

    def stop(self):
        """Politely, and after 20 s not so."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def lines(self):
        return COLOURS.sub("", self.log.read_text(errors="replace")).splitlines()

    def complaints(self):
        """Lines of the log that warn or tell of an error."""
        return [line for line in self.lines() if COMPLAINT.search(line[:80])]

    def tail(self, lines=30):
        return "\n".join(self.lines()[-lines:])
