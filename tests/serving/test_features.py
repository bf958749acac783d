"""Query features: defined for every text, quick for any."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_router.serving.features import FEATURE_NAMES, feature_matrix, query_features


def feature(name: str, text: str) -> float:
    return query_features(text)[FEATURE_NAMES.index(name)]


@given(st.text())
def test_every_text_has_finite_features(text: str) -> None:
    row = query_features(text)
    assert len(row) == len(FEATURE_NAMES)
    assert np.isfinite(np.array(row, dtype=np.float32)).all()


@pytest.mark.parametrize("text", ["", " ", "\x00", "😀" * 5, "\u0660\u0661", "a" * 100_000])
def test_odd_texts_have_finite_features(text: str) -> None:
    assert np.isfinite(feature_matrix([text])).all()


@pytest.mark.parametrize("sign", ["\n", " ", "\t", " \n", "(", "A.", "1", "_", "n't", "\u2028"])
def test_time_grows_no_faster_than_the_text(sign: str) -> None:
    started = time.perf_counter()
    query_features(sign * (200_000 // len(sign)))
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("log_characters", "abc", np.log(4)),
        ("log_words", "two words", np.log(3)),
        ("digit_share", "a1b2", 0.5),
        ("numbers", "12 and 7, 3 and 44", 2.0),
        ("question_mark", "is it?", 1.0),
        ("question_word", "  What is it", 1.0),
        ("question_word", "whatever", 0.0),
        ("lines", "a\nb", 1.0),
        ("options", "Pick\nA. one\n  (B) two\n\n\nC) three\nD: four", 2.0),
        ("code_sign_share", "{}ab", 0.5),
        ("code_words", "def f: return", 2**0.5),
        ("mean_word_length", "a bcd", 2.0),
        ("capital_share", "ABcd", 0.5),
        ("negations", "which is NOT", 1.0),
        ("blank_to_fill", "the ___ is", 1.0),
    ],
)
def test_features_by_hand(name: str, text: str, value: float) -> None:
    assert feature(name, text) == pytest.approx(value)


def test_a_matrix_is_a_row_per_text() -> None:
    texts = ["a", "what is 2 + 2?"]
    np.testing.assert_allclose(feature_matrix(texts), [query_features(t) for t in texts], rtol=1e-6)
    assert feature_matrix([]).shape == (0, len(FEATURE_NAMES))
    assert feature_matrix(texts).dtype == np.float32
