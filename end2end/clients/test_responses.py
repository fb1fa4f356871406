"""Responses, which the server keeps, with OpenAI's own Python client."""

import time

import openai
import pydantic
import pytest

TOOLS = [
    {
        "type": "function",
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": False},
        "strict": True,
    }
]


@pytest.fixture
def ask(chat):
    return dict(model=chat, input="Say hello in one word.", temperature=0, max_output_tokens=16)


def ended(client, response):
    for _ in range(300):
        response = client.responses.retrieve(response.id)
        if response.status not in ("queued", "in_progress"):
            return response
        time.sleep(0.1)
    raise AssertionError(f"still {response.status}")


def test_whole_and_streamed(client, ask):
    whole = client.responses.create(**ask, metadata={"test": "yes"})
    assert whole.output_text and whole.status in ("completed", "incomplete") and whole.metadata == {"test": "yes"}
    assert whole.usage.total_tokens == whole.usage.input_tokens + whole.usage.output_tokens
    assert client.responses.retrieve(whole.id).to_dict() == whole.to_dict()
    events = list(client.responses.create(**ask, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].response.output_text == whole.output_text
    assert client.responses.retrieve(events[-1].response.id).to_dict() == events[-1].response.to_dict()


def test_streams_go_on_behind_any_event(client, ask):
    events = [event.to_dict() for event in client.responses.create(**ask, stream=True)]
    id = events[0]["response"]["id"]
    for seen in range(len(events) - 1):
        rest = client.responses.retrieve(id, stream=True, starting_after=seen)
        assert [event.to_dict() for event in rest] == events[seen + 1 :]


def test_the_clients_own_accumulator(client, chat):
    with client.responses.stream(model=chat, input="Count from one to five.", temperature=0, max_output_tokens=200) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == text and final.status == "completed"
    with client.responses.stream(response_id=final.id, starting_after=3) as stream:
        assert stream.get_final_response().output_text == text


def test_a_conversation_is_kept(client, chat):
    first = client.responses.create(model=chat, input="My name is Anna. Say hello.", temperature=0, max_output_tokens=32)
    second = client.responses.create(
        model=chat, input="What is my name? Answer with the name alone.", previous_response_id=first.id, temperature=0, max_output_tokens=16
    )
    assert "Anna" in second.output_text and second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    items = list(client.responses.input_items.list(second.id))
    assert [item.content[0].text for item in items] == ["What is my name? Answer with the name alone."]


def test_nothing_is_kept_unasked(client, ask):
    response = client.responses.create(**ask, store=False)
    assert response.output_text
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ask, previous_response_id=response.id)
    assert refused.value.code == "previous_response_not_found"


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_structured_output(client, chat):
    parsed = client.responses.parse(
        model=chat, instructions="Describe people.", input="Anna is 34.", text_format=Person, temperature=0, max_output_tokens=64
    )
    assert isinstance(parsed.output_parsed, Person)


def test_tools_and_their_results(client, chat):
    ask = dict(model=chat, tools=TOOLS, temperature=0, max_output_tokens=64)
    called = client.responses.create(**ask, input="What is the weather in Kiel?", tool_choice="required")
    call = next(item for item in called.output if item.type == "function_call")
    assert call.name == "weather" and "Kiel" in call.arguments and call.call_id
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain, 7 degrees."}
    assert "7" in client.responses.create(**ask, tool_choice="none", input=[result], previous_response_id=called.id).output_text
    # The same with a client that keeps the conversation itself.
    question = {"role": "user", "content": "What is the weather in Kiel?"}
    alone = client.responses.create(**ask, tool_choice="none", input=[question, *called.output, result], store=False)
    assert "7" in alone.output_text


def test_tools_streamed(client, chat):
    ask = dict(model=chat, tools=TOOLS, tool_choice="required", temperature=0, max_output_tokens=64)
    with client.responses.stream(**ask, input="What is the weather in Kiel?") as stream:
        call = next(item for item in stream.get_final_response().output if item.type == "function_call")
    assert call.name == "weather" and "Kiel" in call.arguments


def test_in_the_background(client, ask):
    queued = client.responses.create(**ask, background=True)
    assert queued.status == "queued" and not queued.output
    assert ended(client, queued).output_text
    long = dict(ask, input="Count to one thousand.", max_output_tokens=2000)
    counting = client.responses.create(**long, background=True)
    cancelled = client.responses.cancel(counting.id)
    assert cancelled.status == "cancelled"
    assert client.responses.retrieve(counting.id).status == "cancelled"


def test_a_background_stream_outlives_its_reader(client, ask):
    stream = client.responses.create(**ask, background=True, stream=True)
    first = next(iter(stream))
    stream.close()
    assert ended(client, first.response).output_text
    rest = list(client.responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number))
    assert rest[0].sequence_number == first.sequence_number + 1 and rest[-1].response.output_text


def test_whoever_stops_reading_ends_it(client, chat):
    ask = dict(model=chat, input="Count to one thousand.", max_output_tokens=1000)
    for _ in range(3):
        stream = client.responses.create(**ask, stream=True)
        first = next(iter(stream))
        stream.close()
        assert ended(client, first.response).status == "cancelled"


def test_deleted_is_deleted(client, ask):
    response = client.responses.create(**ask)
    client.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_errors_are_the_classes_that_programs_catch(client, ask, chat):
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(**dict(ask, model="gpt-9"))
    assert refused.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**dict(ask, input="word " * 40_000))
    assert refused.value.code == "context_length_exceeded" and refused.value.param == "input"
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**dict(ask, input=image))
    assert refused.value.param == "input[0].content[0]"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**ask, tools=[{"type": "web_search"}])
    assert refused.value.param == "tools[0]"
