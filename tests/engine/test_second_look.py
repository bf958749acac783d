"""A call whose answer is looked at: who is asked, what is recorded, what fails and what then."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from shared_router import Candidate, RoutingEngine, RoutingQuery
from shared_router.deciding.escalation import Answer
from shared_router.deciding.guards import RoutingRequest
from shared_router.deciding.looks import looks_curve
from shared_router.engine.calls import Hands
from shared_router.engine.terms import CallSettings
from shared_router.errors import ConfigurationError
from shared_router.options import CallOptions, Dial
from shared_router.records import AnswerSettings, CallRecord, Usage
from shared_router.serving.second_look import LooksLine
from shared_router.testing import FixedAnswerScorer, fixed_router

if TYPE_CHECKING:
    from shared_router import Router

PAIR = (Candidate("small"), Candidate("large"))
WAYS = ["sync", "async"]


@dataclasses.dataclass
class Models:
    """Two models that answer, or fail."""

    small: Any = "small says"
    large: Any = "large says"
    logprobs: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        self.asked: list[Any] = []

    def attempt(self, step: Any) -> Any:
        self.asked.append(step)
        answer = (self.small, self.large)[step.index]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aattempt(self, step: Any) -> Any:
        return self.attempt(step)

    def read(self, answer: str) -> Answer:
        used = Usage(input_tokens=10, output_tokens=len(answer), cost_usd=len(answer) / 100)
        return Answer(text=answer, native=answer, usage=used, logprobs=self.logprobs)


def engine(router: Router, **settings: Any) -> tuple[RoutingEngine, list[CallRecord]]:
    records: list[CallRecord] = []
    made = RoutingEngine(router, PAIR, settings=CallSettings(**settings), on_call=[records.append])
    return made, records


def looking(value: Any = 0.0, answer: Any = 0.05, **how: Any) -> Router:
    scorer = FixedAnswerScorer(answer, needs_logprobs=how.pop("needs_logprobs", False))
    return fixed_router(value, answers=scorer, **how)


def call(way: str, made: RoutingEngine, models: Models, **how: Any) -> Any:
    streams = how.pop("streams", False)
    request = RoutingRequest(query=RoutingQuery(text="why?"), **how)
    if way == "sync":
        hands = Hands(attempt=models.attempt, read=models.read, streams=streams)
        return made.call(request, hands)
    hands = Hands(attempt=models.aattempt, read=models.read, streams=streams)
    return asyncio.run(made.acall(request, hands))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("score", "answer", "given", "asked"),
    [
        (0.5, -1.0, "small says", ["small"]),  # clear before the call: nobody looks
        (-0.5, 1.0, "large says", ["large"]),
        (-0.05, 0.05, "small says", ["small"]),  # in the band: the answer decides
        (0.05, -0.05, "large says", ["small", "large"]),
    ],
)
def test_the_answer_decides_within_the_band_alone(
    way: str, score: float, answer: float, given: str, asked: list[str]
) -> None:
    models = Models()
    made, records = engine(looking(score, answer))
    found = call(way, made, models)
    assert found.answer == given
    assert [PAIR[step.index].name for step in models.asked] == asked
    assert records[0].decision.with_second_look
    assert [step.look for step in models.asked] == [abs(score) < 0.1, False][: len(asked)]


@pytest.mark.parametrize("way", WAYS)
def test_a_rejected_answer_is_recorded_and_paid_for(way: str) -> None:
    made, records = engine(looking(0.0, -0.05))
    call(way, made, Models())
    (record,) = records
    assert record.decision.reason == "second_look"
    assert record.decision.candidate == "small"
    assert record.decision.summary().startswith("small (looks first)")
    first, second = record.attempts
    assert (first.rejected, first.answer_score) == ("second_look", pytest.approx(-0.05))
    assert (second.why, record.answered_by, record.accepted) == ("escalated", "large", False)
    assert record.usage == Usage(input_tokens=20, output_tokens=20, cost_usd=0.2)
    assert record.thrown_away == Usage(input_tokens=10, output_tokens=10, cost_usd=0.1)


def test_an_accepted_answer_is_recorded() -> None:
    made, records = engine(looking(0.0, 0.05))
    call("sync", made, Models())
    assert (records[0].accepted, records[0].answered_by) == (True, "small")
    assert records[0].thrown_away is None


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("models", "scorer", "error"),
    [
        (Models(), {"answer": ValueError("no")}, "ValueError"),
        (Models(), {"answer": float("nan")}, "ScoringError"),
        (Models(), {"needs_logprobs": True}, "no_logprobs"),
        (Models(logprobs=()), {"needs_logprobs": True}, "no_logprobs"),
        (Models(logprobs=(-0.1, float("nan"))), {"needs_logprobs": True}, "no_logprobs"),
    ],
)
def test_an_answer_that_cannot_be_scored_is_passed_on_to_the_reference(
    way: str, models: Models, scorer: dict[str, Any], error: str
) -> None:
    made, records = engine(looking(0.05, **scorer))
    models.asked.clear()
    assert call(way, made, models).answer == "large says"
    assert records[0].attempts[0].look_error == error
    assert records[0].attempts[0].rejected == "second_look"


@pytest.mark.parametrize("way", WAYS)
def test_log_probabilities_are_asked_for_where_the_scorer_needs_them(way: str) -> None:
    made, _ = engine(looking(needs_logprobs=True))
    models = Models(logprobs=(-0.1, -0.2, -0.3))
    assert call(way, made, models).answer == "small says"
    assert models.asked[0].logprobs
    assert models.asked[0].held


@pytest.mark.parametrize("way", WAYS)
def test_an_empty_answer_is_not_scored(way: str) -> None:
    made, records = engine(looking(answer=1.0))
    assert call(way, made, Models(small="  ")).answer == "large says"
    assert records[0].attempts[0].rejected == "empty"
    assert records[0].attempts[0].answer_score is None


@pytest.mark.parametrize("way", WAYS)
def test_a_check_that_fails_is_a_score_of_minus_infinity(way: str) -> None:
    made, records = engine(looking(answer=1.0), escalate=("refused",))
    models = Models(small="I'm sorry, I cannot help with that.")
    assert call(way, made, models).answer == "large says"
    assert records[0].attempts[0].rejected == "refused"


@pytest.mark.parametrize("way", WAYS)
def test_where_the_dearer_model_fails_the_answer_in_hand_is_given(way: str) -> None:
    made, records = engine(looking(answer=-0.05))
    down = type("DownError", (Exception,), {"status_code": 503})("down")
    found = call(way, made, Models(large=down))
    assert found.answer == "small says"
    assert records[0].accepted is False
    assert (records[0].given or records[0].attempts[1]).candidate == "small"


def test_where_cheaper_models_may_not_stand_in_the_error_is_raised() -> None:
    made, _ = engine(looking(answer=-0.05), fallback="up")
    down = type("DownError", (Exception,), {"status_code": 503})("down")
    with pytest.raises(type(down)):
        call("sync", made, Models(large=down))


@pytest.mark.parametrize("way", WAYS)
def test_where_the_small_model_fails_the_reference_answers(way: str) -> None:
    made, records = engine(looking())
    down = type("DownError", (Exception,), {"status_code": 503})("down")
    assert call(way, made, Models(small=down)).answer == "large says"
    assert records[0].why == "fallback"
    assert not records[0].looked


def test_streams_are_left_alone_unless_asked() -> None:
    made, records = engine(looking(0.05, -0.05))
    models = Models()
    found = call("sync", made, models, streams=True)
    assert (found.answer, models.asked[0].look) == ("small says", False)
    asked = RoutingRequest(query=RoutingQuery(text="why?"), options=CallOptions(second_look=True))
    hands = Hands(attempt=models.attempt, read=models.read, streams=True)
    assert made.call(asked, hands).answer == "large says"
    assert [record.decision.with_second_look for record in records] == [False, True]


@pytest.mark.parametrize("option", [False, "auto", True])
def test_a_call_says_whether_answers_are_looked_at(option: Any) -> None:
    made, records = engine(looking(0.05, -0.05))
    options = CallOptions.parse({"second_look": option})
    call("sync", made, Models(), options=options)
    assert records[0].looked == (option is not False)


def test_auto_leaves_out_looks_that_do_not_pay() -> None:
    router = looking(0.05, -0.05)
    assert router.second_look is not None
    unpaid = dataclasses.replace(
        router, second_look=dataclasses.replace(router.second_look, pays=False)
    )
    made, records = engine(unpaid)
    call("sync", made, Models())
    call("sync", made, Models(), options=CallOptions(second_look=True))
    assert [record.looked for record in records] == [False, True]


def test_the_preview_says_that_it_looks_first() -> None:
    made, _ = engine(looking())
    decision = made.decide(RoutingRequest(query=RoutingQuery(text="why?")))
    assert (decision.reason, decision.candidate) == ("second_look", "small")
    assert looking().decide("why?").reason == "second_look"
    assert looking().decide("why?", second_look=False).reason == "score"


def test_with_little_time_nobody_looks() -> None:
    late = fixed_router(0.0, delay_s=0.25, answers=FixedAnswerScorer(1.0))
    made, records = engine(late, call_timeout_s=0.4)
    assert call("sync", made, Models()).answer == "large says"
    assert (records[0].why, records[0].looked) == ("no_time", False)


def test_a_router_without_a_scorer_of_answers_refuses_to_look() -> None:
    with pytest.raises(ConfigurationError, match="second_look=True needs a router with a scorer"):
        engine(fixed_router(0.0), second_look=True)
    made, _ = engine(fixed_router(0.0))
    with pytest.raises(ConfigurationError, match="second_look=True needs a router with a scorer"):
        call("sync", made, Models(), options=CallOptions(second_look=True))
    with pytest.raises(ConfigurationError, match="second_look is True, False or 'auto'"):
        CallOptions.parse({"second_look": "often"})


def calibrated(settings: AnswerSettings | None = None) -> Router:
    """Make a router whose line with looks is calibrated, to send half of the calls on."""
    rng = np.random.default_rng(0)
    router = looking(0.0, 0.05)
    assert router.second_look is not None
    scores, answers = rng.normal(size=(2, 400, 1)) * 0.1
    quality = np.column_stack([(answers[:, 0] > 0).astype(float), np.ones(400)])
    band = router.second_look.band(router.rule)
    curve = looks_curve(router.rule, band, scores, answers, quality)
    plain = looks_curve(router.rule, dataclasses.replace(band, width=0.0), scores, answers, quality)
    own = dataclasses.replace(router.second_look, line=LooksLine(curve=curve), settings=settings)
    return dataclasses.replace(
        router, curve=plain, second_look=own, default_dial=Dial("max_quality_drop", 0.3)
    )


def test_answers_made_otherwise_go_by_the_estimate_and_say_so() -> None:
    known = AnswerSettings(temperature=0.0)
    made, records = engine(calibrated(known))
    for asked in (None, known, AnswerSettings(temperature=0.7), AnswerSettings(system_sha256="a")):
        call("sync", made, Models(), settings=asked)
    reasons = [(r.decision.guarantee, r.decision.guarantee_reason) for r in records]
    same, other = ("estimated", "not promised"), ("void", "other settings")
    assert reasons == [same, same, other, other]


def test_an_answer_passed_on_and_given_all_the_same_is_void() -> None:
    down = type("DownError", (Exception,), {"status_code": 503})("down")
    router = calibrated()
    assert router.second_look is not None
    bad = dataclasses.replace(router.second_look, scorer=FixedAnswerScorer(-1.0))
    made, records = engine(dataclasses.replace(router, second_look=bad))
    found = call("sync", made, Models(large=down))
    assert found.answer == "small says"
    assert (records[0].guarantee, records[0].guarantee_reason) == ("void", "fallback")
    assert found.stable()["guarantee"] == "void"


def test_a_model_that_never_gives_log_probabilities_is_asked_no_more_in_vain(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, records = engine(looking(needs_logprobs=True))
    models = Models()
    for _ in range(5):
        assert call("sync", made, models).answer == "large says"
    assert [record.why for record in records] == ["escalated"] * 3 + ["no_logprobs"] * 2
    assert [step.index for step in models.asked] == [0, 1, 0, 1, 0, 1, 1, 1]
    assert "gives no log-probabilities" in caplog.text
