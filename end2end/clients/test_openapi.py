"""The OpenAPI document against the server that serves it: requests made up from it, right and wrong ones, and no answer is a 5xx."""

import collections
import os

import pytest
import schemathesis
from schemathesis.checks import not_a_server_error

# Requests to each operation. The limits of every value alone would be hundreds; two minutes are enough for all operations.
MOST = 40
CONFIG = {
    "seed": 1,
    "suppress-health-check": ["all"],
    # The same ones each time. The key comes with each call, in place of made-up ones.
    "generation": {"max-examples": 20, "deterministic": True, "database": "none", "no-shrink": True, "with-security-parameters": False},
}
# Answers of four tokens show as much as longer ones.
SHORT = {"/v1/chat/completions": "max_tokens", "/v1/completions": "max_tokens", "/v1/messages": "max_tokens", "/v1/responses": "max_output_tokens"}

sent = collections.Counter()


@pytest.fixture
def document(url):
    root = url.removesuffix("/v1")
    loaded = schemathesis.openapi.from_url(f"{root}/openapi.json", config=schemathesis.Config.from_dict(CONFIG), timeout=30)
    loaded.config.update(base_url=root)
    return loaded


@pytest.fixture
def served(url, chat, embedding):
    """What a made-up model becomes: one that answers."""
    return collections.defaultdict(lambda: chat, {"/v1/embeddings": embedding})


operations = schemathesis.pytest.from_fixture("document")


@operations.parametrize()
def test_no_answer_is_a_server_error(case, key, functions_key, served):
    path, number = case.operation.path, sent[case.operation.label]
    if number >= MOST:
        return
    sent[case.operation.label] += 1
    # Every other request comes as it was made up; the rest gets beyond the question whether there is such a model.
    if number % 2 and isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = served[path]
        if isinstance(case.body.get("n"), int):
            case.body["n"] = min(case.body["n"], 2)
        length = SHORT.get(path)
        if length and isinstance(case.body.get(length), int | None):
            case.body[length] = min(case.body.get(length) or 4, 4)
    if path.startswith("/ui/"):
        key = functions_key
        turn = case.body.get("turn") if isinstance(case.body, dict) else None
        # The answer is made whether or not anybody listens.
        if isinstance(turn, dict):
            turn["settings"] = {"sampling": {"max_tokens": 4}}
    case.call_and_validate(headers={"Authorization": f"Bearer {key}"}, checks=[not_a_server_error], timeout=60)
