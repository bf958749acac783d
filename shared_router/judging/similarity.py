"""Similarity of meaning: the cosine of two sentence embeddings."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from shared_router.judging.metric import Range, required

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared_router.serving.session import GraphSession
    from shared_router.serving.tokens import Tokens


class EmbeddingSimilarity:
    """Cosine of the response's and the reference's embedding, in [-1, 1].

    It tells what a text is about, not whether it is right. Loaded at the first score.

    Args:
        encoder: `minilm`, a hub name, or the path of a transformers folder.
    """

    range: Range = (-1.0, 1.0)
    needs_answer = True

    def __init__(self, encoder: str = "minilm") -> None:
        self.name = f"similarity:{encoder}"
        self._encoder = encoder
        self._loading = threading.Lock()  # collect scores in several threads
        self._loaded: tuple[Tokens, GraphSession] | None = None

    def score(self, query: str, response: str, answer: str | None, /) -> float:
        """Score a response beside its reference text.

        Raises:
            ConfigurationError: If the encoder cannot be found.
            MissingExtraError: If it must be exported and the `train` extra is not installed.
        """
        one, two = (self._embed(text) for text in (response, required(answer, self.name)))
        return min(1.0, max(-1.0, float(one @ two)))

    def _embed(self, text: str) -> NDArray[np.float32]:
        tokens, session = self._ready()
        vector: NDArray[np.float32] = session.run(["encoded"], tokens.encode(text))[0][0]
        return vector

    def _ready(self) -> tuple[Tokens, GraphSession]:
        from shared_router.serving.session import GraphSession
        from shared_router.serving.tokens import Tokens
        from shared_router.training.encoder import load_encoder

        with self._loading:
            if self._loaded is None:
                found = load_encoder(self._encoder)
                text = found.tokenizer.read_text(encoding="utf-8")
                self._loaded = (Tokens(text, found.max_tokens), GraphSession(found.graph))
            return self._loaded
