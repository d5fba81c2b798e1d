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
        ((5, 5), 0.01, "is none"),
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
