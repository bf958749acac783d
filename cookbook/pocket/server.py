"""The pocket pair behind an OpenAI-compatible HTTP server on this machine.

python -m cookbook.pocket.server --port 8000

`transformers serve` does not fit: it needs accelerate, ignores temperature for a model whose own
default is greedy, and answers an unknown model with a bare 500.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from cookbook.pocket.answering import AnswerEnd, Piece, PocketModel, in_threads, pocket_model
from cookbook.pocket.protocol import (
    AnswerRequest,
    ChatRequest,
    CompletionRequest,
    Reply,
    RequestError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

HOST = "127.0.0.1"
CLIENT_GONE = 499
"""Nobody reads it; it is what proxies log for a client that left."""
SHUTDOWN_S = 2
"""What answers in flight may still take when the server stops."""


def pair() -> tuple[PocketModel, PocketModel]:
    """Return the two models of the pair."""
    return pocket_model("small"), pocket_model("large")


def build_app(models: Sequence[PocketModel]) -> FastAPI:
    """Build the application that serves these models under their public names."""
    served = {model.public_name: model for model in models}
    app = FastAPI(title="The pocket pair", openapi_url=None)
    _tell_errors(app)

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [_listed(name) for name in served]}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        return _listed(_found(served, name).public_name)

    @app.post("/v1/chat/completions")
    async def chat(asked: ChatRequest, request: Request) -> Response:
        return await _answer(_found(served, asked.model), asked, request, chat=True)

    @app.post("/v1/completions")
    async def complete(asked: CompletionRequest, request: Request) -> Response:
        return await _answer(_found(served, asked.model), asked, request, chat=False)

    return app


def _listed(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "hybrid-llm"}


def _found(served: Mapping[str, PocketModel], name: str) -> PocketModel:
    if name not in served:
        message = f"The model {name!r} does not exist; there are {', '.join(served)}."
        raise RequestError(404, message, param="model", code="model_not_found")
    return served[name]


async def _answer(
    model: PocketModel, asked: AnswerRequest, request: Request, *, chat: bool
) -> Response:
    asked.refuse_unsupported()
    reply = Reply(model=model.public_name, chat=chat, most_likeliest=asked.most_likeliest)
    pieces = in_threads(model.answer(asked.question, **asked.settings()))
    if asked.stream:
        events = _events(pieces, reply, with_usage=asked.with_usage)
        return StreamingResponse(events, media_type="text/event-stream")
    return await _whole(pieces, reply, request)


async def _whole(
    pieces: AsyncGenerator[Piece | AnswerEnd], reply: Reply, request: Request
) -> Response:
    written: list[Piece] = []
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, AnswerEnd):
                return JSONResponse(reply.whole(written, piece))
            written.append(piece)
            if await request.is_disconnected():
                break
    return Response(status_code=CLIENT_GONE)


async def _events(
    pieces: AsyncGenerator[Piece | AnswerEnd], reply: Reply, *, with_usage: bool
) -> AsyncGenerator[str]:
    """Tell an answer as server-sent events; a client that leaves ends this generator."""
    async with aclosing(pieces):
        yield _event(reply.first())
        async for piece in pieces:
            if not isinstance(piece, AnswerEnd):
                yield _event(reply.piece(piece))
                continue
            yield _event(reply.last(piece))
            if with_usage:
                yield _event(reply.counts(piece))
    yield "data: [DONE]\n\n"


def _event(body: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _tell_errors(app: FastAPI) -> None:
    """Tell every error in OpenAI's form; none quotes the request."""

    def told(error: RequestError) -> JSONResponse:
        return JSONResponse(error.body(), status_code=error.status)

    @app.exception_handler(RequestError)
    async def refused(_: Request, error: RequestError) -> JSONResponse:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> JSONResponse:
        deepest = max(error.errors(), key=lambda each: len(each["loc"]))
        if deepest["type"] == "json_invalid":
            return told(RequestError(400, "The body is not JSON."))
        param = ".".join(map(str, filter(_is_of_the_body, deepest["loc"][1:]))) or None
        return told(RequestError(400, f"{param or 'The body'}: {deepest['msg']}.", param=param))

    @app.exception_handler(HTTPException)
    async def no_such_page(_: Request, error: HTTPException) -> JSONResponse:
        return told(RequestError(error.status_code, f"{error.detail}."))

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return told(RequestError(500, f"The model failed ({type(error).__name__})."))


def _is_of_the_body(part: int | str) -> bool:
    """Tell a field from the name of the alternative that pydantic tried for its value."""
    return isinstance(part, int) or (part.isidentifier() and part != "str")


def _server(models: Sequence[PocketModel]) -> uvicorn.Server:
    for model in models:
        model.load()
    config = uvicorn.Config(
        build_app(models),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
    )
    return uvicorn.Server(config)


def _listen(port: int) -> socket.socket:
    listening = socket.create_server((HOST, port))
    # Connections inherit it. asyncio sets it only where a socket names its protocol, and without
    # it each answer waits 40 ms for the client to acknowledge its headers.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _url(listening: socket.socket) -> str:
    return f"http://{HOST}:{listening.getsockname()[1]}/v1"


@contextmanager
def pocket_server(models: Sequence[PocketModel] | None = None, *, port: int = 0) -> Iterator[str]:
    """Serve in a thread of this process while the block runs.

    Args:
        models: What to serve; the pair by default.
        port: 0 takes a free one.

    Yields:
        The URL that clients take as their base: `http://127.0.0.1:PORT/v1`.
    """
    server = _server(models or pair())
    listening = _listen(port)
    thread = threading.Thread(target=server.run, args=([listening],), name="pocket-server")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the pocket server did not start; its thread says why on stderr")
            time.sleep(0.005)
        yield _url(listening)
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import torch
    from transformers.utils import logging

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    port = parser.parse_args().port
    try:
        listening = _listen(port)
    except OSError as error:
        sys.exit(f"error: port {port} cannot be used ({error.strerror}); --port 0 takes a free one")
    logging.disable_progress_bar()
    torch.set_num_threads(1)  # more only wait for each other on models of this size
    models = pair()
    server = _server(models)
    names = " and ".join(model.public_name for model in models)
    print(f"{_url(listening)} serves {names}; Ctrl-C stops it", flush=True)
    with suppress(KeyboardInterrupt):
        server.run([listening])


if __name__ == "__main__":
    main()
