"""`generate`'s shapes: one config per call in, one `LLMResult` out."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, cast

from langchain_core.outputs import ChatGeneration, LLMResult, RunInfo

if TYPE_CHECKING:
    from langchain_core.callbacks import Callbacks
    from langchain_core.messages import AIMessage
    from langchain_core.runnables import RunnableConfig


def call_configs(
    n: int,
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
    run_id: uuid.UUID | None,
) -> list[RunnableConfig]:
    """Make one config per call; a given run id is the first call's."""
    given = {"callbacks": callbacks, "tags": tags, "metadata": metadata, "run_name": run_name}
    common = {key: value for key, value in given.items() if value is not None}
    ids = [run_id or uuid.uuid4(), *(uuid.uuid4() for _ in range(1, n))][:n]
    return [cast("RunnableConfig", {**common, "run_id": each}) for each in ids]


def llm_result(answers: list[AIMessage], configs: list[RunnableConfig]) -> LLMResult:
    """Gather the answers, with the ids of their runs."""
    return LLMResult(
        generations=[[ChatGeneration(message=answer)] for answer in answers],
        llm_output={},
        run=[RunInfo(run_id=cast("uuid.UUID", config["run_id"])) for config in configs],
    )
