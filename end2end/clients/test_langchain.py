"""LangChain with its model for OpenAI."""

import langchain_core.exceptions
import langchain_openai
import openai
import pydantic
import pytest


class Town(pydantic.BaseModel):
    """A town."""

    name: str
    inhabitants: int


def model(url, key, chat):
    return langchain_openai.ChatOpenAI(base_url=url, api_key=key, model=chat, temperature=0, max_tokens=64, max_retries=0)


def test_invoke_and_stream(url, key, chat):
    whole = model(url, key, chat).invoke("Say hello in one word.")
    assert whole.content and whole.usage_metadata["total_tokens"] > 0
    streamed = list(model(url, key, chat).stream("Say hello in one word."))
    assert "".join(chunk.content for chunk in streamed) == whole.content


def test_structured_output(url, key, chat):
    town = model(url, key, chat).with_structured_output(Town, method="json_schema").invoke("Husum has 23000 inhabitants.")
    assert isinstance(town, Town) and town.name


def test_tools(url, key, chat):
    bound = model(url, key, chat).bind_tools([Town], tool_choice="required")
    called = bound.invoke("Husum has 23000 inhabitants.")
    assert called.tool_calls[0]["name"] == "Town" and called.tool_calls[0]["args"]["name"]


def test_tools_streamed_and_their_results(url, key, chat):
    asking = model(url, key, chat)
    question = {"role": "user", "content": "Husum has 23000 inhabitants."}
    chunks = list(asking.bind_tools([Town], tool_choice="Town").stream([question], stream_usage=True))
    whole = sum(chunks[1:], chunks[0])
    [call] = whole.tool_calls
    assert call["name"] == "Town" and call["args"]["name"] and call["id"] and whole.usage_metadata["output_tokens"] > 0
    result = {"role": "tool", "tool_call_id": call["id"], "content": "It is noted."}
    assert asking.bind_tools([Town], tool_choice="none").invoke([question, whole, result]).content


def test_errors_are_the_classes_that_programs_catch(url, key, chat):
    with pytest.raises(openai.AuthenticationError):
        model(url, "sk-kontor-wrong", chat).invoke("x")
    with pytest.raises(openai.NotFoundError):
        model(url, key, "gpt-9").invoke("x")
    with pytest.raises(openai.BadRequestError) as refused:
        list(model(url, key, chat).stream("x", temperature=9))
    assert refused.value.param == "temperature"
    with pytest.raises(langchain_core.exceptions.ContextOverflowError):
        model(url, key, chat).invoke("word " * 40_000)


def test_whoever_stops_reading_may_go_on_at_once(url, key, chat):
    for _ in range(3):
        stream = model(url, key, chat).bind(max_tokens=1000).stream("Count to one thousand.")
        next(stream)
        stream.close()
    assert model(url, key, chat).invoke("Say hello in one word.").content


def test_embeddings(url, key, embedding):
    made = langchain_openai.OpenAIEmbeddings(base_url=url, api_key=key, model=embedding, check_embedding_ctx_length=False)
    assert len(made.embed_query("query: Hallo")) == 384
    assert [len(vector) for vector in made.embed_documents(["passage: a", "passage: b"])] == [384, 384]
