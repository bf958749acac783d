"""A LangSmith server on 127.0.0.1 that keeps the runs it is sent: see your traces without a key.

The real `langsmith` client talks to it, by its multipart endpoint or by its JSON batch endpoint.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

BATCHES = {
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 4,
    "scale_down_nempty_trigger": 4,
}
"""What the client is told of batches; with a part of it missing, it never sends anything."""


class LoopbackLangSmith:
    """Serve while the `with` block lasts.

    Args:
        multipart: Whether the client is told to use the multipart endpoint, as LangSmith itself
            tells it; else it posts JSON batches.
    """

    def __init__(self, *, multipart: bool = True) -> None:
        self.paths: set[str] = set()
        """Endpoints that were posted to."""
        self._runs: dict[str, dict[str, Any]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, multipart))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What `os.environ` needs before the first traced call."""
        return {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "LANGSMITH_API_KEY": "loopback",
            "LANGSMITH_PROJECT": "loopback",
            "LANGSMITH_DISABLE_RUN_COMPRESSION": "true",
        }

    def merge(self, run_id: str, fields: dict[str, Any]) -> None:
        """Take what was posted or patched of a run; what is null says nothing."""
        with self._lock:
            self._runs[run_id] |= {key: value for key, value in fields.items() if value is not None}

    def take(self) -> list[dict[str, Any]]:
        """Hand out the root runs received so far, their `children` nested, and forget them."""
        with self._lock:
            runs, self._runs = dict(self._runs), defaultdict(dict)
        ordered = sorted(runs.values(), key=lambda run: run["dotted_order"])
        for run in ordered:
            run["children"] = [
                child for child in ordered if child.get("parent_run_id") == run["id"]
            ]
        return [run for run in ordered if run.get("parent_run_id") not in runs]


def describe(run: dict[str, Any], depth: int = 0) -> Iterator[str]:
    """Yield a run tree as indented lines."""
    metadata = run.get("extra", {}).get("metadata", {})
    usage = metadata.get("usage_metadata")
    decision = (run.get("outputs") or {}) if run["name"] == "HybridRouter" else {}
    parts = [f"{run['name']} ({run['run_type']})"]
    parts += [f"-> {decision['candidate']} ({decision['reason']})"] if decision else []
    parts += [f"#{tag}" for tag in run.get("tags") or () if tag.startswith("hybrid_routing:")]
    parts += [f"{usage['total_tokens']} tokens"] if usage else []
    parts += [f"failed: {run['error'].splitlines()[0]}"] if run.get("error") else []
    yield "  " * depth + " ".join(parts)
    for child in run["children"]:
        yield from describe(child, depth + 1)


def _handler(server: LoopbackLangSmith, multipart: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer({"batch_ingest_config": {**BATCHES, "use_multipart_endpoint": multipart}})

        def do_POST(self) -> None:
            body = self._body()
            server.paths.add(self.path)
            if self.path == "/runs/multipart":
                _take_multipart(server, self.headers, body)
            else:
                _take_batch(server, json.loads(body))
            self._answer({})

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers["Content-Length"]))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Keep the terminal for the recipe."""

    return Handler


def _take_multipart(server: LoopbackLangSmith, headers: Message, body: bytes) -> None:
    """Take parts named `post.<run id>` and `patch.<run id>`, or `post.<run id>.<field>`."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    for part in message_from_bytes(head + body).get_payload():
        name = part.get_param("name", header="Content-Disposition")
        _, run_id, *field = name.split(".")
        value = json.loads(part.get_payload(decode=True))
        server.merge(run_id, {field[0]: value} if field else value)


def _take_batch(server: LoopbackLangSmith, batch: dict[str, Any]) -> None:
    for run in (*batch.get("post", ()), *batch.get("patch", ())):
        server.merge(run["id"], run)
