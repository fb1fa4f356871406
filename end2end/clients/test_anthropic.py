"""Anthropic's own Python client."""

import typing

import anthropic
import pydantic
import pytest

HELLO = [{"role": "user", "content": "Say hello in one word."}]
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# The client has no argument for it any more.
COLD = {"temperature": 0}


@pytest.fixture
def client(url, key):
    # It writes the version into the path itself.
    return anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key=key, max_retries=0)


def prompt_tokens(usage):
    return usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens


def test_message_whole_and_streamed(client, chat):
    ask = dict(model=chat, messages=HELLO, system="You are polite.", max_tokens=16, extra_body=COLD)
    whole = client.messages.create(**ask)
    assert whole.content[0].text and whole.stop_reason in ("end_turn", "max_tokens") and whole.role == "assistant"
    assert prompt_tokens(whole.usage) > 0 and whole.usage.output_tokens > 0
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream) == whole.content[0].text
        last = stream.get_final_message()
    assert (last.stop_reason, last.usage.output_tokens) == (whole.stop_reason, whole.usage.output_tokens)
    assert prompt_tokens(last.usage) == prompt_tokens(whole.usage) and last.model == chat
    names = [event.type for event in client.messages.create(**ask, stream=True)]
    assert names[:2] == ["message_start", "content_block_start"] and names[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_the_raw_response_names_the_request(client, chat):
    raw = client.messages.with_raw_response.create(model=chat, messages=HELLO, max_tokens=2)
    assert raw.headers["request-id"] == raw.headers["x-request-id"] and raw.headers["x-kontor-model"] == chat
    assert raw.parse()._request_id == raw.headers["request-id"]


def test_an_answer_ends_where_it_is_told_to(client, chat):
    ask = dict(model=chat, messages=[{"role": "user", "content": "Count: one, two, three"}], extra_body=COLD)
    text = client.messages.create(**ask, max_tokens=24).content[0].text
    stopped = client.messages.create(**ask, max_tokens=24, stop_sequences=[text[3:6]])
    assert text[3:6] not in stopped.content[0].text
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", text[3:6])
    assert client.messages.create(**ask, max_tokens=2).stop_reason == "max_tokens"


def test_tools_and_their_results(client, chat):
    messages = [{"role": "user", "content": "What is the weather in Kiel?"}]
    ask = dict(model=chat, tools=[WEATHER], max_tokens=64, extra_body=COLD)
    called = client.messages.create(**ask, messages=messages, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    [use] = called.content
    assert called.stop_reason == "tool_use" and use.type == "tool_use" and use.name == "weather" and "Kiel" in use.input["city"]
    result = {"type": "tool_result", "tool_use_id": use.id, "content": [{"type": "text", "text": "Rain, 7 degrees."}]}
    messages += [{"role": "assistant", "content": called.content}, {"role": "user", "content": [result]}]
    assert "7" in client.messages.create(**ask, messages=messages).content[0].text


def test_tools_streamed(client, chat):
    messages = [{"role": "user", "content": "What is the weather in Kiel?"}]
    choice = {"type": "tool", "name": "weather"}
    with client.messages.stream(model=chat, messages=messages, tools=[WEATHER], tool_choice=choice, max_tokens=64, extra_body=COLD) as stream:
        whole = [event.content_block for event in stream if event.type == "content_block_stop"]
        last = stream.get_final_message()
    assert last.stop_reason == "tool_use" and whole[0].name == "weather" and whole[0].input["city"] and whole[0].id


class Person(pydantic.BaseModel):
    name: str
    age: int
    mood: typing.Literal["good", "bad"]


def test_structured_output(client, chat):
    messages = [{"role": "user", "content": "Anna is 34 and happy. Describe her."}]
    parsed = client.messages.parse(model=chat, messages=messages, output_format=Person, max_tokens=64, extra_body=COLD)
    assert isinstance(parsed.parsed_output, Person)


def test_a_prompt_is_as_long_as_it_was_counted(client, chat):
    prompt = dict(model=chat, messages=HELLO, system=[{"type": "text", "text": "You are polite."}], tools=[WEATHER])
    counted = client.messages.count_tokens(**prompt).input_tokens
    assert counted == prompt_tokens(client.messages.create(**prompt, max_tokens=1).usage)
    assert counted > client.messages.count_tokens(model=chat, messages=HELLO).input_tokens > 0


def test_errors_are_the_classes_that_programs_catch(client, url, chat):
    ask = dict(model=chat, max_tokens=4)
    stranger = anthropic.Anthropic(base_url=url.removesuffix("/v1"), api_key="sk-kontor-wrong", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        stranger.messages.create(**ask, messages=HELLO)
    assert refused.value.type == "authentication_error" and refused.value.request_id
    with pytest.raises(anthropic.NotFoundError) as refused:
        client.messages.create(model="claude-9", max_tokens=4, messages=HELLO)
    assert refused.value.type == "not_found_error" and refused.value.error_code == "model_not_found"
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**ask, messages=HELLO, extra_body={"temperature": 2})
    assert "temperature" in refused.value.api_message
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**ask, messages=[{"role": "user", "content": "word " * 40_000}])
    assert refused.value.error_code == "context_length_exceeded" and "prompt is too long" in refused.value.api_message
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**ask, messages=[{"role": "user", "content": [image]}])
    assert refused.value.api_message.startswith("messages[0].content[0]")


def test_whoever_stops_reading_may_go_on_at_once(client, chat):
    for _ in range(3):
        stream = client.messages.create(model=chat, messages=[{"role": "user", "content": "Count to one thousand."}], max_tokens=1000, stream=True)
        next(iter(stream))
        stream.close()
    assert client.messages.create(model=chat, messages=HELLO, max_tokens=4, timeout=20).content
