"""A loopback server that refuses what providers refuse: histories that another model wrote.

It speaks OpenAI's two chat endpoints and Anthropic's. Signatures, encrypted reasoning, ids of items
and of answers are known to the model that wrote them alone; tool calls and results come in pairs.
"""

from __future__ import annotations

import json
import random
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TOOLS = ("weather", "news")
WITHOUT_TOOLS = "plain"
"""A model of this name refuses whatever has to do with tools."""
DOWN = {"error": {"type": "overloaded_error", "message": "Overloaded", "code": "overloaded"}}


class Refused(Exception):  # noqa: N818  (it becomes an HTTP error)
    """What a provider finds wrong with a request."""


def need(holds: object, what: str) -> None:
    if not holds:
        raise Refused(what)


def only(part: dict[str, Any], *allowed: str) -> None:
    unknown = set(part) - set(allowed)
    need(not unknown, f"Unknown parameter: {sorted(unknown)} in {part.get('type') or part}")


class Server(ThreadingHTTPServer):
    """Answers at random, from a seed; `down` are models that are overloaded."""

    daemon_threads = True

    def __init__(self, seed: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.random = random.Random(seed)  # noqa: S311
        self.down: set[str] = set()
        self.asked: list[dict[str, Any]] = []
        self.refused: list[str] = []
        self.known: dict[str, set[str]] = {}
        self.follows: dict[str, str] = {}
        self.calls_of: dict[str, set[str]] = {}
        self._count = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def new(self, model: str, prefix: str) -> str:
        """Make an id or a signature that this model alone knows."""
        self._count += 1
        made = f"{prefix}_{model.replace('.', '-')}_{self._count}"
        self.known.setdefault(model, set()).add(made)
        return made

    def knows(self, model: str, token: Any, what: str) -> None:
        need(token in self.known.get(model, ()), f"Invalid `{what}`: {token!r} for {model}")

    def tools_to_call(self, told: dict[str, Any], after_result: bool) -> list[str]:
        if not told.get("tools") or not self.chance(0.3 if after_result else 0.6):
            return []
        return self.random.sample(TOOLS, self.random.choice((1, 1, 2)))


class Handler(BaseHTTPRequestHandler):
    """Closes each connection, as of HTTP/1.0: clients that nobody closes leave no socket open."""

    def do_POST(self) -> None:
        server: Any = self.server
        told = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server.asked.append(told)
        answer = next(way for path, way in WAYS.items() if self.path.endswith(path))
        status, found = 200, {}
        try:
            if told["model"] in server.down:
                status, found = 529, DOWN
            else:
                found = answer(server, told)
        except Refused as error:
            server.refused.append(f"{told['model']}: {error}")
            status = 400
            found = {"error": {"type": "invalid_request_error", "message": str(error)}}
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


# -- Chat Completions ----------------------------------------------------------------------------


def chat(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    only(
        told,
        *("model", "messages", "tools", "tool_choice", "stream", "temperature", "max_tokens"),
        *("parallel_tool_calls", "user", "seed", "max_completion_tokens", "prompt_cache_key"),
    )
    messages = told["messages"]
    open_calls: list[str] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            only(message, "role", "content", "tool_call_id")
            need(message["tool_call_id"] in open_calls, "tool message without its tool_calls")
            open_calls.remove(message["tool_call_id"])
            continue
        need(not open_calls, "tool_calls must be followed by tool messages")
        only(message, "role", "content", "tool_calls", "name", "refusal")
        chat_content(message)
        calls = message.get("tool_calls") or []
        need(role == "assistant" or not calls, "only assistants call tools")
        need(message.get("content") is not None or calls, "content may not be null")
        for call in calls:
            only(call, "id", "type", "function")
            json.loads(call["function"]["arguments"])
            open_calls.append(call["id"])
    need(not open_calls, "tool_calls must be followed by tool messages")
    if told["model"] == WITHOUT_TOOLS:
        roles = {message["role"] for message in messages}
        used = told.get("tools") or "tool" in roles or any(m.get("tool_calls") for m in messages)
        need(not used, "this model has no tools")
    return chat_answer(server, told)


def chat_content(message: dict[str, Any]) -> None:
    content = message.get("content")
    if not isinstance(content, list):
        return
    for part in content:
        need(part.get("type") in ("text", "image_url", "refusal"), f"unknown part {part}")
        only(part, "type", part["type"])


def chat_answer(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    names = server.tools_to_call(told, told["messages"][-1]["role"] == "tool")
    calls = [
        {
            "id": server.new(told["model"], "call"),
            "type": "function",
            "function": {"name": name, "arguments": '{"place": "Rome"}'},
        }
        for name in names
    ]
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else "It is so."}
    if server.chance(0.3):
        message["reasoning_content"] = "Let me see."
    if calls:
        message["tool_calls"] = calls
    elif server.chance(0.1):
        message |= {"content": None, "refusal": "I would rather not."}
    choice = {"index": 0, "finish_reason": "tool_calls" if calls else "stop", "message": message}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": told["model"]}
    return {**head, "choices": [choice], "usage": usage}


# -- Responses -----------------------------------------------------------------------------------


def responses(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    only(
        told,
        *("model", "input", "tools", "tool_choice", "stream", "reasoning", "include", "store"),
        *("previous_response_id", "temperature", "top_p", "truncation", "max_output_tokens"),
        *("instructions", "metadata", "user", "parallel_tool_calls"),
    )
    model, before = told["model"], told.get("previous_response_id")
    calls: set[str] = set()
    if before:
        server.knows(model, before, "previous_response_id")
        calls |= server.calls_of[before]
    items = told["input"]
    items = [{"role": "user", "content": items}] if isinstance(items, str) else items
    for at, item in enumerate(items):
        follower = items[at + 1] if at + 1 < len(items) else {}
        earlier = items[at - 1] if at else {}
        item_checked(server, model, item, earlier, follower, calls)
    need(not calls, f"No tool output found for function call {calls}")
    return response_answer(server, told, items)


def item_checked(
    server: Server,
    model: str,
    item: dict[str, Any],
    earlier: dict[str, Any],
    follower: dict[str, Any],
    calls: set[str],
) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        only(item, "type", "role", "content", "id", "phase", "status")
        item_content(item)
    elif kind == "function_call":
        only(item, "type", "id", "call_id", "name", "arguments", "status")
        need(isinstance(item["arguments"], str), "arguments is a string")
        calls.add(item["call_id"])
    elif kind == "function_call_output":
        only(item, "type", "call_id", "output", "id", "status")
        need(item["call_id"] in calls, f"No tool call found for {item['call_id']}")
        calls.discard(item["call_id"])
    elif kind == "reasoning":
        only(item, "type", "id", "summary", "encrypted_content", "content", "status")
        server.knows(model, item.get("encrypted_content") or item["id"], "reasoning")
        need(
            follower.get("type", "message") in ("message", "function_call", "web_search_call")
            and follower.get("role", "assistant") == "assistant",
            f"Item {item['id']!r} was provided without its required following item",
        )
    else:
        need(kind == "web_search_call", f"Invalid value: {kind!r}")
        server.knows(model, item["id"], "web_search_call")
    if kind in ("message", "function_call") and item.get("id"):
        server.knows(model, item["id"], "id")
        reasoned = server.follows.get(item["id"])
        given = earlier.get("id") == reasoned or earlier.get("type") == "function_call"
        need(reasoned is None or given, f"{item['id']} was provided without its {reasoned}")


def item_content(item: dict[str, Any]) -> None:
    if isinstance(item["content"], str):
        return
    written = item["role"] == "assistant"
    for part in item["content"]:
        kinds = ("output_text", "refusal") if written else ("input_text", "input_image")
        need(part.get("type") in kinds, f"Invalid value: {part.get('type')!r}")
        only(part, "type", "text", "annotations", "refusal", "image_url", "detail", "logprobs")


def response_answer(
    server: Server, told: dict[str, Any], items: list[dict[str, Any]]
) -> dict[str, Any]:
    model, made = told["model"], server.new(told["model"], "resp")
    reasoning: dict[str, Any] = {
        "type": "reasoning",
        "id": server.new(model, "rs"),
        "summary": [{"type": "summary_text", "text": "I think."}],
    }
    if told.get("include"):
        reasoning["encrypted_content"] = server.new(model, "secret")
    output = [reasoning]
    names = server.tools_to_call(told, items[-1].get("type") == "function_call_output")
    server.calls_of[made] = set()
    for name in names:
        call = {"type": "function_call", "id": server.new(model, "fc"), "name": name}
        call |= {"call_id": server.new(model, "call"), "arguments": '{"place": "Rome"}'}
        server.calls_of[made].add(call["call_id"])
        output.append({**call, "status": "completed"})
    if not names:
        searched = server.chance(0.2)
        if searched:
            action = {"type": "search", "query": "so"}
            search = {"type": "web_search_call", "id": server.new(model, "ws"), "action": action}
            output.append({**search, "status": "completed"})
        part = {"type": "output_text", "text": "It is so.", "annotations": [], "logprobs": []}
        said = {"type": "message", "id": server.new(model, "msg"), "role": "assistant"}
        output.append({**said, "status": "completed", "content": [part]})
    if output[1]["type"] != "web_search_call":
        server.follows[output[1]["id"]] = reasoning["id"]
    usage: dict[str, Any] = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage |= {"input_tokens_details": {"cached_tokens": 0}}
    usage |= {"output_tokens_details": {"reasoning_tokens": 1}}
    return {
        "id": made,
        "object": "response",
        "created_at": 0,
        "model": model,
        "output": output,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "usage": usage,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "instructions": None,
        "temperature": 1.0,
        "top_p": 1.0,
    }


# -- Anthropic's Messages ------------------------------------------------------------------------


def messages(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    only(
        told,
        *("model", "messages", "max_tokens", "tools", "tool_choice", "system", "thinking"),
        *("stop_sequences", "stream", "temperature", "metadata", "cache_control", "top_k"),
    )
    said = told["messages"]
    need(said and said[0]["role"] == "user", "first message must use the user role")
    calls: set[str] = set()
    for message in said:
        blocks = message["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        need(blocks, "messages must have non-empty content")
        answered = {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"}
        need(answered == calls, f"tool_use ids {calls} need their tool_result, got {answered}")
        calls = {b["id"] for b in blocks if b["type"] == "tool_use"}
        for block in blocks:
            block_checked(server, told["model"], message["role"], block)
    need(not calls, "tool_use without tool_result")
    if (told.get("thinking") or {}).get("type") == "enabled":
        thinking_checked(told)
    return anthropic_answer(server, told)


def block_checked(server: Server, model: str, role: str, block: dict[str, Any]) -> None:
    kind = block["type"]
    if kind == "text":
        only(block, "type", "text", "cache_control", "citations")
        need(block["text"].strip(), "text content blocks must be non-empty")
        for citation in block.get("citations") or ():
            server.knows(model, citation["encrypted_index"], "encrypted_index")
    elif kind == "tool_result":
        only(block, "type", "tool_use_id", "content", "is_error", "cache_control")
        need(role == "user", "tool_result blocks are the user's")
    elif kind == "image":
        only(block, "type", "source", "cache_control")
    else:
        need(role == "assistant", f"{kind} blocks are the assistant's")
        assistant_block_checked(server, model, block)


def assistant_block_checked(server: Server, model: str, block: dict[str, Any]) -> None:
    kind = block["type"]
    if kind == "thinking":
        only(block, "type", "thinking", "signature")
        server.knows(model, block.get("signature"), "signature` in `thinking` block")
    elif kind == "redacted_thinking":
        only(block, "type", "data")
        server.knows(model, block["data"], "data` in `redacted_thinking` block")
    elif kind == "tool_use":
        only(block, "type", "id", "name", "input", "cache_control")
        need(isinstance(block["input"], dict), "tool_use.input: Input should be a dictionary")
        need(re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]), f"tool_use.id: {block['id']}")
    elif kind == "server_tool_use":
        only(block, "type", "id", "name", "input", "cache_control")
        server.knows(model, block["id"], "server_tool_use")
    else:
        need(kind == "web_search_tool_result", f"Input tag {kind!r} does not match")
        for found in block["content"]:
            server.knows(model, found["encrypted_content"], "encrypted_content")


def thinking_checked(told: dict[str, Any]) -> None:
    """A turn that goes on with a tool's result begins with thinking."""
    choice = (told.get("tool_choice") or {}).get("type", "auto")
    need(choice in ("auto", "none"), "thinking may not be enabled when tool_choice forces a tool")
    said = told["messages"]
    start = len(said)
    while start >= 2 and _is_result(said[start - 1]):
        start -= 2
    if start < len(said):
        first = said[start]["content"]
        kind = first[0]["type"] if isinstance(first, list) else "text"
        need(kind in ("thinking", "redacted_thinking"), f"Expected `thinking`, but found `{kind}`")


def _is_result(message: dict[str, Any]) -> bool:
    content = message["content"]
    kinds = [block["type"] for block in content] if isinstance(content, list) else []
    return "tool_result" in kinds


def anthropic_answer(server: Server, told: dict[str, Any]) -> dict[str, Any]:
    model, content = told["model"], []
    after_result = _is_result(told["messages"][-1])
    if told.get("thinking") and not after_result:
        thought = {"type": "thinking", "thinking": "Hmm.", "signature": server.new(model, "sig")}
        content.append(thought)
        if server.chance(0.2):
            content.append({"type": "redacted_thinking", "data": server.new(model, "redacted")})
    names = server.tools_to_call(told, after_result)
    if not names and server.chance(0.2):
        content += searched(server, model)
    if not names or server.chance(0.5):
        content.append({"type": "text", "text": "It is so."})
    for name in names:
        call = {"type": "tool_use", "id": server.new(model, "toolu"), "name": name}
        content.append({**call, "input": {"place": "Rome"}})
    stop = "tool_use" if names else "end_turn"
    return {
        "id": server.new(model, "msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def searched(server: Server, model: str) -> list[dict[str, Any]]:
    use, secret = server.new(model, "srvtoolu"), server.new(model, "found")
    found = {"type": "web_search_result", "title": "So", "url": "https://so.example"}
    cited = {"type": "web_search_result_location", "cited_text": "so", "title": "So"}
    cited |= {"url": "https://so.example", "encrypted_index": server.new(model, "index")}
    return [
        {"type": "server_tool_use", "id": use, "name": "web_search", "input": {"query": "so"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": use,
            "content": [{**found, "encrypted_content": secret, "page_age": None}],
        },
        {"type": "text", "text": "One says so.", "citations": [cited]},
    ]


WAYS = {"/chat/completions": chat, "/responses": responses, "/messages": messages}


@contextmanager
def serving(seed: int = 0) -> Iterator[Server]:
    server = Server(seed)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
