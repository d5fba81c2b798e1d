"""Stratified splits: exact counts, fair to classes, functions of the seed alone."""

import numpy as np
import pytest

from jft.data import splits

NAMES = tuple("abcdef")


def labels_of(*counts):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts)).astype(np.int32)


@pytest.mark.parametrize(
    "counts,amount,held_out",
    [
        ((5000, 5000, 5000), 0.1, (500, 500, 500)),
        ((5000, 5000, 5000), 1500, (500, 500, 500)),
        ((5000, 5000, 5000), 1500.0, (500, 500, 500)),  # flags make floats of counts
        ((10, 20, 30), 0.1, (1, 2, 3)),
        ((10, 20, 30), 7, (1, 2, 4)),  # 1.17, 2.33, 3.5: the largest remainder gets the seventh
        ((1, 1, 10), 9, (0, 0, 9)),  # one example always stays
        ((1, 9), 5, (0, 5)),
        ((3, 0, 3), 2, (1, 0, 1)),  # a class without any example is nobody's loss
        ((4, 4), 0, (0, 0)),
    ],
)
def test_quotas(counts, amount, held_out):
    labels = labels_of(*counts)
    mask = splits.stratified(labels, amount, seed=7, names=NAMES)
    assert mask.dtype == bool and mask.shape == labels.shape
    assert tuple(np.bincount(labels[mask], minlength=len(counts))) == held_out


@pytest.mark.parametrize(
    "counts,amount,message",
    [
        ((1, 9), 9, "leave some class without any to train on .*'a'"),
        ((5, 5), 9, "leave some class without"),
        ((5, 5), 2.5, "share in"),
        ((5, 5), -0.1, "share in"),
        ((5, 5), 0.01, "is less than one image"),
    ],
)
def test_impossible_amounts(counts, amount, message):
    with pytest.raises(ValueError, match=message):
        splits.stratified(labels_of(*counts), amount, seed=0, names=NAMES)


def test_the_seed_decides():
    labels = labels_of(50, 50)
    masks = [splits.stratified(labels, 0.2, seed, NAMES) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()


def test_few_per_class():
    labels = labels_of(30, 12, 20)
    five, ten = (splits.few_per_class(labels, k, 3, NAMES[:3]) for k in (5, 10))
    assert tuple(np.bincount(labels[five])) == (5, 5, 5)
    assert (ten | ~five).all()  # more examples are the same ones and others
    with pytest.raises(ValueError, match=r"asks for 15 .* but 'b' has 12"):
        splits.few_per_class(labels, 15, 3, NAMES[:3])


def test_epoch_order_is_a_fixed_permutation():
    orders = [splits.epoch_order(1000, seed, epoch) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(1000))
        assert order.dtype == np.int64
    assert len({order.tobytes() for order in orders}) == 3
    # A resumed run depends on these numbers: they must not change with a release of NumPy or of jft.
    assert splits.epoch_order(10, 0, 0).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert splits.epoch_order(10, -1, 5).tolist() == [0, 9, 2, 1, 5, 7, 6, 4, 8, 3]


def test_few_of_several_labels():
    hot = (np.random.default_rng(0).random((60, 3)) < 0.4).astype(np.uint8)
    three, six = (splits.few_per_class(hot, k, 3, NAMES[:3]) for k in (3, 6))
    assert (hot[three].sum(axis=0) >= 3).all() and three.sum() <= 9
    assert (six | ~three).all()
    with pytest.raises(ValueError, match=r"asks for 40 .* but 'a' has \d+, 'b' has \d+, 'c' has \d+"):
        splits.few_per_class(hot, 40, 3, NAMES[:3])


def test_what_earlier_runs_held_out_and_kept():
    # From before images had groups or several labels: a run must be able to go on.
    labels = np.arange(20) % 3
    assert np.flatnonzero(splits.stratified(labels, 5, 3, NAMES[:3])).tolist() == [4, 14, 15, 18, 19]
    assert np.flatnonzero(splits.few_per_class(labels, 2, 3, NAMES[:3])).tolist() == [9, 10, 11, 14, 18, 19]


def test_balanced_classes_take_turns():
    labels = labels_of(90, 9, 1)
    order = splits.balanced_order(labels, 5, 0)
    assert order.shape == (100,) and order.dtype == np.int64
    rounds = labels[order][:99].reshape(33, 3)
    assert (np.sort(rounds) == [0, 1, 2]).all() and len({tuple(r) for r in rounds}) == 6
    np.testing.assert_array_equal(order, splits.balanced_order(labels, 5, 0))
    assert (order != splits.balanced_order(labels, 6, 0)).any()


def test_balanced_examples_are_all_drawn_before_any_comes_again():
    labels = labels_of(20, 7)[:26]  # 26 draws an epoch: 13 of each class
    drawn = np.concatenate([splits.balanced_order(labels, 5, epoch) for epoch in range(12)])
    for label, count in enumerate(np.bincount(labels)):
        of_class = drawn[labels[drawn] == label]
        assert len(of_class) == 13 * 12
        cycles = [tuple(of_class[i : i + count]) for i in range(0, len(of_class) - count + 1, count)]
        assert {tuple(sorted(cycle)) for cycle in cycles} == {tuple(np.flatnonzero(labels == label))}
        assert len(set(cycles)) == len(cycles)  # in another order each time


def test_balanced_labels_of_several():
    hot = np.array([[1, 0], [1, 0], [1, 1], [0, 0], [1, 0], [1, 0]], np.uint8)
    order = splits.balanced_order(hot, 0, 3)
    assert 3 not in order and (order == 2).sum() >= 3  # the only one of its label, in each of 3 turns
