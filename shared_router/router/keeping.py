"""Keeping a router: in a folder, and on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from shared_router.router import files as artifact
from shared_router.router.folder import BUNDLED, SETTINGS
from shared_router.router.schema import said_of

if TYPE_CHECKING:
    import os

    from shared_router.router.router import Router


class Keeping:
    """The part of a `Router` that writes and reads it."""

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the router to a folder, whole or not at all.

        Args:
            folder: A new or empty folder, or one that holds a router, which is replaced: whoever
                reads it meanwhile sees the old one or the new one.

        Raises:
            ConfigurationError: If its scorer is no graph.
            ArtifactError: If the folder holds something else or cannot be written.
        """
        artifact.save(cast("Router", self), Path(folder))

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], *, revision: str | None = None
    ) -> Self:
        """Read a router from a folder, or from the Hugging Face hub.

        Args:
            name_or_path: A folder, a hub repository `owner/name`, or `bundled`.
            revision: Branch, tag or commit on the hub.

        Raises:
            ArtifactError: If it is missing, corrupt, truncated, foreign or of a newer format, or
                breaks a rule, such as a calibration that is not the one its queries give.
        """
        folder = artifact.find(name_or_path, revision)
        fields = artifact.load(folder)
        with said_of(folder / SETTINGS):
            return cast("Self", cast("Any", cls)(**fields))

    @classmethod
    def bundled(cls) -> Self:
        """Read the router that ships with this package: small tier against frontier.

        It needs no network. Its card, `README.md` in its folder, tells what it was trained on,
        how it ranks questions of other sources, and what it must not be used for. Its dials are
        estimates on other models: fit one of your own as soon as you have outcomes.
        """
        return cls.from_pretrained(BUNDLED)

    def push_to_hub(
        self, repo_id: str, *, private: bool = False, commit_message: str = "Upload router"
    ) -> str:
        """Upload the router and its card to the Hugging Face hub.

        Args:
            repo_id: `owner/name`.
            private: Whether a new repository is private.
            commit_message: The commit's message.

        Returns:
            The address of the commit.
        """
        router = cast("Router", self)
        return artifact.push(router, repo_id, private=private, commit_message=commit_message)
