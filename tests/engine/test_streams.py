"""Streams that end and show nothing."""

from __future__ import annotations

from typing import Any

import pytest

from shared_router.deciding.escalation import Answer
from shared_router.deciding.failures import failure_of
from shared_router.engine.streams import aopened, check_said, opened
from shared_router.errors import EmptyStreamError


def read(chunk: dict[str, Any]) -> Answer:
    return Answer(**chunk)


def blank(chunk: Any) -> bool:
    return not (chunk["text"] if isinstance(chunk, dict) else chunk)


SILENT: list[Any] = [{"text": ""}, {"text": ""}]
FINE: list[list[Any]] = [
    [],
    [""],
    [{"text": ""}, {"text": "", "finish_reason": "stop"}],
    [{"text": "", "refusal": "no"}],
    [{"text": ""}, {"text": "hi"}],
]


async def drawn(chunks: list[Any]) -> Any:
    async def given() -> Any:
        for chunk in chunks:
            yield chunk

    return await aopened(given(), blank)


async def test_a_stream_of_blank_chunks_that_says_no_reason_is_unreadable() -> None:
    for stream in (opened(SILENT, blank), await drawn(SILENT)):
        with pytest.raises(EmptyStreamError) as caught:
            check_said(stream, read)
        failure = failure_of(caught.value)
        assert (failure.kind, failure.mendable) == ("unreadable", True)


@pytest.mark.parametrize("chunks", FINE)
async def test_one_that_says_why_or_cannot_say_it_passes(chunks: list[Any]) -> None:
    check_said(opened(chunks, blank), read)
    check_said(await drawn(chunks), read)


def test_a_whole_answer_passes_unread() -> None:
    check_said("", lambda _: pytest.fail("read"))
