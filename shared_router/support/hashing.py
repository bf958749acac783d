"""Hashes of files and of texts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def file_sha256(path: Path) -> str:
    """Hash a file's contents."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """Hash a text, such as a system prompt that is compared and never kept."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
