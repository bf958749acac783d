"""A LangChain call in its conversation: what was said, by whom, and what a config can name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.runnables import ConfigurableFieldSpec

from langchain_hybrid.queries import text_of
from shared_router.asking.conversations import Said
from shared_router.asking.questions import is_tool_noise, without_harness
from shared_router.engine.conversations import NOWHERE, Place
from shared_router.options import CONFIGURABLE_PREFIX
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared_router.asking.conversations import Role
    from shared_router.engine.conversations import Conversations
    from shared_router.engine.engine import RoutingEngine
    from shared_router.options import CallOptions

logger = logging.getLogger("hybrid_llm")

_MODEL = ("model_name", "model", "model_id")
_ROLES: dict[str, Role] = {"user": "user", "human": "user", "assistant": "assistant"}
_SPECS: dict[str, tuple[Any, str]] = {
    "threshold": (float, "Dial: the score from which the small model is called."),
    "cost_advantage": (float, "Dial: share of calls not sent to the large model, 0 to 1."),
    "max_quality_drop": (float, "Dial: greatest quality drop, relative (0.02 is 2 %)."),
    "max_quality_drop_absolute": (float, "Dial: greatest quality drop, in the metric's units."),
    "confidence": (float | str, "How sure a quality limit must be, or 'estimate'."),
    "route": (str, "Forces a model by name; 'small' and 'large' are the first and the last."),
    "task": (str, "The task label of the question."),
    "fallback": (str | list[str], "Who else is asked where a model fails."),
    "escalate": (str | list[str], "Checks that send an answer to the next dearer model."),
    "call_timeout_s": (float, "Seconds that a call may take."),
    "second_look": (bool | str, "Whether answers are looked at: true, false or 'auto'."),
    "conversation": (str, "'auto', 'turn' or 'keep', or the conversation's name."),
}
"""Every option of a call, for schemas of configs."""


def config_specs() -> list[ConfigurableFieldSpec]:
    """Describe what a config can set."""
    return [
        ConfigurableFieldSpec(
            id=CONFIGURABLE_PREFIX + name,
            annotation=kind | None,
            name=name,
            description=told,
            default=None,
        )
        for name, (kind, told) in _SPECS.items()
    ]


def place_of(
    conversations: Conversations,
    messages: Sequence[BaseMessage],
    options: CallOptions,
    engine: RoutingEngine,
    config: Mapping[str, Any],
) -> Place:
    """Find where a call stands in its conversation; nowhere, where that cannot be read."""
    try:
        said, thread = said_of(messages), thread_of(config)
        return conversations.place(said, options, engine.candidates, thread)
    except Exception as error:  # noqa: BLE001  (a chain never breaks because the router did)
        logger.warning("Reading the conversation raised %s.", type(error).__name__)
        return NOWHERE


def said_of(messages: Sequence[BaseMessage]) -> list[Said]:
    """Read a conversation."""
    return [_said(message) for message in messages]


def _said(message: BaseMessage) -> Said:
    text = text_of(message)
    if not isinstance(message, AIMessage):
        own = without_harness(text)
        by_harness = is_tool_noise(own) or (bool(text.strip()) and not own.strip())
        role = _role(message)
        return Said(role="tool" if role == "user" and by_harness else role, text=own or text)
    metadata = message.response_metadata
    routed, usage = metadata.get(ROUTING_KEY), message.usage_metadata
    return Said(
        role="assistant",
        text=text or _calls(message),
        routed=routed if isinstance(routed, dict) else None,
        model=_model(metadata),
        tokens=usage.get("total_tokens") if usage else None,
    )


def _model(metadata: Mapping[str, Any]) -> str | None:
    named = (metadata.get(name) for name in _MODEL)
    return next((name for name in named if isinstance(name, str)), None)


def _role(message: BaseMessage) -> Role:
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, HumanMessage):
        return "user"
    return _ROLES.get(getattr(message, "role", ""), "tool")


def _calls(message: AIMessage) -> str:
    """Tell a message by the tools it calls, where it says nothing."""
    return " ".join(f"{call['name']} {call['args']}" for call in message.tool_calls)


def thread_of(config: Mapping[str, Any]) -> str | None:
    """Name the conversation that a graph's thread holds; `None` where there is no thread.

    A sub-agent runs in its parent's thread, at a place of its own in the graph.
    """
    configurable = config.get("configurable") or {}
    thread = configurable.get("thread_id")
    if thread is None:
        return None
    places = str(configurable.get("checkpoint_ns") or "").split("|")
    return "|".join((str(thread), *(place.partition(":")[0] for place in places)))
