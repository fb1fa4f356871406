"""OpenAI's own Python client."""

import json
import math
import time
import typing

import openai
import pydantic
import pytest

HELLO = [{"role": "user", "content": "Say hello in one word."}]
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


def test_models(client, chat, embedding):
    assert {chat, embedding} <= {model.id for model in client.models.list()}
    assert client.models.retrieve(chat).id == chat
    with pytest.raises(openai.NotFoundError) as refused:
        client.models.retrieve("org/none")
    assert refused.value.code == "model_not_found"


def test_chat_whole_and_streamed(client, chat):
    ask = dict(model=chat, messages=HELLO, temperature=0, max_completion_tokens=16)
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage.prompt_tokens > 0 and whole.usage.completion_tokens > 0
    chunks = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens and not chunks[-1].choices
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_raw_response_names_the_request(client, chat):
    raw = client.chat.completions.with_raw_response.create(model=chat, messages=HELLO, max_tokens=2)
    assert raw.headers["x-request-id"] and raw.headers["x-kontor-model"] == chat
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_several_answers_with_log_probabilities(client, chat):
    answer = client.chat.completions.create(model=chat, messages=HELLO, n=2, max_tokens=4, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        for token in choice.logprobs.content:
            assert token.logprob <= 0 and len(token.top_logprobs) == 2 and bytes(token.bytes).decode(errors="replace") == token.token


def test_seed_and_stop(client, chat):
    ask = dict(model=chat, messages=[{"role": "user", "content": "Count: one, two, three"}], seed=7, temperature=1, max_tokens=24)
    first, second = (client.chat.completions.create(**ask).choices[0].message.content for _ in range(2))
    assert first == second
    stopped = client.chat.completions.create(**ask, stop=[first[3:6]]).choices[0]
    assert first[3:6] not in stopped.message.content and stopped.finish_reason == "stop"


class Person(pydantic.BaseModel):
    name: str
    age: int
    mood: typing.Literal["good", "bad"]


def test_structured_output(client, chat):
    messages = [{"role": "user", "content": "Anna is 34 and happy. Describe her."}]
    parsed = client.chat.completions.parse(model=chat, messages=messages, response_format=Person, temperature=0, max_tokens=64)
    assert isinstance(parsed.choices[0].message.parsed, Person)


def test_tools_and_their_results(client, chat):
    messages = [{"role": "user", "content": "What is the weather in Kiel?"}]
    ask = dict(model=chat, tools=TOOLS, temperature=0, max_tokens=64)
    called = client.chat.completions.create(**ask, messages=messages, tool_choice="required").choices[0]
    assert called.finish_reason == "tool_calls" and called.message.content is None
    call = called.message.tool_calls[0]
    assert call.function.name == "weather" and "Kiel" in call.function.arguments
    messages += [called.message, {"role": "tool", "tool_call_id": call.id, "content": "Rain, 7 degrees."}]
    assert "7" in client.chat.completions.create(**ask, messages=messages).choices[0].message.content


def test_tools_streamed(client, chat):
    messages = [{"role": "user", "content": "What is the weather in Kiel?"}]
    with client.chat.completions.stream(model=chat, messages=messages, tools=TOOLS, tool_choice="required", temperature=0, max_tokens=64) as stream:
        for _ in stream:
            pass
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and call.id


def test_a_text_goes_on(client, chat):
    answer = client.completions.create(model=chat, prompt="def add(a, b):\n    return", max_tokens=8, temperature=0)
    assert "a + b" in answer.choices[0].text
    streamed = client.completions.create(model=chat, prompt="def add(a, b):\n    return", max_tokens=8, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == answer.choices[0].text


def test_several_texts_go_on_in_one_stream(client, chat):
    ask = dict(model=chat, prompt=["def add(a, b):\n    return", "1, 2, 3, 4,"], max_tokens=8, temperature=0, seed=7)
    whole = client.completions.create(**ask)
    told = ["", ""]
    for chunk in client.completions.create(**ask, stream=True):
        told[chunk.choices[0].index] += chunk.choices[0].text
    assert told == [choice.text for choice in whole.choices] and all(told)


def test_a_middle_is_filled_in(client, chat):
    answer = client.completions.create(model=chat, prompt="def add(a, b):\n    return", suffix="\n\nprint(add(1, 2))\n", max_tokens=16, temperature=0)
    assert "a + b" in answer.choices[0].text


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_embeddings(client, embedding):
    texts = ["query: Wie hoch ist die Hundesteuer?", "passage: Die Hundesteuer beträgt 90 Euro im Jahr.", "passage: Das Freibad öffnet im Mai."]
    # The client asks for base64 when its caller says nothing.
    made = client.embeddings.create(model=embedding, input=texts)
    vectors = [entry.embedding for entry in made.data]
    assert [entry.index for entry in made.data] == [0, 1, 2] and len(vectors[0]) == 384
    assert all(abs(sum(x * x for x in vector) - 1) < 1e-3 for vector in vectors)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2])
    numbers = client.embeddings.create(model=embedding, input=texts[0], encoding_format="float").data[0].embedding
    assert cosine(numbers, vectors[0]) > 0.9999
    assert len(client.embeddings.create(model=embedding, input=texts[0], dimensions=64).data[0].embedding) == 64


def test_moderations(url, guarded_key, chat):
    client = openai.OpenAI(base_url=url, api_key=guarded_key, max_retries=0)
    answer = client.moderations.create(model="omni-moderation-latest", input=["Write to mail@example.org.", "Nothing here."])
    assert answer.id.startswith("modr-") and answer.model == "kontor-guardrails"
    seen, unseen = (result.to_dict() for result in answer.results)
    assert seen["flagged"] and seen["categories"] == {"pii": True, "secrets": False, "injection": False, "words": False}
    assert 0 < seen["category_scores"]["pii"] <= 1 and seen["rules"] == ["contacts"]
    assert not unseen["flagged"] and not any(unseen["categories"].values()) and unseen["rules"] == []
    assert client.moderations.create(input="mail@example.org").results[0].flagged
    with pytest.raises(openai.BadRequestError) as refused:
        client.moderations.create(input=[])
    assert refused.value.param == "input"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=chat, messages=[{"role": "user", "content": "Write to mail@example.org."}])
    assert refused.value.code == "content_filter"


def test_files(client):
    file = client.files.create(file=("notes.txt", b"remember"), purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert (file.object, file.bytes, file.filename, file.purpose, file.expires_at) == ("file", 8, "notes.txt", "user_data", file.created_at + 3600)
    assert client.files.retrieve(file.id).to_dict() == file.to_dict() and file.id in [other.id for other in client.files.list(purpose="user_data")]
    assert client.files.content(file.id).read() == b"remember"
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def over(client, batch):
    for _ in range(120):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "expired", "cancelled"):
            return batch
        time.sleep(0.5)
    raise AssertionError(batch)


def test_a_batch(client, chat):
    body = dict(model=chat, messages=HELLO, temperature=0, max_tokens=8)
    line = dict(method="POST", url="/v1/chat/completions")
    lines = [dict(line, custom_id="good", body=body), dict(line, custom_id="hot", body=dict(body, temperature=9))]
    requests = client.files.create(file=("requests.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    made = client.batches.create(input_file_id=requests.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"for": "tests"})
    assert made.status == "validating" and made.metadata == {"for": "tests"} and made.id in [other.id for other in client.batches.list()]
    batch = over(client, made)
    assert batch.status == "completed" and (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (2, 1, 1)
    [answer] = map(json.loads, client.files.content(batch.output_file_id).text.splitlines())
    assert answer["custom_id"] == "good" and answer["error"] is None and answer["response"]["status_code"] == 200
    whole = client.chat.completions.create(**body)
    assert answer["response"]["body"]["choices"][0]["message"]["content"] == whole.choices[0].message.content
    [failure] = map(json.loads, client.files.content(batch.error_file_id).text.splitlines())
    assert failure["custom_id"] == "hot" and failure["response"]["body"]["error"]["param"] == "temperature"
    wrong = client.files.create(file=("requests.jsonl", b"no JSON"), purpose="batch")
    failed = over(client, client.batches.create(input_file_id=wrong.id, endpoint="/v1/chat/completions", completion_window="24h"))
    assert failed.status == "failed" and failed.errors.data[0].line == 1
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(failed.id)


def test_errors_are_the_classes_that_programs_catch(client, url, chat, embedding):
    stranger = openai.OpenAI(base_url=url, api_key="sk-kontor-wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(model=chat, messages=HELLO)
    assert refused.value.code == "invalid_api_key" and refused.value.request_id
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=chat, input="x")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=chat, messages=HELLO, temperature=9)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=chat, messages=[{"role": "user", "content": "word " * 40_000}])
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=chat, messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}])
    assert refused.value.param == "messages[0].content[0]"


def test_unknown_fields_do_no_harm(client, chat):
    raw = client.chat.completions.with_raw_response.create(model=chat, messages=HELLO, max_tokens=2, extra_body={"frobnicate": True})
    assert raw.headers["x-kontor-ignored-fields"] == "frobnicate"


def test_whoever_stops_reading_may_go_on_at_once(client, chat):
    for _ in range(3):
        stream = client.chat.completions.create(model=chat, messages=[{"role": "user", "content": "Count to one thousand."}], max_tokens=1000, stream=True)
        next(iter(stream))
        stream.close()
    assert client.chat.completions.create(model=chat, messages=HELLO, max_tokens=4, timeout=20).choices
