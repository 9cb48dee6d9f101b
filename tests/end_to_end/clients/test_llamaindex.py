"""LlamaIndex's own classes for servers like OpenAI's against a running artifact: chat, streaming, tools, embeddings."""

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

QUESTION = "What is mkllm?"


def product(first: int, second: int) -> int:
    """Multiply two numbers."""
    return first * second


@pytest.fixture
def model(base_url: str) -> OpenAILike:
    return OpenAILike(
        api_base=base_url,
        api_key="none",
        model="demo",
        is_chat_model=True,
        is_function_calling_model=True,
        context_window=1024,
        temperature=0,
        max_tokens=200,
        max_retries=0,
        timeout=60,
    )


@pytest.fixture
def embeddings(embeddings_url: str) -> OpenAILikeEmbedding:
    return OpenAILikeEmbedding(api_base=embeddings_url, api_key="none", model_name="demo", max_retries=0)


def test_chat(model: OpenAILike) -> None:
    assert "executable" in str(model.chat([ChatMessage(role="user", content=QUESTION)]).message.content)


def test_the_stream_is_the_same_answer_in_pieces(model: OpenAILike) -> None:
    messages = [ChatMessage(role="user", content=QUESTION)]
    pieces = [piece.delta for piece in model.stream_chat(messages) if piece.delta]
    assert "".join(pieces) == model.chat(messages).message.content and len(pieces) > 3


def test_a_text_is_gone_on_with(base_url: str) -> None:
    model = OpenAILike(api_base=base_url, api_key="none", model="demo", is_chat_model=False, temperature=0)
    assert model.complete("Run `mkllm build", max_tokens=8).text.strip()


def test_a_tool_is_called_and_its_result_is_told(model: OpenAILike) -> None:
    tool = FunctionTool.from_defaults(product)
    asked = model.chat_with_tools([tool], user_msg="What is 7 times 8?", tool_required=True)
    (call,) = model.get_tool_calls_from_response(asked)
    assert call.tool_name == "product" and set(call.tool_kwargs) == {"first", "second"}
    told = model.predict_and_call([tool], user_msg="What is 7 times 8?", tool_required=True)
    assert [source.tool_name for source in told.sources] == ["product"]
    assert int(str(told)) == product(**told.sources[0].raw_input["kwargs"])


def test_an_index_finds_the_like_text(embeddings: OpenAILikeEmbedding) -> None:
    texts = ["What is 7 times 8?", "What is mkllm for?", "Good morning!"]
    index = VectorStoreIndex.from_documents([Document(text=text) for text in texts], embed_model=embeddings)
    found = index.as_retriever(similarity_top_k=1).retrieve(QUESTION)
    assert [node.text for node in found] == ["What is mkllm for?"]
