"""The pocket server: OpenAI's protocol, its errors, clients that leave, and how it stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest
import torch

from cookbook.pocket import server
from cookbook.pocket.answering import PocketModel, pocket_model
from cookbook.pocket.generation import MODELS, encode_prompt, load_model
from cookbook.pocket.server import pocket_server

SAID = [{"role": "user", "content": "Reverse the word bakolit."}]


@pytest.fixture
def client(url):
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


def chat(client, **body):
    return client.post(
        "/chat/completions", json={"model": "pocket-small", "messages": SAID, **body}
    )


def events(reply):
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def in_process(text, **settings):
    *pieces, end = pocket_model("small").answer(text, **settings)
    return "".join(piece.text for piece in pieces), end


def test_the_pair_is_listed(client):
    listed = client.get("/models").json()
    assert [model["id"] for model in listed["data"]] == ["pocket-small", "pocket-large"]
    assert client.get("/models/pocket-large").json()["object"] == "model"


def test_a_whole_answer(client):
    text, end = in_process(SAID[0]["content"])
    reply = chat(client).json()
    assert reply["object"] == "chat.completion"
    (choice,) = reply["choices"]
    assert choice["message"]["content"] == text
    assert choice["finish_reason"] == "stop"
    assert reply["usage"] == {
        "prompt_tokens": end.prompt_tokens,
        "completion_tokens": end.answer_tokens,
        "total_tokens": end.total_tokens,
    }


def test_a_stream_is_the_same_answer_token_by_token(client):
    whole = chat(client).json()
    reply = chat(client, stream=True, stream_options={"include_usage": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    *chunks, counts = events(reply)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in [*chunks, counts]}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0]["role"] == "assistant"
    assert (
        "".join(delta.get("content", "") for delta in deltas)
        == (whole["choices"][0]["message"]["content"])
    )
    assert all(len(delta.get("content", "")) <= 1 for delta in deltas)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert (counts["choices"], counts["usage"]) == ([], whole["usage"])


def test_usage_is_streamed_only_to_who_asks(client):
    assert all("usage" not in chunk for chunk in events(chat(client, stream=True)))


def test_completions_answer_a_prompt(client):
    body = {"model": "pocket-small", "prompt": SAID[0]["content"]}
    whole = client.post("/completions", json=body).json()
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["text"] == in_process(SAID[0]["content"])[0]
    chunks = events(client.post("/completions", json={**body, "stream": True}))
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["choices"][0]["text"]
    one_of_one = client.post("/completions", json={**body, "prompt": [body["prompt"]]}).json()
    assert one_of_one["choices"] == whole["choices"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_max_tokens(client, name):
    reply = chat(client, **{name: 2}).json()
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["completion_tokens"] == 2
    assert chat(client, **{name: 4000}).json()["choices"] == chat(client).json()["choices"]


def test_stop_marks(client):
    text, _ = in_process(SAID[0]["content"])
    mark = text[1:3]
    for stop in (mark, [mark, "#"], [mark, ""]):
        reply = chat(client, stop=stop).json()["choices"][0]
        assert reply["message"]["content"] == text[: text.index(mark)]
        assert reply["finish_reason"] == "stop"
    streamed = events(chat(client, stop=mark, stream=True))
    told = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed)
    assert told == text[: text.index(mark)]


def test_samples_repeat_with_their_seed(client):
    def sample(seed):
        body = chat(client, temperature=2, seed=seed).json()
        return body["choices"][0]["message"]["content"]

    found = [sample(seed) for seed in range(8)]
    assert [sample(seed) for seed in range(8)] == found
    assert len(set(found)) > 1
    assert found[0] == in_process(SAID[0]["content"], temperature=2, seed=0)[0]


def test_a_temperature_next_to_0_is_greedy(client):
    assert chat(client, temperature=1e-300).json()["choices"] == chat(client).json()["choices"]


def test_the_last_user_message_is_the_question(client):
    parts = [{"type": "text", "text": "Reverse the word "}, {"type": "text", "text": "bakolit."}]
    talk = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Add 2 and 3."},
        {"role": "assistant", "content": None},
        {"role": "user", "content": parts},
    ]
    assert chat(client, messages=talk).json()["choices"] == chat(client).json()["choices"]


def tokens_of(choices):
    (choice,) = choices
    return choice["logprobs"]["content"]


def own_logprobs(text):
    """Compute the log-probability of each token of the greedy answer in one pass of the model."""
    pieces = pocket_model("small").answer(text)
    written = [step.chosen.id for piece in pieces for step in piece.steps]
    prompt = encode_prompt(text)
    ids = torch.tensor([prompt + written])
    with torch.inference_mode():
        known = torch.log_softmax(load_model(MODELS / "small")(ids).logits[0].double(), -1)
    return [float(known[len(prompt) - 1 + at, token]) for at, token in enumerate(written)]


def test_log_probabilities_of_a_greedy_answer(client):
    reply = chat(client, logprobs=True, top_logprobs=1).json()
    tokens = tokens_of(reply["choices"])
    assert (
        b"".join(bytes(each["bytes"]) for each in tokens).decode()
        == (reply["choices"][0]["message"]["content"])
    )
    assert [each["token"] for each in tokens][-1] == "<eos>"
    assert len(tokens) == reply["usage"]["completion_tokens"]
    assert [each["logprob"] for each in tokens] == pytest.approx(
        own_logprobs(SAID[0]["content"]), abs=1e-4
    )
    for each in tokens:
        (likeliest,) = each.pop("top_logprobs")
        assert likeliest == each


def test_log_probabilities_of_a_sample_are_those_of_its_own_tokens(client):
    asked = {"logprobs": True, "top_logprobs": 1, "temperature": 2}
    replies = [chat(client, **asked, seed=seed).json()["choices"] for seed in range(8)]
    tokens = [each for choices in replies for each in tokens_of(choices)]
    others = [each for each in tokens if each["top_logprobs"][0]["token"] != each["token"]]
    assert others
    assert all(each["logprob"] <= each["top_logprobs"][0]["logprob"] <= 0 for each in tokens)
    cold = chat(client, logprobs=True).json()["choices"]
    assert tokens_of(cold)[0]["logprob"] == next(
        each["top_logprobs"][0]["logprob"] for each in tokens
    )


def test_a_stream_tells_each_log_probability_with_its_token(client):
    whole = tokens_of(chat(client, logprobs=True).json()["choices"])
    first, *chunks = [
        each["choices"][0] for each in events(chat(client, logprobs=True, stream=True))
    ]
    assert first["logprobs"] is None
    for chunk in chunks[:-1]:
        assert (
            "".join(each["token"] for each in chunk["logprobs"]["content"])
            == (chunk["delta"]["content"])
        )
    assert [each for chunk in chunks for each in tokens_of([chunk])] == whole
    assert {tuple(each["top_logprobs"]) for each in whole} == {()}


def test_a_stop_mark_has_no_log_probabilities(client):
    text, _ = in_process(SAID[0]["content"])
    mark = text[1:3]
    choices = chat(client, stop=mark, logprobs=True).json()["choices"]
    told = "".join(each["token"] for each in tokens_of(choices))
    assert told == choices[0]["message"]["content"] == text[: text.index(mark)]


def test_a_cut_answer_has_no_ending_mark(client):
    choices = chat(client, max_tokens=2, logprobs=True).json()["choices"]
    assert (
        "".join(each["token"] for each in tokens_of(choices))
        == (in_process(SAID[0]["content"])[0][:2])
    )
    streamed = events(chat(client, max_tokens=2, logprobs=True, stream=True))
    assert streamed[-1]["choices"][0]["logprobs"] is None


def test_null_and_what_asks_for_nothing_are_the_defaults(client):
    quiet = {"temperature": None, "max_tokens": None, "stop": None, "seed": None, "stream": None}
    nothing = {"n": 1, "top_p": 1.0, "tools": [], "tool_choice": "none", "logprobs": False,
               "top_logprobs": 0, "response_format": {"type": "text"}, "user": "me"}  # fmt: skip
    assert chat(client, **quiet, **nothing).json()["choices"] == chat(client).json()["choices"]


@pytest.mark.parametrize(
    ("body", "status", "param", "said"),
    [
        ({"model": "gpt"}, 404, "model", "there are pocket-small, pocket-large"),
        ({"n": 2}, 400, "n", "each request gets one answer"),
        ({"tools": [{"type": "function"}]}, 400, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format", "not supported"),
        ({"top_p": 0.5}, 400, "top_p", "not supported"),
        ({"top_logprobs": 2, "logprobs": True}, 400, "top_logprobs", "less than or equal to 1"),
        ({"top_logprobs": 1}, 400, "top_logprobs", "needs logprobs: true"),
        ({"temperature": -1}, 400, "temperature", "greater than or equal to 0"),
        ({"temperature": "hot"}, 400, "temperature", "valid number"),
        ({"max_tokens": 0}, 400, "max_tokens", "greater than or equal to 1"),
        ({"messages": []}, 400, "messages", "at least 1 item"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400,
         "messages.0.content.0.type", "'text'"),
        ({"messages": [{"role": "wizard"}]}, 400, "messages.0.role", "'user'"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_told_in_openais_form(client, body, status, param, said):
    reply = chat(client, **body)
    assert reply.status_code == status
    error = reply.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert said in error["message"]


def test_other_bad_requests(client):
    headers = {"content-type": "application/json"}
    reply = client.post("/chat/completions", content="{", headers=headers)
    assert (reply.status_code, reply.json()["error"]["message"]) == (400, "The body is not JSON.")
    reply = client.post("/completions", json={"model": "pocket-small", "prompt": ["a", "b"]})
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "prompt")
    reply = client.post(
        "/completions", json={"model": "pocket-small", "prompt": "a", "logprobs": 1}
    )
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, "logprobs")
    assert client.get("/models/gpt").json()["error"]["code"] == "model_not_found"
    assert client.get("/wizards").json()["error"]["message"] == "Not Found."
    assert client.get("/chat/completions").status_code == 405


class Broken(PocketModel):
    def answer(self, question, **settings):
        raise RuntimeError(f"quotes {question}")


def test_a_model_that_fails_is_a_server_error_that_quotes_nothing(caplog):
    with pocket_server([Broken("small")]) as url, httpx.Client(base_url=url) as client:
        reply = chat(client)
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "The model failed (RuntimeError)."
    assert reply.json()["error"]["type"] == "server_error"
    assert "RuntimeError" in caplog.text  # for whoever runs the server


class Endless(PocketModel):
    """Gives its answer over and over; tells when it has begun, and when nobody listens any more."""

    def __init__(self):
        super().__init__("small")
        self.begun, self.left = threading.Event(), threading.Event()

    def answer(self, question, **settings):
        try:
            while True:
                *pieces, _ = super().answer(question, **settings)
                yield from pieces
                self.begun.set()
        finally:
            self.left.set()


def test_a_client_that_leaves_a_stream_stops_the_generation():
    model = Endless()
    with pocket_server([model]) as url, httpx.Client(base_url=url, timeout=60) as client:
        body = {"model": "pocket-small", "messages": SAID, "stream": True}
        with client.stream("POST", "/chat/completions", json=body) as reply:
            lines = reply.iter_lines()
            next(lines)
            assert model.begun.wait(60)
            assert not model.left.is_set()
        assert model.left.wait(60)


def test_a_client_that_does_not_wait_stops_the_generation():
    model = Endless()
    with pocket_server([model]) as url:
        with socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as asking:
            body = json.dumps({"model": "pocket-small", "messages": SAID}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            asking.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
            assert model.begun.wait(60)
            assert not model.left.is_set()
        assert model.left.wait(60)


def test_it_stops_with_an_answer_in_flight(monkeypatch):
    monkeypatch.setattr(server, "SHUTDOWN_S", 0.1)
    model = Endless()
    with httpx.Client(timeout=60) as client:
        with pocket_server([model]) as url:
            body = {"model": "pocket-small", "messages": SAID, "stream": True}
            asked = client.build_request("POST", f"{url}/chat/completions", json=body)
            reply = client.send(asked, stream=True)
            assert model.begun.wait(60)
        assert model.left.wait(60)
        with pytest.raises(httpx.ConnectError):
            client.get(f"{url}/models")
        reply.close()


def test_as_a_command():
    command = [sys.executable, "-m", "cookbook.pocket.server", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        url, _, said = process.stdout.readline().partition(" ")
        assert said == "serves pocket-small and pocket-large; Ctrl-C stops it\n"
        reply = httpx.get(f"{url}/models", timeout=60)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert len(reply.json()["data"]) == 2


def test_a_port_in_use(url, monkeypatch):
    port = str(httpx.URL(url).port)
    monkeypatch.setattr(sys, "argv", ["server", "--port", port])
    with pytest.raises(SystemExit, match=f"port {port} cannot be used .*--port 0"):
        server.main()


def test_many_at_once_get_their_own_answers(url, asked):
    def ask(text, found):
        with httpx.Client(base_url=url, timeout=60) as client:
            reply = chat(client, messages=[{"role": "user", "content": text}]).json()
            found[text] = reply["choices"][0]["message"]["content"]

    found: dict[str, str] = {}
    threads = [threading.Thread(target=ask, args=(text, found)) for text in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {text: in_process(text)[0] for text in asked}


def test_other_clients_are_served_while_one_waits():
    model = Endless()
    with pocket_server([model]) as url, httpx.Client(base_url=url, timeout=60) as client:
        body = {"model": "pocket-small", "messages": SAID, "stream": True}
        with client.stream("POST", "/chat/completions", json=body):
            assert model.begun.wait(60)
            assert httpx.get(f"{url}/models", timeout=60).status_code == 200
            assert not model.left.is_set()
