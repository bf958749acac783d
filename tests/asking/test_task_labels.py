"""Task labels: what answers to what."""

from __future__ import annotations

import pytest

from shared_router.asking.task_labels import answers_to, count_labels, labels_of


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        (None, ()),
        ("", ()),
        ("gsm8k", ("gsm8k",)),
        ("seven/gsm8k", ("seven/gsm8k", "seven")),
        ("a/b/c", ("a/b/c", "a/b", "a")),
    ],
)
def test_a_task_answers_to_itself_and_its_suites(task: str | None, labels: tuple[str, ...]) -> None:
    assert labels_of(task) == labels
    assert all(answers_to(task, label) for label in labels)


def test_a_suite_is_no_mere_prefix() -> None:
    assert not answers_to("seventh/gsm8k", "seven")
    assert not answers_to("seven", "seven/gsm8k")
    assert not answers_to(None, "seven")


def test_queries_are_counted_under_every_label() -> None:
    assert count_labels(["s/a", "s/b", "s/a", None, "t"]) == {"s/a": 2, "s/b": 1, "s": 3, "t": 1}
