"""Folds: every class in each, groups whole."""

import numpy as np
import pytest

from jft.data.folds import folds


def test_every_fold_has_its_share_of_every_class():
    labels = np.repeat(np.arange(3), [50, 20, 7])
    found = folds(labels, 5, 0)
    shares = np.array([np.bincount(labels[found == fold], minlength=3) for fold in range(5)])
    assert (shares[:, 0] == 10).all() and (shares[:, 1] == 4).all() and set(shares[:, 2]) == {1, 2}
    np.testing.assert_array_equal(found, folds(labels, 5, 0))
    assert (found != folds(labels, 5, 1)).any()


def test_few_images_of_a_class_are_no_error():
    labels = np.array([0] * 20 + [1, 1, 1, 2])
    found = folds(labels, 5, 0)
    assert len(set(found)) == 5 and len(set(found[labels == 1])) == 3
    assert len(set(folds(np.arange(4), 3, 0))) == 3  # one image of each class


def test_groups_stay_together():
    groups = np.arange(300) // 10
    labels = groups % 6
    found = folds(labels, 5, 0, groups)
    assert all(len(set(found[groups == group])) == 1 for group in range(30))
    assert np.bincount(found).tolist() == [60] * 5
    for label in range(6):
        assert len(set(found[labels == label])) == 5


@pytest.mark.parametrize("grouped", [False, True])
def test_several_labels(grouped):
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(np.uint8)
    groups = np.arange(200) // 2 if grouped else None
    found = folds(labels, 4, 0, groups)
    assert np.bincount(found).tolist() == [50] * 4
    counts = np.array([labels[found == fold].sum(0) for fold in range(4)])
    assert (counts[:, :3] > 0).all() and (np.ptp(counts.astype(int), 0) <= 4).all()
    if grouped:
        np.testing.assert_array_equal(found[::2], found[1::2])


@pytest.mark.parametrize(
    ("labels", "count", "groups", "message"),
    [
        (np.arange(3), 5, None, "5 folds of 3 images: .* Add images"),
        (np.arange(9), 1, None, "1 folds of 9 images: .* Ask for 2 folds or more"),
        (np.arange(9), 5, np.arange(9) // 3, "5 folds of 3 groups of images"),
    ],
)
def test_what_cannot_be_divided_is_refused(labels, count, groups, message):
    with pytest.raises(ValueError, match=message):
        folds(labels, count, 0, groups)
