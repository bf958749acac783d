"""Calibrating on conversations: one label each, promised where a conversation keeps its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared_router import Candidate, Router, RoutingDataset
from shared_router.data.conversations import by_conversation, sharing_a_beginning
from shared_router.errors import DataError
from shared_router.testing import fixed_router
from tests.llamaindex.fronts import by_length
from tests.material import dataset, record
from tests.test_conversations import LangChain, LlamaIndex

if TYPE_CHECKING:
    from pathlib import Path

    from shared_router.data.schema import RoutingRecord

LIMIT: dict[str, Any] = {"max_quality_drop": 0.05}
SHORT, LONG = "Who?", "x" * 45


def turn(id_: str, conversation: str | None, query: str, **quality: float) -> RoutingRecord:
    plain = record(id_, query, "v", **quality)
    return plain.model_copy(update={"conversation": conversation})


def talks(n: int, turns: int = 3) -> RoutingDataset:
    """Make conversations whose openings tell whether the small model is right in all turns."""
    return dataset(
        *(
            turn(
                f"{i}-{at}",
                f"talk {i}",
                f"{i:04d}" + "x" * (i % 40) if at == 0 else "and then?" + "y" * 45,
                small=float(i % 40 < 30),
                large=1.0,
            )
            for i in range(n)
            for at in range(turns)
        ),
        name="talks",
    )


@pytest.fixture(scope="module")
def router() -> Router:
    return fixed_router(by_length).calibrate(talks(600))


def test_a_conversation_is_one_label_the_mean_of_its_turns() -> None:
    data = dataset(
        turn("1", "a", "first", small=1.0, large=1.0),
        turn("2", "b", "other", small=0.5, large=1.0),
        turn("3", "a", "second", small=0.0, large=1.0),
        turn("4", None, "alone", small=0.0, large=0.0),
    )
    found = by_conversation(data)
    assert found.queries == ["first", "other", "alone"]
    assert found.quality(["small", "large"]).tolist() == [[0.5, 1.0], [0.5, 1.0], [0.0, 0.0]]
    plain = talks(2).where(lambda each: False)
    assert by_conversation(plain) is plain


def test_labels_are_counted_by_conversation(router: Router) -> None:
    assert router.facts["calibration"]["n"] == 600
    assert router.facts["calibration"]["promise"]["by_conversation"] is True
    assert router.promises is not None
    assert router.promises.by_conversation


def test_what_is_promised_travels_in_the_artifact(router: Router, tmp_path: Path) -> None:
    from shared_router.router.promise_files import promise_settings
    from shared_router.router.schema import StoredPromises

    told = promise_settings(router.promises)
    assert told is not None
    assert StoredPromises.model_validate(told).by_conversation
    single = fixed_router(by_length).calibrate(talks(600, turns=1).where(lambda each: True))
    assert single.promises is not None


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
def test_a_conversation_that_keeps_its_model_is_promised(front: Any, router: Router) -> None:
    chat = front(router, conversation="keep", **LIMIT)
    for text in (SHORT, LONG, LONG):
        found = chat.say(text)
        assert (found["answered_by"], found["guarantee"]) == ("small", "promised")
    chat.call_tool()
    assert chat.go_on()["guarantee"] == "promised"


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
def test_another_process_promises_by_the_opening(front: Any, router: Router) -> None:
    chat = front(router, conversation="keep", **LIMIT)
    chat.say(SHORT)
    chat.forget()
    chat.model = chat.build()
    found = chat.say(LONG)
    assert (found["answered_by"], found["guarantee"]) == ("small", "promised")
    assert found["query_length"] == len(SHORT)


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
@pytest.mark.parametrize("mode", ["auto", "turn"])
def test_where_turns_are_decided_one_by_one_nothing_measured_holds(
    front: Any, mode: str, router: Router
) -> None:
    chat = front(router, conversation=mode, **LIMIT)
    for text in (SHORT, SHORT):
        found = chat.say(text)
        assert (found["guarantee"], found["guarantee_reason"]) == ("void", "conversation")


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
@pytest.mark.parametrize("mode", ["auto", "turn", "keep"])
def test_single_questions_promise_first_turns_alone(front: Any, mode: str) -> None:
    singles = talks(600, turns=1)
    plain = dataset(*(each.model_copy(update={"conversation": None}) for each in singles), name="v")
    router = fixed_router(by_length).calibrate(plain)
    chat = front(router, conversation=mode, **LIMIT)
    first, second = chat.say(SHORT), chat.say(SHORT)
    assert first["guarantee"] == "promised"
    assert second["answered_by"] == "small"
    assert (second["guarantee"], second["guarantee_reason"]) == ("void", "conversation")


@pytest.mark.parametrize("front", [LangChain, LlamaIndex])
def test_at_another_limit_the_beginning_promises_nothing(front: Any, router: Router) -> None:
    chat = front(router, conversation="keep", **LIMIT)
    chat.say(SHORT)
    found = chat.say(SHORT, max_quality_drop=0.02)
    assert (found["answered_by"], found["conversation"]) == ("small", "kept")
    assert found["guarantee"] != "promised"


# -- turns that nobody named ----------------------------------------------------------------------

BEGINNING = "Tell me about the history of a certain town and all the people who lived there. " * 4


def grown(n: int, turns: int = 3) -> RoutingDataset:
    """Make turns that each begin with those before them."""
    return dataset(
        *(
            record(
                f"{i}-{at}",
                f"{i:04d} {BEGINNING}" + "\n\nAnd then? Go on with the next part." * at,
                "v",
                small=float(i % 40 < 30),
                large=1.0,
            )
            for i in range(n)
            for at in range(turns)
        ),
        name="v",
    )


def test_turns_that_are_not_named_promise_nothing() -> None:
    router = fixed_router(by_length).calibrate(grown(100))
    assert router.promises is None
    assert "conversation" in router.facts["calibration"]["no_promise"]
    assert fixed_router(by_length).calibrate(grown(300, turns=1)).promises is not None


def test_a_template_is_no_conversation() -> None:
    queries = [f"{BEGINNING} Question {i}: why?" for i in range(200)]
    assert sharing_a_beginning(queries) == 0.0
    assert sharing_a_beginning(record.query for record in grown(50)) == 1.0
    assert sharing_a_beginning([]) == 0.0
    assert sharing_a_beginning(["a", "a", "ab"]) == 0.0


def test_a_conversation_has_a_name() -> None:
    from shared_router.data.schema import parse_record

    line = '{"id": "1", "query": "q", "conversation": "", "outcomes": {}}'
    with pytest.raises(DataError, match="conversation"):
        parse_record(line, "here")
    assert Candidate("a").cache_lifetime_s is None
