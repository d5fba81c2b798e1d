"""Whole groups and several labels: never parted, as near to the quota as can be, fair to every class."""

import itertools

import numpy as np
import pytest

from jft.data import splits

NAMES = tuple("abcdef")


def grouped(*sizes_by_class):
    """Labels and groups, shuffled; the groups are numbered in no order."""
    sizes = [(label, size) for label, sizes in enumerate(sizes_by_class) for size in sizes]
    labels = np.concatenate([np.full(size, label, np.int32) for label, size in sizes])
    groups = np.concatenate([np.full(size, (7 * i) % 10007 - 50) for i, (_, size) in enumerate(sizes)])
    order = np.random.default_rng(0).permutation(len(labels))
    return labels[order], groups[order]


def hold_out(labels, groups, amount, seed=0, names=NAMES):
    mask = splits.stratified(labels, amount, seed, names[: labels.max() + 1 if labels.ndim == 1 else None], groups)
    assert not set(groups[mask]) & set(groups[~mask])
    return mask


def nearest(sizes, quota):
    """The least distance from the quota of any set of groups but all of them, by trying every one."""
    sets = itertools.chain.from_iterable(itertools.combinations(sizes, k) for k in range(len(sizes)))
    return min(abs(sum(chosen) - quota) for chosen in sets)


@pytest.mark.parametrize("seed", range(20))
def test_a_class_gives_the_groups_nearest_to_its_quota(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 40, rng.integers(2, 9)).tolist()
    # The second class is of single images in groups of one, so that quotas are those of the shares.
    labels, groups = grouped(sizes, [1] * sum(sizes))
    quota = sum(sizes) // 4
    mask = hold_out(labels, groups, 2 * quota, seed)
    most = sum(sizes) - min(sizes)
    quota = min(quota, most)
    assert abs((labels[mask] == 0).sum() - quota) == nearest(sizes, quota)
    assert (labels[mask] == 1).sum() == quota


@pytest.mark.parametrize("sizes", [([30] * 70, [30] * 7, [30] * 20), ([29, 30, 30, 30] * 6, [25] * 40, [4, 3] * 50)])
def test_the_share_of_real_tracks(sizes):
    labels, groups = grouped(*sizes)
    mask = hold_out(labels, groups, 0.1)
    for label, of_class in enumerate(sizes):
        assert abs((labels[mask] == label).sum() - sum(of_class) / 10) <= max(of_class) / 2
    again, other = hold_out(labels, groups, 0.1), hold_out(labels, groups, 0.1, seed=1)
    assert (mask == again).all() and (mask != other).any()
    shuffled = np.random.default_rng(1).permutation(len(labels))  # images change places, groups stay chosen
    assert (hold_out(labels[shuffled], groups[shuffled], 0.1) == mask[shuffled]).all()


def test_every_group_may_be_chosen():
    labels, groups = grouped([5, 5, 5, 5], [5, 5, 5])
    seen = [frozenset(groups[hold_out(labels, groups, 10, seed)]) for seed in range(40)]
    assert set().union(*seen) == set(groups) and len(set(seen)) > 4


def test_groups_of_one_are_counted_exactly():
    labels, groups = grouped([1] * 50, [1] * 31)
    assert np.bincount(labels[hold_out(labels, groups, 8)]).tolist() == [5, 3]
    assert not splits.stratified(labels, 0, 0, NAMES[:2], groups).any()


@pytest.mark.parametrize(
    "sizes,amount,message",
    [
        (
            ([10], [5, 5]),
            8,
            r"holding out 8 of 20 examples would leave some class without any to train on \('a'\); groups",
        ),
        (([30, 30], [30, 30]), 6, "cannot hold out 6 of 120 examples: .*whole, and the smallest has 30"),
        (([30, 30],), 1.5, "share in"),
    ],
)
def test_impossible_amounts(sizes, amount, message):
    with pytest.raises(ValueError, match=message):
        hold_out(*grouped(*sizes), amount)


def test_a_class_of_one_group_gives_nothing_and_others_more():
    labels, groups = grouped([10], [5] * 6, [5] * 6)
    assert np.bincount(labels[hold_out(labels, groups, 20)], minlength=3).tolist() == [0, 10, 10]


def test_groups_of_several_classes_stay_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(100), 6)
    labels = rng.choice(3, 600, p=(0.6, 0.3, 0.1)).astype(np.int32)
    mask = hold_out(labels, groups, 0.2)
    assert mask.sum() == 120
    shares = np.bincount(labels[mask]) / np.bincount(labels)
    assert np.abs(shares - 0.2).max() < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_several_labels_are_held_out_in_proportion(seed):
    rng = np.random.default_rng(seed)
    hot = (rng.random((400, 6)) < (0.5, 0.3, 0.1, 0.05, 0.02, 0.01)).astype(np.uint8)
    hot[0] = (0, 0, 0, 0, 0, 1)
    mask = splits.stratified(hot, 0.2, seed, NAMES)
    assert mask.sum() == 80
    assert np.abs(hot[mask].sum(axis=0, dtype=int) - 0.2 * hot.sum(axis=0)).max() <= 1.5
    assert (splits.stratified(hot, 0.2, seed + 1, NAMES) != mask).any()


def test_the_last_of_many_labels_is_no_less_even():
    rng = np.random.default_rng(0)
    hot = (rng.random((1000, 60)) < 0.1).astype(np.uint8)
    off = np.abs(hot[splits.stratified(hot, 0.1, 0, tuple(map(str, range(60))))].sum(axis=0) - hot.sum(axis=0) / 10)
    assert off.max() < 4  # by chance: 8


def test_the_only_image_of_a_label_is_trained_on():
    hot = np.zeros((20, 2), np.uint8)
    hot[:, 0] = 1
    hot[7, 1] = 1
    for seed in range(10):
        assert not splits.stratified(hot, 0.5, seed, NAMES[:2])[7]
    with pytest.raises(ValueError, match=r"holding out 20 of 20 .* without any to train on \('a', 'b'\)"):
        splits.stratified(hot, 20, 0, NAMES[:2])
