"""Wrong labels are found among right ones."""

import dataclasses

import numpy as np
import pytest

from jft.evaluation.label_issues import Suspect, suspicious

NAMES = ("daisy", "rose", "tulip", "violet", "lily")  # there are no lilies


def blobs(spread, n=400):
    """Four classes in 12 dimensions on scales of their own."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 4
    centers = rng.normal(size=(4, 12))
    x = (centers[labels] + spread * rng.normal(size=(n, 12))) * np.logspace(-2, 2, 12)
    return x.astype(np.float32), labels


def test_flipped_labels_are_found_and_come_first():
    features, right = blobs(0.6)
    flipped = np.random.default_rng(1).choice(400, 20, replace=False)
    labels = right.copy()
    labels[flipped] = (labels[flipped] + 1 + np.arange(20) % 3) % 4
    found = suspicious(features, labels, classes=NAMES)
    rows = [suspect.row for suspect in found]
    hits = set(rows) & set(flipped)
    assert len(hits) >= 16 and len(hits) > 0.8 * len(rows)
    assert set(rows[:10]) <= set(flipped)
    for s in found:
        assert s.label == labels[s.row] != s.suggested and 0 <= s.probability < s.suggested_probability <= 1
        assert s.suggested == right[s.row] or s.row not in hits
    assert found == suspicious(features, labels, classes=NAMES)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found[0].row = 0


def test_right_labels_are_left_alone():
    features, labels = blobs(0.2)
    assert len(suspicious(features, labels, classes=NAMES)) <= 2


def test_what_is_suspected_of_given_probabilities(monkeypatch):
    table = np.array(
        [
            [0.9, 0.1, 0.0],
            [0.8, 0.2, 0.0],
            [0.45, 0.55, 0.0],  # more probably of the other class, but less so than what is labeled so: 0.58
            [0.3, 0.2, 0.5],  # of the class that there is none of
            [0.3, 0.7, 0.0],  # suspect
            [0.1, 0.9, 0.0],  # suspect, and more so
            [0.2, 0.8, 0.0],
            [0.3, 0.7, 0.0],
            [0.47, 0.53, 0.0],
            [0.7, 0.3, 0.0],  # suspect
        ]
    )
    labels = np.array([0] * 6 + [1] * 4)
    monkeypatch.setattr("jft.evaluation.label_issues._out_of_fold", lambda *arguments: table)
    found = suspicious(np.ones((10, 1), np.float32), labels, classes=NAMES[:3], folds=2)
    assert found == [Suspect(5, 0, 1, 0.1, 0.9), Suspect(4, 0, 1, 0.3, 0.7), Suspect(9, 1, 0, 0.3, 0.7)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": np.r_[np.zeros(16, int), [1] * 3, [2]]},
            "5 folds need 5 .* 'rose' has 3, 'tulip' has 1: use fewer",
        ),
        ({"labels": np.eye(4, dtype=int)[np.arange(20) % 4]}, r"labels are \[20, 4\], several per image"),
        ({"labels": np.arange(20) % 6}, r"labels lie in 0\.\.5, but 5 outputs"),
        ({"folds": 1}, "folds = 1"),
        ({"classes": ("daisy",)}, "give at least 2; with one class"),
    ],
)
def test_what_cannot_be_judged_is_refused(change, message):
    arguments = {"features": np.ones((20, 2), np.float32), "labels": np.arange(20) % 4, "classes": NAMES, **change}
    with pytest.raises(ValueError, match=message):
        suspicious(**arguments)
