"""The Ray runner on a real cluster of two nodes: the same records, also where a worker dies."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from shared_router.bulk import ray_runner
from shared_router.bulk.judge import judge_file
from shared_router.bulk.ray_runner import Attempts, RayRunner, bundles
from shared_router.bulk.rows import QueryRows
from shared_router.bulk.score import score_file
from shared_router.collecting.right_answers import AnswersFile, FirstResponseOf
from shared_router.errors import (
    ConfigurationError,
    DataError,
    HybridRoutingError,
    MissingExtraError,
)
from shared_router.judging.overlap import RougeL
from shared_router.testing import fixed_router
from tests.bulk.conftest import failed, lines_of, row
from tests.bulk.judging import USD, Paid, asked_in, material
from tests.bulk.killing import complete
from tests.material import write_lines

pytestmark = [
    pytest.mark.skipif(find_spec("ray") is None, reason="the extra 'ray' is not installed"),
    # Of Ray itself, when its settings are first made.
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning:ray.data.context"),
]
LONGEST_S = 120.0
"""Seconds until a test that waits gives up; nothing is asserted of how long it took."""


@pytest.fixture(scope="module", autouse=True)
def on_loopback(repository):
    """Keep Ray on 127.0.0.1, which it decides when it is imported."""
    own = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # to Ray, a machine of its own
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(repository),  # the workers import this package, and the tests' fakes
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def cluster(on_loopback):
    """Start two nodes of one core each, which are busy until they are stopped."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    started = until_started(lambda: Cluster(initialize_head=True, head_node_args=node))
    until_started(lambda: started.add_node(num_cpus=1, node_ip_address="127.0.0.1"))
    yield started
    started.shutdown()


TOO_BUSY = "timed out during startup"
"""What Ray says of a machine that gives it no processor for 30 s."""


def until_started(start):
    """Try three times: how busy the machine is says nothing of this package."""
    for attempt in range(3):
        try:
            return start()
        except Exception as error:
            if TOO_BUSY not in str(error) or attempt == 2:
                raise
    return None


@pytest.fixture
def runner(cluster):
    """Join the cluster."""
    return RayRunner(2, cluster.address)


class Gate:
    """Lets work begin, then holds it until a worker was killed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def pass_(self, number: int) -> None:
        """Hold records from number 30 on."""
        if number < 30:
            return
        (self._folder / f"held-{os.getpid()}").touch()
        end_s = time.monotonic() + LONGEST_S
        while not (self._folder / "killed").exists() and time.monotonic() < end_s:
            time.sleep(0.02)


@dataclass(frozen=True)
class GatedScorer:
    """A real router's scorer behind a gate."""

    scorer: object
    gate: Gate

    def score(self, texts):
        """Score, once the gate is open."""
        self.gate.pass_(int(texts[0].rpartition(" ")[2]))
        return self.scorer.score(texts)


class GatedMetric(RougeL):
    """A real metric behind a gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def score(self, query, response, answer):
        """Score, once the gate is open."""
        self._gate.pass_(int(query.removeprefix("question ").removesuffix("?")))
        return super().score(query, response, answer)


class Killer(threading.Thread):
    """Kills a held worker once some results have arrived: work is done, and work remains."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.arrived, self.over = folder, threading.Event(), threading.Event()
        self.killed: list[int] = []

    def see(self, now):
        """Take note of progress."""
        self.arrived.set()

    def run(self):
        """Wait for results and for a held worker, kill it, and open the gate."""
        self.arrived.wait(LONGEST_S)
        while not (held := sorted(self.folder.glob("held-*"))) and not self.over.wait(0.02):
            pass
        for name in held[:1]:
            self.killed.append(int(name.name.removeprefix("held-")))
            os.kill(self.killed[0], signal.SIGKILL)
        (self.folder / "killed").touch()


@pytest.fixture
def killer(tmp_path):
    folder = tmp_path / "gate"
    folder.mkdir()
    thread = Killer(folder)
    thread.start()
    yield thread
    thread.arrived.set()
    thread.over.set()
    thread.join()


def test_scores_are_those_of_the_local_engine_though_a_worker_is_killed(
    calibrated, log, runner, killer
):
    gated = dataclasses.replace(
        calibrated, scorer=GatedScorer(calibrated.scorer, Gate(killer.folder))
    )
    out, local = log.parent / "ray.jsonl", log.parent / "local.jsonl"
    report = score_file(gated, log, out, runner=runner, progress=killer.see)
    score_file(gated, log, local)
    assert killer.killed
    assert out.read_bytes() == local.read_bytes()
    assert (report.queries, report.failed) == (90, 0)


def test_qualities_are_those_of_the_local_engine_though_a_worker_is_killed(
    tmp_path, runner, killer
):
    data = write_lines(tmp_path / "data.jsonl", [row(i) for i in range(90)])
    answers = write_lines(
        tmp_path / "a.jsonl", [{"id": f"q{i}", "answer": f"answer {i}"} for i in range(89)]
    )
    gate, made = Gate(killer.folder), tmp_path / "made"

    def make():
        with made.open("a") as lines:
            lines.write(f"{os.getpid()}\n")
        return GatedMetric(gate)

    out, local = tmp_path / "ray.jsonl.gz", tmp_path / "local.jsonl.gz"
    texts = AnswersFile(answers)
    report = judge_file(data, out, make, texts=texts, runner=runner, progress=killer.see)
    same = judge_file(data, local, make, texts=texts)
    assert killer.killed
    assert lines_of(out) == lines_of(local)
    assert lines_of(report.failures) == lines_of(same.failures)
    assert (report.records, report.failed, report.quality) == (89, 1, same.quality)
    here, pids = str(os.getpid()), made.read_text().split()
    assert pids.count(here) == 3  # twice to check, once for the local runner
    assert all(pids.count(pid) == 1 for pid in pids if pid != here)  # once per worker
    assert str(killer.killed[0]) in pids


class PaidFar(Paid):
    """A paid judge, held at the gate once it has judged some records."""

    def __init__(self, notes: Path, gate: Gate) -> None:
        super().__init__(notes)
        self._gate = gate

    async def score(self, query, response, answer):
        """Score, once the gate is open."""
        number = int(query.removeprefix("question ").removesuffix("?"))
        await asyncio.to_thread(self._gate.pass_, number)
        return await super().score(query, response, answer)


@pytest.mark.statistical  # an interrupted cluster has ended the whole process here, now and then
def test_verdicts_of_a_cluster_are_kept_as_they_come_back(tmp_path, runner):
    data, notes, out = material(tmp_path, 60), tmp_path / "notes", tmp_path / "out.jsonl"
    gate = Gate(tmp_path)

    def make():
        return PaidFar(notes, gate)

    def interrupt(now):
        if now.done >= 16:
            (tmp_path / "killed").touch()  # opens the gate
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge_file(data, out, make, runner=runner, concurrency=2, progress=interrupt)
    kept = asked_in(notes)
    report = judge_file(data, out, make, runner=runner, concurrency=2)
    assert report.earlier >= 16 * 3
    assert report.spent_usd == 180 * USD
    assert kept
    repeated = sum(asked_in(notes).values()) - 180
    assert repeated <= sum(kept.values()) - report.earlier
    complete(out, 60)
    with pytest.raises(ConfigurationError, match="max_usd is for --runner local"):
        judge_file(data, tmp_path / "2.jsonl", make, runner=runner, max_usd=1.0)


# -- what is refused ------------------------------------------------------------------------------


class Echo:
    """Work that changes nothing."""

    concurrency = 1

    def portable(self):
        """Return the same."""
        return self

    @contextmanager
    def open(self):
        """Give the identity."""
        yield lambda row: row


class Broken(Echo):
    """Work that cannot begin."""

    def open(self):
        """Lack something."""
        raise MissingExtraError("pip install more")


class Deadly(Echo):
    """Work that one record ends the process of."""

    @contextmanager
    def open(self):
        """End the process at the record that says so."""
        yield lambda row: os._exit(7) if row.get("deadly") else row


class Listed:
    """Rows that are given."""

    def __init__(self, rows):
        self._rows = rows

    def portable(self):
        """Return the same."""
        return self

    def __call__(self):
        """Give them."""
        return iter(self._rows)


class Vanishing:
    """Rows whose file is changed while it is read."""

    def portable(self):
        """Return the same."""
        return self

    def __call__(self):
        """Read one."""
        yield {"i": 1}
        raise DataError("log.jsonl, line 2: gone.")


@pytest.fixture
def connected(cluster):
    """Be connected already, as a user's own program may be."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield RayRunner(1)
    assert ray.is_initialized()  # what was not started by the runner is not stopped by it
    ray.shutdown()


def test_errors_of_the_reader_and_of_the_work_are_ours(connected, log):
    with pytest.raises(DataError, match=r"^log.jsonl, line 2: gone.$"):
        list(connected.map(Echo(), Vanishing(), 9))
    with pytest.raises(MissingExtraError, match=r"^pip install more$"):
        list(connected.map(Broken(), QueryRows(log), 90))


def test_a_record_that_kills_its_worker_ends_the_run(connected):
    rows = Listed([{"id": i, "deadly": i == 1} for i in range(4)])
    with pytest.raises(HybridRoutingError, match=r"died 4 times at the same records"):
        list(connected.map(Deadly(), rows, 4))


def test_a_cluster_that_was_there_is_left_running(connected):
    rows = [{"id": i} for i in range(4)]
    assert [row for block in connected.map(Echo(), Listed(rows), 4) for row in block] == rows
    assert [row for block in connected.map(Echo(), Listed(rows), 4) for row in block] == rows


def test_attempts_are_counted_by_the_bundle():
    attempts = Attempts()
    assert [attempts.begin(digest) for digest in ("a", "b", "a")] == [1, 1, 2]


def test_a_cluster_that_does_not_start_says_what_ray_wrote(capfd):
    def init(**_):
        os.write(2, b"no room for a raylet")
        raise RuntimeError("it ended")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init)
    with (
        pytest.raises(ConfigurationError, match=r"not start at 'local' .RuntimeError: it ended"),
        ray_runner._connected(ray, None, 1),
    ):
        pytest.fail("it has not started")
    assert "no room for a raylet" in capfd.readouterr().err


def test_a_runner_without_ray_says_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="--runner ray needs Ray"):
        next(RayRunner().map(Echo(), Listed([]), 1))


def test_work_that_cannot_travel(runner, answered, tmp_path):
    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match=r"without locks.*cannot pickle"):
        judge_file(
            answered, tmp_path / "out.jsonl", lambda: lock and GatedMetric(None), runner=runner,
            texts=FirstResponseOf("large"),
        )  # fmt: skip


def test_bundles_are_bounded():
    assert list(bundles(map(str, range(7)), 3)) == [["0", "1", "2"], ["3", "4", "5"], ["6"]]
    long = "x" * (ray_runner.MOST_CHARACTERS // 2)
    assert [len(bundle) for bundle in bundles([long] * 5, 3)] == [2, 2, 1]
    assert list(bundles([], 3)) == []


def test_more_workers_than_the_cluster_has(cluster, log, tmp_path):
    with pytest.raises(ConfigurationError, match=r"has 2 cores.*--workers 3"):
        score_file(
            fixed_router(), log, tmp_path / "out.jsonl", runner=RayRunner(3, cluster.address)
        )
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1", "127.0.0.1:http"])
def test_an_address_where_nothing_answers(run, router_folder, log, tmp_path, address):
    out = tmp_path / "out.jsonl"
    told = ("--runner", "ray", "--ray-address", address, "--threshold", "0")
    failed(run("score", router_folder, log, out, *told), "No Ray cluster answers", address)
    assert not out.exists()


def test_an_address_where_something_else_answers(log, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_runner, "CONNECT_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        runner = RayRunner(1, f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(ConfigurationError, match="not within 1 s"):
            score_file(fixed_router(), log, tmp_path / "out.jsonl", runner=runner)


def test_an_address_of_ray_client(run, router_folder, log, tmp_path):
    told = ("--runner", "ray", "--ray-address", "ray://head:10001")
    failed(run("score", router_folder, log, tmp_path / "o.jsonl", *told), "'auto' or HOST:PORT")


BLOCKED = """
import sys
sys.modules["ray"] = None
from shared_router.cli.commands import main
main()
"""


def test_without_ray_the_way_out_is_told(router_folder, log, tmp_path):
    told = ["score", router_folder, log, tmp_path / "out.jsonl", "--runner", "ray"]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *map(str, told)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: --runner ray needs ray: pip install 'hybrid-llm[ray]'."
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl"]


def test_a_cluster_is_started_here_and_stopped(run, router_folder, log, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # relative paths are those of this process
    told = ["score", router_folder, log.name, "out.jsonl", "--runner", "ray", "--json"]
    code = "from shared_router.cli.commands import main; main()"
    started = [sys.executable, "-c", code, *map(str, told)]
    for _ in range(3):
        done = subprocess.run(started, capture_output=True, text=True, check=False)
        if TOO_BUSY not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queries"] == 90
    assert run("score", router_folder, log, "local.jsonl").exit_code == 0
    assert Path("out.jsonl").read_bytes() == Path("local.jsonl").read_bytes()
    said = [line for line in done.stderr.splitlines() if "/90, " not in line]
    assert said == ["No dial given: using the router's own, max_quality_drop=0.05."]
