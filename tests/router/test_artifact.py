"""A router as a folder: round trips, refusals, and what must not stand in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file

from shared_router import Router
from shared_router.errors import ArtifactError, ConfigurationError
from shared_router.router.read import read_folder
from tests.material import EASY, HARD, PAIR, known_truth, rewrite

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("in_tiny_cache")
TEXTS = [*EASY, *HARD]


@pytest.fixture
def folder(calibrated: Router, tmp_path: Path) -> Path:
    """Return the folder of a saved router."""
    calibrated.save_pretrained(tmp_path / "router")
    return tmp_path / "router"


def test_a_round_trip_changes_nothing(calibrated: Router, folder: Path) -> None:
    read = Router.from_pretrained(folder)
    assert read.score(TEXTS).tobytes() == calibrated.score(TEXTS).tobytes()
    for name in ("candidates", "labels", "name", "version", "dial", "facts", "costs_usd"):
        assert getattr(read, name) == getattr(calibrated, name)
    assert read.fitted_ids == calibrated.fitted_ids
    assert read.calibrated_ids == calibrated.calibrated_ids
    for name in ("thresholds", "cost_advantage", "quality"):
        np.testing.assert_array_equal(getattr(read.curve, name), getattr(calibrated.curve, name))


@pytest.mark.parametrize(
    "dial", [{}, {"cost_advantage": 0.3}, {"max_quality_drop": 0.1}, {"threshold": -0.2}]
)
def test_decisions_are_the_same_after_a_round_trip(
    calibrated: Router, folder: Path, dial: dict[str, float]
) -> None:
    read = Router.from_pretrained(folder)
    for text in TEXTS:
        one, same = (
            router.decide(text, **dial).model_dump(exclude={"latency_ms"})
            for router in (calibrated, read)
        )
        assert one == same


def test_evaluation_is_the_same_after_a_round_trip(calibrated: Router, folder: Path) -> None:
    data = known_truth(40, split="v", seed=6)
    found = [
        r.evaluate(data, resamples=3).to_dict()
        for r in (calibrated, Router.from_pretrained(str(folder)))
    ]
    assert found[0] == found[1]


def test_an_uncalibrated_router_round_trips(fitted: Router, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    assert (read.curve, read.default_dial) == (None, None)
    assert read.score(TEXTS).tobytes() == fitted.score(TEXTS).tobytes()


@pytest.mark.parametrize("labels", ["gap", "det"])
def test_a_router_with_neighbours_round_trips(
    tiny_encoder: str, tmp_path: Path, labels: str
) -> None:
    """More than 100 train queries, repeated in kind, so that neighbours are worth something."""
    router = Router.fit(known_truth(220, seed=3), PAIR, labels=labels, encoder=tiny_encoder)  # type: ignore[arg-type]
    router.save_pretrained(tmp_path / "router")
    read = Router.from_pretrained(tmp_path / "router")
    assert read.score(TEXTS).tobytes() == router.score(TEXTS).tobytes()
    assert (read.train_memory is None) == (router.train_memory is None)


def test_an_own_router_is_replaced_whole(calibrated: Router, fitted: Router, folder: Path) -> None:
    fitted.save_pretrained(folder)
    assert Router.from_pretrained(folder).curve is None
    assert not (folder / "calibration.safetensors").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["router"]


def test_a_router_read_from_a_folder_can_be_calibrated_into_it(folder: Path) -> None:
    read = Router.from_pretrained(folder)
    data = known_truth(60, split="v", seed=7)
    read.calibrate(data).save_pretrained(folder)
    assert Router.from_pretrained(folder).calibrated_ids == set(data.ids)


def test_an_empty_folder_is_filled(fitted: Router, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fitted.save_pretrained(tmp_path / "empty")
    assert Router.from_pretrained(tmp_path / "empty").name == fitted.name


@pytest.mark.parametrize("name", ["notes.txt", "manifest.json"])
def test_a_foreign_folder_is_left_alone(fitted: Router, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"name": "a web application"}')
    with pytest.raises(ArtifactError, match=rf"no router \({name}\), and would be deleted"):
        fitted.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_users_file_beside_the_router_is_not_deleted(fitted: Router, folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"notes\.txt"):
        fitted.save_pretrained(folder)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_left_alone(fitted: Router, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ArtifactError, match="a file; choose"):
        fitted.save_pretrained(tmp_path / "file")
    with pytest.raises(ArtifactError, match="cannot be written"):
        fitted.save_pretrained(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "mine"


# -- what cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["graph.onnx", "tokenizer.json", "router.json", "calibration.safetensors", "README.md"]
)
def test_a_changed_truncated_or_missing_file_is_said(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        path.write_bytes(broken)
        with pytest.raises(ArtifactError, match=rf"{name}: corrupt or changed \(SHA-256"):
            Router.from_pretrained(folder)
    path.unlink()
    with pytest.raises(ArtifactError, match=f"'{name}' is missing; copy the whole folder"):
        Router.from_pretrained(folder)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"format": "hybrid-llm-router"}', "\xff"]
)
def test_a_broken_manifest_is_said(folder: Path, content: str) -> None:
    (folder / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"manifest\.json: (corrupt, )?not a router"):
        Router.from_pretrained(folder)


def test_another_programs_manifest_is_said(tmp_path: Path) -> None:
    foreign = {"format": "other", "format_version": 1, "sha256": {}}
    (tmp_path / "manifest.json").write_text(json.dumps(foreign))
    with pytest.raises(ArtifactError, match="not a router of hybrid-llm"):
        Router.from_pretrained(tmp_path)


def test_a_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 2}))
    with pytest.raises(ArtifactError, match=r"format version 2, newer than 1.*upgrade"):
        Router.from_pretrained(folder)


def test_a_folder_without_a_router_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no router here"):
        Router.from_pretrained(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="no router here"):
        Router.from_pretrained(tmp_path / "file")


@pytest.mark.parametrize("name", ["nowhere", "./no/where", "/no/where", "a/b/c"])
def test_a_folder_that_is_not_there_is_said(name: str) -> None:
    with pytest.raises(ArtifactError, match="no such folder, and not a hub name"):
        Router.from_pretrained(name)


def test_a_hub_name_that_cannot_be_reached_is_said() -> None:
    with pytest.raises(ArtifactError, match="no such folder, and the hub has it not or cannot be"):
        Router.from_pretrained("nobody/no-such-router")


@pytest.mark.skipif(os.name == "nt", reason="no such limit there")
@pytest.mark.parametrize("more", [0, 1, 3])
def test_files_that_are_there_and_cannot_be_opened_are_not_missing(folder: Path, more: int) -> None:
    import resource

    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, limits[1]))
    try:
        with pytest.raises(ArtifactError, match=r"cannot be read \(Too many open files\)"):
            read_folder(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_path_out_of_the_folder_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["../outside"] = hashlib.sha256(b"").hexdigest()
    (folder.parent / "outside").write_bytes(b"")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="outside"):
        Router.from_pretrained(folder)


def test_a_swapped_graph_is_said(folder: Path, tiny_encoder: str, tmp_path: Path) -> None:
    other = Router.fit(known_truth(40, seed=11), PAIR, encoder=tiny_encoder)
    other.save_pretrained(tmp_path / "other")
    rewrite(folder, "graph.onnx", (tmp_path / "other" / "graph.onnx").read_bytes())
    with pytest.raises(ArtifactError, match="not the graph this router was calibrated with"):
        Router.from_pretrained(folder)


def test_a_graph_replaced_after_loading_is_never_mixed_up(
    calibrated: Router, folder: Path, tiny_encoder: str
) -> None:
    """Sessions open with the first query; another router may be saved there before."""
    read = Router.from_pretrained(folder)
    Router.fit(known_truth(40, seed=11), PAIR, encoder=tiny_encoder).save_pretrained(folder)
    assert read.score(TEXTS).tobytes() == calibrated.score(TEXTS).tobytes()
    assert read.decide("q").reason == "score"
    assert Router.from_pretrained(folder).version != read.version


EDITS: dict[str, dict[str, object]] = {
    "other features": {"features": ["length"]},
    "no candidates": {"candidates": None},
    "one candidate": {"candidates": ["small"]},
    "impossible dial": {"default_dial": {"name": "cost_advantage", "value": 7}},
    "unknown dial": {"default_dial": {"name": "speed", "value": 1}},
    "bad range": {"calibration": {"n": 3, "quality_range": [1], "graph_sha256": "?"}},
    "labels": {"labels": "soft"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_settings_edited_into_nonsense_are_refused(folder: Path, edit: str) -> None:
    settings = json.loads((folder / "router.json").read_text()) | EDITS[edit]
    rewrite(folder, "router.json", json.dumps(settings).encode())
    with pytest.raises(ArtifactError):
        Router.from_pretrained(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"{", b"\xff"])
def test_settings_that_are_no_settings_are_refused(folder: Path, content: bytes) -> None:
    rewrite(folder, "router.json", content)
    with pytest.raises(ArtifactError):
        Router.from_pretrained(folder)


@pytest.mark.parametrize("name", ["calibration.safetensors", "reference.safetensors"])
def test_arrays_that_are_none_are_refused(folder: Path, name: str) -> None:
    rewrite(folder, name, b"no arrays")
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        Router.from_pretrained(folder)


# -- what stands in it --------------------------------------------------------------------------


def test_the_files_are_onnx_safetensors_json_and_a_card(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "graph.onnx",
        "tokenizer.json",
        "router.json",
        "manifest.json",
        "calibration.safetensors",
        "out_of_fold.safetensors",
        "reference.safetensors",
        "README.md",
    }
    for path in folder.iterdir():
        assert not path.read_bytes().startswith((b"\x80\x04\x95", b"\x80\x05\x95", b"PK"))


def test_no_query_stands_in_any_file(folder: Path) -> None:
    queries = [*known_truth(150).queries, *known_truth(120, split="validation", seed=1).queries]
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not any(query.encode() in content for query in queries)


def test_the_reference_is_half_precision(folder: Path) -> None:
    kept = load_file(folder / "reference.safetensors")
    assert kept["embeddings"].dtype == np.float16
    assert kept["embeddings"].shape == (150, 16)
    quality = known_truth(150).quality(PAIR)
    np.testing.assert_allclose(kept["gaps"], quality[:, :1] - quality[:, 1:], atol=1e-6)


def test_the_card_holds_measured_facts(calibrated: Router, folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for name, quality in calibrated.facts["training"]["mean_quality"].items():
        assert f"| `{name}` | {quality:.4f} |" in card
    assert "150 queries of truth-train" in card
    assert "120 queries of truth-validation, none of them fitted on" in card
    assert calibrated.version in card
    assert "`max_quality_drop=0.05`" in card
    assert f"| 1.000 | {calibrated.curve.quality[-1]:.4f} |" in card  # type: ignore[union-attr]


def test_the_card_of_an_uncalibrated_router_says_so(fitted: Router, tmp_path: Path) -> None:
    fitted.save_pretrained(tmp_path / "router")
    assert (
        "None: only `threshold` can be dialled" in (tmp_path / "router" / "README.md").read_text()
    )


HUB = '''
    """Upload to a hub of our own on the loopback, and print what it received."""
    import base64, json, os, sys, threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    received = {"paths": [], "files": {}}

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            received["paths"].append(self.path)
            home = os.environ["HF_ENDPOINT"] + "/me/router"
            answer = {"url": home, "id": "me/router", "name": "me/router"}
            if "/preupload/" in self.path:
                files = json.loads(body)["files"]
                answer = {"files": [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                    for f in files
                ]}
            elif "/commit/" in self.path:
                for line in body.splitlines():
                    entry = json.loads(line)
                    if entry["key"] == "file":
                        content = base64.b64decode(entry["value"]["content"])
                        received["files"][entry["value"]["path"]] = len(content)
                    elif entry["key"] == "header":
                        received["summary"] = entry["value"]["summary"]
                answer = {"commitUrl": home + "/commit/abc", "commitOid": "abc",
                          "success": True, "hookOutput": ""}
            elif "validate-yaml" in self.path:
                answer = {"errors": [], "warnings": []}
            self._answer(answer)

        def do_GET(self):
            received["paths"].append(self.path)
            self._answer({"id": "me/router", "sha": "abc", "siblings": []})

        def _answer(self, answer):
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_TOKEN="hf_test",
                      HF_HUB_OFFLINE="0", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_XET="1",
                      NO_PROXY="127.0.0.1")
    from shared_router import Router

    router = Router.from_pretrained(sys.argv[1])
    received["url"] = router.push_to_hub("me/router", private=True, commit_message="First")
    print(json.dumps(received))
'''


def test_a_router_is_pushed_to_the_hub_whole(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(HUB), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    received = json.loads(done.stdout.splitlines()[-1])
    assert received["files"] == {path.name: path.stat().st_size for path in folder.iterdir()}
    assert received["url"].endswith("/me/router/commit/abc")
    assert received["summary"] == "First"
    assert received["paths"][0] == "/api/repos/create"


def test_pushing_a_scorer_that_is_no_graph_is_refused() -> None:
    from shared_router.testing import fixed_router

    with pytest.raises(ConfigurationError, match="Only a fitted router can be saved"):
        fixed_router().push_to_hub("me/router")
