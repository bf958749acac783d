"""The recipe that traces a routed chain in LangSmith runs offline and shows its run trees."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TREES = """\
RunnableSequence (chain)
  ChatPromptTemplate (prompt)
  HybridChatModel (chain) #hybrid_routing:small
    HybridRouter (chain) -> small (score)
    ReplayChatModel (llm) #hybrid_routing:small 16 tokens
  StrOutputParser (parser)

RunnableSequence (chain)
  ChatPromptTemplate (prompt)
  HybridChatModel (chain) #hybrid_routing:large
    HybridRouter (chain) -> large (score)
    ReplayChatModel (llm) #hybrid_routing:large 40 tokens
  StrOutputParser (parser)
"""


def test_the_recipe_prints_the_trees_that_its_server_received(repository: Path) -> None:
    keep = {k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH_", "LANGCHAIN_"))}
    command = [sys.executable, "-W", "error", "cookbook/trace_in_langsmith.py"]
    done = subprocess.run(
        command, cwd=repository, env=keep, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "> What is the capital of France?\nParis.\n" in done.stdout
    assert TREES in done.stdout
