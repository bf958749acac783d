"""BARTScore: how likely a summarising model finds one text, given the other."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Literal

from shared_router.errors import ConfigurationError, MissingExtraError
from shared_router.judging.metric import Range, required

if TYPE_CHECKING:
    import os

Direction = Literal["precision", "recall", "f"]


class BartScore:
    """Mean log-likelihood of a text's tokens under BART, given the other text; at most 0.

    Loaded at the first score. It is unbounded below: cut it off with `Clipped`, if at all.

    Args:
        model: A hub name or the folder of an encoder-decoder model; the paper's by default.
        direction: `precision` is the response given the reference, `recall` the reference given
            the response, `f` their mean.
        device: Where torch runs it.

    Source:
        Yuan, Neubig and Liu, "BARTScore: Evaluating Generated Text as Text Generation", 2021,
        equation 2 with equal weights.
    """

    range: Range = (-math.inf, 0.0)
    needs_answer = True

    def __init__(
        self,
        model: str | os.PathLike[str] = "facebook/bart-large-cnn",
        direction: Direction = "f",
        device: str = "cpu",
    ) -> None:
        if direction not in ("precision", "recall", "f"):
            raise ConfigurationError(
                f"direction is 'precision', 'recall' or 'f'; got {direction!r}."
            )
        self.name = f"bartscore-{direction}:{model}"
        self._source, self._direction, self._device = str(model), direction, device
        self._loading = threading.Lock()  # collect scores in several threads
        self._loaded: tuple[Any, Any] | None = None

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score a response beside its reference text, in nats per token.

        Raises:
            ConfigurationError: If the model cannot be loaded.
            MissingExtraError: If torch or transformers is not installed.
        """
        reference = required(answer, self.name)
        if self._direction == "precision":
            return self._likelihood(reference, response)
        if self._direction == "recall":
            return self._likelihood(response, reference)
        both = self._likelihood(reference, response) + self._likelihood(response, reference)
        return both / 2

    def _likelihood(self, given: str, text: str) -> float:
        import torch

        tokenizer, model = self._ready()
        most = model.config.max_position_embeddings
        source, target = (
            tokenizer(each, return_tensors="pt", truncation=True, max_length=most).to(self._device)
            for each in (given, text)
        )
        with torch.inference_mode():
            found = model(
                input_ids=source["input_ids"],
                attention_mask=source["attention_mask"],
                labels=target["input_ids"],
            )
        return min(0.0, -float(found.loss))  # the loss is the mean over the target's tokens

    def _ready(self) -> tuple[Any, Any]:
        with self._loading:
            if self._loaded is None:
                self._loaded = _load(self._source, self._device)
            return self._loaded


def _load(source: str, device: str) -> tuple[Any, Any]:
    try:
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingExtraError(
            "BARTScore needs torch and transformers: pip install 'hybrid-llm[train]'."
        ) from error
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = transformers.AutoModelForSeq2SeqLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{source}: neither the folder of an encoder-decoder model nor one that the hub gives "
            f"({type(error).__name__})."
        ) from error
    return tokenizer, model.to(device).eval()
