"""An OpenAI-compatible server that fails as real ones do, by a schedule.

Whether and how it fails is a function of seed, model and question: asked the same again, it fails
the same way, so that two ways of calling meet the same faults. Right answers name the model, the
question and a digest of its text.

    python -m tests.benchmarks.chaos.server --model small --seed 7 --share 0.3
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import re
import struct
import sys
from collections import Counter
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

KINDS = (
    "delay",
    "reset",
    "429",
    "500",
    "503",
    "529",
    "half",
    "malformed",
    "drip",
    "close",
    "no choices",
    "hang",
)
MENDED_BY_WAITING = frozenset({"delay", "drip"})
"""Kinds after which the right answer comes all the same."""
DELAY_S, DRIP_S, HANG_S = 0.2, 0.05, 30.0
_QUESTION = re.compile(r"q=(\d+); variant=([^;]+);")


def number_of(*parts: object) -> float:
    """Return a number in [0, 1) that only the parts decide."""
    digest = hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def fault_of(seed: int, model: str, question: int, share: float) -> str | None:
    """Return how a model fails at a question; `None` where it answers."""
    if number_of(seed, model, question, "whether") >= share:
        return None
    return KINDS[int(number_of(seed, model, question, "how") * len(KINDS))]


def right_answer(model: str, question: int, text: str) -> dict[str, Any]:
    """Return what a right answer says."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return {"model": model, "question": question, "digest": digest}


class Server:
    """One model behind HTTP/1.1."""

    def __init__(self, model: str, seed: int, share: float) -> None:
        self.model, self.seed, self.share = model, seed, share
        self.asked: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client is gone, or whoever started the server is
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            await _send(writer, 200, json.dumps(self.asked).encode())
            return True
        length = int(re.search(rb"(?i)content-length: *(\d+)", head)[1])  # type: ignore[index]
        body = json.loads(await reader.readexactly(length))
        text = next(m["content"] for m in reversed(body["messages"]) if m["role"] == "user")
        text = text if isinstance(text, str) else text[0]["text"]
        found = _QUESTION.search(text)
        assert found is not None
        question = int(found[1])
        self.asked[f"{found[2]}|{question}"] += 1
        fault = fault_of(self.seed, self.model, question, self.share)
        answer = right_answer(self.model, question, text)
        return await self._answer(writer, body, answer, fault)

    async def _answer(
        self, writer: asyncio.StreamWriter, body: Any, answer: Any, fault: str | None
    ) -> bool:
        if fault is not None and fault.isdigit():
            more = "Retry-After: 1\r\n" if fault == "429" else ""
            error = {"error": {"message": "not now", "type": "server_error", "code": None}}
            await _send(writer, int(fault), json.dumps(error).encode(), more)
            return True
        if fault in ("reset", "close"):
            if fault == "reset":
                sock = writer.get_extra_info("socket")
                sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if fault == "hang":
            await asyncio.sleep(HANG_S)
            return False
        if fault == "delay":
            await asyncio.sleep(DELAY_S)
        if body.get("stream"):
            return await self._stream(writer, body, answer, fault)
        return await self._whole(writer, body, answer, fault)

    async def _whole(
        self, writer: asyncio.StreamWriter, body: Any, answer: Any, fault: str | None
    ) -> bool:
        choice = {"index": 0, "message": _message(body, answer), "finish_reason": "stop"}
        whole = json.dumps(
            self._frame("chat.completion", [] if fault == "no choices" else [choice])
        )
        if fault == "malformed":
            whole = whole.replace("{", "(", 1)
        if fault == "half":
            writer.write(_head(200, len(whole)) + whole[: len(whole) // 2].encode())
            await writer.drain()
            return False
        if fault == "drip":
            await _drip(writer, _head(200, len(whole)), whole.encode())
            return True
        await _send(writer, 200, whole.encode())
        return True

    async def _stream(
        self, writer: asyncio.StreamWriter, body: Any, answer: Any, fault: str | None
    ) -> bool:
        kind = "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{kind}".encode())
        deltas = [{"role": "assistant", "content": ""}, *_deltas(_message(body, answer))]
        if fault == "no choices":
            deltas = []
            await _event(writer, self._frame("chat.completion.chunk", []))
        early = number_of(self.seed, self.model, answer["question"], "early") < 0.5
        for position, delta in enumerate(deltas):
            if fault == "half" and position == (1 if early else 2):
                return False
            if fault == "malformed" and position == 1:
                await _chunk(writer, b"data: (not JSON)\n\n")
            if fault == "drip":
                await asyncio.sleep(DRIP_S)
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            await _event(writer, self._frame("chat.completion.chunk", [choice]))
        if deltas:
            last = {"index": 0, "delta": {}, "finish_reason": "stop"}
            await _event(writer, self._frame("chat.completion.chunk", [last]))
        await _chunk(writer, b"data: [DONE]\n\n")
        await _chunk(writer, b"")
        return True

    def _frame(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        frame = {"id": "c", "object": kind, "created": 1, "model": self.model, "choices": choices}
        return frame | ({"usage": usage} if kind == "chat.completion" else {})


def _message(body: Any, answer: Any) -> dict[str, Any]:
    """Answer by a tool call where tools are brought, else in JSON."""
    told = json.dumps(answer)
    if not body.get("tools"):
        return {"role": "assistant", "content": told}
    name = body["tools"][0]["function"]["name"]
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": told}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _deltas(message: dict[str, Any]) -> list[dict[str, Any]]:
    if message.get("tool_calls"):
        (call,) = message["tool_calls"]
        opening = {**call, "index": 0, "function": {**call["function"], "arguments": ""}}
        rest = {"index": 0, "function": {"arguments": call["function"]["arguments"]}}
        return [{"tool_calls": [opening]}, {"tool_calls": [rest]}]
    return [{"content": word} for word in re.findall(r"\S+\s*", message["content"])]


def _head(status: int, length: int, more: str = "") -> bytes:
    kind = "Content-Type: application/json\r\n"
    return f"HTTP/1.1 {status} X\r\n{kind}Content-Length: {length}\r\n{more}\r\n".encode()


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, more: str = "") -> None:
    writer.write(_head(status, len(body), more) + body)
    await writer.drain()


async def _drip(writer: asyncio.StreamWriter, head: bytes, body: bytes) -> None:
    writer.write(head)
    for start in range(0, len(body), 60):
        await asyncio.sleep(DRIP_S)
        writer.write(body[start : start + 60])
        await writer.drain()


async def _event(writer: asyncio.StreamWriter, data: Any) -> None:
    await _chunk(writer, f"data: {json.dumps(data)}\n\n".encode())


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


async def _main(server: Server) -> None:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)  # noqa: T201
    closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await closed  # until whoever started it lets go


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--share", type=float, default=0.3)
    given = parser.parse_args()
    asyncio.run(_main(Server(given.model, given.seed, given.share)))
