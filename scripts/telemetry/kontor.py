"""Kontor that tells of what it does, and what is asked of it."""

import json
import secrets
import time

from processes import Failure, ask
from product import MODEL, Product

# In what is asked and nowhere else: must be found in no trace and no metric.
MARK = f"kranich{secrets.token_hex(4)}"
QUESTION = f"Write a short letter about {MARK} to the town council and explain why birds need wet meadows."
# A rule that only notes, so that dashboards have something to show.
RULES = {"rules": [{"name": "trial", "check": {"kind": "words", "words": [MARK]}, "on": ["input"], "action": "log"}]}


class Trace:
    """A trace as a caller begins it."""

    def __init__(self, sampled=True):
        self.id, self.span, self.sampled = secrets.token_hex(16), secrets.token_hex(8), sampled

    def header(self):
        return {"traceparent": f"00-{self.id}-{self.span}-{'01' if self.sampled else '00'}"}


class Kontor(Product):
    def __init__(self, program, repository, cache, folder, collector):
        # Callers here are the trial itself, whose word about recording counts.
        traces = {"KONTOR__TRACES__ENDPOINT": collector, "KONTOR__TRACES__ACCEPT": "true"}
        super().__init__(program, repository, cache, folder, traces)
        (folder / "rules.json").write_text(json.dumps(RULES))

    def prepare(self):
        """Waits for the model and makes accounts that may use it, one with next to no money, a price and a guardrail."""
        self.ready()
        self.key, self.poor = (self.account(name, "Tries traces and metrics") for name in ("Trial", "Poor"))
        self.admin("set-price", "--model", MODEL, "--currency", "EUR", "--input", "0.15", "--output", "0.60")
        self.admin("add-budget", "--tenant", "demo", "--level", "service-account", "--of", "Poor", "--amount", "0.000001", "--currency", "EUR")
        self.admin("set-guardrails", "--tenant", "demo", "--file", str(self.folder / "rules.json"))
        time.sleep(2)  # until it is all in force

    def complete(self, trace=None, model=MODEL, key=None, **more):
        """A chat completion, read to its end."""
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 16, "temperature": 0, **more}
        headers = {"Authorization": f"Bearer {key or self.key}", **(trace.header() if trace else {})}
        return ask(self.url("/v1/chat/completions"), body, headers)


def usage_of_stream(answer):
    """The usage that the last events of a stream tell."""
    events = [line[6:] for line in answer.body.decode().splitlines() if line.startswith("data: ")]
    if not events or events[-1] != "[DONE]":
        raise Failure(f"the stream did not come to its end:\n{answer.body.decode()[-500:]}")
    told = [json.loads(event).get("usage") for event in events[:-1]]
    return next(usage for usage in reversed(told) if usage)
