"""Asking a model for log-probabilities until it refuses them, and from then on without."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared_router.data.answers import Sampling

T = TypeVar("T")


class Willing:
    """Whether a model gives log-probabilities, as far as is known.

    Args:
        sampling: Says whether they are asked for; where they must be, a refusal is an error.
        refuses: Tells whether an error may come of having asked for them.
        can: Whether there is a way to ask this model for them.
    """

    def __init__(
        self, sampling: Sampling, refuses: Callable[[Exception], bool], *, can: bool = True
    ) -> None:
        self._asks = can and sampling.logprobs is not False
        self._must = sampling.logprobs is True
        self._refuses = refuses

    async def ask(self, once: Callable[[bool], Awaitable[T]]) -> T:
        """Ask, and a model that refuses them once more without.

        That it did is known for the rest of the run where it then answers: what fails both ways
        was no refusal.

        Args:
            once: Asks the model, with log-probabilities or without.

        Raises:
            Exception: The model's; of two errors the one without log-probabilities.
        """
        if not self._asks:
            return await once(False)
        try:
            return await once(True)
        except Exception as error:
            if self._must or not self._refuses(error):
                raise
        answer = await once(False)
        self._asks = False
        return answer
