"""Metrics and judges: what they score, and what they refuse."""

from __future__ import annotations

import sys
import time

import pytest

from shared_router.collecting.collect import SourceQuery, collect
from shared_router.collecting.judges import METRICS, metric_named
from shared_router.data.answers import Answer, Judgement
from shared_router.errors import ConfigurationError, DataError, JudgeError, MissingExtraError
from shared_router.judging import overlap
from shared_router.judging.code import CodePassesTests, code_of
from shared_router.judging.match import CHOICE, EXACT, NORMALISED, NUMERIC, normalise
from shared_router.judging.metric import AnswerMetric, Clipped, QualityMetric
from shared_router.judging.model_judge import LLMJudge
from shared_router.records import Usage


def score(metric, response, answer="", query="q"):
    return metric.score(query, response, answer)


RANGES = {"bartscore": (float("-inf"), 0.0), "similarity": (-1.0, 1.0)}


@pytest.mark.parametrize("name", METRICS)
def test_every_named_metric_keeps_the_protocol(name):
    metric = metric_named(name)
    assert isinstance(metric, QualityMetric)
    assert metric.range == RANGES.get(name, (0.0, 1.0))
    assert metric.needs_answer
    assert metric.name.startswith(name)
    with pytest.raises(DataError, match="right answer"):
        metric.score("q", "r", None)


def test_an_unknown_metric():
    with pytest.raises(ConfigurationError, match="No metric 'vibes'; there are exact"):
        metric_named("vibes")


def test_exact_and_normalised():
    assert score(EXACT, " Paris\n", "Paris") == 1
    assert score(EXACT, "paris", "Paris") == 0
    assert score(NORMALISED, "The  PARIS!", "paris") == 1
    assert score(NORMALISED, "Paris, France", "paris") == 0
    assert normalise("An e\ufb03cient “test”") == "efficient test"


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("B", 1), ("(b)", 1), ("B) Paris", 1), ("The answer is (B).", 1), ("**Answer: B**", 1),
        ("A is wrong, so the answer is B", 1), ("I think B.", 1), ("First A, no: B", 1),
        ("Answer: C, not B", 0), ("A", 0), ("The best option", 0), ("", 0), ("Because", 0),
    ],
)  # fmt: skip
def test_multiple_choice(response, right):
    assert score(CHOICE, response, "B") == right


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("42", "42", 1), ("so it is 42.", "42", 1), ("$1,234.50", "1234.5", 1), ("1/2", "0.5", 1),
        ("6 * 7 = 42 apples", "#### 42", 1), ("The answer is 42, since 6 and 7", "42", 1),
        ("\\boxed{42}", "42", 1), ("-3", "3", 0), ("\u22123", "-3", 1), ("1e3", "1000", 1),
        ("none", "42", 0), ("", "42", 0), ("0.3333333333", "1/3", 1), ("41", "42", 0),
        ("1/0", "42", 0), ("1e99999999999999999999", "42", 0), (".5", "0.5", 1), ("0", "0.0", 1),
    ],
)  # fmt: skip
def test_numeric_answers(response, answer, right):
    assert score(NUMERIC, response, answer) == right


@pytest.mark.parametrize("metric", [NUMERIC, CHOICE])
def test_an_unreadable_right_answer_is_an_error(metric):
    with pytest.raises(DataError):
        score(metric, "42", "???")


def test_a_mark_without_a_number_behind_it_marks_none():
    assert metric_named("numeric").score("q", "It is 7. That is my final answer.", "7") == 1.0


def test_what_is_no_plain_score_is_not_clipped():
    class Paid:
        name, range, needs_answer = "paid", (0.0, 1.0), False

        def score(self, query, response, answer):
            return Judgement(0.5)

    with pytest.raises(ConfigurationError, match="a plain score are clipped; 'paid' returns Judg"):
        Clipped(Paid(), 0, 0.3).score("q", "r", None)


def test_a_metric_shows_its_name_and_range():
    assert repr(metric_named("exact")) == "AnswerMetric('exact', range=(0.0, 1.0))"


def test_clipping_needs_to_be_told_how():
    unbounded = AnswerMetric("log", lambda response, answer: float(response), (-9e9, 9e9))
    clipped = Clipped(unbounded, -2, 0)
    assert [score(clipped, text) for text in ("-5", "-1", "7")] == [-2, -1, 0]
    assert (clipped.range, clipped.name) == ((-2, 0), "log clipped to [-2, 0]")
    for low, high in ((1, 0), (0, float("inf"))):
        with pytest.raises(ConfigurationError, match="two finite numbers"):
            Clipped(unbounded, low, high)


# -- code -----------------------------------------------------------------------------------------

TESTS = "assert double(2) == 4\nassert double('a') == 'aa'"
CODE = CodePassesTests(timeout_s=2, memory_mb=256)


def test_code_is_taken_from_its_fences():
    assert code_of("Sure:\n```python\nx = 1\n```\nand\n```\ny = 2\n```") == "x = 1\n\n\ny = 2\n"
    assert code_of("x = 1") == "x = 1"
    assert code_of("```py\nx = 1") == "x = 1"


@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("```python\ndef double(x):\n    return x * 2\n```", 1),
        ("def double(x): return x + x", 1),
        ("def double(x): return x", 0),
        ("def double(x:", 0),
        ("import sys; sys.exit(0)", 0),
        ("import os; os._exit(0)", 0),
        ("print('ok'); raise SystemExit", 0),
        ("import numpy\ndef double(x): return x * 2", 0),
        ("x = 'a' * (1 << 30)\ndef double(x): return x * 2", 0),
        ("import os\nassert os.environ.get('HOME') is None\ndef double(x): return x * 2", 1),
    ],
)
def test_code_that_passes_its_tests(response, right):
    assert score(CODE, response, TESTS) == right


def test_code_that_never_ends_is_ended_with_its_children():
    started = time.monotonic()
    endless = "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while 1: 1'])\n"
    assert score(CodePassesTests(timeout_s=0.5), endless + "while True: pass", TESTS) == 0
    assert time.monotonic() - started < 5


def test_code_with_impossible_limits():
    with pytest.raises(ConfigurationError, match="timeout_s=0"):
        CodePassesTests(timeout_s=0)


# -- overlap --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "module"), [("rouge-l", "rouge_score"), ("bleu", "sacrebleu"), ("chrf", "sacrebleu")]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_overlap_with_a_reference(name, module):
    pytest.importorskip(module)
    metric, reference = metric_named(name), "the cat sat on the mat today"
    same, close, far = (
        score(metric, text, reference) for text in (reference, "the cat sat on a mat", "no idea")
    )
    assert same == pytest.approx(1)
    assert 0.2 < close < 1
    assert far < close
    assert score(metric, "", reference) == 0


def test_rouge_l_is_the_longest_common_subsequence():
    pytest.importorskip("rouge_score")
    # Four of five words in order, on both sides: precision and recall are 0.8.
    found = score(metric_named("rouge-l"), "one two three four six", "one two three four five")
    assert found == pytest.approx(0.8)


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError, match=r"hybrid-llm\[judge\]"):
        score(overlap.Bleu(), "a", "a")


async def test_a_missing_library_ends_a_run(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)

    async def ask(query, sample):
        return Answer("a")

    queries = [SourceQuery(id="1", text="q", answer="a")]
    with pytest.raises(MissingExtraError):
        await collect(queries, {"small": ask}, tmp_path / "d.jsonl", 1, overlap.Bleu())


# -- a model as the judge -------------------------------------------------------------------------


def judge(reply, **options):
    """Make a judge whose model replies by a function of the prompt and the sample."""
    prompts = []

    async def ask(prompt, sample):
        prompts.append(prompt)
        return Answer(reply(prompt, sample), Usage(input_tokens=10, cost_usd=0.5))

    return LLMJudge(ask, **options), prompts


def prefers(response):
    def reply(prompt, sample):
        place = "first" if f'"first": "{response}"' in prompt else "second"
        return f'{{"better": "{place}"}}'

    return reply


async def test_both_orders_are_asked_and_paid():
    scored, prompts = judge(prefers("mine"), rubric="Be {kind}.")
    better = await scored.score("q", "mine", "theirs")
    assert (better.quality, better.usage.cost_usd, better.usage.input_tokens) == (1.0, 1.0, 20)
    assert '"first": "mine"' in prompts[0]
    assert '"first": "theirs"' in prompts[1]
    assert "Be {kind}." in prompts[0]
    assert (await scored.score("q", "bad", "mine")).quality == 0.0


@pytest.mark.parametrize("said", ["first", "second", "tie"])
async def test_ties_and_a_preference_for_a_place_are_one_half(said):
    scored, _ = judge(lambda *_: f'{{"better": "{said}"}}')
    assert (await scored.score("q", "mine", "theirs")).quality == 0.5


async def test_without_an_answer_it_grades():
    scored, prompts = judge(lambda *_: '```json\n{"score": 0.75}\n```')
    graded = await scored.score('a "quoted" question', "response", None)
    assert (graded.quality, len(prompts)) == (0.75, 1)
    assert r"a \"quoted\" question" in prompts[0]


@pytest.mark.parametrize(
    "nonsense",
    ["", "The first.", '{"score": 1.5}', '{"score": "0.5"}', '{"score": NaN}', '{"score": true}',
     '{"score": 0.5, "because": "x"}', '{"better": "first"}', '{"score": 0.5} {"score": 0.1}'],
)  # fmt: skip
async def test_nonsense_is_asked_again_then_an_error_with_its_cost(nonsense):
    scored, prompts = judge(lambda *_: nonsense, retries=2)
    with pytest.raises(JudgeError, match="3 replies were none") as caught:
        await scored.score("q", "response", None)
    assert (len(prompts), caught.value.cost_usd) == (3, 1.5)


async def test_one_good_reply_is_enough():
    scored, prompts = judge(lambda _, sample: '{"score": 1}' if sample else "hm")
    assert (await scored.score("q", "response", None)).usage.cost_usd == 1.0
    assert len(prompts) == 2


async def test_a_run_records_nonsense_and_its_cost(tmp_path):
    async def ask(query, sample):
        return Answer("a", Usage(cost_usd=0.25))

    scored, _ = judge(lambda *_: "hm", retries=1)
    report = await collect(["one"], {"small": ask}, tmp_path / "d.jsonl", 1, scored)
    assert (report.failed, report.spent_usd) == (1, 1.25)
    assert '"stage": "judge", "error": "JudgeError"' in report.failures.read_text()


def test_another_rubric_is_another_judge_and_names_hold_no_secret():
    first, _ = judge(str, model="http://user:secret@host#m")
    second, _ = judge(str, model="http://user:secret@host#m", rubric="other")
    assert first.name != second.name
    assert "secret" not in first.name + repr(first)
    assert isinstance(first, QualityMetric)
