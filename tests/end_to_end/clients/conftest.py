"""What the clients of the field are asked to talk to."""

from typing import Any

import pytest


@pytest.fixture
def base_url(demo_server: Any) -> str:
    """Where the demo artifact speaks OpenAI's API."""
    return f"{demo_server.url}/v1"


@pytest.fixture
def embeddings_url(embedding_server: Any) -> str:
    """Where the demo artifact serves embeddings."""
    return f"{embedding_server.url}/v1"
