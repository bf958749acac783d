"""Code that passes its tests, run in a process of its own with limits on time and memory."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass

from shared_router.errors import ConfigurationError
from shared_router.judging.metric import SHARE, Range, required

FENCED = re.compile(r"```[ \t]*(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
# The limits are set before the program is read. What says that the tests passed is a fresh word
# written after them: a program that leaves early with status 0, or prints "ok", does not pass.
RUNNER = """
import os, resource, sys
said = os.dup(1)
cpu_s, memory, word = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
del sys.argv[1:]
for kind, most in ((resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_AS, memory),
                   (resource.RLIMIT_FSIZE, 1 << 20), (resource.RLIMIT_CORE, 0)):
    resource.setrlimit(kind, (most, most))
program = sys.stdin.read()
quiet = os.open(os.devnull, os.O_RDWR)
os.dup2(quiet, 0); os.dup2(quiet, 1); os.dup2(quiet, 2)
exec(compile(program, "<response>", "exec"), {"__name__": "__main__"})
os.write(said, word.encode())
"""


@dataclass(frozen=True)
class CodePassesTests:
    """1 where the response's code runs and its tests (the `answer`) raise nothing, else 0.

    The code is the fenced blocks of the response, or all of it. It runs isolated from the
    environment and from site-packages, in an empty folder. That stops accidents, not attacks: code
    of models you do not trust belongs in a container.

    Raises:
        ConfigurationError: If a limit is out of range, or the system has no such limits.
    """

    timeout_s: float = 10.0
    """Seconds on the clock, and of processor time rounded up."""
    memory_mb: int = 512
    """Address space in MiB."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.memory_mb < 64:
            raise ConfigurationError(
                "code runs with a time limit above 0 s and at least 64 MiB; got "
                f"timeout_s={self.timeout_s}, memory_mb={self.memory_mb}."
            )
        if os.name != "posix":
            raise ConfigurationError("metric 'code' needs a POSIX system, for its limits.")

    @property
    def name(self) -> str:
        """Name the metric."""
        return "code"

    @property
    def range(self) -> Range:
        """Return 0 to 1."""
        return SHARE

    @property
    def needs_answer(self) -> bool:
        """Tell that the tests stand in the answer."""
        return True

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Run the response's code, then its tests."""
        program = f"{code_of(response)}\n\n{required(answer, self.name)}\n"
        word = secrets.token_hex(16)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return float(self._run(program, word, folder) == word)

    def _run(self, program: str, word: str, folder: str) -> str:
        limits = [str(int(self.timeout_s) + 1), str(self.memory_mb << 20)]
        process = subprocess.Popen(  # noqa: S603  our own interpreter, the program on stdin
            [sys.executable, "-I", "-S", "-c", RUNNER, *limits, word],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(program.encode(errors="replace"), self.timeout_s)
        except subprocess.TimeoutExpired:
            return ""
        finally:
            _end(process)
        return said.decode(errors="replace") if process.returncode == 0 else ""


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and whatever it started, also where it left children behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def code_of(response: str) -> str:
    """Take the fenced code blocks of a response, or all of it where it has none."""
    blocks = FENCED.findall(response)
    return "\n\n".join(blocks) if blocks else response
