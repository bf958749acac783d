"""The host reads annotations at run time: fallbacks look at what a method returns."""

import inspect
import typing

import pytest
from langchain_core.runnables import RunnableWithFallbacks

from langchain_hybrid import HybridChatModel
from tests.langchain.doubles import hybrid

METHODS = [
    name
    for name, each in vars(HybridChatModel).items()
    if inspect.isfunction(each) and not name.startswith("__")
]


@pytest.mark.parametrize("name", METHODS)
def test_annotations_resolve_at_run_time(name):
    assert "return" in typing.get_type_hints(getattr(HybridChatModel, name))


def test_fallbacks_rebind_a_hybrid_model():
    bound = hybrid().with_fallbacks([hybrid()]).bind_tools([{"name": "look", "parameters": {}}])
    assert isinstance(bound, RunnableWithFallbacks)
    assert all("tools" in each.kwargs for each in bound.runnables)
