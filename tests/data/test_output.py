"""Files are written whole or not at all, whatever happens, and replaced only when told to."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from shared_router import RoutingDataset
from shared_router.data import scratch
from shared_router.data.output import replacing, write_whole
from shared_router.data.targets import check_output
from shared_router.errors import DataError
from tests.material import known_truth

FULL_DISK = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as a full disk: an error, no signal
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, 3_000))
from shared_router import HybridRoutingError, RoutingDataset
try:
    RoutingDataset.load(sys.argv[1]).save(sys.argv[1])
except HybridRoutingError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("name", ["data.jsonl", "data.jsonl.gz"])
def test_a_full_disk_leaves_the_older_data_file(tmp_path, name):
    path = tmp_path / name
    known_truth(400).save(path)
    before = path.read_bytes()
    assert len(before) > 3_000
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert done.stderr.startswith(f"DataError: {path}: cannot be written (File too large). Make")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_saving_where_nothing_can_be_written_is_told(tmp_path):
    for path in (tmp_path, tmp_path / "none" / "data.jsonl"):
        with pytest.raises(DataError, match="cannot be written"):
            known_truth(3).save(path)


def test_an_empty_data_set_is_saved_as_it_is(tmp_path):
    path = tmp_path / "data.jsonl"
    known_truth(3).save(path)
    RoutingDataset(()).save(path)
    assert path.read_bytes() == b""


def test_a_link_stays_and_what_it_points_at_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "data.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(real)
    for count in (2, 3):
        known_truth(count).save(link)
        assert link.is_symlink()
        assert len(RoutingDataset.load(real)) == count
    assert list(real.parent.iterdir()) == [real]


def test_permissions_stay(tmp_path):
    path = tmp_path / "data.jsonl"
    known_truth(2).save(path)
    path.chmod(0o640)
    known_truth(3).save(path)
    assert path.stat().st_mode & 0o777 == 0o640


def test_write_protection_is_heeded():
    mine = os.geteuid()
    if mine == 0:  # root may write everywhere
        os.seteuid(65534)
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.jsonl"
            known_truth(2).save(path)
            path.chmod(0o444)
            with pytest.raises(DataError, match=r"cannot be written \(Permission denied\)"):
                known_truth(3).save(path)
            assert len(RoutingDataset.load(path)) == 2
    finally:
        os.seteuid(mine)


@pytest.mark.skipif(os.name == "nt", reason="devices are files there")
def test_a_device_is_written_to_and_never_replaced(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"through a pipe")
    reader.join(60)
    assert read == [b"through a pipe"]
    assert pipe.is_fifo()


def test_two_threads_at_one_file_never_mix(tmp_path):
    path = tmp_path / "data.jsonl"
    sets = [known_truth(count) for count in (150, 151)]

    def save(data):
        for _ in range(10):
            data.save(path)

    threads = [threading.Thread(target=save, args=(data,)) for data in sets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(RoutingDataset.load(path)) in (150, 151)
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"older"))
    with pytest.raises(TypeError), replacing(path) as lines:
        lines.writelines(["newer", 7])
    assert gzip.decompress(path.read_bytes()) == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_making_that_someone_removed_is_told(tmp_path):
    path = tmp_path / "data.jsonl"

    def save():
        with replacing(path) as lines:
            lines.write("mine\n")
            next(tmp_path.iterdir()).unlink()

    with pytest.raises(DataError, match=r"another program removed \.hybrid-llm-"):
        save()
    with replacing(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_what_dead_writers_of_this_file_left_is_cleared(tmp_path, monkeypatch):
    path = tmp_path / "data.jsonl"
    dead = scratch._name(path, 999_999_999)
    other = scratch._name(tmp_path / "other.jsonl", 999_999_999)
    monkeypatch.setattr(scratch, "_place", lambda: "0123abcd")
    elsewhere = scratch._name(path, 999_999_999)
    monkeypatch.undo()
    stay = {other, elsewhere, ".20240101.data.jsonl", ".999999999~0.data.jsonl", ".1.data.jsonl"}
    for name in (dead, *stay):
        (tmp_path / name).write_text("hours of work")
    known_truth(2).save(path)
    assert {left.name for left in tmp_path.iterdir()} == {*stay, "data.jsonl"}


@pytest.mark.parametrize("name", ["d" * 249 + ".jsonl", "ü" * 122 + ".jsonl.gz"])
def test_long_names_are_saved(tmp_path, name):
    path = tmp_path / name
    for count in (2, 3):
        known_truth(count).save(path)
    assert len(RoutingDataset.load(path)) == 3
    assert path.read_bytes().startswith(b"\x1f\x8b") == name.endswith(".gz")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.jsonl", "out.v2.jsonl.gz", "ü" * 120 + ".jsonl", "out"])
def test_what_may_not_be_put_in_place_at_the_end_is_kept_beside(tmp_path, name):
    path = tmp_path / name

    def save(text):
        with replacing(path, about_to=lambda _: check_output(path, [], force=False)) as lines:
            lines.write(text)
            path.write_text("theirs")

    for number in (1, 2):
        with pytest.raises(DataError, match=rf"not replaced.*What was made is in .*-{number}\."):
            save(str(number))
    kept = sorted(left for left in tmp_path.iterdir() if left != path)
    opened = gzip.open if name.endswith(".gz") else open
    for number, left in enumerate(kept, 1):
        with opened(left, "rt") as lines:
            assert lines.read() == str(number)
    assert path.read_text() == "theirs"


# -- the rule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ('{"id": "a", "query": "q", "outcomes": {}}\n', "holds a data file;"),
        ('{"id": "a", "candidate": "m", "scores": {}, "router": "1"}\n', "an output of score;"),
        ("mine\n", "a file of another kind;"),
        ("[" * 100_000, "a file of another kind;"),
        ('"id"\n', "a file of another kind;"),
    ],
)
def test_what_stands_there_is_told_and_stays(tmp_path, content, held):
    out = tmp_path / "out.jsonl"
    out.write_text(content)
    with pytest.raises(DataError, match=rf"{held} it is not replaced.*--force \(force=True\)"):
        check_output(out, [], force=False)
    check_output(out, [], force=True)
    out.write_text("")
    check_output(out, [], force=False)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_read_is_never_the_output(tmp_path, force):
    read = tmp_path / "in.jsonl"
    read.write_text("mine")
    (tmp_path / "link").symlink_to(read)
    (tmp_path / "hard").hardlink_to(read)
    for name in ("in.jsonl", "link", "hard"):
        with pytest.raises(DataError, match="is the file that is read"):
            check_output(tmp_path / name, [read], force=force)
    for other in (tmp_path, Path("/dev/null")):
        with pytest.raises(DataError, match="no regular file"):
            check_output(other, [read], force=force)


def test_free_names_are_names_that_a_folder_can_hold(tmp_path):
    names = scratch.free_names(tmp_path / ("ü" * 124 + ".jsonl.gz"), ".jsonl.gz")
    first, second = (next(names).name for _ in range(2))
    assert first.endswith("-1.jsonl.gz")
    assert second.endswith("-2.jsonl.gz")
    assert len(os.fsencode(second)) <= 255


def test_a_scratch_that_is_gone_is_nobodys_to_clear(tmp_path):
    elsewhere = tmp_path / scratch._name(tmp_path / "data.jsonl", 1).replace(
        scratch._place(), "0" * 8
    )
    assert not scratch.is_left_behind(elsewhere)
