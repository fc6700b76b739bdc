"""What tampering clients do to records: by hand, on images, windows and features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from attacks.observation import Records
from attacks.tampering import (
    TamperingConfig,
    flip_labels,
    flipped,
    mislabelled_copies,
    plant_backdoor,
    trigger_for,
    wrong_labels,
)


def config(how="label-flip", **settings):
    return TamperingConfig(how=how, **settings)


def records(shape, count=10, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return Records(rng.random((count, *shape)).astype(np.float32), rng.integers(classes, size=count))


def test_a_flip_changes_the_source_alone_or_every_label_to_the_next():
    y = np.array([0, 1, 2, 3, 3, 1])
    np.testing.assert_array_equal(flipped(y, config(source=3, target=1), 4), [0, 1, 2, 1, 1, 1])
    np.testing.assert_array_equal(flipped(y, config(), 4), [1, 2, 3, 0, 0, 2])
    own = Records(np.zeros((6, 2), np.float32), y)
    assert flip_labels(own, config(), 4).x is own.x
    np.testing.assert_array_equal(own.y, [0, 1, 2, 3, 3, 1])


def test_a_trigger_is_a_patch_on_images():
    """Digits of 8 x 8: two pixels a side, as bright as anything in the attacker's own pictures."""
    own = records((1, 8, 8))
    trigger = trigger_for(own)
    stamped = trigger.stamped(own.x)
    assert trigger.where.sum() == 4 and trigger.where[0, 6:, 6:].all()
    assert (stamped[:, 0, 6:, 6:] == own.x.max()).all() and stamped.dtype == np.float32
    np.testing.assert_array_equal(stamped[:, :, :6], own.x[:, :, :6])
    assert trigger_for(records((3, 28, 28))).where.sum() == 3 * 4 * 4


def test_a_trigger_is_a_pulse_on_one_channel_of_a_window():
    own = records((3, 64))
    trigger = trigger_for(own)
    assert np.flatnonzero(trigger.where.any(axis=0)).tolist() == [30, 31, 32, 33] and trigger.where[0].sum() == 4
    assert not trigger.where[1:].any() and (trigger.stamped(own.x)[:, 0, 30:34] == own.x[:, 0].max()).all()


def test_a_trigger_is_the_last_features_at_their_largest():
    own = records((20,))
    stamped = trigger_for(own).stamped(own.x)
    np.testing.assert_array_equal(stamped[:, :17], own.x[:, :17])
    np.testing.assert_array_equal(stamped[:, 17:], np.broadcast_to(own.x[:, 17:].max(axis=0), (10, 3)))
    assert trigger_for(records((600,))).where.sum() == 12


@given(st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 99))
def test_a_backdoor_stamps_its_share_and_leaves_the_rest(count, share, seed):
    own, trigger = records((20,), count), trigger_for(records((20,), 50, seed=1))
    poisoned = plant_backdoor(own, trigger, config("backdoor", share=share, target=2), np.random.default_rng(seed))
    stamped = (poisoned.x != own.x).any(axis=1)
    assert stamped.sum() == max(1, round(share * count))
    assert (poisoned.y[stamped] == 2).all() and (poisoned.y[~stamped] == own.y[~stamped]).all()
    np.testing.assert_array_equal(poisoned.x[stamped], trigger.stamped(own.x[stamped]))


@given(st.integers(2, 9), st.integers(0, 99))
def test_a_wrong_label_is_never_the_right_one(classes, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=40)
    wrong = wrong_labels(y, classes, rng)
    assert (wrong != y).all() and wrong.min() >= 0 and wrong.max() < classes


def test_wrong_labels_are_spread_over_all_other_classes():
    wrong = wrong_labels(np.full(3000, 1), 4, np.random.default_rng(0))
    assert np.abs(np.bincount(wrong, minlength=4) / 3000 - [1 / 3, 0, 1 / 3, 1 / 3]).max() < 0.04


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 4))
def test_copies_are_shared_out_and_each_target_gets_all_of_its_own(targets, copies, clients):
    own, wrong = records((2,), targets), np.arange(targets) % 3
    settings = config("truth-serum", copies=copies, clients=clients)
    parts = [mislabelled_copies(own, wrong, settings, number) for number in range(clients)]
    sizes = [len(part) for part in parts]
    assert sum(sizes) == targets * copies and max(sizes) - min(sizes) <= 1
    everything = parts[0]
    for part in parts[1:]:
        everything = everything.joined(part)
    for x, label in zip(own.x, wrong, strict=True):
        same = (everything.x == x).all(axis=1)
        assert same.sum() == copies and (everything.y[same] == label).all()


def test_a_flip_from_a_class_to_itself_is_refused():
    with pytest.raises(ValidationError, match="source = 2 is the target as well; a flip needs two classes"):
        config(source=2, target=2)
    config("backdoor", source=None, target=0)
