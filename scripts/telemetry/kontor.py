"""Kontor with a database of its own and one small model."""

import json
import os
import secrets
import subprocess
import time

from processes import Failure, Process, ask, free_port, until

MODEL = "smollm2-135m-instruct"
FILE = "smollm2-135m-instruct-q4_1.gguf"
# In what is asked and nowhere else: must be found in no trace and no metric.
MARK = f"kranich{secrets.token_hex(4)}"
QUESTION = f"Write a short letter about {MARK} to the town council and explain why birds need wet meadows."
# A rule that only notes, so that dashboards have something to show.
RULES = {"rules": [{"name": "trial", "check": {"kind": "words", "words": [MARK]}, "on": ["input"], "action": "log"}]}
FOREIGN = ("KONTOR__", "LEPTOS_", "OTEL_")


class Trace:
    """A trace as a caller begins it."""

    def __init__(self, sampled=True):
        self.id, self.span, self.sampled = secrets.token_hex(16), secrets.token_hex(8), sampled

    def header(self):
        return {"traceparent": f"00-{self.id}-{self.span}-{'01' if self.sampled else '00'}"}


class Kontor:
    """`with` ends the process."""

    def __init__(self, program, repository, cache, folder, collector):
        self.program, self.folder = program, folder
        self.port, self.metrics = free_port(), f"127.0.0.1:{free_port()}"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN) and name != "DATABASE_URL"}
        self.environment |= {
            "KONTOR__SERVER__ADDR": f"127.0.0.1:{self.port}",
            "KONTOR__METRICS__ADDR": self.metrics,
            "KONTOR__TRACES__ENDPOINT": collector,
            # Callers here are the trial itself, whose word about recording counts.
            "KONTOR__TRACES__ACCEPT": "true",
            "KONTOR__DATA_DIR": str(folder / "data"),
            "KONTOR__CACHE_DIR": str(cache),
            # As the product itself understands it: only if there is none beside the program.
            "LEPTOS_SITE_ROOT": os.environ.get("LEPTOS_SITE_ROOT", str(repository / "target/site")),
        }
        model = cache / "models" / FILE
        (folder / "kontor.toml").write_text(f"[[models.offered]]\nid = {json.dumps(MODEL)}\npath = {json.dumps(str(model))}\ncontext_length = 2048\n")
        (folder / "rules.json").write_text(json.dumps(RULES))
        self.process = Process("kontor", [program, "serve"], folder, self.environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def prepare(self):
        """Waits for the model and makes accounts that may use it, one with next to no money, a price and a guardrail."""
        until("Kontor is ready", 90, lambda: ask(self.url("/readyz")).status == 200, self.process)
        self.key, self.poor = self.account("Trial"), self.account("Poor")
        self.admin("set-price", "--model", MODEL, "--currency", "EUR", "--input", "0.15", "--output", "0.60")
        self.admin("add-budget", "--tenant", "demo", "--level", "service-account", "--of", "Poor", "--amount", "0.000001", "--currency", "EUR")
        self.admin("set-guardrails", "--tenant", "demo", "--file", str(self.folder / "rules.json"))
        time.sleep(2)  # until it is all in force

    def account(self, name):
        """The key of a new service account."""
        self.admin("create-service-account", "--tenant", "demo", "--name", name, "--purpose", "Tries traces and metrics")
        return self.admin("create-key", "--tenant", "demo", "--account", name)["key"]

    def admin(self, *words):
        done = subprocess.run(
            [self.program, "admin", "--json", *words], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise Failure(f"`kontor admin {' '.join(words)}` failed:\n{done.stderr}")
        return json.loads(done.stdout)

    def complete(self, trace=None, model=MODEL, key=None, **more):
        """A chat completion, read to its end."""
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16, "temperature": 0, **more}
        headers = {"Authorization": f"Bearer {key or self.key}", **(trace.header() if trace else {})}
        return ask(self.url("/v1/chat/completions"), body, headers)

    def figures(self):
        """What Prometheus reads."""
        return ask(f"http://{self.metrics}/metrics").body.decode()


def usage_of_stream(answer):
    """The usage that the last events of a stream tell."""
    events = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        raise Failure(f"the stream did not come to its end:\n{answer.body.decode()[-500:]}")
    told = [json.loads(event).get("usage") for event in events[:-1]]
    return next(usage for usage in reversed(told) if usage)
