"""LiteLLM as a client, with its provider for OpenAI's API."""

import json
import typing

import litellm
import pydantic
import pytest

HELLO = [{"role": "user", "content": "Say hello in one word."}]
WEATHER = [{"role": "user", "content": "What is the weather in Kiel?"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


@pytest.fixture
def ask(url, key, chat):
    return dict(model=f"openai/{chat}", api_base=url, api_key=key, temperature=0, max_tokens=64, max_retries=0)


def test_whole_and_streamed(ask):
    whole = litellm.completion(**ask, messages=HELLO)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens > 0
    chunks = list(litellm.completion(**ask, messages=HELLO, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    built = litellm.stream_chunk_builder(chunks, messages=HELLO)
    assert built.usage.completion_tokens == whole.usage.completion_tokens


def test_several_answers_at_once(ask):
    answers = litellm.batch_completion(**ask, messages=[HELLO, WEATHER, HELLO])
    assert [bool(answer.choices[0].message.content) for answer in answers] == [True] * 3


def test_a_text_goes_on(ask, chat):
    answer = litellm.text_completion(**dict(ask, model=f"text-completion-openai/{chat}"), prompt="def add(a, b):\n    return")
    assert answer.choices[0].text


def test_tools_and_their_results(ask):
    called = litellm.completion(**ask, messages=WEATHER, tools=TOOLS, tool_choice="required").choices[0]
    [call] = called.message.tool_calls
    assert called.finish_reason == "tool_calls" and call.function.name == "weather" and json.loads(call.function.arguments)["city"]
    messages = [*WEATHER, called.message, {"role": "tool", "tool_call_id": call.id, "content": "Rain, 7 degrees."}]
    assert litellm.completion(**ask, messages=messages, tools=TOOLS, tool_choice="none").choices[0].message.content


def test_tools_streamed(ask):
    chunks = list(litellm.completion(**ask, messages=WEATHER, tools=TOOLS, tool_choice="required", stream=True))
    [call] = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert call.function.name == "weather" and call.id and json.loads(call.function.arguments)["city"]


class Person(pydantic.BaseModel):
    name: str
    age: int
    mood: typing.Literal["good", "bad"]


def test_structured_output(ask):
    messages = [{"role": "user", "content": "Anna is 34 and happy. Describe her."}]
    answer = litellm.completion(**ask, messages=messages, response_format=Person)
    assert Person.model_validate_json(answer.choices[0].message.content)


def test_embeddings(url, key, embedding):
    made = litellm.embedding(model=f"openai/{embedding}", api_base=url, api_key=key, input=["query: a", "passage: b"], max_retries=0)
    assert [len(entry["embedding"]) for entry in made.data] == [384, 384] and made.usage.prompt_tokens > 0


def test_errors_are_the_classes_that_programs_catch(ask):
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(**dict(ask, api_key="sk-kontor-wrong"), messages=HELLO)
    with pytest.raises(litellm.NotFoundError) as refused:
        litellm.completion(**dict(ask, model="openai/gpt-9"), messages=HELLO)
    assert "There is no such model" in str(refused.value)
    with pytest.raises(litellm.BadRequestError) as refused:
        litellm.completion(**dict(ask, temperature=9), messages=HELLO)
    assert "temperature" in str(refused.value)
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**ask, messages=[{"role": "user", "content": "word " * 40_000}])
    with pytest.raises(litellm.NotFoundError):
        litellm.embedding(**{name: ask[name] for name in ("model", "api_base", "api_key")}, input=["x"], max_retries=0)


def test_whoever_stops_reading_may_go_on_at_once(ask):
    for _ in range(3):
        stream = litellm.completion(**dict(ask, max_tokens=1000), messages=[{"role": "user", "content": "Count to one thousand."}], stream=True)
        next(iter(stream))
        stream.completion_stream.close()
    assert litellm.completion(**dict(ask, max_tokens=4), messages=HELLO, timeout=20).choices
