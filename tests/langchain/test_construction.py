"""What a HybridChatModel is made of, what it refuses, and what it keeps to itself."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys
import textwrap
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from langchain.chat_models import base
from langchain_core.load import dumps
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.rate_limiters import BaseRateLimiter
from pydantic import SecretStr
from rich.pretty import pretty_repr

from langchain_hybrid import HybridChatModel
from shared_router import Candidate, Router
from shared_router.engine.engine import OtherCandidatesWarning
from shared_router.engine.fronts import IgnoredParameterWarning
from shared_router.errors import CandidateError, ConfigurationError
from shared_router.testing import fixed_router
from tests.langchain.doubles import (
    Child,
    RecordingScorer,
    claimed,
    decision_of,
    first,
    hybrid,
    pair,
)
from tests.material import calibrated_router

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared_router import RoutingDecision

ROUTER = fixed_router(1.0)


# -- what is refused ------------------------------------------------------------------------------


def one(name: str = "small") -> Child:
    return Child(model=name)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"router": ROUTER}, "wraps small= and large=, or candidates="),
    "no large": ({"small": one(), "router": ROUTER}, "small=Child, large=NoneType"),
    "no small": ({"large": one(), "router": ROUTER}, "small=NoneType, large=Child"),
    "no router for three": (
        {"candidates": [Candidate(name, one(name)) for name in "abc"]},
        "needs a router for 3 models.*the bundled one chooses between two",
    ),
    "both": (
        {"small": one(), "candidates": [Candidate("small", one())], "router": ROUTER},
        "either small= and large=, or candidates=, not both",
    ),
    "a number": ({"small": 42, "large": one(), "router": ROUTER}, "small is a chat model.*got int"),
    "a function": ({"small": len, "large": one(), "router": ROUTER}, "small is a chat model"),
    "one candidate": (
        {"candidates": [Candidate("small", one())], "router": ROUTER},
        r"chooses between 2 candidates \(small, large\); 1 models are given",
    ),
    "three candidates": (
        {"candidates": [Candidate(name, one(name)) for name in "abc"], "router": ROUTER},
        "3 models are given. Bind one model per candidate",
    ),
    "twice": (
        {"candidates": [Candidate("a", one())] * 2, "router": ROUTER},
        "named once; got a, a",
    ),
    "no model": (
        {"candidates": [Candidate("a"), Candidate("b", one())], "router": ROUTER},
        "'a' has no model",
    ),
    "bare models": ({"candidates": [one(), one("large")], "router": ROUTER}, "candidates"),
    "two for three": (
        {"small": one(), "large": one("l"), "router": fixed_router([1, 1], candidates="abc")},
        "chooses between 3 candidates",
    ),
    "no timeout": (
        {"small": one(), "large": one("large"), "router": ROUTER, "router_timeout_s": 0},
        "above 0",
    ),
}


@pytest.mark.parametrize(("given", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_work_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        HybridChatModel(**given)


def test_a_folder_without_a_router_is_refused(tmp_path: Path) -> None:
    from shared_router.errors import ArtifactError

    with pytest.raises(ArtifactError):
        hybrid(router=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "near"),
    [("treshold", "threshold"), ("max_quality_dorp", "max_quality_drop"),
     ("query_extracter", "query_extractor"), ("smal", "small"), ("routr", "router")],
)  # fmt: skip
def test_an_unknown_parameter_comes_with_a_hint(name: str, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no parameter '{name}'; did you mean '{near}'"):
        hybrid(**{name: 1})


def test_an_unknown_parameter_without_a_near_one() -> None:
    with pytest.raises(ConfigurationError, match=r"no parameter 'xyzzy'\."):
        hybrid(xyzzy=1)


def test_a_cache_of_the_wrapper_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot honour cache: the wrapped models cache"):
        hybrid(cache=True)
    assert hybrid(cache=None).invoke("x").content == "from small"


def test_a_models_parameter_is_ignored_with_a_warning() -> None:
    with pytest.warns(IgnoredParameterWarning, match="ignores max_tokens, temperature"):
        hybrid(temperature=0.5, max_tokens=7)


# -- what is honoured -----------------------------------------------------------------------------


class Counting(BaseRateLimiter):
    """Counts what it lets pass."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def acquire(self, *, blocking: bool = True) -> bool:
        self.calls.append("sync")
        return blocking

    async def aacquire(self, *, blocking: bool = True) -> bool:
        self.calls.append("async")
        return blocking


@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
async def test_the_rate_limiter_counts_every_call_once() -> None:
    limiter = Counting()
    model = hybrid(rate_limiter=limiter)
    model.route("x")
    assert limiter.calls == []
    model.invoke("x")
    list(model.stream("x"))
    str(model.stream_events("x", version="v3").text)
    assert limiter.calls == ["sync"] * 3
    await model.ainvoke("x")
    assert [chunk async for chunk in model.astream("x")]
    await (await model.astream_events("x", version="v3"))
    assert limiter.calls == ["sync"] * 3 + ["async"] * 3


def test_the_childrens_own_rate_limiters_work() -> None:
    limiter = Counting()
    small, large = Child(model="small", rate_limiter=limiter), one("large")
    hybrid(small=small, large=large).invoke("x")
    hybrid(small=small, large=large).invoke("x", route="large")
    assert limiter.calls == ["sync"]


async def chunks_of(model: Any) -> list[int]:
    return [len(list(model.stream("x"))), len([chunk async for chunk in model.astream("x")])]


async def test_streaming_can_be_disabled() -> None:
    assert min(await chunks_of(hybrid())) >= 2
    assert await chunks_of(hybrid(disable_streaming=True)) == [1, 1]


async def test_streaming_can_be_disabled_for_tools_alone() -> None:
    model = hybrid(disable_streaming="tool_calling")

    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    assert min(await chunks_of(model)) >= 2
    assert await chunks_of(model.bind_tools([look_up])) == [1, 1]


def test_a_disabled_stream_still_carries_the_decision() -> None:
    (chunk,) = hybrid(disable_streaming=True).stream("x")
    assert chunk.content == "from small"
    assert decision_of(chunk)["candidate"] == "small"


def test_tokens_are_counted_as_the_reference_counts() -> None:
    large = one("large")
    model = hybrid(large=large)
    assert model.get_num_tokens("three short words") == 3
    assert model.get_token_ids("three short words") == [5, 5, 5]
    messages = ChatPromptTemplate([("human", "three short words")]).format_messages()
    assert model.get_num_tokens_from_messages(messages) == large.get_num_tokens_from_messages(
        messages
    )
    own = hybrid(custom_get_token_ids=lambda text: [0] * 10)
    assert own.get_num_tokens("x") == 10
    assert own.get_token_ids("x") == [0] * 10


def with_profile(name: str, **profile: Any) -> Child:
    return Child(model=name, profile=profile or None)


def test_tokens_are_counted_as_the_user_says() -> None:
    model = hybrid(custom_get_token_ids=lambda text: [7] * len(text))
    messages = ChatPromptTemplate([("human", "four")]).format_messages()
    assert model.get_num_tokens_from_messages(messages) == len("Human: four")


def test_callers_of_the_private_hook_are_served() -> None:
    messages = ChatPromptTemplate([("human", "x")]).format_messages()
    (found,) = hybrid()._generate(messages).generations
    assert found.message.content == "from small"
    assert decision_of(found.message)["candidate"] == "small"


def test_a_version_of_events_is_refused_as_the_host_refuses_it() -> None:
    with pytest.raises(NotImplementedError):
        hybrid().stream_events("x", version="v2")


def test_the_profile_is_what_all_children_share() -> None:
    small = with_profile("small", max_input_tokens=8_000, tool_calling=True, image_inputs=True)
    large = with_profile("large", max_input_tokens=128_000, tool_calling=True, image_inputs=False)
    found = hybrid(small=small, large=large).profile
    assert found == {"max_input_tokens": 8_000, "tool_calling": True, "image_inputs": False}


def test_what_only_one_child_states_is_unknown() -> None:
    small = with_profile("small", max_input_tokens=8_000, max_output_tokens=100)
    large = with_profile("large", max_input_tokens=128_000)
    assert hybrid(small=small, large=large).profile == {"max_input_tokens": 8_000}


def test_without_a_profile_of_every_child_there_is_none() -> None:
    assert hybrid(large=with_profile("large", max_input_tokens=100)).profile is None
    assert hybrid(profile={"max_input_tokens": 5}).profile == {"max_input_tokens": 5}


# -- names, guarantees and windows ----------------------------------------------------------------


def test_the_models_own_names_are_used() -> None:
    router = calibrated_router(candidates=("nano", "full"))
    model = hybrid(small=one("nano"), large=one("full"), router=router)
    assert [candidate.name for candidate in model.engine.candidates] == ["nano", "full"]
    assert model.route("x").guarantee == "estimated"


async def test_an_uncalibrated_router_estimates_nothing() -> None:
    model = hybrid(router=ROUTER, threshold=0.5)
    answers = [model.invoke("x"), await model.ainvoke("x")]
    answers += [next(model.stream("x")), await first(model.astream("x"))]
    assert {claimed(each) for each in answers} == {("none", "not calibrated")}
    assert model.route("x").guarantee == "none"


def test_other_models_give_one_warning_and_void_the_guarantee() -> None:
    with pytest.warns(OtherCandidatesWarning, match="'llama' for 'small'") as caught:
        model = hybrid(small=one("llama"), router=calibrated_router())
    assert len(caught) == 1
    assert [claimed(model.invoke(each)) for each in "xy"] == [("void", "other candidates")] * 2


def test_the_same_models_under_other_names_can_be_stated() -> None:
    model = hybrid(small=one("llama"), same_models=True, router=calibrated_router())
    assert model.route("x").guarantee == "estimated"
    named = [Candidate("llama", one("llama"), aliases=("small",)), Candidate("large", one("large"))]
    model = hybrid(small=None, large=None, candidates=named, router=calibrated_router())
    assert model.route("x").guarantee == "estimated"
    assert model.route("x").candidate == "llama"
    assert model.route("x", route="small").reason == "forced"


def test_models_of_the_same_name_are_told_apart_by_their_place() -> None:
    model = hybrid(small=one("same"), large=one("same"))
    assert [candidate.name for candidate in model.engine.candidates] == ["small", "large"]


async def test_an_input_too_long_for_the_small_model_goes_to_the_large_one() -> None:
    scorer = RecordingScorer()
    model = hybrid(scorer, small=with_profile("small", max_input_tokens=50))
    assert decision_of(model.invoke("short"))["candidate"] == "small"
    found = decision_of(await model.ainvoke("word " * 100))
    assert (found["candidate"], found["reason"]) == ("large", "context_window")
    assert scorer.texts == ["short"]


def test_a_candidates_own_window_counts() -> None:
    bound = [Candidate("small", one(), context_window=50), Candidate("large", one("large"))]
    model = hybrid(small=None, large=None, candidates=bound)
    assert model.route("word " * 100).reason == "context_window"
    assert model.route("word " * 10).reason == "score"


# -- routers that fail ----------------------------------------------------------------------------

FAILING: dict[str, tuple[Any, float, str]] = {
    "raises": (RuntimeError("a secret"), 0.0, "RuntimeError"),
    "not finite": (float("nan"), 0.0, "ScoringError"),
    "wrong shape": ([1.0, 2.0], 0.0, "ScoringError"),
    "hangs": (1.0, 0.5, "ScoringTimeoutError"),
}


@pytest.mark.parametrize(("value", "delay_s", "error"), FAILING.values(), ids=FAILING.keys())
async def test_a_failing_router_never_breaks_a_chain(
    value: Any, delay_s: float, error: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[RoutingDecision] = []
    model = hybrid(
        router=Router(
            candidates=("small", "large"), scorer=fixed_router(value, delay_s=delay_s).scorer
        ),
        router_timeout_s=0.1,
        on_decision=[told.append],
    )
    chain = ChatPromptTemplate([("human", "{x}")]) | model
    started = time.perf_counter()
    answers = [chain.invoke({"x": "hello"}), await chain.ainvoke({"x": "hello"})]
    answers += [next(chain.stream({"x": "hello"})), await first(chain.astream({"x": "hello"}))]
    assert time.perf_counter() - started < 3
    for answer in answers:
        found = decision_of(answer)
        assert str(answer.content).startswith("from")
        assert (found["candidate"], found["reason"]) == ("large", "router_error")
        assert found["error"] == error
    assert [each.reason for each in told] == ["router_error"] * 4
    assert model.small.asked == []
    assert "secret" not in caplog.text


async def test_a_hanging_router_does_not_block_the_event_loop() -> None:
    model = hybrid(router=fixed_router(1.0, delay_s=0.3), router_timeout_s=0.2)
    call = asyncio.create_task(model.ainvoke("x"))
    ticks = 0
    while not call.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 5
    assert decision_of(await call)["reason"] == "router_error"


def test_a_listener_that_raises_never_breaks_a_chain(caplog: pytest.LogCaptureFixture) -> None:
    def broken(decision: RoutingDecision) -> None:
        raise KeyError("a secret")

    told: list[RoutingDecision] = []
    assert hybrid(on_decision=[broken, told.append]).invoke("x").content == "from small"
    assert len(told) == 1
    assert "on_decision raised KeyError" in caplog.text
    assert "secret" not in caplog.text


# -- models by name -------------------------------------------------------------------------------


def test_a_provider_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "langchain_openai", None)  # as if it were not
    base._get_chat_model_creator.cache_clear()  # LangChain's own, of an earlier test
    with pytest.raises(ImportError, match="langchain-openai"):
        hybrid(large="openai:gpt-4o")


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ("raise ImportError('of another version')", ImportError, "cannot be made"),
        ("class ChatGroq(Child):\n    wanted: int", ConfigurationError, "wanted: Field required"),
    ],
)
def test_what_a_provider_says_of_itself_comes_out(
    body: str, error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"from tests.langchain.doubles import Child\n{body}\n"
    (tmp_path / "langchain_groq.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with pytest.raises(error, match=says):
            hybrid(large="groq:qwen3")
    finally:
        sys.modules.pop("langchain_groq", None)


def test_a_real_providers_models_are_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_openai")
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS[0])
    router = calibrated_router(candidates=("gpt-4o-mini", "gpt-4o"))
    model = HybridChatModel(small="openai:gpt-4o-mini", large="openai:gpt-4o", router=router)
    assert model.route("x").candidate == "gpt-4o-mini"
    assert model.route("x").guarantee == "estimated"
    assert (model.profile or {})["max_input_tokens"] == 128_000
    for look in (repr(model), pretty_repr(model), dumps(model), model.model_dump_json()):
        assert SECRETS[0] not in look


def test_a_name_without_a_provider_is_a_clear_error() -> None:
    with pytest.raises(CandidateError, match=r"candidate 'a'='nobody:model' names no provider"):
        hybrid(small=None, large=None, candidates=[Candidate("a", "nobody:model")])
    with pytest.raises(CandidateError, match=r"large='no-such-model'.*write 'provider:model'"):
        hybrid(large="no-such-model")


def test_a_string_becomes_the_providers_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package of a provider's name on the path stands in for the one that is not installed."""
    code = """
        from tests.langchain.doubles import Child

        class ChatOllama(Child):
            pass
    """
    (tmp_path / "langchain_ollama.py").write_text(textwrap.dedent(code), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    router = fixed_router(1.0, candidates=("llama3.2", "qwen3"))
    bound = [Candidate("llama3.2", "ollama:llama3.2"), Candidate("qwen3", "ollama:qwen3")]
    try:
        pairs = [
            HybridChatModel(small="ollama:llama3.2", large="ollama:qwen3", router=router),
            HybridChatModel(candidates=bound, router=router),
        ]
    finally:
        sys.modules.pop("langchain_ollama", None)
    for model in pairs:
        assert model.invoke("x").content == "from llama3.2"
        assert model.invoke("x", route="qwen3").content == "from qwen3"


# -- keys stay inside -----------------------------------------------------------------------------

SECRETS = ("sk-hidden-one", "sk-hidden-two")


class Keyed(Child):
    """Holds keys, one of them carelessly."""

    api_key: SecretStr = SecretStr(SECRETS[0])
    plain_key: str = SECRETS[1]


def shown(function: Callable[[], Any]) -> str:
    """Return what a call shows: its result, or its error with the traceback."""
    try:
        return str(function())
    except Exception:
        return traceback.format_exc()


def test_nothing_shows_the_keys_of_the_children() -> None:
    model = hybrid(small=Keyed(model="small"), large=Keyed(model="large"))
    chain = ChatPromptTemplate([("human", "{x}")]) | model
    looks = [
        repr(model),
        str(model),
        pretty_repr(model),
        repr(chain),
        repr(model.bind(stop=["x"])),
        repr(model.engine),
        repr(model.engine.candidates),
        str(model.model_dump()),
        model.model_dump_json(),
        dumps(model),
        dumps(chain),
        str(model._identifying_params),
        str(model._get_ls_params()),
        str(model.asdict()),
    ]
    for look in looks:
        assert not any(secret in look for secret in SECRETS)
    assert "small, large" in repr(model)


def test_no_error_shows_the_keys_of_the_children() -> None:
    keyed = Keyed(model="small")
    wrong: list[Callable[[], Any]] = [
        lambda: hybrid(small=keyed, treshold=1),
        lambda: hybrid(small=keyed, threshold="high"),
        lambda: hybrid(small=keyed, threshold=[keyed]),
        lambda: hybrid(small=keyed, router_timeout_s=keyed),
        lambda: hybrid(small=keyed, large=None),
        lambda: hybrid(small=keyed, router=3),
        lambda: hybrid(small=keyed, candidates=keyed),
        lambda: hybrid(small=keyed, candidates=[keyed]),
        lambda: hybrid(small=[keyed]),
        lambda: hybrid(small=keyed, cache=True),
        lambda: hybrid(small=keyed, max_quality_drop=0.1),
        lambda: hybrid(small=keyed).invoke("x", route="nowhere"),
        lambda: HybridChatModel.model_validate({"small": keyed, "large": keyed, "bad": 1}),
    ]
    for function in wrong:
        said = shown(function)
        assert "Error" in said
        assert not any(secret in said for secret in SECRETS)


# -- copies ---------------------------------------------------------------------------------------


def test_a_changed_copy_is_bound_anew() -> None:
    model = hybrid(threshold=0.5)
    other = model.model_copy(update={"threshold": 2.0})
    assert (model.route("x").candidate, other.route("x").candidate) == ("small", "large")
    swapped = model.model_copy(
        update={
            "small": with_profile("small", max_input_tokens=5),
            "large": with_profile("large", max_input_tokens=7),
        }
    )
    assert swapped.engine.candidates[0].context_window == 5
    assert swapped.profile == {"max_input_tokens": 5}
    assert model.profile is None


def test_a_changed_copy_is_checked() -> None:
    model = hybrid(threshold=0.5)
    with pytest.raises(ConfigurationError, match="One dial at a time"):
        model.model_copy(update={"cost_advantage": 0.5})
    with pytest.raises(CandidateError):
        model.model_copy(update={"small": 42})


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda model: model.model_copy(deep=True),
     lambda model: pickle.loads(pickle.dumps(model))],  # noqa: S301
    ids=["copy", "deepcopy", "deep model_copy", "pickle"],
)  # fmt: skip
async def test_a_copy_works_like_its_original(copied: Any, calibrated: Router) -> None:
    model = hybrid(router=calibrated, max_quality_drop=0.1)
    model.invoke("hello")
    other = copied(model)
    assert repr(other) == repr(model)
    texts = ["greet the visitor", "prove the theorem 17"]
    assert [other.route(t).candidate for t in texts] == [model.route(t).candidate for t in texts]
    assert (await other.ainvoke("hello")).content == model.invoke("hello").content


def test_a_pickle_holds_no_hash_key() -> None:
    model = hybrid()
    key = model.engine._hash_key
    dumped = pickle.dumps(model)
    assert key not in dumped
    other = pickle.loads(dumped)  # noqa: S301
    assert model.route("x").query_hash == model.route("x").query_hash
    assert other.route("x").query_hash != model.route("x").query_hash


def test_what_cannot_be_pickled_fails_loudly() -> None:
    model = hybrid(on_decision=[lambda decision: None])
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(model)


def test_construction_is_silent_where_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small, large = pair()
        HybridChatModel(small=small, large=large, router=ROUTER, threshold=0.5)
