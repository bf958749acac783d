"""A router that looks at answers, as a folder: round trips, copies, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from shared_router import Router
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.serving.answers import Answered
from shared_router.serving.second_look import Pairs, SecondLook
from shared_router.testing import FixedAnswerScorer
from tests.material import rewrite
from tests.router.test_second_look import looks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared_router import RoutingDataset

pytestmark = pytest.mark.usefixtures("in_tiny_cache")


def given(data: RoutingDataset, at: int = 0) -> Answered:
    own = data.records[at].outcomes["small"]
    assert own.response is not None
    assert own.logprobs is not None
    return Answered(data.records[at].query, own.response[0], own.logprobs[0])


def pickled(router: Router) -> Router:
    again = pickle.loads(pickle.dumps(router))  # noqa: S301
    assert isinstance(again, Router)
    return again


# -- in a folder --------------------------------------------------------------------------------


@pytest.fixture
def folder(calibrated_looking: Router, tmp_path: Path) -> Path:
    calibrated_looking.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def assert_same(read: Router, router: Router, data: RoutingDataset) -> None:
    """Check that two routers look alike."""
    own, same = looks_of(router), looks_of(read)
    asked = [given(data, at) for at in range(20)]
    assert same.scorer.score(asked).tobytes() == own.scorer.score(asked).tobytes()
    for name in ("width", "after", "pays", "settings", "facts"):
        assert getattr(same, name) == getattr(own, name)
    assert same.scorer.needs_logprobs == own.scorer.needs_logprobs
    assert own.pairs is not None
    assert same.pairs is not None
    for name in ("scores", "answers", "outcomes"):
        np.testing.assert_array_equal(getattr(same.pairs, name), getattr(own.pairs, name))
    if own.line is None:
        assert same.line is None
        return
    assert same.line is not None
    assert own.line.promises is not None
    assert same.line.promises is not None
    one, two = own.line.promises.whole, same.line.promises.whole
    np.testing.assert_array_equal(two.thresholds, one.thresholds)
    np.testing.assert_array_equal(two.looks[0].upper, one.looks[0].upper)
    assert same.line.promises.labels == own.line.promises.labels
    for name in ("thresholds", "quality", "scores", "outcomes"):
        np.testing.assert_array_equal(getattr(same.line.curve, name), getattr(own.line.curve, name))
    assert own.probes is not None
    assert same.probes is not None
    np.testing.assert_array_equal(same.probes.scores, own.probes.scores)
    assert same.probes.spread == own.probes.spread
    for text in data.queries[:20]:
        told = [each.decide(text, max_quality_drop=0.05) for each in (router, read)]
        one_, two_ = (each.model_dump(exclude={"latency_ms"}) for each in told)
        assert one_ == two_


def test_a_round_trip_changes_nothing(
    calibrated_looking: Router, folder: Path, measured_answers: RoutingDataset
) -> None:
    assert_same(Router.from_pretrained(folder), calibrated_looking, measured_answers)


def test_an_uncalibrated_router_round_trips(
    fitted_looking: Router, measured_answers: RoutingDataset, tmp_path: Path
) -> None:
    fitted_looking.save_pretrained(tmp_path / "router")
    assert_same(Router.from_pretrained(tmp_path / "router"), fitted_looking, measured_answers)


def test_a_line_without_looks_alone_round_trips(
    fitted_looking: Router, measured_answers: RoutingDataset, tmp_path: Path
) -> None:
    for serves in (False, True):
        router = fitted_looking.calibrate(measured_answers, second_look=serves)
        router.save_pretrained(tmp_path / "router")
        read = Router.from_pretrained(tmp_path / "router")
        assert (looks_of(read).line is None) == (not serves)
        assert (read.promises is None) == serves


@pytest.mark.parametrize("copied", [pickled, copy.deepcopy])
def test_a_copy_looks_alike(
    calibrated_looking: Router, measured_answers: RoutingDataset, copied: Callable[[Router], Router]
) -> None:
    assert_same(copied(calibrated_looking), calibrated_looking, measured_answers)


def test_a_router_read_again_is_calibrated_again(
    folder: Path, measured_answers: RoutingDataset, tmp_path: Path
) -> None:
    again = Router.from_pretrained(folder).calibrate(measured_answers)
    line = looks_of(again).line
    assert line is not None
    assert line.promises is not None
    assert line.promises.look == 2
    assert len(line.promises.whole.looks) == 2
    again.save_pretrained(tmp_path / "again")
    assert_same(Router.from_pretrained(tmp_path / "again"), again, measured_answers)


def test_no_answer_stands_in_the_folder(folder: Path) -> None:
    held = b"".join(path.read_bytes() for path in folder.iterdir())
    for word in (b"Perhaps it is", b"It is 7", b"The answer is"):
        assert word not in held


def test_older_routers_look_at_nothing() -> None:
    older = sorted((Path(__file__).parent / "older_routers").glob("*/*/"))
    assert older
    for folder in older:
        router = Router.from_pretrained(folder)
        assert router.second_look is None
        with pytest.raises(ConfigurationError, match="needs a router with a scorer of answers"):
            router.decide("greet the visitor", second_look=True)


def test_a_scorer_of_answers_that_is_no_graph_is_not_saved(
    fitted_looking: Router, tmp_path: Path
) -> None:
    other = replace(looks_of(fitted_looking), scorer=FixedAnswerScorer(0.0))
    with pytest.raises(ConfigurationError, match="FixedAnswerScorer"):
        replace(fitted_looking, second_look=other).save_pretrained(tmp_path / "router")


# -- files from a stranger ----------------------------------------------------------------------


def nan_last(array: Any) -> Any:
    spoilt = array.copy()
    spoilt.flat[-1] = math.nan
    return spoilt


def spoil(folder: Path, file: str, name: str, value: Callable[[Any], Any]) -> None:
    arrays = load_file(folder / file)
    arrays[name] = value(arrays[name])
    rewrite(folder, file, save(arrays))


def test_another_graph_of_answers_is_refused(
    folder: Path, three_looking: Router, tmp_path: Path
) -> None:
    three_looking.save_pretrained(tmp_path / "other")
    rewrite(folder, "answer.onnx", (tmp_path / "other" / "answer.onnx").read_bytes())
    with pytest.raises(ArtifactError, match=r"answer\.onnx.*calibrate it\s+again"):
        Router.from_pretrained(folder)


def test_a_changed_graph_of_answers_is_refused(folder: Path) -> None:
    with (folder / "answer.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ArtifactError, match=r"answer\.onnx: corrupt or changed"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize("name", ["answer.onnx", "answers.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=name.replace(".", r"\.")):
        Router.from_pretrained(folder)


def test_a_graph_that_no_manifest_lists_is_named(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]["answer.onnx"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"lists no 'answer\.onnx'"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scores", nan_last),
        ("answers", nan_last),
        ("outcomes", nan_last),
        ("answers", lambda array: array[:-1].copy()),
        ("answers", lambda array: np.hstack([array, array])),
        ("answers", lambda array: array[:, 0].copy()),
        ("outcomes", lambda array: array[:, :1].copy()),
        ("outcomes", lambda array: np.hstack([array, array])),
    ],
)
def test_spoilt_pairs_are_refused(folder: Path, name: str, value: Callable[[Any], Any]) -> None:
    spoil(folder, "answers.safetensors", name, value)
    with pytest.raises(ArtifactError, match=r"answers\.safetensors"):
        Router.from_pretrained(folder)


def test_pairs_of_other_candidates_are_refused(folder: Path) -> None:
    arrays = load_file(folder / "answers.safetensors")
    doubled = {name: np.hstack([array, array[:, :1]]) for name, array in arrays.items()}
    rewrite(folder, "answers.safetensors", save(doubled))
    with pytest.raises(ArtifactError, match="a column per candidate, 2; got 3"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize("names", [["scores"], ["outcomes"], ["scores", "answers", "outcomes"]])
def test_missing_pairs_are_named(folder: Path, names: list[str]) -> None:
    arrays = load_file(folder / "answers.safetensors")
    kept = {name: array for name, array in arrays.items() if name not in names}
    rewrite(folder, "answers.safetensors", save(kept))
    with pytest.raises(ArtifactError, match=f"got no {names[0]}"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("looks scores", nan_last),
        ("looks quality", nan_last),
        ("looks quality", lambda array: array[::-1].copy()),
        ("looks thresholds", lambda array: array[:-1].copy()),
        ("looks outcomes", lambda array: 1 - array),
        ("looks promise 0/thresholds", nan_last),
        ("looks promise 0/shares", lambda array: array[:-1].copy()),
        ("looks promise 0/look 0/upper", nan_last),
        ("looks promise 0/look 0/upper", lambda array: -array),
        ("looks promise 0/look 0/upper_relative", lambda array: array[:, :2].copy()),
        ("looks probes", nan_last),
        ("looks probes", lambda array: array[:, :0].copy()),
    ],
)
def test_a_spoilt_line_is_refused(folder: Path, name: str, value: Callable[[Any], Any]) -> None:
    spoil(folder, "calibration.safetensors", name, value)
    with pytest.raises(ArtifactError, match=r"calibration\.safetensors"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize(
    "name",
    [
        "looks thresholds",
        "looks quality",
        "looks promise 0/thresholds",
        "looks promise 0/look 0/upper",
        "looks probes",
    ],
)
def test_a_missing_array_of_the_line_is_named(folder: Path, name: str) -> None:
    arrays = load_file(folder / "calibration.safetensors")
    del arrays[name]
    rewrite(folder, "calibration.safetensors", save(arrays))
    with pytest.raises(ArtifactError, match=name):
        Router.from_pretrained(folder)


def test_a_scorer_of_other_numbers_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "router.json").read_text())
    settings["second_look"]["numbers"].pop()
    rewrite(folder, "router.json", json.dumps(settings).encode())
    with pytest.raises(ArtifactError, match="was fitted with other numbers than this hybrid-llm"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"width": -0.1},
        {"width": "wide"},
        {"after": 0.5},
        {"settings": {"temperature": "hot"}},
        {"line": {"n": 3}},
    ],
)
def test_settings_that_make_no_sense_are_refused(folder: Path, change: dict[str, Any]) -> None:
    settings = json.loads((folder / "router.json").read_text())
    settings["second_look"] |= change
    rewrite(folder, "router.json", json.dumps(settings).encode())
    with pytest.raises(ArtifactError, match=r"router\.json"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
def test_a_band_is_a_finite_number(value: float) -> None:
    with pytest.raises(ConfigurationError, match="width is a finite number of at least 0"):
        SecondLook(scorer=FixedAnswerScorer(), width=value)


def test_pairs_fit_each_other() -> None:
    one = np.zeros((3, 1))
    with pytest.raises(ConfigurationError, match="a column more of outcomes"):
        Pairs(one, one, one)
