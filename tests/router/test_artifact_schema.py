"""What a router's files may hold: each wrong field is named at load, and none opens the dial."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from langchain_hybrid import HybridChatModel
from llamaindex_hybrid import HybridLLM
from shared_router import Dial, Router
from shared_router.errors import ArtifactError
from shared_router.records import ROUTING_KEY
from tests.langchain.fakes import FakeChat
from tests.llamaindex.fakes import FakeLLM
from tests.material import PAIR, by_task, dataset, known_truth, rewrite, three_models

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
NAN, INF = float("nan"), float("inf")
LONG = "x" * 5_000


@pytest.fixture(scope="module")
def by_tasks(tiny_encoder: str, tiny_cache: Path) -> Router:
    """Return a router calibrated on all tasks and within three."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HYBRID_LLM_CACHE", str(tiny_cache))
        router = Router.fit(by_task(120), PAIR, encoder=tiny_encoder)
        return router.calibrate(by_task(160, split="v", seed=1), least_per_task=40)


@pytest.fixture
def folder(by_tasks: Router, tmp_path: Path) -> Path:
    by_tasks.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def edited(folder: Path, place: str, value: Any) -> None:
    """Set one field of the settings, named by its place, and seal the folder again."""
    settings = json.loads((folder / "router.json").read_text())
    *above, last = place.split("/")
    part = settings
    for name in above:
        part = part[int(name) if isinstance(part, list) else name]
    part[last] = value
    rewrite(folder, "router.json", json.dumps(settings).encode())


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        Router.from_pretrained(folder)
    said = str(caught.value)
    assert len(said) < 700
    assert said.isprintable()
    return said


TASK = "calibration/by_task/curves/0"
SETTINGS: list[tuple[str, Any, str]] = [
    ("name", 5, "valid string; got 5"),
    ("name", ["x"], "valid string"),
    ("name", "", "A router needs a non-empty name"),
    ("name", "a\x1b[2Jb", r"no control characters.*got 'a\\x1b\[2Jb'"),
    ("name", "a\u202eb", "no control characters"),
    ("name", "\ud800x", "not JSON"),
    ("name", LONG, "at most 4000 characters; got 5000"),
    ("candidates", [1, 2], "field candidates.0: Input should be a valid string; got 1"),
    ("candidates", "small,large", "valid array"),
    ("candidates", ["", "large"], "non-empty name"),
    ("candidates", ["small"], "at least two candidates"),
    ("candidates", ["small", "small"], "named once"),
    ("candidates", ["small\n", "large"], "no control characters"),
    ("candidates", ["small", "medium", "large"], "a cost per candidate, 3"),
    ("aliases", {"small": ["a\x07"]}, "aliases.small.0: .*no control characters"),
    ("aliases", {"other": ["a"]}, "those of candidates; got 'other'"),
    ("tiers", "yes", "field tiers: .*boolean; got 'yes'"),
    ("labels", "soft", "field labels: .*'gap', 'det', 'prob' or 'trans'; got 'soft'"),
    ("costs_usd", ["a", "b"], "field costs_usd.0: .*number; got 'a'"),
    ("costs_usd", [NAN, 1], "finite and at least 0, or None; got nan"),
    ("costs_usd", [-1, 1], "finite and at least 0"),
    ("costs_usd", [True, 1], "number; got True"),
    ("costs_usd", [2.0, 1.0], "list the dearest model last"),
    ("costs_usd", [1.0], "a cost per candidate, 2; got 1"),
    ("default_dial", {"name": "cost_advantage", "value": NAN}, "between 0 and 1; got nan"),
    ("default_dial", {"name": "threshold", "value": True}, "number; got True"),
    ("default_dial", {"name": "threshold"}, "default_dial.value: Field required"),
    ("max_tokens", "256", "field max_tokens: .*integer; got '256'"),
    ("max_tokens", 0, "greater than or equal to 3; got 0"),
    ("max_tokens", -5, "greater than or equal to 3"),
    ("max_tokens", INF, "integer; got inf"),
    ("max_tokens", 10**9, "less than or equal to 1000000"),
    ("tail_tokens", -1, "greater than or equal to 0"),
    ("tail_tokens", 10_000, "tail_tokens is at most max_tokens"),
    ("features", "length", "valid array"),
    ("retrieval_means", [NAN] * 4, "finite number"),
    ("uses_reference", 1, "boolean; got 1"),
    ("reads_terms", None, "boolean; got None"),
    ("tasks/labels", ["a", "a"], "each stands once"),
    ("tasks/told", [3], "string; got 3"),
    ("calibration", [], "field calibration"),
    ("calibration", None, "needs a calibrated router"),
    ("calibration/n", "x", "field calibration.n: .*integer; got 'x'"),
    ("calibration/n", -5, "greater than or equal to 1"),
    ("calibration/n", 3, "number of calibrated_ids"),
    ("calibration/quality_range", ["a", "b"], "number; got 'a'"),
    ("calibration/quality_range", [0.0, INF], "finite number"),
    ("calibration/quality_range", [1.0, 0.0], "least and its greatest"),
    ("calibration/quality_range", [-1.0, 1.0], "what its own scores and outcomes give"),
    ("calibration/graph_sha256", "?", "pattern"),
    ("calibration/by_task/by", "off", "by is given or predicted"),
    ("calibration/by_task/by", "luck", "'given', 'predicted' or 'off'"),
    ("calibration/by_task/least", 0, "greater than or equal to 1"),
    ("calibration/by_task/too_few", {"a": "3"}, "integer; got '3'"),
    (f"{TASK}/label", 7, "string; got 7"),
    (f"{TASK}/label", "made/good", "each stands once"),
    (f"{TASK}/n", 2, "has a row per query, 2"),
    (f"{TASK}/quality_range", [-9.0, 9.0], "what its own scores and outcomes give"),
    ("fitted_ids", [1], "string; got 1"),
    ("calibrated_ids", "abc", "valid array"),
    ("facts", [], "field facts: .*object"),
    ("facts", None, "field facts: .*object"),
    ("facts", {"training": []}, "training"),
    ("facts", {"notes": {"a": 5}}, "notes"),
]


@pytest.mark.parametrize(("place", "value", "rule"), SETTINGS)
def test_a_wrong_setting_is_named(folder: Path, place: str, value: Any, rule: str) -> None:
    edited(folder, place, value)
    said = refused(folder)
    assert said.startswith(str(folder))
    with pytest.raises(ArtifactError, match=rule):
        raise ArtifactError(said)


def change(name: str, at: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays[name].__setitem__(at, value)


def put(name: str, made: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.update({name: np.ascontiguousarray(made(arrays[name]))})


ARRAYS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "NaN quality": (change("quality", slice(1, None), NAN), "quality holds finite numbers"),
    "one NaN": (change("quality", 3, NAN), "quality holds finite numbers alone; got nan"),
    "NaN thresholds": (change("thresholds", 3, NAN), "thresholds, between its ends, holds finite"),
    "NaN at the start": (change("thresholds", 0, NAN), "from infinite to minus infinite"),
    "NaN shares": (change("cost_advantage", 3, NAN), "cost_advantage holds finite numbers"),
    "reversed": (put("thresholds", lambda x: x[::-1]), "from infinite to minus infinite"),
    "out of order": (change("thresholds", 1, -1e9), "thresholds fall"),
    "short": (put("thresholds", lambda x: np.delete(x, 3)), "a share per threshold"),
    "no line": (put("thresholds", lambda x: x[:0]), "from infinite to minus infinite"),
    "flat": (put("thresholds", lambda x: x[None]), "numbers in 1 dimension"),
    "int8": (put("quality", lambda x: np.zeros(x.shape, np.int8)), "floating-point.*got int8"),
    "shares from 1": (put("cost_advantage", lambda x: x + 0.1), "rises from 0 to 1"),
    "falling shares": (change("cost_advantage", 3, 0.9), "rises from 0 to 1"),
    "too good": (change("quality", 3, 7.0), "quality lies within quality_range, 0 to 1"),
    "doctored": (change("quality", slice(1, None), 1.0), "quality is what its own scores and"),
    "shifted": (change("thresholds", 3, 0.0), "thresholds"),
    "NaN scores": (change("scores", (0, 0), NAN), "scores holds finite numbers"),
    "infinite outcomes": (change("outcomes", (0, 1), INF), "outcomes holds finite numbers"),
    "scores alone": (lambda arrays: arrays.pop("outcomes"), "outcomes is an array"),
    "no quality": (lambda arrays: arrays.pop("quality"), "got no quality"),
    "a column more": (put("outcomes", lambda x: x[:, [0, 0, 1]]), "a column more than scores, 2"),
    "a task's NaN": (change("task 0/quality", 1, NAN), "quality holds finite numbers"),
    "no task": (lambda arrays: arrays.pop("task 1/quality"), "got no task 1/quality"),
}


@pytest.mark.parametrize("edit", ARRAYS)
def test_a_wrong_array_is_named(folder: Path, edit: str) -> None:
    make, rule = ARRAYS[edit]
    arrays = {name: array.copy() for name, array in load_file(folder / CALIBRATION).items()}
    make(arrays)
    rewrite(folder, CALIBRATION, save(arrays))
    with pytest.raises(ArtifactError, match=rule):
        raise ArtifactError(refused(folder))


CALIBRATION = "calibration.safetensors"
TRAIN_MEMORIES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "NaN embeddings": (change("embeddings", (0, 0), NAN), "embeddings holds finite"),
    "one NaN gap": (change("gaps", (0, 0), NAN), "gaps holds finite"),
    "fewer gaps": (put("gaps", lambda x: x[:-1]), "a row per embedding"),
    "no gaps": (lambda arrays: arrays.pop("gaps"), "got no gaps"),
    "integers": (put("embeddings", lambda x: x.astype(np.int32)), "got int32"),
    "none": (put("embeddings", lambda x: x[:0]), "at least one embedding"),
}


@pytest.mark.parametrize("edit", TRAIN_MEMORIES)
def test_a_wrong_train_memory_is_named(folder: Path, edit: str) -> None:
    make, rule = TRAIN_MEMORIES[edit]
    name = "reference.safetensors"
    arrays = {each: array.copy() for each, array in load_file(folder / name).items()}
    make(arrays)
    rewrite(folder, name, save(arrays))
    with pytest.raises(ArtifactError, match=rule):
        raise ArtifactError(refused(folder))


@pytest.mark.parametrize("name", ["router.json", "manifest.json"])
@pytest.mark.parametrize("content", [b"[" * 200_000, b'{"n": ' + b"9" * 5_000 + b"}", b'"\\ud800"'])
def test_json_that_python_cannot_read_is_said(folder: Path, name: str, content: bytes) -> None:
    if name == "router.json":
        rewrite(folder, name, content)
    else:
        (folder / name).write_bytes(content)
    assert name in refused(folder)


@pytest.mark.parametrize(
    ("name", "digest", "rule"),
    [
        (LONG, "0" * 64, "names of at most 255 bytes"),
        ("../x", "0" * 64, "stand in its folder"),
        ("a\0b", "0" * 64, "stand in its folder"),
        ("graph.onnx", 5, "hexadecimal; got 5"),
        ("graph.onnx", "\x1b", "hexadecimal"),
    ],
)
def test_a_wrong_entry_of_the_manifest_is_said(
    folder: Path, name: str, digest: Any, rule: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = digest
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert rule in refused(folder)


@pytest.mark.parametrize("name", ["router.json", "graph.onnx", "tokenizer.json", CALIBRATION])
def test_a_file_the_manifest_does_not_list_is_said(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert f"lists no '{name}'" in refused(folder)


@pytest.mark.parametrize("name", [LONG, "a b/c d", "a/" + "b" * 300])
def test_a_name_that_no_router_can_have_is_said(name: str) -> None:
    with pytest.raises(ArtifactError, match=r"cannot be read|the hub has it not"):
        Router.from_pretrained(name)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "U9"])
def test_numbers_of_a_kind_that_numpy_has_not_are_said(folder: Path, kind: str) -> None:
    size = 4 if kind == "BF16" else 2
    told = {"quality": {"dtype": kind, "shape": [2], "data_offsets": [0, size]}}
    header = json.dumps(told).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(size)
    rewrite(folder, CALIBRATION, content)
    assert CALIBRATION in refused(folder)


@pytest.mark.parametrize("name", [LONG, "a\0b"])
def test_a_folder_that_can_have_no_such_name_is_said(
    by_tasks: Router, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ArtifactError, match="cannot be written"):
        by_tasks.save_pretrained(tmp_path / name)


# -- what shows later -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::shared_router.asking.questions.GuessedQueryWarning")
@pytest.mark.parametrize("name", ["graph.onnx", "tokenizer.json"])
@pytest.mark.parametrize("text", ["hello", "long " * 400])
async def test_a_file_that_fails_at_the_first_call_sends_to_the_reference(
    folder: Path, name: str, text: str
) -> None:
    rewrite(folder, name, b"neither a graph nor a tokenizer")
    sha256 = hashlib.sha256((folder / "graph.onnx").read_bytes()).hexdigest()
    edited(folder, "calibration/graph_sha256", sha256)
    edited(folder, "calibration/tokens_sha256", None)
    read = Router.from_pretrained(folder)
    model = HybridChatModel(
        small=FakeChat(model="small"), large=FakeChat(model="large"), router=read
    )
    llm = HybridLLM(small=FakeLLM(name="small"), large=FakeLLM(name="large"), router=read)
    answers = [model.invoke(text), await model.ainvoke(text)]
    told = [answer.response_metadata[ROUTING_KEY] for answer in answers]
    told += [
        answer.additional_kwargs[ROUTING_KEY]
        for answer in (llm.complete(text), await llm.acomplete(text))
    ]
    assert {(one["candidate"], one["reason"]) for one in told} == {("large", "router_error")}


@pytest.mark.parametrize(
    "facts",
    [{"x": object()}, {"training": {"tasks": []}}, {"notes": 3}, {1: {2: {3}}}],
)
def test_a_router_that_could_not_be_read_again_is_not_saved(
    by_tasks: Router, tmp_path: Path, facts: dict[Any, Any]
) -> None:
    with pytest.raises(ArtifactError, match=r"router\.json: .*facts"):
        dataclasses.replace(by_tasks, facts=facts).save_pretrained(tmp_path / "router")
    assert not (tmp_path / "router").exists()


@pytest.mark.parametrize(
    "facts",
    [{}, {"training": {"n": 5}}, {"calibration": {"data": "half \ud83d an emoji"}}, {"own": [1]}],
)
def test_facts_that_are_not_whole_are_no_obstacle(
    by_tasks: Router, tmp_path: Path, facts: dict[str, Any]
) -> None:
    dataclasses.replace(by_tasks, facts=facts).save_pretrained(tmp_path / "router")
    assert Router.from_pretrained(tmp_path / "router").facts.keys() == facts.keys()


# -- what is still read ---------------------------------------------------------------------------


def test_a_newer_field_is_passed_over(folder: Path) -> None:
    edited(folder, "speed", {"of": "light"})
    edited(folder, "aliases", {"small": ["gpt-5.5-mini", "小さい", "🦙"]})
    arrays = load_file(folder / CALIBRATION) | {"later": np.zeros(3, np.int8)}
    rewrite(folder, CALIBRATION, save(arrays))
    assert Router.from_pretrained(folder).candidates == PAIR


def test_an_older_router_is_read(folder: Path) -> None:
    """Before facts, words, tasks, tails, tiers, kept scores and promises."""
    settings = json.loads((folder / "router.json").read_text())
    for name in ("retrieval_means", "reads_terms", "tasks", "tail_tokens", "tiers"):
        del settings[name]
    settings["features"] = [name for name in settings["features"] if name != "terms"]
    for name in ("by_task", "tokens_sha256", "promises", "probes_spread"):
        del settings["calibration"][name]
    rewrite(folder, "router.json", json.dumps(settings).encode())
    line = ("thresholds", "cost_advantage", "quality")
    arrays = {
        name: array for name, array in load_file(folder / CALIBRATION).items() if name in line
    }
    rewrite(folder, CALIBRATION, save(arrays))
    read = Router.from_pretrained(folder)
    assert INF > read.threshold_of(max_quality_drop=0.1, confidence="estimate") > -INF
    assert read.threshold_of(max_quality_drop=0.1) == INF
    assert read.curve is not None
    assert read.curve.scores is None


KINDS: dict[str, Callable[[str], Router]] = {
    "three, priced": lambda encoder: (
        Router.fit(three_models(80), ["nano", "mini", "maxi"], encoder=encoder)
        .calibrate(three_models(60, split="v", seed=1))
        .with_costs({"nano": 0.0, "mini": 2.0, "maxi": 2.0})
    ),
    "three, det": lambda encoder: Router.fit(
        three_models(80, costs=False), ["nano", "mini", "maxi"], "det", encoder=encoder
    ).calibrate(three_models(60, split="v", seed=1, costs=False)),
    "other models": lambda encoder: Router.fit(
        known_truth(80), PAIR, encoder=encoder
    ).for_candidates(["llama 🦙", "gpt"]),
    "all to the reference": lambda encoder: Router.fit(
        known_truth(80), PAIR, encoder=encoder
    ).calibrate(known_truth(20, split="v"), default=Dial("threshold", INF)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_router_is_read_again(tiny_encoder: str, tmp_path: Path, kind: str) -> None:
    made = KINDS[kind](tiny_encoder)
    made.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    assert (read.candidates, read.costs_usd, read.dial) == (
        made.candidates,
        made.costs_usd,
        made.dial,
    )
    if made.curve is not None and read.curve is not None:
        np.testing.assert_array_equal(read.curve.thresholds, made.curve.thresholds)
    read.save_pretrained(tmp_path / "router")


def test_a_router_by_task_is_read_again(by_tasks: Router, folder: Path) -> None:
    read = Router.from_pretrained(folder)
    assert read.task_curves is not None
    assert by_tasks.task_curves is not None
    assert read.task_curves.curves.keys() == by_tasks.task_curves.curves.keys()
    for task in (None, *read.task_curves.curves):
        assert read.threshold_of(task, max_quality_drop=0.1) == by_tasks.threshold_of(
            task, max_quality_drop=0.1
        )


@pytest.mark.parametrize("task", ["/x", "a//b", "x" * 20_000, "two\nlines"])
def test_whatever_a_task_is_called_its_router_can_be_kept(
    task: str, tiny_encoder: str, in_tiny_cache: Path, tmp_path: Path
) -> None:
    named = [one.model_copy(update={"task": task}) for one in known_truth(60)]
    router = Router.fit(dataset(*named), PAIR, encoder=tiny_encoder, cache=False)
    fresh = known_truth(40, split="validation", seed=1)
    others = [one.model_copy(update={"task": task}) for one in fresh]
    router = router.calibrate(dataset(*others), least_per_task=10)
    router.save_pretrained(tmp_path / "router")
    kept = Router.from_pretrained(tmp_path / "router")
    assert kept.task_curves.curves.keys() == router.task_curves.curves.keys()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"tail_tokens": 3}, "not how this router read texts"),
        ({"max_tokens": 63}, "not how this router read texts"),
        ({"calibrated_ids": ["one"]}, "number of calibrated_ids, 1; got 120"),
    ],
)
def test_a_calibration_belongs_to_how_texts_were_read(
    change: dict[str, Any], rule: str, calibrated: Router, tmp_path: Path
) -> None:
    calibrated.save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "router.json").read_text())
    rewrite(tmp_path, "router.json", json.dumps(settings | change).encode())
    with pytest.raises(ArtifactError, match=rule):
        Router.from_pretrained(tmp_path)


def test_another_tokenizer_than_that_of_the_calibration_is_refused(
    calibrated: Router, tmp_path: Path
) -> None:
    calibrated.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "tokenizer.json").read_text()) | {"pre_tokenizer": None}
    rewrite(tmp_path, "tokenizer.json", json.dumps(described).encode())
    with pytest.raises(ArtifactError, match="not how this router read texts"):
        Router.from_pretrained(tmp_path)


def test_tasks_that_are_predicted_are_told_by_the_text(folder: Path) -> None:
    edited(folder, "tasks/told", [])
    edited(folder, "calibration/by_task/by", "predicted")
    assert "two tasks or more where tasks are predicted" in refused(folder)


def test_a_train_memory_that_is_needed_and_missing_is_said(folder: Path) -> None:
    edited(folder, "uses_reference", value=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["reference.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "uses_reference, and there is no such file" in refused(folder)


def test_a_tokenizer_that_is_no_text_is_said(folder: Path) -> None:
    rewrite(folder, "tokenizer.json", b"\xff\xfe")
    assert "not UTF-8 text" in refused(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_a_file_that_is_none_is_said(folder: Path) -> None:
    (folder / "graph.onnx").unlink()
    os.mkfifo(folder / "graph.onnx")
    assert "graph.onnx" in refused(folder)
