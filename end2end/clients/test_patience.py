"""What each client does when it is refused for a while or for good, and when it loses patience itself."""

import asyncio
import time

import anthropic
import langchain_openai
import litellm
import openai
import pytest
from conftest import LONG

HELLO = [{"role": "user", "content": "Say hello in one word."}]


class OpenAI:
    refused = openai.RateLimitError
    http = openai.DefaultHttpxClient

    def __init__(self, url, key, chat, retries, http=None):
        self.options = dict(base_url=url, api_key=key, max_retries=retries)
        self.http_client, self.chat = http, chat

    def ask(self):
        client = openai.OpenAI(**self.options, http_client=self.http_client)
        return client.chat.completions.create(model=self.chat, messages=HELLO, max_tokens=4).choices

    async def ask_long(self):
        await openai.AsyncOpenAI(**self.options).chat.completions.create(model=self.chat, messages=LONG, max_tokens=2000, temperature=0)


class Anthropic(OpenAI):
    refused = anthropic.RateLimitError
    http = anthropic.DefaultHttpxClient

    def __init__(self, url, *rest, **more):
        super().__init__(url.removesuffix("/v1"), *rest, **more)

    def ask(self):
        client = anthropic.Anthropic(**self.options, http_client=self.http_client)
        return client.messages.create(model=self.chat, messages=HELLO, max_tokens=4).content

    async def ask_long(self):
        await anthropic.AsyncAnthropic(**self.options).messages.create(model=self.chat, messages=LONG, max_tokens=2000)


class LangChain(OpenAI):
    def ask(self):
        return langchain_openai.ChatOpenAI(**self.options, http_client=self.http_client, model=self.chat, max_tokens=4).invoke(HELLO).usage_metadata

    async def ask_long(self):
        await langchain_openai.ChatOpenAI(**self.options, model=self.chat, max_tokens=2000, temperature=0).ainvoke(LONG)


class LiteLLM(OpenAI):
    refused = litellm.RateLimitError

    def ask(self):
        options = dict(self.options, model=f"openai/{self.chat}", messages=HELLO, max_tokens=4)
        if self.http_client:
            options["client"] = openai.OpenAI(**self.options, http_client=self.http_client)
        return litellm.completion(**options).choices

    async def ask_long(self):
        await litellm.acompletion(**self.options, model=f"openai/{self.chat}", messages=LONG, max_tokens=2000, temperature=0)


each_client = pytest.mark.parametrize("client", [OpenAI, Anthropic, LangChain, LiteLLM])


@each_client
def test_a_limit_is_the_class_that_programs_catch(client, url, narrow_key, chat, occupied):
    with occupied(), pytest.raises(client.refused) as refused:
        client(url, narrow_key, chat, 0).ask()
    assert refused.value.status_code == 429 and refused.value.response.headers["retry-after"] == "1"


@each_client
def test_retries_wait_as_long_as_they_are_told(client, url, narrow_key, chat, occupied):
    with occupied(1.5):
        began = time.monotonic()
        assert client(url, narrow_key, chat, 5).ask()
        assert time.monotonic() - began > 1


@each_client
def test_a_budget_that_is_used_up_is_told_once(client, url, poor_key, chat):
    seen = []
    http = client.http(event_hooks={"request": [seen.append]})
    with pytest.raises(client.refused) as refused:
        client(url, poor_key, chat, 2, http=http).ask()
    assert "budget" in str(refused.value) and len(seen) == 1


@each_client
def test_a_call_that_is_cancelled_stops_the_model(client, url, narrow_key, chat):
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(client(url, narrow_key, chat, 5).ask_long(), 2))
    # The account has one place: it would be refused for as long as the model goes on.
    assert client(url, narrow_key, chat, 3).ask()
