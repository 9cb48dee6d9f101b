"""LangChain's own OpenAI classes against a running artifact: chat, streaming, tools, structured output, embeddings."""

import asyncio
import math

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, Field

QUESTION = "What is mkllm?"


@tool
def product(first: int, second: int) -> int:
    """Multiply two numbers."""
    return first * second


class Sum(BaseModel):
    """What is added."""

    first: int = Field(ge=0, le=99)
    second: int = Field(ge=0, le=99)


@pytest.fixture
def model(base_url: str) -> ChatOpenAI:
    return ChatOpenAI(base_url=base_url, api_key="none", model="demo", temperature=0, max_retries=0, timeout=60)


def test_chat(model: ChatOpenAI) -> None:
    answer = model.invoke([SystemMessage("Answer."), HumanMessage(QUESTION)])
    assert isinstance(answer.content, str) and "executable" in answer.content
    assert answer.usage_metadata and answer.usage_metadata["output_tokens"] > 3


def test_the_stream_is_the_same_answer_in_pieces(model: ChatOpenAI) -> None:
    pieces = [chunk.content for chunk in model.stream(QUESTION) if chunk.content]
    assert "".join(map(str, pieces)) == model.invoke(QUESTION).content and len(pieces) > 3


def test_several_are_asked_at_once(model: ChatOpenAI) -> None:
    async def all_of_them() -> list[AIMessage]:
        return await model.abatch([QUESTION, "What is 7 times 8?", QUESTION])

    first, other, again = (answer.content for answer in asyncio.run(all_of_them()))
    assert "executable" in first and "executable" in again and "56" in other


def test_a_tool_is_called_and_its_result_is_read(model: ChatOpenAI) -> None:
    question = HumanMessage("What is 7 times 8?")
    asked = model.bind_tools([product], tool_choice="required").invoke([question], max_tokens=200)
    assert isinstance(asked, AIMessage)
    (call,) = asked.tool_calls
    result = product.invoke(call)
    assert isinstance(result, ToolMessage) and int(result.text) == call["args"]["first"] * call["args"]["second"]
    assert model.invoke([question, asked, result], max_tokens=50).content


def test_structured_output_is_of_its_class(model: ChatOpenAI) -> None:
    found = model.with_structured_output(Sum, method="json_schema").invoke("What is 3 plus 4?", max_tokens=200)
    assert isinstance(found, Sum) and 0 <= found.first <= 99


def test_embeddings_tell_like_from_unlike(embeddings_url: str) -> None:
    # Unchecked, texts go as texts: to count tokens as OpenAI does, LangChain would download OpenAI's vocabulary.
    embeddings = OpenAIEmbeddings(
        base_url=embeddings_url, api_key="none", model="demo", max_retries=0, check_embedding_ctx_length=False
    )
    like, unlike = embeddings.embed_documents(["What is mkllm for?", "What is 7 times 8?"])
    one = embeddings.embed_query(QUESTION)
    assert len(one) == 128 and math.dist(one, like) < math.dist(one, unlike)
