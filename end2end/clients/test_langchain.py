"""LangChain with its model for OpenAI."""

import langchain_openai
import pydantic


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


def test_embeddings(url, key, embedding):
    made = langchain_openai.OpenAIEmbeddings(base_url=url, api_key=key, model=embedding, check_embedding_ctx_length=False)
    assert len(made.embed_query("query: Hallo")) == 384
    assert [len(vector) for vector in made.embed_documents(["passage: a", "passage: b"])] == [384, 384]
