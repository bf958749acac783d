"""Three models and more behind one LLM: candidates by price, and tasks that have a calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import TextNode

from llamaindex_hybrid import HybridLLM, ReplayLLM
from shared_router import Candidate, Router, hybrid_options, routing_query
from shared_router.errors import CandidateError
from shared_router.testing import fixed_router
from tests.llamaindex.fakes import FakeLLM, decision_of
from tests.material import PAIR, three_models

if TYPE_CHECKING:
    from tests.llamaindex.fakes import Decisions

THREE = ("nano", "mini", "maxi")
QUESTION = "please no. 1"
ESTIMATED = {"max_quality_drop": 0.1, "confidence": "estimate"}


@pytest.fixture(scope="module")
def router(calibrated_by_task: Router) -> Router:
    """A router whose dials hold within `made/good`, `made/bad` and `made`."""
    return calibrated_by_task


def wrapped(router: Router, **options: Any) -> HybridLLM:
    small, large = (FakeLLM(name=name) for name in PAIR)
    return HybridLLM(small=small, large=large, router=router, **options)


async def test_a_task_by_keyword_reaches_its_calibration(
    router: Router, decisions: Decisions
) -> None:
    llm = wrapped(router, **ESTIMATED, on_decision=[decisions.append])
    prompt = PromptTemplate("Answer in one word.\n\n{query_str}")
    llm.complete(QUESTION, task="made/good")
    await llm.acomplete(QUESTION, task="made/good")
    llm.predict(prompt, query_str=QUESTION, task="made/good")
    list(llm.stream_complete(QUESTION, task="made/good"))
    decisions.append(llm.route(QUESTION, task="made/good"))
    assert {one.calibrated_task for one in decisions} == {"made/good"}
    assert {one.candidate for one in decisions} == {"small"}
    assert llm.route(QUESTION, task="made/bad").candidate == "large"
    unknown = decision_of(llm.complete(QUESTION, task="elsewhere"))
    assert (unknown["task"], unknown["wider_because"]) == ("elsewhere", "unknown_task")
    assert "task" not in llm.engine.candidates[0].model.requests[0]  # it is no provider's option


async def test_a_task_by_context_reaches_its_calibration(
    router: Router, decisions: Decisions
) -> None:
    llm = wrapped(router, **ESTIMATED, on_decision=[decisions.append])
    nodes = [TextNode(text="What is known.")]
    engine = VectorStoreIndex(nodes, embed_model=MockEmbedding(8)).as_query_engine(llm=llm)
    with hybrid_options(task="made/good"):
        llm.complete(QUESTION)
        engine.query(QUESTION)
        await engine.aquery(QUESTION)
    with routing_query(QUESTION, task="made/good"):
        llm.chat([ChatMessage(content="Say it in one word.")])
    assert [one.calibrated_task for one in decisions] == ["made/good"] * 4
    assert [one.task_source for one in decisions] == ["given"] * 4
    assert len({one.scores for one in decisions}) == 1
    assert llm.route(QUESTION).wider_because == "no_task"


def test_prices_weigh_models_whose_costs_nobody_measured() -> None:
    """nano is a little worse than mini: whether that is worth it depends on mini's price."""
    router = fixed_router([0.0, 0.3], candidates=THREE)

    def chosen(mini_usd: float) -> str:
        prices = zip(THREE, (1.0, mini_usd, 10.0), strict=True)
        candidates = [Candidate(name, FakeLLM(name=name), usd, usd) for name, usd in prices]
        llm = HybridLLM(candidates=candidates, router=router, threshold=-0.5)
        answer = llm.complete(QUESTION)
        assert answer.additional_kwargs["own"] == decision_of(answer)["candidate"]
        return str(answer.additional_kwargs["own"])

    assert (chosen(2.0), chosen(9.0)) == ("mini", "nano")


def test_wrong_prices_are_refused() -> None:
    usd = {"nano": 5.0, "mini": 9.0, "maxi": 1.0}
    dear = [Candidate(name, FakeLLM(name=name), price, price) for name, price in usd.items()]
    with pytest.raises(CandidateError, match="list the dearest model last, or leave the dearer"):
        HybridLLM(candidates=dear, router=fixed_router([0.0, 0.0], candidates=THREE))


def test_three_models_are_replayed_along_the_line(calibrated_three: Router) -> None:
    data = three_models(120, split="validation", seed=1)
    candidates = [Candidate(name, ReplayLLM(data=data, model=name)) for name in THREE]
    llm = HybridLLM(candidates=candidates, router=calibrated_three)
    answers = [llm.complete(query, cost_advantage=0.9) for query in data.queries]
    chosen = [decision_of(answer)["index"] for answer in answers]
    assert len(set(chosen)) > 1
    assert sum(index < 2 for index in chosen) / len(chosen) == pytest.approx(0.9, abs=0.02)
    usd = sum(answer.additional_kwargs["cost_usd"] for answer in answers) / len(answers)
    assert 0.001 < usd < 0.01
