"""Query features that matter beside the embedding: cheap, language-light, computed from text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from shared_router.asking.texts import text_ends
from shared_router.retrieval import RETRIEVAL_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from shared_router.retrieval import RetrievalFacts

_NUMBER = re.compile(r"\d+")
_CODE_WORD = re.compile(r"\b(?:def|class|import|return|function|print|assert|int|void|SELECT)\b")
_QUESTION_WORD = re.compile(r"\s*(?:what|which|who|whom|whose|when|where|why|how)\b", re.IGNORECASE)
# Blanks but no line ends: `\s*` would try every later line from every line, in quadratic time.
_OPTION = re.compile(r"^[^\S\n]*\(?[A-E1-5][.):]", re.MULTILINE)
_NEGATION = re.compile(r"\b(?:not|except|never|no|least)\b|n't\b", re.IGNORECASE)
MOST_RETRIEVED = 1e15
"""Facts are cut here: the square of one still fits a float32."""
_CODE_SIGNS = frozenset("{}[]()=<>;_\\")

FEATURE_NAMES = (
    "log_characters",
    "log_words",
    "digit_share",
    "numbers",
    "question_mark",
    "question_word",
    "lines",
    "options",
    "code_sign_share",
    "code_words",
    "mean_word_length",
    "longest_word",
    "capital_share",
    "negations",
    "blank_to_fill",
)
"""Names of the features, in the order of the columns."""


def feature_names(facts: int, terms: bool) -> list[str]:
    """Name what a graph sees beside the tokens: these features, facts of retrieval, hashed words.

    Args:
        facts: How many of `RETRIEVAL_NAMES` it sees.
        terms: Whether it reads hashed words.
    """
    return [*FEATURE_NAMES, *RETRIEVAL_NAMES[:facts], *(["terms"] if terms else [])]


def query_features(text: str) -> list[float]:
    """Compute the features of one query; of a long text those of its head and tail.

    Args:
        text: The query; may be empty.

    Returns:
        One finite number per name in `FEATURE_NAMES`.
    """
    text = text_ends(text)
    characters = max(len(text), 1)
    words = text.split()
    lengths = [len(word) for word in words] or [0]
    return [
        float(np.log1p(len(text))),
        float(np.log1p(len(words))),
        sum(map(str.isdigit, text)) / characters,
        len(_NUMBER.findall(text)) ** 0.5,
        float("?" in text),
        float(bool(_QUESTION_WORD.match(text))),
        text.count("\n") ** 0.5,
        len(_OPTION.findall(text)) ** 0.5,
        sum(sign in _CODE_SIGNS for sign in text) / characters,
        len(_CODE_WORD.findall(text)) ** 0.5,
        sum(lengths) / len(lengths),
        float(np.log1p(max(lengths))),
        sum(map(str.isupper, text)) / characters,
        len(_NEGATION.findall(text)) ** 0.5,
        float("___" in text),
    ]


def feature_matrix(
    texts: Sequence[str],
    retrieval: Sequence[RetrievalFacts | None] | None = None,
    means: Sequence[float] = (),
) -> NDArray[np.float32]:
    """Compute the features of many queries: those of the texts, then facts of their retrieval.

    Args:
        texts: The queries.
        retrieval: What was retrieved for each, where known; one that is not known is taken at
            its mean.
        means: Mean of each of `RETRIEVAL_NAMES`; empty for a router that sees no facts.

    Returns:
        Shape (n, len(FEATURE_NAMES) + len(means)).
    """
    rows = [query_features(text) for text in texts]
    own = np.array(rows, dtype=np.float32).reshape(len(texts), len(FEATURE_NAMES))
    if not means:
        return own
    columns = retrieval_columns([None] * len(texts) if retrieval is None else retrieval)
    filled = np.where(np.isnan(columns), np.asarray(means), columns)
    return np.hstack([own, filled.astype(np.float32)])


def retrieval_columns(retrieval: Sequence[RetrievalFacts | None]) -> NDArray[np.float64]:
    """Lay facts out, shape (n, len(RETRIEVAL_NAMES)); NaN where one is not known."""
    nothing = (None,) * len(RETRIEVAL_NAMES)
    rows = [nothing if facts is None else facts.columns() for facts in retrieval]
    columns = np.array(rows, dtype=np.float64).reshape(len(rows), len(RETRIEVAL_NAMES))
    return np.clip(columns, -MOST_RETRIEVED, MOST_RETRIEVED)
