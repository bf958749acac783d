"""Overlap with a reference text, by the libraries that published figures come from."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from shared_router.errors import MissingExtraError
from shared_router.judging.metric import SHARE, required


class RougeL:
    """ROUGE-L F1 of `rouge-score`, stemmed, in [0, 1]."""

    name = "rouge-l"
    range = SHARE
    needs_answer = True

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score the longest common subsequence of words.

        Raises:
            MissingExtraError: If `rouge-score` is not installed.
        """
        found = _rouge_scorer().score(required(answer, self.name), response)
        return float(found["rougeL"].fmeasure)


class Bleu:
    """Sentence BLEU of `sacrebleu` with its default smoothing, divided by 100: in [0, 1]."""

    name = "bleu"
    range = SHARE
    needs_answer = True

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score the overlap of word n-grams.

        Raises:
            MissingExtraError: If `sacrebleu` is not installed.
        """
        module = _imported("sacrebleu", "sacrebleu")
        found = module.sentence_bleu(response, [required(answer, self.name)])
        return min(1.0, float(found.score) / 100.0)


class Chrf:
    """Sentence chrF of `sacrebleu`, divided by 100: in [0, 1]. Partial credit for short answers."""

    name = "chrf"
    range = SHARE
    needs_answer = True

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score the overlap of character n-grams.

        Raises:
            MissingExtraError: If `sacrebleu` is not installed.
        """
        module = _imported("sacrebleu", "sacrebleu")
        found = module.sentence_chrf(response, [required(answer, self.name)])
        return min(1.0, float(found.score) / 100.0)


@cache
def _rouge_scorer() -> Any:
    module = _imported("rouge_score.rouge_scorer", "rouge-score")
    return module.RougeScorer(["rougeL"], use_stemmer=True)


def _imported(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"This metric needs {package}: pip install 'hybrid-llm[judge]'."
        ) from error
