"""Where the product is, and with which key."""

import os

import openai
import pytest


@pytest.fixture
def url():
    return os.environ["KONTOR_URL"]


@pytest.fixture
def key():
    return os.environ["KONTOR_KEY"]


@pytest.fixture
def chat():
    return os.environ["KONTOR_CHAT"]


@pytest.fixture
def embedding():
    return os.environ["KONTOR_EMBEDDING"]


@pytest.fixture
def client(url, key):
    return openai.OpenAI(base_url=url, api_key=key, max_retries=0)
