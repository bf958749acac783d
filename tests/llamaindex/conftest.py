"""Fixtures of the LlamaIndex tests: settings of their own, inner models, an index."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import llama_index.core
import openai
import pytest
from llama_index.core import Settings, VectorStoreIndex
from llama_index.core.callbacks.base import global_stack_trace, global_stack_trace_ids
from llama_index.core.callbacks.schema import BASE_TRACE_EVENT
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.schema import TextNode
from llama_index.llms.openai_like import OpenAILike
from llama_index_instrumentation import get_dispatcher

from tests.llamaindex.fakes import Decisions, Events, RecordingScorer, pair
from tests.llamaindex.operations import CHAT_PROMPT, PROMPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

UPSTREAM = (
    "ignore::pydantic.warnings.PydanticDeprecatedSince20",  # partial_output.json()
    "ignore::pydantic.warnings.PydanticDeprecatedSince211",  # workflows look at every attribute
    "ignore:is_running called from within a step:DeprecationWarning",  # ReActAgent
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let pass what LlamaIndex's own code is warned of."""
    for item in items:
        if "/tests/llamaindex/" in item.path.as_posix():
            for warning in UPSTREAM:
                item.add_marker(pytest.mark.filterwarnings(warning), append=False)


def words(text: str) -> list[str]:
    """Tokenize without a network."""
    return text.split()


class Embedding(BaseEmbedding):
    """MiniLM, as the router uses it."""

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        from cookbook.repository_docs import embed

        return embed(texts)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test LlamaIndex's settings and dispatcher as they are at the start."""
    for name in ("_llm", "_embed_model", "_callback_manager", "_prompt_helper", "_node_parser"):
        monkeypatch.setattr(Settings, name, None)
    monkeypatch.setattr(llama_index.core, "global_tokenizer", words)
    # LlamaIndex opens a trace of its own for a bare synthesizer, and leaves it open.
    global_stack_trace.set([BASE_TRACE_EVENT])
    global_stack_trace_ids.set([])
    root = get_dispatcher()
    handlers = (list(root.event_handlers), list(root.span_handlers))
    yield
    PROMPT.output_parser = CHAT_PROMPT.output_parser = None  # LlamaIndex's text programs set it
    root.event_handlers[:], root.span_handlers[:] = handlers


@pytest.fixture(autouse=True)
def own_loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Give synchronous tests a loop: LlamaIndex makes one for itself, and never closes it."""
    if inspect.iscoroutinefunction(request.function):
        yield
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
    asyncio.set_event_loop(None)


@pytest.fixture
def events() -> Events:
    """Return what LlamaIndex's dispatcher tells during the test."""
    handler = Events()
    get_dispatcher().add_event_handler(handler)
    return handler


@pytest.fixture
def decisions() -> Decisions:
    return Decisions()


@pytest.fixture
def scorer() -> RecordingScorer:
    return RecordingScorer()


@pytest.fixture(scope="module")
def pocket_url() -> Iterator[str]:
    """Return the address of the pocket pair's server on this machine."""
    from cookbook.pocket.server import pocket_server

    with pocket_server() as url:
        yield url


@pytest.fixture
async def connections() -> AsyncIterator[dict[str, Any]]:
    """Return connections that are closed with the test: what the clients make they never close."""
    with openai.DefaultHttpxClient(timeout=60) as sync_one:
        async with openai.DefaultAsyncHttpxClient(timeout=60) as async_one:
            yield {"http_client": sync_one, "async_http_client": async_one}


@pytest.fixture
def pocket_pair(pocket_url: str, connections: dict[str, Any]) -> tuple[Any, Any]:
    """Make clients of the pocket server, which reads the end of what is too long."""
    shared = {"api_base": pocket_url, "api_key": "none", "max_retries": 0, **connections}
    shared |= {"is_chat_model": True, "context_window": 4096, "max_tokens": 16, "temperature": 0}
    small, large = (OpenAILike(model=f"pocket-{name}", **shared) for name in ("small", "large"))
    return small, large


@pytest.fixture(params=["fake", "pocket"])
def inner(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Return a small and a large model: capable fakes, or a real pair behind a server."""
    if request.param == "fake":
        return pair()
    found: tuple[Any, Any] = request.getfixturevalue("pocket_pair")
    return found


@pytest.fixture(scope="session")
def nodes() -> list[TextNode]:
    """Return the repository's own docs, embedded."""
    from cookbook.repository_docs import embed, sections

    found = sections()
    vectors = embed([text for _, text in found])
    return [
        TextNode(id_=str(i), text=text, metadata={"source": source}, embedding=vector)
        for i, ((source, text), vector) in enumerate(zip(found, vectors, strict=True))
    ]


@pytest.fixture
def index(nodes: list[TextNode]) -> VectorStoreIndex:
    """Return a real index over the docs."""
    return VectorStoreIndex(nodes=nodes, embed_model=Embedding())
