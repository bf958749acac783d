"""What a model is called: aliases from the data to the binding, dates, and swaps."""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from typing import TYPE_CHECKING

import pytest

from shared_router import Candidate, Router, RoutingDataset
from shared_router.deciding.guarantee import OTHER_CANDIDATES
from shared_router.deciding.guards import RoutingRequest
from shared_router.engine.engine import OtherCandidatesWarning, RoutingEngine
from shared_router.errors import ArtifactError, CandidateError
from shared_router.options import CallOptions
from shared_router.support.model_names import OTHER, SAME_FAMILY, SAME_NAME, fit, told_names
from shared_router.support.names import nearest, shown
from shared_router.testing import fixed_router
from tests.material import PAIR, known_truth, three_models
from tests.router.test_artifact import rewrite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

KNOWN = {"small": ("openai:gpt-5-nano", "gpt-5-nano", "gpt-5-nano-2025-08-07"), "large": ("gpt-5",)}


def named(data: RoutingDataset, **aliases: tuple[str, ...]) -> RoutingDataset:
    """Let the outcomes of data tell what else their models are called."""
    records = [
        one.model_copy(
            update={
                "outcomes": {
                    name: outcome.model_copy(update={"aliases": aliases.get(name)})
                    for name, outcome in one.outcomes.items()
                }
            }
        )
        for one in data
    ]
    return RoutingDataset(tuple(records), data.name)


def knowing(**aliases: tuple[str, ...]) -> Router:
    return dataclasses.replace(fixed_router(1.0), aliases=aliases)


def void(router: Router, bound: Sequence[str]) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OtherCandidatesWarning)
        return RoutingEngine(router, [Candidate(name) for name in bound]).void


@pytest.mark.parametrize(
    ("bound", "known", "expected"),
    [
        ("gpt-5-nano", "gpt-5-nano", SAME_NAME),
        ("gpt-5-nano-2025-08-07", "gpt-5-nano", SAME_FAMILY),
        ("gpt-5-nano", "gpt-5-nano-2025-08-07", SAME_FAMILY),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-latest", SAME_FAMILY),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet-20240620", SAME_FAMILY),
        ("llama3.2:latest", "llama3.2", SAME_FAMILY),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", OTHER),
        ("gpt-4-0125", "gpt-4", OTHER),
        ("gpt-5-nano", "gpt-5", OTHER),
        ("phi-20250807-mini", "phi", OTHER),
    ],
)
def test_a_dated_name_is_the_models_own(bound, known, expected):
    assert fit([bound], [known]) == fit([known], [bound]) == expected


def test_another_snapshot_than_the_known_one_is_another_model():
    assert void(knowing(**KNOWN), ["gpt-5-nano-2025-08-07", "gpt-5"]) is None
    assert void(knowing(**KNOWN), ["gpt-5-nano-2026-01-01", "gpt-5"]) == OTHER_CANDIDATES
    assert void(knowing(**KNOWN), ["gpt-5-nano", "gpt-5-2025-08-07"]) is None


def test_swapped_models_are_refused_by_any_name():
    with pytest.raises(CandidateError, match="swap them"):
        void(knowing(**KNOWN), ["gpt-5", "gpt-5-nano"])
    dated = knowing(small=("gpt-4o",), large=("gpt-4o-2024-08-06",))
    assert void(dated, ["gpt-4o", "gpt-4o-2024-08-06"]) is None
    with pytest.raises(CandidateError, match="swap them"):
        void(dated, ["gpt-4o-2024-08-06", "gpt-4o"])


def test_one_model_in_both_places_is_not_the_pair():
    with pytest.warns(OtherCandidatesWarning, match=r"'gpt-5' for 'small' \(openai:gpt-5-nano, "):
        RoutingEngine(knowing(**KNOWN), [Candidate("gpt-5"), Candidate("gpt-5-2025-08-07")])


def test_a_label_does_not_make_it_another_model():
    nano = Candidate("large", aliases=("gpt-5-nano-2025-08-07",))
    with pytest.warns(
        OtherCandidatesWarning, match=r"'large' \(gpt-5-nano-2025-08-07\) for 'large' \("
    ):
        RoutingEngine(knowing(**KNOWN), [Candidate("small", aliases=("gpt-5-nano",)), nano])
    with pytest.raises(CandidateError, match="swap them"):
        RoutingEngine(knowing(**KNOWN), [Candidate("small", aliases=("gpt-5",)), nano])


def test_route_takes_every_name_that_is_known():
    engine = RoutingEngine(knowing(**KNOWN), [Candidate("gpt-5-nano"), Candidate("gpt-5")])
    for name, index in (("openai:gpt-5-nano", 0), ("large", 1), ("gpt-5", 1), ("small", 0)):
        asked = RoutingRequest(options=CallOptions(route=name))
        assert engine.decide(asked).index == index
        assert engine.router.decide("x", route=name).index == index


def test_a_name_of_its_own_comes_before_an_alias():
    bound = [Candidate("a", aliases=("b",)), Candidate("b")]
    engine = RoutingEngine(fixed_router(1.0), bound, same_models=True)
    assert engine.decide(RoutingRequest(options=CallOptions(route="b"))).index == 1


def test_addresses_and_texts_are_no_names():
    assert told_names("a", None, "a", "http://me:secret@host/v1", "a\nb", "x" * 201, 7) == ("a",)


def test_aliases_travel_from_the_data(tmp_path, tiny_encoder, in_tiny_cache):
    small, large = ("nano", "nano-20250807"), ("full",)
    data = named(known_truth(150), small=small, large=large)
    data.save(tmp_path / "data.jsonl")
    data = RoutingDataset.load(tmp_path / "data.jsonl")
    assert data.aliases(PAIR) == {"small": small, "large": large}
    router = Router.fit(data, PAIR, encoder=tiny_encoder)
    fresh = named(known_truth(60, split="validation", seed=1), small=("nano", "nano-mini"))
    router = router.calibrate(fresh).with_costs({"small": 1, "large": 2})
    known = {"small": (*small, "nano-mini"), "large": large}
    router.save_pretrained(tmp_path / "router")
    for kept in (router, Router.from_pretrained(tmp_path / "router")):
        assert kept.aliases == known
        assert pickle.loads(pickle.dumps(kept.aliases)) == known  # noqa: S301
    assert router.for_candidates(["other", "large"]).aliases == {"large": large}


def test_an_added_candidate_brings_its_aliases(fitted, in_tiny_cache):
    more = named(three_models(80, costs=False), mini=("gpt-mini",), maxi=("gpt-maxi",))
    pair = dataclasses.replace(fitted.for_candidates(["nano", "maxi"]), aliases={"nano": ("n",)})
    grown = pair.add_candidate("mini", more)
    assert grown.aliases == {"nano": ("n",), "mini": ("gpt-mini",), "maxi": ("gpt-maxi",)}


def test_older_routers_know_no_aliases(calibrated, tmp_path):
    calibrated.save_pretrained(tmp_path / "router")
    settings = (tmp_path / "router" / "router.json").read_text()
    assert '"aliases": {}' in settings
    rewrite(tmp_path / "router", "router.json", settings.replace('"aliases": {},', "").encode())
    assert Router.from_pretrained(tmp_path / "router").aliases == {}
    broken = settings.replace('"aliases": {}', '"aliases": {"small": [1]}')
    rewrite(tmp_path / "router", "router.json", broken.encode())
    with pytest.raises(ArtifactError, match=r"field aliases\.small\.0"):
        Router.from_pretrained(tmp_path / "router")


def test_older_data_tell_no_aliases(tmp_path: Path):
    known_truth(3).save(tmp_path / "data.jsonl")
    assert "aliases" not in (tmp_path / "data.jsonl").read_text()
    assert RoutingDataset.load(tmp_path / "data.jsonl").aliases(PAIR) == {"small": (), "large": ()}


@pytest.mark.parametrize(
    ("written", "meant"), [("larg", "large"), ("exat", "exact"), ("zebra", None), ("", None)]
)
def test_the_nearest_name_is_told_where_one_is_near(written, meant):
    assert nearest(written, ("small", "large", "exact")) == meant


def test_values_are_shown_short_whatever_they_are():
    assert 0 < len(shown(10**5_000)) < 100  # Python writes no integer of so many digits
    assert len(shown("x" * 5_000)) < 100
