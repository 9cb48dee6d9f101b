"""What a model that generates no text is for: vectors of texts, or scores of how well they answer a question."""

from dataclasses import dataclass

from mkllm.runtime.artifact.manifest import Model

# What generates text, by its path in the engine's API.
GENERATING = frozenset(
    "/completion /completions /v1/completions /chat/completions /v1/chat/completions /v1/messages /v1/responses "
    "/responses /infill".split()
)


@dataclass(frozen=True)
class Purpose:
    """`kind` of model with its article; the `path` to ask, the `body` of a first request, the engine's `words`."""

    kind: str
    path: str
    body: str
    words: tuple[str, ...]

    @property
    def noun(self) -> str:
        """The kind without its article."""
        return self.kind.partition(" ")[2]

    @property
    def sentence(self) -> str:
        """Why a prompt has no answer."""
        return f"this is {self.kind}, which answers no prompts: start it and ask {self.path}"


def purpose(model: Model) -> Purpose | None:
    """None: it generates text."""
    if not model.pooling:
        return None
    if model.pooling == "rank":
        body = '{"query": "What is a panda?", "documents": ["A bear of China.", "A kind of bread."]}'
        return Purpose("a reranking model", "/v1/rerank", body, ("--reranking",))
    words = ("--embeddings", "--pooling", model.pooling)
    return Purpose("an embedding model", "/v1/embeddings", '{"input": ["first text", "second text"]}', words)
