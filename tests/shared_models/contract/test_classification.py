"""Accuracy and F1 of nodes."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from shared_models.contract.classification import classification


def test_micro_f1_is_what_one_counts_by_hand() -> None:
    logits = np.array([[1, -1, 2], [-1, -1, -1], [1, 1, -1]], np.float32)
    labels = np.array([[1, 1, 0], [0, 0, 1], [1, 1, 0]], np.float32)

    found = classification(logits, labels, multi_label=True)

    # Three hits; one class of the first said too much, one missed; one of the second missed.
    assert found["micro_f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert found["accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("several", [False, True])
def test_all_three_are_scikit_learn_s(several: bool) -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((200, 4)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(4, size=200)]
    said = np.eye(4)[logits.argmax(1)]
    if several:
        labels, said = (rng.random((200, 4)) < 0.4).astype(np.float32), (logits > 0).astype(float)

    found = classification(logits, labels, multi_label=several)

    assert found["accuracy"] == pytest.approx(accuracy_score(labels, said))
    assert found["micro_f1"] == pytest.approx(f1_score(labels, said, average="micro"))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, said, average="macro"))


def test_with_one_class_a_node_micro_f1_is_accuracy() -> None:
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((50, 3)).astype(np.float32)
    labels = np.eye(3, dtype=np.float32)[rng.integers(3, size=50)]

    found = classification(logits, labels, multi_label=False)

    assert found["micro_f1"] == pytest.approx(found["accuracy"])


def test_a_class_that_nobody_has_or_names_is_no_part_of_the_mean() -> None:
    logits, labels = np.eye(3, dtype=np.float32)[:2], np.eye(3, dtype=np.float32)[:2]

    assert classification(logits, labels, multi_label=False)["macro_f1"] == 1
