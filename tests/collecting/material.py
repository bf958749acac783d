"""What the tests of collect share: a loopback server that answers, and a process that collects."""

from __future__ import annotations

import asyncio
import atexit
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from shared_router.collecting.collect import collect
from shared_router.data.answers import Answer
from shared_router.errors import HybridRoutingError
from shared_router.records import Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from shared_router.data.answers import AskModel

QUERIES = [f"question {i}" for i in range(20)]
MODELS = ("small", "large")
SAMPLES, CONCURRENCY = 10, 4


class Right:
    """A judge to whom everything is right."""

    name, needs_answer = "right", False

    def score(self, query: str, response: str, answer: str | None) -> float:
        return 1.0


class Server(ThreadingHTTPServer):
    """Answers `/model?...` posts; counts them; `refuse` may answer otherwise."""

    daemon_threads = True

    def __init__(self, delay_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay_s = delay_s
        self.asked: Counter[tuple[str, str, int]] = Counter()
        self.refuse: Any = lambda key, times: None
        self.first = threading.Event()
        self.lock = threading.Lock()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients are killed on purpose."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server: Any = self.server
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = (told["query"], told["model"], told["sample"])
        with server.lock:
            server.asked[key] += 1
            times = server.asked[key]
        server.first.set()
        time.sleep(server.delay_s)
        status, headers = server.refuse(key, times) or (200, {})
        body = json.dumps({"text": text_of(*key)}).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def text_of(query: str, model: str, sample: int) -> str:
    return f"{model} answers {query}, sample {sample}"


@contextmanager
def serving(delay_s: float = 0.0) -> Iterator[Server]:
    """Run a server on a free port of 127.0.0.1."""
    server = Server(delay_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def over_http(port: int, model: str) -> AskModel:
    """Ask over a plain HTTP client, whose errors carry status and headers."""

    def post(query: str, sample: int) -> str:
        body = json.dumps({"query": query, "model": model, "sample": sample}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", body, timeout=20) as reply:
                return str(json.loads(reply.read())["text"])
        except urllib.error.HTTPError as error:
            error.close()
            raise

    async def ask(query: str, sample: int, /) -> Answer:
        return Answer(await asyncio.to_thread(post, query, sample), Usage(cost_usd=0.001))

    return ask


def main(port: str, out: str, file_limit: str = "") -> None:
    """Collect everything, as a process that can be killed or meet a full disk."""
    if file_limit:
        import resource

        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_limit), most))
        # What measures the tests writes at the end of a process.
        atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    models = {name: over_http(int(port), name) for name in MODELS}
    try:
        asyncio.run(collect(QUERIES, models, out, SAMPLES, Right(), concurrency=CONCURRENCY))
    except HybridRoutingError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
