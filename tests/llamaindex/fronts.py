"""Both fronts behind one face, to be tested alike: four ways of calling, and kinds of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router.records import ROUTING_KEY
from shared_router.testing import fixed_router
from tests.langchain.fakes import FakeChat
from tests.langchain.test_binding import look_up
from tests.llamaindex.fakes import FakeLLM
from tests.llamaindex.operations import TOOL
from tests.material import PAIR, dataset, record

if TYPE_CHECKING:
    from shared_router import Router

SHORT, LONG = "Who?", "x" * 45
"""To the small model, and to the large one, at the limit that is promised."""
PROMISED, TOO_LITTLE = {"max_quality_drop": 0.05}, {"max_quality_drop": 0.0005}
FIELDS = ("candidate", "reason", "guarantee", "guarantee_reason", "confidence")
WAYS = ("sync", "async", "streamed", "async streamed")


def by_length(text: str) -> float:
    return 50.0 - len(text)


def promising(n: int = 600) -> Router:
    """Make a router of two models, the small one being right on all but the longest quarter."""
    rows = (
        record(f"{i}", f"{i:04d}" + "x" * (i % 40), "v", small=float(i % 40 < 30), large=1.0)
        for i in range(n)
    )
    return fixed_router(by_length).calibrate(dataset(*rows, name="v"))


class LangChain:
    """Calls a `HybridChatModel`."""

    @staticmethod
    def model(name: str) -> FakeChat:
        return FakeChat(model=name)

    @classmethod
    def build(cls, router: Router, **options: Any) -> HybridChatModel:
        pair = {name: cls.model(name) for name in PAIR} if "candidates" not in options else {}
        return HybridChatModel(**{**pair, "router": router, **options})

    @staticmethod
    async def answers(model: Any, asked: Any, *, tools: bool = False, **options: Any) -> list[Any]:
        called = model.bind_tools([look_up]) if tools else model
        chunks = list(called.stream(asked, **options))
        later = [chunk async for chunk in called.astream(asked, **options)]
        once = called.invoke(asked, **options)
        return [once, await called.ainvoke(asked, **options), sum_of(chunks), sum_of(later)]

    @staticmethod
    def told(answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = answer.response_metadata[ROUTING_KEY]
        return found

    user = staticmethod(lambda text: [HumanMessage(text)])
    nobody = staticmethod(lambda: [SystemMessage("Say something.")])

    @staticmethod
    def later(text: str) -> list[Any]:
        return [HumanMessage("Hello."), AIMessage("Hello."), HumanMessage(text)]

    @staticmethod
    def picture(text: str) -> list[Any]:
        image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        return [HumanMessage([{"type": "text", "text": text}, image])]

    @staticmethod
    def after_tools(text: str, answer: Any) -> list[Any]:
        call = {"name": "look_up", "args": {}, "id": "1"}
        told = {"tool_calls": [call], "response_metadata": answer.response_metadata}
        return [HumanMessage(text), AIMessage("", **told), ToolMessage("42", tool_call_id="1")]


class LlamaIndex:
    """Calls a `HybridLLM`."""

    @staticmethod
    def model(name: str) -> FakeLLM:
        return FakeLLM(name=name)

    @classmethod
    def build(cls, router: Router, **options: Any) -> HybridLLM:
        pair = {name: cls.model(name) for name in PAIR} if "candidates" not in options else {}
        return HybridLLM(**{**pair, "router": router, **options})

    @staticmethod
    async def answers(llm: Any, asked: Any, *, tools: bool = False, **options: Any) -> list[Any]:
        name, given = "chat", {"messages": asked, **options}
        if tools:
            name, given = "chat_with_tools", {"tools": [TOOL], "chat_history": asked, **options}
        chunks = list(getattr(llm, f"stream_{name}")(**given))
        later = [chunk async for chunk in await getattr(llm, f"astream_{name}")(**given)]
        once, awaited = getattr(llm, name)(**given), await getattr(llm, f"a{name}")(**given)
        return [once, awaited, chunks[-1], later[-1]]

    @staticmethod
    def told(answer: Any) -> dict[str, Any]:
        found: dict[str, Any] = answer.additional_kwargs[ROUTING_KEY]
        return found

    user = staticmethod(lambda text: [ChatMessage(text, role="user")])
    nobody = staticmethod(lambda: [ChatMessage("Say something.", role="system")])

    @staticmethod
    def later(text: str) -> list[Any]:
        said = [ChatMessage("Hello.", role="user"), ChatMessage("Hello.", role="assistant")]
        return [*said, ChatMessage(text, role="user")]

    @staticmethod
    def picture(text: str) -> list[Any]:
        image = ImageBlock(url="https://example.com/a.png")
        return [ChatMessage(role="user", blocks=[TextBlock(text=text), image])]

    @staticmethod
    def after_tools(text: str, answer: Any) -> list[Any]:
        del answer  # this front remembers by what was said
        called = ChatMessage("", role="assistant", additional_kwargs={"tool_calls": []})
        return [ChatMessage(text, role="user"), called, ChatMessage("42", role="tool")]


def sum_of(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


async def claims(front: Any, model: Any, asked: Any, **options: Any) -> tuple[Any, ...]:
    """Call a model in every way; returns what all answers claim alike."""
    answers = await front.answers(model, asked, **options)
    assert len(answers) == len(WAYS)
    found = [tuple(front.told(each)[name] for name in FIELDS) for each in answers]
    assert len(set(found)) == 1, dict(zip(WAYS, found, strict=True))
    return found[0]
