"""Log-probabilities and settings: kept in the journal, written into the data file."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import pytest

from shared_router import RoutingDataset
from shared_router.collecting.collect import collect
from shared_router.collecting.store import fingerprint
from shared_router.collecting.willing import Willing
from shared_router.data.answers import Answer, Sampling, kept_logprobs, priced
from shared_router.data.journal import journal_path
from shared_router.data.schema import Outcome
from shared_router.errors import ConfigurationError, DataError
from shared_router.records import AnswerSettings
from tests.collecting.material import Right

WARM = AnswerSettings(model="nano", temperature=0.7, max_tokens=20)


def answering(*answers):
    """Make a model whose samples are these."""

    async def ask(query, sample):
        return answers[sample]

    return ask


async def outcome_of(out, *answers, **options):
    await collect(["q"], {"m": answering(*answers)}, out, len(answers), Right(), **options)
    (record,) = RoutingDataset.load(out)
    return record.outcomes["m"]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "data.jsonl"


async def test_what_answers_tell_is_written_with_them(out):
    given = [Answer("a", logprobs=(-0.123456, 5e-7), settings=WARM), Answer("b", settings=WARM)]
    found = await outcome_of(out, *given)
    assert found.logprobs == ((-0.1235, 0.0), ())
    assert found.settings == WARM  # of one answer there are none
    found = await outcome_of(out.with_name("e.jsonl"), given[0], given[0])
    assert found.settings == WARM.model_copy(update={"logprobs": True})


async def test_answers_that_tell_nothing_leave_no_field(out):
    assert (await outcome_of(out, Answer("a"))).logprobs is None
    assert set(json.loads(out.read_text())["outcomes"]["m"]) == {"quality", "response"}


@pytest.mark.parametrize("other", [None, WARM.model_copy(update={"temperature": 0.0})])
async def test_answers_that_were_not_made_alike_have_no_settings(out, other):
    given = [Answer("a", logprobs=(-1.0,), settings=WARM)]
    given.append(Answer("b", logprobs=(-2.0,), settings=other))
    found = await outcome_of(out, *given)
    assert (found.settings, found.logprobs) == (None, ((-1.0,), (-2.0,)))


async def test_what_differs_in_the_model_alone_was_made_alike(out):
    other = WARM.model_copy(update={"model": "nano-2025-08-07"})
    assert (await outcome_of(out, Answer("a", settings=WARM), Answer("b", settings=other))).settings


@pytest.mark.parametrize(
    "told", [(), (-1.0, float("nan")), (0.01,), (float("-inf"),), ("x",), (None,), (10**400,)]
)
async def test_what_is_no_log_probability_is_dropped_and_the_answer_kept(out, told):
    found = await outcome_of(out, Answer("a", logprobs=told, settings=WARM))
    assert (found.response, found.logprobs) == (("a",), None)
    assert found.settings == WARM


def test_they_are_rounded():
    assert kept_logprobs([-1.23456789, -1e-9, 1e-7, -9999.0]) == (-1.2346, 0.0, 0.0, -9999.0)
    assert "-0.0" not in str(kept_logprobs([-1e-9]))
    assert "1.0" not in repr(Answer("a", logprobs=(-1.0,)))
    Outcome(quality=(1.0,), response=("a",), logprobs=(kept_logprobs([1e-6]) or (),))


async def test_a_price_leaves_them(out):
    ask = priced(
        answering(Answer("a", logprobs=(-1.0,), settings=WARM)),
        input_usd_per_million_tokens=1,
        output_usd_per_million_tokens=1,
    )
    await collect(["q"], {"m": ask}, out, 1, Right())
    assert RoutingDataset.load(out).records[0].outcomes["m"].logprobs == ((-1.0,),)


# -- journals -------------------------------------------------------------------------------------


async def test_a_resumed_run_keeps_them(out):
    given = Answer("a", logprobs=(-1.0,), settings=WARM), Answer("b", logprobs=(-2.0,))
    await collect(["q"], {"m": answering(*given)}, out, 2)
    report = await collect(["q"], {"m": answering()}, out, 2, Right())
    assert (report.calls, report.models["m"].with_logprobs) == (0, 2)
    (record,) = RoutingDataset.load(out)
    assert record.outcomes["m"].logprobs == ((-1.0,), (-2.0,))


async def test_a_journal_of_an_older_version_is_taken_up(out):
    model = {"m": answering(Answer("a"), Answer("b", logprobs=(-2.0,), settings=WARM))}
    await collect(["q"], model, out, 2)
    with contextlib.closing(sqlite3.connect(journal_path(out))) as db:
        db.execute("DELETE FROM answers WHERE sample = 1")
        db.execute("DROP TABLE made")
        db.commit()
    report = await collect(["q"], model, out, 2, Right())
    assert (report.earlier, report.calls) == (1, 1)
    (record,) = RoutingDataset.load(out)
    assert record.outcomes["m"].logprobs == ((), (-2.0,))
    assert record.outcomes["m"].settings is None


async def test_failures_that_are_tried_again_tell_them(out):
    answers: list[Answer | None] = [None]

    async def ask(query, sample):
        if query == "bad" and answers[0] is None:
            raise ValueError
        return Answer("a", logprobs=(-1.0,))

    await collect(["good", "bad"], {"m": ask}, out, 1, Right(), retries=0)
    answers[0] = Answer("a")
    report = await collect(["good", "bad"], {"m": ask}, out, 1, Right(), retry_failed=True)
    assert report.models["m"].with_logprobs == 2
    assert all(record.outcomes["m"].logprobs for record in RoutingDataset.load(out))


async def test_only_a_choice_that_was_made_tells_runs_apart(out):
    plain = fingerprint([], [], 1, {}, Sampling())
    assert "logprobs" not in plain
    assert fingerprint([], [], 1, {}, Sampling(logprobs=False)) == plain | {"logprobs": "False"}
    model = {"m": answering(Answer("a"))}
    await collect(["q"], model, out, 1, sampling=Sampling(logprobs=True))
    for other, said in ((False, "True there, False now"), ("auto", "True there, none now")):
        with pytest.raises(DataError, match=rf"logprobs \({said}\)"):
            await collect(["q"], model, out, 1, sampling=Sampling(logprobs=other))


@pytest.mark.parametrize("wrong", ["yes", None, 1])
def test_what_is_no_choice(wrong):
    with pytest.raises(ConfigurationError, match="logprobs is True, False or 'auto'; got"):
        Sampling(logprobs=wrong)


# -- models that refuse ---------------------------------------------------------------------------


class Refusing:
    """Refuses log-probabilities, and may fail without them too."""

    def __init__(self, error=None):
        self.asked, self.error = [], error

    async def once(self, with_logprobs):
        self.asked.append(with_logprobs)
        if with_logprobs:
            raise TypeError("refused")
        if self.error:
            raise self.error
        return "answer"


def willing(logprobs="auto", *, refuses=True, **options):
    return Willing(Sampling(logprobs=logprobs), lambda error: refuses, **options)


async def test_a_model_that_refuses_is_asked_once_more_and_remembered():
    model, asking = Refusing(), willing()
    assert [await asking.ask(model.once) for _ in range(3)] == ["answer"] * 3
    assert model.asked == [True, False, False, False]


async def test_what_fails_both_ways_was_no_refusal():
    model, asking = Refusing(ConnectionError()), willing()
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await asking.ask(model.once)
    assert model.asked == [True, False] * 2


@pytest.mark.parametrize("asking", [willing(True), willing(refuses=False)])
async def test_where_they_must_be_or_for_another_reason_an_error_is_an_error(asking):
    model = Refusing()
    with pytest.raises(TypeError, match="refused"):
        await asking.ask(model.once)
    assert model.asked == [True]


@pytest.mark.parametrize("asking", [willing(False), willing(can=False)])
async def test_they_are_not_asked_for_in_vain(asking):
    model = Refusing()
    assert await asking.ask(model.once) == "answer"
    assert model.asked == [False]
