"""LlamaIndex with its model and its vectors for servers that speak OpenAI's API."""

import asyncio
import time

import openai
import pydantic
import pytest
from conftest import LONG
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

HELLO = [ChatMessage(role="system", content="You are polite."), ChatMessage(role="user", content="Say hello in one word.")]


def model(url, key, chat, **more):
    options = dict(is_chat_model=True, is_function_calling_model=True, context_window=4096, temperature=0, max_tokens=64, max_retries=0)
    return OpenAILike(api_base=url, api_key=key, model=chat, **{**options, **more})


def weather(city: str) -> str:
    """The weather of a city."""
    return f"Rain in {city}, 7 degrees."


class Town(pydantic.BaseModel):
    """A town."""

    name: str
    inhabitants: int


def test_chat_whole_and_streamed(url, key, chat):
    whole = model(url, key, chat).chat(HELLO)
    assert whole.message.content and whole.additional_kwargs["total_tokens"] > 0
    streamed = list(model(url, key, chat).stream_chat(HELLO))
    assert "".join(part.delta for part in streamed) == streamed[-1].message.content == whole.message.content


def test_chat_without_waiting(url, key, chat):
    async def ask():
        whole = await model(url, key, chat).achat(HELLO)
        return whole.message.content, [part.delta async for part in await model(url, key, chat).astream_chat(HELLO)]

    whole, streamed = asyncio.run(ask())
    assert whole and "".join(streamed) == whole


def test_a_text_goes_on(url, key, chat):
    asking = model(url, key, chat, is_chat_model=False, max_tokens=8)
    whole = asking.complete("def add(a, b):\n    return", formatted=True)
    streamed = list(asking.stream_complete("def add(a, b):\n    return", formatted=True))
    assert whole.text and streamed[-1].text == whole.text


def test_tools_and_their_results(url, key, chat):
    asking, tool = model(url, key, chat), FunctionTool.from_defaults(weather)
    question = ChatMessage(role="user", content="What is the weather in Kiel?")
    called = asking.chat_with_tools([tool], chat_history=[question], tool_required=True)
    [call] = asking.get_tool_calls_from_response(called)
    assert call.tool_name == "weather" and call.tool_kwargs["city"] and call.tool_id
    result = ChatMessage(role="tool", content=str(tool(**call.tool_kwargs)), additional_kwargs={"tool_call_id": call.tool_id})
    answer = asking.chat_with_tools([tool], chat_history=[question, called.message, result], tool_choice="none")
    assert answer.message.content


def test_tools_streamed(url, key, chat):
    asking = model(url, key, chat)
    parts = list(asking.stream_chat_with_tools([FunctionTool.from_defaults(weather)], user_msg="What is the weather in Kiel?", tool_required=True))
    [call] = asking.get_tool_calls_from_response(parts[-1])
    assert call.tool_name == "weather" and call.tool_kwargs["city"]


# By a schema for the answer, and by a tool that must be called.
@pytest.mark.parametrize("by_schema", [True, False])
def test_structured_output(url, key, chat, by_schema):
    asking = model(url, key, chat, should_use_structured_outputs=by_schema)
    town = asking.structured_predict(Town, PromptTemplate("{text} Describe it."), text="Husum has 23000 inhabitants.")
    assert isinstance(town, Town) and town.name


def test_embeddings(url, key, embedding):
    made = OpenAILikeEmbedding(model_name=embedding, api_base=url, api_key=key, max_retries=1)
    assert len(made.get_query_embedding("query: Hallo")) == 384
    assert [len(vector) for vector in made.get_text_embedding_batch(["passage: a", "passage: b", "passage: c"])] == [384] * 3
    short = OpenAILikeEmbedding(model_name=embedding, api_base=url, api_key=key, max_retries=1, dimensions=64)
    assert len(short.get_text_embedding("passage: a")) == 64


def test_errors_are_the_classes_that_programs_catch(url, key, chat, poor_key):
    with pytest.raises(openai.AuthenticationError):
        model(url, "sk-kontor-wrong", chat).chat(HELLO)
    with pytest.raises(openai.NotFoundError):
        model(url, key, "gpt-9").chat(HELLO)
    with pytest.raises(openai.BadRequestError) as refused:
        model(url, key, chat).chat([ChatMessage(role="user", content="word " * 40_000)])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.RateLimitError) as refused:
        model(url, poor_key, chat).chat(HELLO)
    assert refused.value.code == "insufficient_quota"


def test_retries_wait_as_long_as_they_are_told(url, narrow_key, chat, occupied):
    with occupied(), pytest.raises(openai.RateLimitError):
        model(url, narrow_key, chat).chat(HELLO)
    with occupied(1.5):
        began = time.monotonic()
        assert model(url, narrow_key, chat, max_retries=4).chat(HELLO).message.content
        assert time.monotonic() - began > 1


def test_a_call_that_is_cancelled_stops_the_model(url, narrow_key, chat):
    async def impatient():
        asking = model(url, narrow_key, chat, max_retries=4, max_tokens=2000)
        await asyncio.wait_for(asking.achat([ChatMessage(role="user", content=LONG[0]["content"])]), 2)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(impatient())
    assert model(url, narrow_key, chat, max_retries=4).chat(HELLO).message.content


def test_whoever_stops_reading_may_go_on_at_once(url, key, chat):
    for _ in range(3):
        stream = model(url, key, chat, max_tokens=1000).stream_chat([ChatMessage(role="user", content="Count to one thousand.")])
        next(stream)
        stream.close()
    assert model(url, key, chat, timeout=20).chat(HELLO).message.content
