"""A loopback server that speaks OpenAI's two endpoints, with log-probabilities or without."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = "Seven, in a word."
SAMPLED, LIKELIEST = -1.5, -0.2
"""Log-probabilities of each token that was said, and of the one that was likelier."""
USAGE = {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}
REFUSAL = {"error": {"message": "logprobs is not supported by this model.", "code": "bad"}}
INVALID = {"error": {"message": "Invalid request.", "code": "bad"}}


class Server(ThreadingHTTPServer):
    """Answers every question alike; `refuses` is what it says to who asks for more."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.refuses: dict[str, Any] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(told)
        refused = server.refuses is not None and "logprobs" in told
        found = server.refuses if refused else answered(told, chat="chat" in self.path)
        body = json.dumps(found).encode()
        self.send_response(400 if refused else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def answered(told: dict[str, Any], *, chat: bool) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop", "logprobs": None}
    choice |= {"message": said_to(told)} if chat else {"text": ANSWER}
    if told.get("logprobs"):
        choice["logprobs"] = of_chat() if chat else of_completion()
    kind = "chat.completion" if chat else "text_completion"
    head = {"id": "1", "object": kind, "created": 0, "model": told["model"]}
    return {**head, "choices": [choice], "usage": USAGE}


def said_to(told: dict[str, Any]) -> dict[str, Any]:
    if not told.get("tools"):
        return {"role": "assistant", "content": ANSWER}
    name = told["tools"][0]["function"]["name"]
    arguments = json.dumps({"text": ANSWER, "number": 7, "a": 3, "b": 4})
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def of_chat() -> dict[str, Any]:
    other = {"token": "Eight", "logprob": LIKELIEST, "bytes": None}
    words = [{"token": word, "logprob": SAMPLED, "bytes": None} for word in ANSWER.split()]
    return {"content": [{**word, "top_logprobs": [other]} for word in words], "refusal": None}


def of_completion() -> dict[str, Any]:
    words = ANSWER.split()
    return {
        "tokens": words,
        "token_logprobs": [SAMPLED] * len(words),
        "top_logprobs": [{"Eight": LIKELIEST}] * len(words),
        "text_offset": [0] * len(words),
    }


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
