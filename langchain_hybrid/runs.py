"""Run trees opened by hand: a chain run around every call, a router run and the decision in it.

`Runnable._call_with_config` would do it at twice the cost. Router run and custom event are made
only where somebody listens. A sync and an async class, alike but for `await`.

    HybridChatModel (chain) -> HybridRouter (chain: query and decision) + the chosen model (llm)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
    set_config_context,
)
from langchain_core.runnables.utils import coro_with_context
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langchain_core.utils.aiter import aclosing

from langchain_hybrid.contexts import ain_context, in_context
from shared_router.observing.telemetry import note_answer_on_span, note_on_span
from shared_router.records import ROUTING_KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from langchain_core.callbacks import (
        AsyncCallbackManagerForChainRun,
        CallbackManagerForChainRun,
    )
    from langchain_core.runnables import RunnableConfig

    from shared_router.deciding.attempts import Attempt
    from shared_router.deciding.guards import RoutingRequest
    from shared_router.engine.calls import Call
    from shared_router.records import RoutingDecision

T = TypeVar("T")

ROUTER_RUN = "HybridRouter"
_OWN = ("run_name", "run_id")


def attempt_config(
    config: RunnableConfig, step: Attempt, name: str, told: dict[str, Any]
) -> RunnableConfig:
    """Put the tag of the candidate that is asked, and the decision, into its config."""
    if step.why != "chosen":
        told = {**told, "asked": name, "asked_because": step.why}
    return {
        **config,
        "tags": [*(config.get("tags") or []), f"{ROUTING_KEY}:{name}"],
        "metadata": {**(config.get("metadata") or {}), ROUTING_KEY: told},
    }


def _router_inputs(request: RoutingRequest) -> dict[str, Any]:
    query = request.query
    return {"query": query.text if query else None, "source": query.source if query else "none"}


def _note_on_run(
    run: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun, payload: Any, name: str
) -> None:
    """Add the decision, or who answered, to the tags and metadata of the chain's LangSmith run."""
    for handler in run.handlers:
        tree: Any = getattr(handler, "run_map", {}).get(str(run.run_id))
        if hasattr(tree, "add_metadata"):
            tree.add_metadata({ROUTING_KEY: payload})
            tag, tags = f"{ROUTING_KEY}:{name}", tree.tags or ()
            # Not `add_tags`: the list is the run manager's own.
            tree.tags = [*tags, tag] if tag not in tags else tags


def _answered(
    run: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun | None,
    told: dict[str, Any] | None,
    call: Call,
) -> None:
    """Say on the chain's LangSmith run, and on the current span, who answered."""
    if run is not None:
        _note_on_run(run, {**(told or {}), **call.answering()}, call.answered_by)
    note_answer_on_span(call.answered_by, call.why, call.attempted)


def _split_run(config: RunnableConfig, name: str) -> tuple[RunnableConfig, dict[str, Any]]:
    """Split a config into the called model's and what concerns the chain run alone."""
    rest = cast("RunnableConfig", {k: v for k, v in config.items() if k not in _OWN})
    return rest, {"name": config.get("run_name") or name, "run_id": config.get("run_id")}


class RoutedRun:
    """One call's runs, synchronously; nothing is opened where nobody listens.

    Args:
        name: Name of the chain run.
        value: Its input.
        config: The caller's config.
        always: Open the chain run even where nobody listens.
    """

    def __init__(
        self, name: str, value: Any, config: RunnableConfig, *, always: bool = False
    ) -> None:
        manager = get_callback_manager_for_config(config)
        self.traced = always or bool(manager.handlers)
        self.config, asked = _split_run(config, name)
        self._run: CallbackManagerForChainRun | None = None
        self._router: CallbackManagerForChainRun | None = None
        self._told: dict[str, Any] | None = None
        if self.traced:
            self._run = manager.on_chain_start(None, value, **asked)
            self.config["callbacks"] = self._run.get_child()

    def deciding(self, request: RoutingRequest) -> None:
        """Open the router's run."""
        if self._run is not None:
            self._router = self._run.get_child().on_chain_start(
                None, _router_inputs(request), name=ROUTER_RUN
            )

    def attempting(self, step: Attempt, name: str) -> RunnableConfig:
        """Return the config of an attempt; at the first, tell of the decision.

        Args:
            step: The attempt.
            name: The candidate that is asked.
        """
        if self._told is None:
            self._told = self._decided(step.decision)
        return attempt_config(self.config, step, name, self._told)

    def _decided(self, decision: RoutingDecision) -> dict[str, Any]:
        """Close the router's run and tell of the decision; returns what metadata hold of it."""
        payload = decision.model_dump(mode="json")
        told = {**payload, "query": None}  # metadata is no input, and not hidden as one
        if self._run is not None and self._router is not None:
            self._router.on_chain_end(payload)
            self._router = None
            _note_on_run(self._run, told, decision.candidate)
            self._run.get_child().on_custom_event(ROUTING_KEY, payload, run_id=self._run.run_id)
        note_on_span(decision)
        return told

    def within(self, function: Callable[[], T]) -> T:
        """Call a function inside the chain run's context."""
        if not self.traced:
            return function()
        with set_config_context(self.config) as context:
            return context.run(function)

    def iterate(self, start: Callable[[], Iterator[T]]) -> Iterator[T]:
        """Draw an iterator inside the chain run's context."""
        if not self.traced:
            yield from start()
            return
        with set_config_context(self.config) as context:
            yield from in_context(context, context.run(start))

    def tap(self, chunks: Iterator[T]) -> Iterator[T]:
        """Let streaming handlers see the chain's own chunks."""
        for handler in self._run.handlers if self._run else ():
            if isinstance(handler, _StreamingCallbackHandler) and self._run:
                return handler.tap_output_iter(self._run.run_id, chunks)
        return chunks

    def end(self, output: Any, call: Call) -> None:
        """Say who answered, and close the chain run."""
        _answered(self._run, self._told, call)
        if self._run is not None:
            self._run.on_chain_end(output)

    def fail(self, error: BaseException) -> None:
        """Close the chain run, and the router's if it is open, with an error."""
        if self._router is not None:
            self._router.on_chain_error(error)
        if self._run is not None:
            self._run.on_chain_error(error)


class AsyncRoutedRun:
    """One call's runs, asynchronously; made by `open`, alike to `RoutedRun`."""

    def __init__(self, run: AsyncCallbackManagerForChainRun | None, config: RunnableConfig) -> None:
        self._run = run
        self.traced = run is not None
        self.config = config
        self._router: AsyncCallbackManagerForChainRun | None = None
        self._told: dict[str, Any] | None = None

    @classmethod
    async def open(
        cls, name: str, value: Any, config: RunnableConfig, *, always: bool = False
    ) -> AsyncRoutedRun:
        """Open the chain run, where somebody listens."""
        manager = get_async_callback_manager_for_config(config)
        config, asked = _split_run(config, name)
        if not always and not manager.handlers:
            return cls(None, config)
        run = await manager.on_chain_start(None, value, **asked)
        config["callbacks"] = run.get_child()
        return cls(run, config)

    async def deciding(self, request: RoutingRequest) -> None:
        """Open the router's run."""
        if self._run is not None:
            self._router = await self._run.get_child().on_chain_start(
                None, _router_inputs(request), name=ROUTER_RUN
            )

    async def attempting(self, step: Attempt, name: str) -> RunnableConfig:
        """Return the config of an attempt; at the first, tell of the decision."""
        if self._told is None:
            self._told = await self._decided(step.decision)
        return attempt_config(self.config, step, name, self._told)

    async def _decided(self, decision: RoutingDecision) -> dict[str, Any]:
        payload = decision.model_dump(mode="json")
        told = {**payload, "query": None}  # metadata is no input, and not hidden as one
        if self._run is not None and self._router is not None:
            await self._router.on_chain_end(payload)
            self._router = None
            _note_on_run(self._run, told, decision.candidate)
            child = self._run.get_child()
            await child.on_custom_event(ROUTING_KEY, payload, run_id=self._run.run_id)
        note_on_span(decision)
        return told

    async def within(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Await a coroutine inside the chain run's context."""
        if not self.traced:
            return await start()
        with set_config_context(self.config) as context:
            return await coro_with_context(start(), context)

    async def iterate(self, start: Callable[[], AsyncIterator[T]]) -> AsyncIterator[T]:
        """Draw an async iterator inside the chain run's context."""
        if not self.traced:
            async with aclosing(start()) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        with set_config_context(self.config) as context:
            async with aclosing(ain_context(context, context.run(start))) as chunks:
                async for chunk in chunks:
                    yield chunk

    def tap(self, chunks: AsyncIterator[T]) -> AsyncIterator[T]:
        """Let streaming handlers see the chain's own chunks."""
        for handler in self._run.handlers if self._run else ():
            if isinstance(handler, _StreamingCallbackHandler) and self._run:
                return handler.tap_output_aiter(self._run.run_id, chunks)
        return chunks

    async def end(self, output: Any, call: Call) -> None:
        """Say who answered, and close the chain run."""
        _answered(self._run, self._told, call)
        if self._run is not None:
            await self._run.on_chain_end(output)

    async def fail(self, error: BaseException) -> None:
        """Close the chain run, and the router's if it is open, with an error."""
        if self._router is not None:
            await self._router.on_chain_error(error)
        if self._run is not None:
            await self._run.on_chain_error(error)
