"""The paper's experiment on the pocket pair, small: every label kind, on unseen questions."""

import dataclasses
import warnings

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from cookbook.pocket import pipeline
from cookbook.pocket.paper_table import render
from cookbook.pocket.pipeline import Plan, gathered, source


@pytest.fixture(scope="module")
def plan(tmp_path_factory, tiny_encoder):
    return Plan(
        known=300,
        fresh=120,
        samples=2,
        temperature=1.0,
        folder=tmp_path_factory.mktemp("pipeline"),
        finetune=False,
        encoder=tiny_encoder,
    )


@pytest.fixture(scope="module")
def found(plan, tiny_cache):
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        return pipeline.run(plan)


def test_no_question_is_in_both_parts(plan):
    parts = source(plan)
    known, fresh = ({query.text for query in parts[name]} for name in ("known", "fresh"))
    assert (len(known), len(fresh)) == (300, 120)
    assert not known & fresh


def test_every_label_kind_is_measured_on_the_fresh_part(found):
    *whole, hard = found.values()
    for routers in found.values():
        assert [router.labels for router in routers] == ["gap", "det", "prob", "trans"]
    assert all(router.report.n == 120 for routers in whole for router in routers)
    assert 20 < hard[0].report.n < 80
    assert hard[0].report.quality["small"] < whole[0][0].report.quality["small"]


def test_routing_beats_chance(found):
    for routers in list(found.values())[:-1]:
        for router in routers:
            assert router.report.router["apgr"] > router.report.baselines["random"]["apgr"]


def test_another_judge_scores_the_same_answers(plan, found):
    del found
    asked = source(plan)["known"][:20]
    again = dataclasses.replace(plan, folder=plan.folder / "again")
    again.folder.mkdir()
    exact, graded = (gathered(again, "known", asked, judge) for judge in pipeline.JUDGES)
    for one, other in zip(exact, graded, strict=True):
        for name in pipeline.PAIR:
            assert one.outcomes[name].response == other.outcomes[name].response
            pairs = zip(one.outcomes[name].quality, other.outcomes[name].quality, strict=True)
            assert all(partial >= whole for whole, partial in pairs)


def test_the_page_shows_each_router_and_baseline(found, plan):
    page = render(found, plan.known, plan.fresh, plan.samples, plan.temperature)
    for name in ("`gap`", "`det`", "`prob`", "`trans` (t* =", "random", "query length", "oracle"):
        assert page.count(f"| {name}") >= len(found)
    drop = next(iter(found.values()))[0].report.router["quality_drop_at_cost_advantage"]["0.4"]
    assert f"{100 * drop:.1f} [" in page
