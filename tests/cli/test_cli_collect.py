"""`hybrid-llm collect`, and how a SPEC becomes a model."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from shared_router import RoutingDataset
from shared_router.cli.commands import app
from shared_router.cli.console import collecting, progress_line
from shared_router.collecting import specs as collect_specs
from shared_router.collecting.collect import CollectProgress, collect
from shared_router.collecting.sources import read_queries
from shared_router.collecting.specs import resolve_spec, why_not_imported
from shared_router.data.answers import Answer
from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.records import Usage
from shared_router.support.names import without_password

MODULE = """
from langchain_core.language_models import FakeListChatModel
from langchain_core.runnables import RunnableLambda
from shared_router.data.answers import Answer
from shared_router.records import Usage

USED = Usage(input_tokens=1000, output_tokens=100)

async def small(query, sample):
    return Answer("#### 4" if sample % 2 else "5", USED)

async def large(query, sample):
    return Answer("the answer is 4", USED)

async def broken(query, sample):
    raise PermissionError("no such key")

async def picky(query, sample):
    if "the answer is 4" not in query:
        raise PermissionError("of this answer")
    return await verdict(query, sample)

async def verdict(query, sample):
    return Answer('{"better": "tie"}', USED)

class Object:
    async def __call__(self, query, sample):
        return Answer("an object")

made = Object()
chat = FakeListChatModel(responses=["from a chat model"])
chain = RunnableLambda(lambda text: text.upper())
number = 7

class Dated(FakeListChatModel):
    model: str = "nano"

    def _call(self, *args, **kwargs):
        return "answer"

    def _generate(self, *args, **kwargs):
        result = super()._generate(*args, **kwargs)
        result.generations[0].message.response_metadata["model_name"] = "nano-2025-08-07"
        return result

dated = Dated(responses=["x"])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work in a folder with a module of models and a file of queries."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_models", raising=False)
    (tmp_path / "own_models.py").write_text(MODULE)
    (tmp_path / "q.csv").write_text('query,answer,task\n"2 + 2?",4,sums\n"1 + 3?",4,sums\n')
    return tmp_path


@pytest.fixture
def importable(folder, monkeypatch):
    """Let the folder's module be imported without the command line."""
    monkeypatch.syspath_prepend(str(folder))


def run(*args, models=("small=own_models:small", "large=own_models:large")):
    chosen = [part for model in models for part in ("--model", model)]
    return CliRunner().invoke(app, ["collect", "q.csv", *chosen, *map(str, args)])


def failed(result, *said):
    assert result.exit_code == 1
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    for words in said:
        assert words in last


def test_from_queries_to_a_data_file(folder):
    result = run("--samples", 4, "--judge", "numeric", "--price", "large=1,10", "--out", "d.jsonl")
    assert result.exit_code == 0, result.output
    assert "Saved 2 queries in d.jsonl, $0.0160" in result.stdout
    assert "Next: hybrid-llm fit d.jsonl --candidates small,large --out my-router" in result.stdout
    first = RoutingDataset.load("d.jsonl").records[0]
    assert first.outcomes["small"].quality == (0, 1, 0, 1)
    assert first.outcomes["large"].quality == (1, 1, 1, 1)
    assert first.outcomes["large"].cost_usd == pytest.approx(0.002)
    assert first.task == "sums"


def test_json_and_a_second_start(folder):
    options = ("--samples", 1, "--judge", "exact", "--out", "d.jsonl", "--json")
    assert json.loads(run(*options).stdout)["calls"] == 4
    again = json.loads(run(*options).stdout)
    assert (again["calls"], again["records"], again["out"]) == (0, 2, "d.jsonl")
    assert again["stopped"] is None


def test_the_output_of_another_hand_is_replaced_only_when_told(folder):
    options = ("--samples", 1, "--judge", "exact", "--out", "d.jsonl")
    assert run(*options).exit_code == 0
    corrected = (folder / "d.jsonl").read_text().replace('"quality":[0.0]', '"quality":[1.0]')
    (folder / "d.jsonl").write_text(corrected)
    failed(run(*options), "holds a data file that this run did not write", "--force")
    assert (folder / "d.jsonl").read_text() == corrected
    again = run(*options, "--force")
    assert again.exit_code == 0
    assert "Going on: 4 calls of an earlier start are taken up." in again.stderr
    assert run(*options).exit_code == 0
    failed(run("--samples", 1, "--out", "q.csv", "--force"), "is the file that is read")


def test_without_a_judge_the_answers_are_kept(folder):
    result = run("--samples", 1, "--out", "d.jsonl")
    assert result.exit_code == 0
    assert "Start again with --judge" in result.stderr
    again = run("--samples", 1, "--out", "d.jsonl", "--judge", "numeric", "--json")
    assert json.loads(again.stdout)["calls"] == 0


def test_a_model_as_the_judge(folder):
    (folder / "rubric.txt").write_text("Be kind.")
    judge = ("--judge", "llm=own_models:verdict", "--rubric", "rubric.txt", "--price", "judge=1,1")
    result = run("--samples", 1, "--out", "d.jsonl", *judge, "--json")
    assert json.loads(result.stdout)["spent_usd"] == pytest.approx(8 * 0.0011)
    assert RoutingDataset.load("d.jsonl").records[0].outcomes["small"].quality == (0.5,)


def test_max_usd_stops_with_a_way_on(folder):
    prices = ("--price", "small=1,1", "--price", "large=1,1")
    options = ("--samples", 3, "--judge", "exact", "--out", "d.jsonl", *prices)
    result = run(*options, "--max-usd", 0.002, "--concurrency", 1)
    failed(result, "max_usd=0.002", "goes on from here")
    assert run(*options, "--max-usd", 5).exit_code == 0
    failed(run("--samples", 1, "--out", "e.jsonl", "--max-usd", 1), "--price NAME=INPUT,OUTPUT")


def test_a_model_that_always_fails(folder):
    models = ("small=own_models:broken", "large=own_models:large")
    options = ("--samples", 1, "--judge", "numeric", "--retries", 0, "--out", "d.jsonl")
    result = run(*options, models=models)
    failed(result, "model 'small' does not answer (PermissionError)", "goes on from here")
    assert "no such key" not in result.output
    assert not (folder / "d.jsonl").exists()
    own = (folder / "own_models.py").read_text()
    (folder / "own_models.py").write_text(
        own.replace("async def broken", "broken = small\n\nasync def other")
    )
    del sys.modules["own_models"]
    assert run(*options, models=models).exit_code == 0


def test_how_each_model_did(folder):
    result = run("--samples", 4, "--judge", "numeric", "--out", "d.jsonl")
    assert "  0.5000  small, 8 answered\n  1.0000  large, 8 answered\nNext" in result.stdout
    told = json.loads(
        run("--samples", 4, "--judge", "numeric", "--out", "d.jsonl", "--json").stdout
    )
    assert told["models"]["small"] == {
        "answered": 8,
        "failed": 0,
        "with_logprobs": 0,
        "quality": 0.5,
    }


def test_all_go_into_one_split(folder):
    run("--samples", 1, "--judge", "exact", "--out", "d.jsonl", "--split", "test")
    assert dict(RoutingDataset.load("d.jsonl").splits) == {"test": 2}


def test_a_judge_that_is_nearly_named(folder):
    failed(run("--out", "d.jsonl", "--judge", "exat"), "Did you mean 'exact'?")


def test_one_model_is_asked_only_when_meant(folder):
    one = ("small=own_models:small",)
    failed(run("--out", "d.jsonl", models=one), "another --model", "--one-model")
    failed(run("--out", "d.jsonl", "--one-model"), "for one --model alone; got 2")
    result = run("--samples", 1, "--judge", "exact", "--out", "d.jsonl", "--one-model", models=one)
    assert result.exit_code == 0
    assert "Next" not in result.stdout


def test_a_model_without_a_judged_answer_is_an_error(folder):
    judge = ("--judge", "llm=own_models:picky", "--retries", 0)
    result = run("--samples", 1, *judge, "--out", "d.jsonl")
    assert (result.exit_code, "Next" in result.stdout) == (1, False)
    assert "       -  small, 2 answered, 2 failed" in result.stdout
    assert "error: small gave no answer that could be judged" in result.stderr


def test_the_output_of_another_run(folder):
    options = ("--judge", "exact", "--out", "d.jsonl")
    assert run("--samples", 1, *options).exit_code == 0
    failed(run("--samples", 2, *options), "another run", "samples (1 there, 2 now)")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--judge", "vibes"), "No metric 'vibes'"),
        (("--judge", "exact", "--rubric", "q.csv"), "--rubric is for --judge llm=SPEC"),
        (("--price", "huge=1,1"), "no model of that name"),
        (("--price", "small=cheap"), "--price is NAME=IN,OUT"),
        (("--price", "small=-1,1"), "--price is NAME=IN,OUT"),
        (("--samples", "0"), "samples is at least 1"),
        (("--out", "none/d.jsonl"), "folder does not exist"),
    ],
)
def test_wrong_options(folder, args, said):
    failed(run("--out", "d.jsonl", *args), said)
    assert not (folder / "d.jsonl").exists()


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (("small",), "NAME=VALUE"),
        (("a=own_models:small", "a=own_models:large"), "each name once"),
        (("small=gpt",), "SPEC is 'provider:model'"),
    ],
)
def test_wrong_models(folder, models, said):
    failed(run("--out", "d.jsonl", models=models), said)


# -- SPEC -----------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch):
    """Register entry points, as an installed adapter does."""

    def register(*values):
        points = [EntryPoint(f"p{i}", value, collect_specs.GROUP) for i, value in enumerate(values)]
        monkeypatch.setattr(collect_specs, "entry_points", lambda group: points)

    return register


LANGCHAIN = "langchain_hybrid.models:resolve"


async def test_async_functions_and_objects(importable, registered):
    registered()
    assert (await resolve_spec("own_models:large")("q", 0)).text == "the answer is 4"
    assert (await resolve_spec("own_models:made")("q", 0)).text == "an object"


async def test_langchain_models_by_attribute(importable, registered):
    registered(LANGCHAIN)
    assert (await resolve_spec("own_models:dated")("q", 0)).names == ("nano", "nano-2025-08-07")
    assert (await resolve_spec("own_models:chat")("q", 0)).text == "from a chat model"
    assert (await resolve_spec("own_models:chain")("q", 0)) == Answer("Q")


def test_nobody_can_read_it(importable, registered):
    registered()
    with pytest.raises(ConfigurationError, match="Nothing installed can read the model"):
        resolve_spec("own_models:nothing")
    registered(LANGCHAIN)
    with pytest.raises(ConfigurationError, match="Nothing installed can read the model"):
        resolve_spec("own_models:number")
    with pytest.raises(ConfigurationError, match="names no provider that LangChain knows"):
        resolve_spec("own_models:nothing")


def test_what_a_provider_raises_is_said(registered, monkeypatch):
    pytest.importorskip("langchain_openai")
    registered(LANGCHAIN)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="LangChain cannot make it by name"):
        resolve_spec("openai:gpt-4o")


def test_an_adapter_without_its_dependency(registered):
    registered("no_such_adapter.models:resolve")
    with pytest.raises(MissingExtraError, match="no_such_adapter"):
        resolve_spec("openai:gpt-4o")


def test_a_module_that_fails_on_import(importable, folder):
    (folder / "breaks.py").write_text("import no_such_dependency")
    (folder / "raises.py").write_text("1 / 0")
    with pytest.raises(ConfigurationError, match="no_such_dependency"):
        resolve_spec("breaks:model")
    with pytest.raises(ConfigurationError, match="ZeroDivisionError"):
        resolve_spec("raises:model")


def test_a_url_names_its_model_and_shows_no_password(registered):
    registered(LANGCHAIN)
    with pytest.raises(ConfigurationError, match="names the model behind '#'") as caught:
        resolve_spec("http://me:secret@127.0.0.1:9/v1")
    assert "secret" not in str(caught.value)
    assert without_password("http://me:secret@h/v1#m") == "http://***@h/v1#m"


def test_a_url_needs_langchain_openai(registered, monkeypatch):
    registered(LANGCHAIN)
    monkeypatch.setitem(sys.modules, "langchain_openai", None)
    with pytest.raises(MissingExtraError, match="pip install langchain-openai"):
        resolve_spec("http://127.0.0.1:9/v1#m")


class ChatServer(BaseHTTPRequestHandler):
    """Speaks enough of the OpenAI protocol; the first request is one too many."""

    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        late = len(self.asked) == 1
        message = {"role": "assistant", "content": "from a server"}
        body = {"error": {"message": "slow down"}} if late else {
            "id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }  # fmt: skip
        shown = json.dumps(body).encode()
        self.send_response(429 if late else 200)
        for name, value in (("content-type", "application/json"), ("retry-after", "1"),
                            ("content-length", str(len(shown)))):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(shown)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


async def test_an_openai_compatible_server(registered, tmp_path):
    pytest.importorskip("langchain_openai")
    registered(LANGCHAIN)
    server = ThreadingHTTPServer(("127.0.0.1", 0), ChatServer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        ask = resolve_spec(f"http://127.0.0.1:{server.server_address[1]}/v1#pocket")
        report = await collect(["one"], {"m": ask}, tmp_path / "d.jsonl", 2, concurrency=1)
        assert report.failed == 0
        assert (await ask("q", 0)).usage == Usage(input_tokens=5, output_tokens=3)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(ChatServer.asked) == 4
    assert ChatServer.asked[0]["model"] == "pocket"


# -- progress -------------------------------------------------------------------------------------

NOW = CollectProgress(
    done=3, total=10, failed=1, calls_per_second=2.0, eta_s=3.5, spent_usd=0.25
)  # fmt: skip


def test_progress_says_rate_time_left_and_dollars(monkeypatch, capsys):
    assert progress_line(NOW) == "3/10, 2.0/s, 0:00:04 left, $0.2500, 1 failed"
    with collecting() as progress:
        progress(NOW)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("shared_router.cli.console.LINE_EVERY_S", 0.0)
    with collecting() as progress:
        progress(NOW)
    assert "3/10" in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with collecting() as progress:
        progress(NOW)


def test_a_line_that_only_looks_like_json_is_a_query(tmp_path):
    path = tmp_path / "queries.txt"
    path.write_text('{"what" does this mean}\n')
    assert [query.text for query in read_queries(path)] == ['{"what" does this mean}']


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.part", ""])
def test_a_module_that_is_nowhere_is_said(module):
    assert (
        why_not_imported(f"{module}:model") == f"there is no module {module!r} to import from here"
    )
