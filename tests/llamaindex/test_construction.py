"""What a HybridLLM is made of: metadata, wrong arguments, copies, pickles, what is written down."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import threading
import warnings
from typing import Any

import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager
from llama_index.core.extractors import KeywordExtractor
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.llms import ChatMessage, MessageRole, MockLLM
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import TextNode
from llama_index.core.types import BaseOutputParser, PydanticProgramMode
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from rich.console import Console

from llamaindex_hybrid import HybridLLM
from llamaindex_hybrid.pickling import SecretLeftOutWarning
from shared_router import Candidate, Router
from shared_router.engine.engine import OtherCandidatesWarning
from shared_router.engine.fronts import IgnoredParameterWarning
from shared_router.errors import (
    CandidateError,
    ConfigurationError,
    DialError,
    NotCalibratedError,
)
from shared_router.testing import FixedScorer, fixed_router
from tests.llamaindex.fakes import (
    Decisions,
    FakeLLM,
    Heard,
    PlainLLM,
    claimed,
    decision_of,
    hybrid,
    pair,
)
from tests.llamaindex.operations import PROMPT, QUESTION, TOOL, VARIABLES, Answer, messages
from tests.material import calibrated_router

ROUTER = fixed_router(1.0)
SECRETS = ("sk-very-secret", "Bearer hush", "org-secret")


def keyed(name: str = "small") -> Any:
    """Make a model that holds secrets, as a real provider's does."""
    return OpenAILike(
        model=name,
        api_base="http://127.0.0.1:9/v1",
        api_key=SECRETS[0],
        default_headers={"Authorization": SECRETS[1]},
        additional_kwargs={"user": "me", "extra": {"api_key": SECRETS[2]}},
        is_chat_model=True,
        max_retries=0,
    )


# -- metadata -------------------------------------------------------------------------------------


def test_the_metadata_fits_every_model() -> None:
    small = PlainLLM(name="small", context_window=4_000, num_output=100)
    large = FakeLLM(
        name="large",
        context_window=100_000,
        num_output=900,
        system_role=MessageRole.DEVELOPER,
    )
    found = hybrid(small, large).metadata
    assert found.context_window == 4_000
    assert found.num_output == 900
    assert found.is_chat_model
    assert found.is_function_calling_model
    assert found.model_name == "hybrid(small|large)"
    assert found.system_role == MessageRole.DEVELOPER


@pytest.mark.parametrize(
    ("outputs", "window", "expected"),
    [((-1, -1), 4_000, -1), ((-1, 300), 4_000, 300), ((200, 8_000), 4_000, 200),
     ((5_000, 8_000), 4_000, 2_000)],
)  # fmt: skip
def test_a_prompt_has_room_beside_the_output(
    outputs: tuple[int, int], window: int, expected: int
) -> None:
    small = FakeLLM(name="small", num_output=outputs[0], context_window=window)
    large = FakeLLM(name="large", num_output=outputs[1], context_window=100_000)
    assert hybrid(small, large).metadata.num_output == expected


def test_a_model_of_completions_alone_is_wrapped_too(decisions: Decisions) -> None:
    small, large = (PlainLLM(name=name, chat_model=False) for name in ("small", "large"))
    llm = hybrid(small, large, on_decision=[decisions.append])
    assert not llm.metadata.is_chat_model
    assert llm.predict(PROMPT, **VARIABLES) == llm.complete(QUESTION).text
    assert llm.chat(messages()).message.content
    assert hybrid(small).metadata.is_chat_model
    with pytest.raises(CandidateError, match="None of the wrapped models can call tools"):
        llm.chat_with_tools([TOOL], QUESTION)


def test_the_models_name_themselves() -> None:
    assert [c.name for c in hybrid().engine.candidates] == ["small", "large"]
    unnamed = HybridLLM(small=MockLLM(), large=MockLLM(), router=ROUTER)
    assert [c.name for c in unnamed.engine.candidates] == ["small", "large"]
    assert unnamed.metadata.model_name == "hybrid(small|large)"


def test_a_window_that_is_only_llamaindexs_default_is_unknown() -> None:
    assert [c.context_window for c in hybrid().engine.candidates] == [None, None]
    small = FakeLLM(name="small", context_window=50)
    assert hybrid(small).engine.candidates[0].context_window == 50


def test_what_a_small_window_cannot_hold_goes_elsewhere(decisions: Decisions) -> None:
    small, large = pair()
    small.context_window, large.context_window = 100, 100_000
    llm = hybrid(small, large, on_decision=[decisions.append])
    llm.chat([ChatMessage(content="word " * 200), ChatMessage(content="why?")])
    llm.predict(PROMPT, context_str="word " * 200, query_str="why?")
    llm.complete("why?")
    assert decisions.reasons == ["context_window", "context_window", "score"]
    assert decisions.candidates == ["large", "large", "small"]


def test_candidates_with_what_the_user_knows_of_them() -> None:
    models = pair()
    candidates = [
        Candidate("tiny", models[0], aliases=("small",), supports_tools=False, context_window=70),
        Candidate("large", models[1]),
    ]
    llm = HybridLLM(candidates=candidates, router=calibrated_router(), same_models=True)
    first = llm.engine.candidates[0]
    assert (first.name, first.supports_tools, first.context_window) == ("tiny", False, 70)
    assert llm.route(QUESTION, tools=[TOOL]).reason == "capability"
    assert llm.metadata.context_window == 70
    assert llm.route(QUESTION).guarantee == "estimated"


async def test_an_uncalibrated_router_estimates_nothing() -> None:
    llm = hybrid(router=ROUTER, threshold=0.5)
    answers = [llm.complete("x"), await llm.acomplete("x"), *llm.stream_chat(messages())]
    assert {claimed(each) for each in answers} == {("none", "not calibrated")}
    assert llm.route(QUESTION).guarantee == "none"


def test_other_models_than_the_routers_are_warned_of() -> None:
    with pytest.warns(OtherCandidatesWarning, match="'mini' for 'small'"):
        llm = HybridLLM(small=FakeLLM(name="mini"), large=FakeLLM(name="large"), router=ROUTER)
    assert claimed(llm.complete("x")) == ("none", "not calibrated")
    with pytest.warns(OtherCandidatesWarning):
        llm = HybridLLM(small=FakeLLM(name="mini"), large=FakeLLM(), router=calibrated_router())
    assert claimed(llm.complete("x")) == ("void", "other candidates")


# -- wrong arguments ------------------------------------------------------------------------------


class Foreign:
    """No LLM."""


@pytest.mark.parametrize(
    "wrong",
    [Foreign(), 42, [FakeLLM()], FakeLLM, "gpt-5.5"],
    ids=["foreign", "a number", "a list", "a class", "a name"],
)
def test_what_is_no_llm_is_refused(wrong: Any) -> None:
    with pytest.raises(CandidateError, match="small is a LlamaIndex LLM; got"):
        hybrid(wrong)
    candidates = [Candidate("small", FakeLLM()), Candidate("large", wrong)]
    with pytest.raises(CandidateError, match="candidate 'large' is a LlamaIndex LLM; got"):
        HybridLLM(candidates=candidates, router=ROUTER)


def test_a_model_of_langchains_gets_a_hint() -> None:
    from tests.langchain.doubles import Child

    child = Child(model="small")
    with pytest.raises(CandidateError, match="got Child"):
        hybrid(child)
    type(child).__module__ = "langchain_openai.chat_models"
    try:
        with pytest.raises(CandidateError, match=r"langchain_hybrid\.HybridChatModel wraps"):
            hybrid(child)
    finally:
        type(child).__module__ = "tests.langchain.doubles"


def test_a_model_that_does_not_know_itself_is_refused() -> None:
    class Lost(FakeLLM):
        @property
        def metadata(self) -> Any:
            raise ValueError("Unknown model 'lost'")

    with pytest.raises(CandidateError, match=r"Lost does not tell its metadata.*OpenAILike"):
        hybrid(Lost())


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"small": None}, CandidateError, "wraps small= and large="),
        ({"candidates": []}, CandidateError, "not both"),
        ({"cost_advantage": 1.5}, DialError, "between 0 and 1"),
        ({"threshold": 0.1, "cost_advantage": 0.5}, DialError, "One dial at a time"),
        ({"max_quality_drop": 0.1}, NotCalibratedError, "calibrat"),
        ({"max_quality_dropp": 0.1}, ConfigurationError, "did you mean 'max_quality_drop'"),
        ({"nonsense": 1}, ConfigurationError, "HybridLLM has no parameter 'nonsense'"),
        ({"router_timeout_s": 0}, ConfigurationError, "above 0"),
        ({"router_timeout_s": "soon"}, ConfigurationError, "router_timeout_s"),
        ({"no_query": {"extrakt": "small"}}, ConfigurationError, "extract, summarize.*'extrakt'"),
        ({"no_query": {"extract": "tiny"}}, CandidateError, "'tiny' names no candidate"),
        ({"messages_to_prompt": str}, ConfigurationError, "cannot honour messages_to_prompt"),
        ({"completion_to_prompt": str}, ConfigurationError, "give it to the wrapped models"),
        ({"query_variables": 3}, ConfigurationError, "query_variables"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_said_clearly(given: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        HybridLLM(**{"small": FakeLLM(), "large": FakeLLM(), "router": ROUTER, **given})


def test_parameters_of_the_models_are_not_the_wrappers() -> None:
    with pytest.warns(IgnoredParameterWarning, match="HybridLLM ignores temperature"):
        hybrid(temperature=0.5)


def test_a_listener_that_is_a_coroutine_is_refused() -> None:
    async def listen(decision: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="plain functions"):
        hybrid(on_decision=[listen])


@pytest.mark.parametrize("name", ["threshold", "router", "small", "no_query", "record_query"])
def test_what_is_fixed_at_construction_cannot_be_set(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"fixed at construction.*model_copy"):
        setattr(hybrid(), name, 0.7)


def test_a_prompt_format_cannot_be_set_either() -> None:
    with pytest.raises(ConfigurationError, match="cannot honour messages_to_prompt"):
        hybrid().messages_to_prompt = lambda messages: "x"


def test_an_empty_chat_goes_to_the_large_model(decisions: Decisions) -> None:
    def polite(question: str) -> str:
        return "Yes?"

    small, large = (FakeLLM(name=name, answer=polite) for name in ("small", "large"))
    llm = hybrid(small, large, on_decision=[decisions.append])
    assert llm.chat([]).message.content == "Yes?"
    assert llm.chat([ChatMessage(content="  ")]).message.content
    assert llm.complete("").text
    assert decisions.reasons == ["no_query"] * 3
    assert decisions.candidates == ["large"] * 3


# -- what a wrapper says for all its models --------------------------------------------------------


def test_a_system_prompt_is_every_models(decisions: Decisions) -> None:
    small, large = pair(system_prompt="its own")
    llm = hybrid(small, large, system_prompt="Be brief.")
    llm.predict(PROMPT, **VARIABLES)
    llm.structured_predict(Answer, PROMPT, **VARIABLES)
    llm.predict(PROMPT, route="large", **VARIABLES)
    LLMTextCompletionProgram.from_defaults(
        output_cls=Answer, prompt_template_str="{query_str}", llm=llm
    )(query_str=QUESTION)
    for request in (*small.requests, *large.requests):
        said = [m.content for m in request["messages"] if m.role == MessageRole.SYSTEM]
        assert len(said) == 1
        assert said[0].startswith("Be brief.")
    assert small.system_prompt == "its own"
    assert len(small.requests) == 3


def test_a_system_prompt_set_later_holds_from_then_on() -> None:
    small, large = pair()
    llm = hybrid(small, large)
    llm.system_prompt = "Be brief."
    llm.predict(PROMPT, **VARIABLES)
    assert small.requests[0]["messages"][0].content == "Be brief."


def test_the_models_own_system_prompts_are_kept() -> None:
    small, large = pair(system_prompt="its own")
    hybrid(small, large).predict(PROMPT, **VARIABLES)
    assert small.requests[0]["messages"][0].content == "its own"


class Shouting(BaseOutputParser):
    """Parses to upper case."""

    def parse(self, output: str) -> str:
        return output.upper()

    def format(self, query: str) -> str:
        return f"{query} Shout!"


async def test_an_output_parser_is_every_models() -> None:
    small, large = pair()
    llm = hybrid(small, large, output_parser=Shouting())
    assert llm.predict(PROMPT, **VARIABLES) == "HELLO TO YOU, FRIEND."
    assert await llm.apredict(PROMPT, **VARIABLES) == "HELLO TO YOU, FRIEND."
    assert small.requests[0]["messages"][-1].content.endswith("Shout!")
    with pytest.raises(NotImplementedError, match="not supported for streaming"):
        llm.stream(PROMPT, **VARIABLES)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_query_wrapper_prompt_is_every_models() -> None:
    small, large = (PlainLLM(name=name, chat_model=False) for name in ("small", "large"))
    llm = hybrid(small, large, query_wrapper_prompt=PromptTemplate("<q>{query_str}</q>"))
    llm.predict(PROMPT, **VARIABLES)
    assert small.requests[0]["messages"][0].content.startswith("<q>")


@pytest.mark.parametrize("later", [False, True])
def test_a_program_mode_is_every_models(later: bool, decisions: Decisions) -> None:
    small, large = pair()
    mode = PydanticProgramMode.LLM
    given = {} if later else {"pydantic_program_mode": mode}
    llm = hybrid(small, large, on_decision=[decisions.append], **given)
    if later:
        Settings.llm = llm
        Settings.pydantic_program_mode = mode
    assert llm.structured_predict(Answer, PROMPT, **VARIABLES) == Answer(text="words", number=3)
    assert "tools" not in small.requests[0]


def test_a_program_mode_of_functions_needs_a_model_with_tools(decisions: Decisions) -> None:
    small, large = PlainLLM(name="small"), FakeLLM(name="large")
    mode = PydanticProgramMode.FUNCTION
    llm = hybrid(small, large, pydantic_program_mode=mode, on_decision=[decisions.append])
    assert llm.structured_predict(Answer, PROMPT, **VARIABLES).number == 3
    assert decisions.reasons == ["capability"]


class Limiter(TokenBucketRateLimiter):
    """Counts."""

    taken: list[str] = []  # noqa: RUF012  (pydantic copies it)

    def acquire(self, num_tokens: int = 0) -> None:
        self.taken.append("sync")

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.taken.append("async")


async def test_a_rate_limiter_works_beside_each_models() -> None:
    ours = Limiter(requests_per_minute=60)
    theirs = Limiter(requests_per_minute=60)
    small = FakeLLM(name="small", rate_limiter=theirs)
    llm = hybrid(small, rate_limiter=ours)
    llm.chat(messages())
    await llm.acomplete(QUESTION)
    list(llm.stream(PROMPT, **VARIABLES))
    [_ async for _ in await llm.astream_chat(messages())]
    assert ours.taken == theirs.taken == ["sync", "async", "sync", "async"]
    llm.route(QUESTION)
    assert len(ours.taken) == 4


# -- what is shown and written down ---------------------------------------------------------------


def shown(function: Any) -> str:
    """Return what a wrong call says, with all its causes."""
    try:
        function()
    except Exception as error:
        return f"{error!r} {error} {error.__cause__!r}"
    return "nothing was raised"


def written(llm: HybridLLM) -> list[str]:
    console = Console(record=True, width=500)
    with console.capture() as captured:
        console.print(llm)
    nested = KeywordExtractor(llm=llm)
    return [
        repr(llm),
        str(llm),
        captured.get(),
        str(llm.to_dict()),
        llm.to_json(),
        llm.model_dump_json(),
        str(llm.dict()),
        str(nested.to_dict()),
        repr(nested),
        str(vars(llm.as_structured_llm(Answer)).get("llm")),
        str(llm.as_structured_llm(Answer).to_dict()),
        str(decision_of(hybrid().complete("x"))),
    ]


def test_nothing_that_is_written_holds_a_secret() -> None:
    llm = HybridLLM(small=keyed("small"), large=keyed("large"), router=ROUTER)
    for text in written(llm):
        assert not any(secret in text for secret in SECRETS)


def test_no_error_shows_a_secret() -> None:
    secret = keyed()
    wrong = [
        lambda: HybridLLM(small=secret, large=secret, router=ROUTER, threshold="high"),
        lambda: HybridLLM(small=secret, large=[secret], router=ROUTER),
        lambda: HybridLLM(small=secret, large=secret, router=secret),
        lambda: HybridLLM(small=secret, large=secret, router=ROUTER, candidates=secret),
        lambda: HybridLLM(small=secret, large=secret, router=ROUTER, on_decision=secret),
        lambda: HybridLLM(small=secret, large=secret, router=ROUTER, nonsense=secret),
    ]
    for function in wrong:
        said = shown(function)
        assert "Error" in said
        assert not any(each in said for each in SECRETS)


def test_a_dict_tells_models_routers_and_dials_apart() -> None:
    node = [TextNode(text="a")]

    def key(**given: Any) -> str:
        made: dict[str, Any] = {"small": FakeLLM(name="small"), "large": FakeLLM(name="large")}
        llm = HybridLLM(**{**made, "router": ROUTER, "same_models": True, **given})
        return get_transformation_hash(node, KeywordExtractor(llm=llm))

    assert key() == key()
    other = Router(candidates=("small", "large"), scorer=FixedScorer(0.0), name="other")
    keys = [key(), key(threshold=0.5), key(router=other), key(small=FakeLLM(name="mini"))]
    assert len(set(keys)) == 4


def test_a_dict_makes_another_where_the_models_are_given_anew() -> None:
    llm = hybrid(threshold=0.5, no_query={"extract": "small"}, record_query=True)
    data = json.loads(llm.to_json())
    assert data["class_name"] == "HybridLLM"
    assert data["routing"]["router"] == "fixed"
    small, large = pair()
    other = HybridLLM.from_dict(data, small=small, large=large, router=ROUTER)
    assert other.to_dict() == llm.to_dict()
    with pytest.raises(CandidateError, match="wraps small= and large="):
        HybridLLM.from_dict(data)


# -- copies and pickles ----------------------------------------------------------------------------


COPIES = [
    copy.copy,
    copy.deepcopy,
    lambda llm: llm.model_copy(deep=True),
    lambda llm: pickle.loads(pickle.dumps(llm)),  # noqa: S301
]


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "deep model_copy", "pickle"])
async def test_a_copy_works_like_its_original(copied: Any, calibrated: Router) -> None:
    llm = hybrid(router=calibrated, max_quality_drop=0.1)
    llm.complete("hello")
    other = copied(llm)
    assert repr(other) == repr(llm)
    texts = ["greet the visitor", "prove the theorem 17"]
    assert [other.route(t).candidate for t in texts] == [llm.route(t).candidate for t in texts]
    assert (await other.acomplete("hello")).text == llm.complete("hello").text
    assert other.to_dict() == llm.to_dict()


def test_a_changed_copy_is_bound_anew_and_checked() -> None:
    llm = hybrid(threshold=0.5)
    other = llm.model_copy(update={"threshold": 2.0})
    assert (llm.route("x").candidate, other.route("x").candidate) == ("small", "large")
    with pytest.raises(DialError, match="One dial at a time"):
        llm.model_copy(update={"cost_advantage": 0.5})
    with pytest.raises(CandidateError):
        llm.model_copy(update={"small": 42})
    with pytest.raises(ConfigurationError, match="no parameter 'nonsense'"):
        llm.model_copy(update={"nonsense": 1})
    with pytest.raises(ConfigurationError, match="a candidate's name; got 0"):
        llm.model_copy(update={"no_query": {"extract": 0}})


class Locked(FixedScorer):
    """A scorer that does not pickle."""

    def __init__(self) -> None:
        super().__init__(1.0)
        object.__setattr__(self, "lock", threading.Lock())


def test_an_unpicklable_router_fails_loudly_and_is_still_there() -> None:
    router = Router(candidates=("small", "large"), scorer=Locked(), name="locked")
    llm = hybrid(router=router)
    with pytest.raises(ConfigurationError, match=r"cannot be pickled: its router cannot.*lock"):
        pickle.dumps(llm)
    assert llm.router is router
    assert llm.complete("x").text


def test_an_unpicklable_listener_fails_loudly() -> None:
    llm = hybrid(on_decision=[lambda decision: None])
    with pytest.raises(ConfigurationError, match=r"its on_decision cannot.*lambda"):
        pickle.dumps(llm)


def test_a_pickle_holds_no_secret_and_says_what_it_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    llm = HybridLLM(small=keyed("small"), large=keyed("large"), router=ROUTER)
    dumped = pickle.dumps(llm)
    assert not any(secret.encode() in dumped for secret in SECRETS)
    assert llm.engine._hash_key not in dumped
    assert llm.small.api_key == SECRETS[0]
    left = "without additional_kwargs.extra.api_key, api_key, default_headers: pickles hold no"
    with pytest.warns(SecretLeftOutWarning, match=left):
        other = pickle.loads(dumped)  # noqa: S301
    assert other.small.additional_kwargs == {"user": "me", "extra": {}}
    assert other.small.model == "small"


class OfClient(BaseModel):
    """Settings of a client, as some models hold them."""

    model_config = ConfigDict(extra="allow")
    apiToken: SecretStr = SecretStr("hush-1")  # noqa: N815
    host: str = "http://me:hush-2@127.0.0.1:9"
    retries: int = 3


class Nested(FakeLLM):
    """A model with settings inside of settings."""

    settings: OfClient = OfClient.model_validate(
        {"password": "hush-3", "more": [{"api_key": "hush-4"}]}
    )
    additional_kwargs: dict[str, Any] = Field(
        default={"accessToken": "hush-5", "api-key": "hush-6", "top": 1}
    )
    endpoints: list[Any] = Field(default=[{"secret": "hush-7"}, "https://you:hush-8@host/v1"])


def test_a_pickle_holds_no_secret_however_it_is_named_or_nested() -> None:
    model = Nested(name="small")
    llm = HybridLLM(small=model, large=FakeLLM(name="large"), router=ROUTER)
    dumped = pickle.dumps(llm)
    assert b"hush-" not in dumped
    with pytest.warns(SecretLeftOutWarning, match=r"additional_kwargs.accessToken.*settings.host"):
        other = pickle.loads(dumped)  # noqa: S301
    assert other.small.settings.retries == 3
    assert other.small.settings.host == "http://127.0.0.1:9"
    assert other.small.endpoints == [{}, "https://host/v1"]
    assert other.small.additional_kwargs == {"top": 1}
    assert model.settings.apiToken.get_secret_value() == "hush-1"


def test_a_pickle_finds_its_keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    model = OpenAILike(
        model="small", api_base="http://127.0.0.1:9/v1", api_key=SECRETS[0], is_chat_model=True
    )
    llm = HybridLLM(small=model, large=FakeLLM(name="large"), router=ROUTER)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = pickle.loads(pickle.dumps(llm))  # noqa: S301
    assert other.small.api_key == "sk-of-the-environment"


def test_candidates_pickle_too() -> None:
    models = pair(api_key=SECRETS[0])
    candidates = [Candidate(model.name, model, aliases=("a",)) for model in models]
    llm = HybridLLM(candidates=candidates, router=ROUTER)
    dumped = pickle.dumps(llm)
    assert SECRETS[0].encode() not in dumped
    with pytest.warns(SecretLeftOutWarning, match="without api_key"):
        other = pickle.loads(dumped)  # noqa: S301
    assert other.engine.candidates[0].aliases == ("a",)
    assert other.complete("x").text == llm.complete("x").text


def test_handlers_stay_in_their_process(caplog: pytest.LogCaptureFixture) -> None:
    class Open(Heard):
        lock = None

        def __reduce__(self) -> Any:
            raise TypeError("not me")

    small = FakeLLM(name="small", callback_manager=CallbackManager([Open()]))
    llm = hybrid(small, callback_manager=CallbackManager([Open()]))
    with caplog.at_level(logging.DEBUG):
        other = pickle.loads(pickle.dumps(llm))  # noqa: S301
    assert other.callback_manager.handlers == []
    assert len(small.callback_manager.handlers) == len(llm.callback_manager.handlers) == 1
    assert other.complete("x").text


def test_construction_is_silent_where_all_is_well() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small, large = pair()
        HybridLLM(small=small, large=large, router=ROUTER, threshold=0.5)
