"""Warnings point at the user's line, on both fronts and however an object is made."""

from __future__ import annotations

import warnings

import pytest

from langchain_hybrid import HybridChatModel, ReplayChatModel
from llamaindex_hybrid import HybridLLM, ReplayLLM
from shared_router import RoutingDataset
from shared_router.testing import fixed_router
from tests.material import dataset, record

DATA = dataset(record("1", "one", nano=1.0, full=1.0), record("2", "two", nano=1.0))
ROUTER = fixed_router(1.0)


class MyChatModel(HybridChatModel):
    """A subclass of a user's."""


class MyLLM(HybridLLM):
    """A subclass of a user's."""


def pair(front):
    replay = ReplayChatModel if issubclass(front, HybridChatModel) else ReplayLLM
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {role: replay(data=DATA, model=name)
                for role, name in (("small", "nano"), ("large", "full"))}  # fmt: skip


def points_here(make):
    """Make something by a lambda of one line, and list what was warned of on that line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    line = make.__code__.co_firstlineno
    assert {(each.filename, each.lineno) for each in caught} == {(__file__, line)}
    return [each.category.__name__ for each in caught]


@pytest.mark.parametrize("front", [HybridChatModel, HybridLLM, MyChatModel, MyLLM])
def test_a_binding_to_other_models(front):
    models = pair(front)
    assert points_here(lambda: front(**models, router=ROUTER, temperature=1)) == [
        "IgnoredParameterWarning",
        "OtherCandidatesWarning",
    ]


@pytest.mark.parametrize("front", [HybridChatModel, HybridLLM])
def test_a_copy(front):
    model = front(**pair(front), router=ROUTER, same_models=True)
    assert points_here(lambda: model.model_copy(update={"same_models": False}))


def test_data(tmp_path):
    leaking = dataset(record("1", "one", nano=1.0), record("2", "one", split="test", nano=1.0))
    leaking.save(tmp_path / "d.jsonl")
    assert points_here(lambda: RoutingDataset.load(tmp_path / "d.jsonl"))
    assert points_here(lambda: DATA.candidates(["nano", "full"]))
