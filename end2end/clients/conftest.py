"""Where the product is, and with which keys."""

import contextlib
import os
import threading

import openai
import pytest

# Without it LiteLLM fetches a list of prices from the internet when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# Long enough to be interrupted on any machine.
LONG = [{"role": "user", "content": "Count from 1 to 400. Write every number on its own line, without anything else."}]


@pytest.fixture
def url():
    return os.environ["KONTOR_URL"]


@pytest.fixture
def key():
    return os.environ["KONTOR_KEY"]


@pytest.fixture
def functions_key():
    """That of an account that may call what the interface itself calls."""
    return os.environ["KONTOR_FUNCTIONS_KEY"]


@pytest.fixture
def guarded_key():
    """That of an account of an organisation that does not let e-mail addresses through."""
    return os.environ["KONTOR_GUARDED_KEY"]


@pytest.fixture
def poor_key():
    """That of an account with next to no money."""
    return os.environ["KONTOR_POOR_KEY"]


@pytest.fixture
def narrow_key():
    """That of an account that may ask one thing at a time; who comes too early is told to come again after a second."""
    return os.environ["KONTOR_NARROW_KEY"]


@pytest.fixture
def chat():
    return os.environ["KONTOR_CHAT"]


@pytest.fixture
def embedding():
    return os.environ["KONTOR_EMBEDDING"]


@pytest.fixture
def client(url, key):
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)


@pytest.fixture
def occupied(url, narrow_key, chat):
    """Takes the one place of the narrow account, `with occupied():` for as long, `with occupied(1.5):` for so many seconds."""

    @contextlib.contextmanager
    def occupy(seconds=None):
        asking = openai.OpenAI(base_url=url, api_key=narrow_key, max_retries=5)
        stream = asking.chat.completions.create(model=chat, messages=LONG, max_tokens=2000, temperature=0, stream=True)
        leaving = threading.Timer(seconds, stream.close) if seconds else None
        try:
            next(iter(stream))
            if leaving:
                leaving.start()
            yield
        finally:
            if leaving:
                leaving.cancel()
            stream.close()

    return occupy
