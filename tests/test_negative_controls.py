"""Negative controls: what is destroyed is destroyed as said, and everything else is the same bit for bit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

from tumorbench_utils.robustness.controls import (
    CONTROLS,
    EMPTY_MASK,
    FULL_MASK,
    NO_MASK,
    NegativeControlError,
    control,
    region_of,
)

SHAPE = (16, 18, 20)


def case(seed=0):
    """A patch with a dense tumour in a dark, skewed surrounding."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, bool)
    mask[4:12, 5:14, 3:15] = True
    patch = np.where(mask, rng.normal(40, 25, SHAPE), -1000 + rng.exponential(200, SHAPE)).astype(np.int16)
    patch[:2] = -1024
    return patch, mask


def region(id, mask):
    return {"roi": mask, "non_roi": ~mask, "full": np.ones_like(mask)}[region_of(id)]


def ids(kind):
    return [f"{kind}_{place}" for place in ("roi", "non_roi", "full")]


def test_there_are_three_kinds_in_three_regions():
    expected = {id for kind in ("shuffled", "randomized", "randomized_sampled") for id in ids(kind)}
    assert set(CONTROLS) == expected and len(set(CONTROLS.values())) == 9
    assert CONTROLS["randomized_sampled_non_roi"] == "Surroundings sampled"


@pytest.mark.parametrize("id", CONTROLS)
def test_the_other_region_and_the_input_stay_as_they_were(id):
    patch, mask = case()
    before = patch.copy(), mask.copy()
    found, touched = control(id, patch, mask, 0, "a"), region(id, mask)
    assert found.dtype == np.int16 and found.shape == SHAPE
    assert_array_equal(found[~touched], patch[~touched])
    assert (found[touched] != patch[touched]).mean() > 0.8
    assert_array_equal(patch, before[0])
    assert_array_equal(mask, before[1])


@pytest.mark.parametrize("id", ids("shuffled"))
def test_shuffling_keeps_every_voxel_of_the_region(id):
    patch, mask = case()
    found, touched = control(id, patch, mask, 0, "a"), region(id, mask)
    assert_array_equal(np.sort(found[touched]), np.sort(patch[touched]))
    order = stats.spearmanr(patch[touched], found[touched]).statistic
    assert abs(order) < 0.06  # nothing of the order is left


@pytest.mark.parametrize("id", ids("randomized"))
def test_randomised_voxels_are_uniform_between_least_and_greatest(id):
    patch, mask = case()
    touched = region(id, mask)
    low, high = int(patch[touched].min()), int(patch[touched].max())
    found = np.concatenate([control(id, patch, mask, seed, "a")[touched] for seed in range(20)])
    assert found.min() == low and found.max() == high
    assert stats.kstest(found + 0.5, stats.uniform(low, high - low + 1).cdf).statistic < 0.02
    assert stats.ks_2samp(found, patch[touched]).statistic > 0.1


@pytest.mark.parametrize("id", ids("randomized_sampled"))
def test_sampled_voxels_have_the_distribution_of_the_region(id):
    patch, mask = case()
    touched = region(id, mask)
    found = control(id, patch, mask, 0, "a")[touched]
    assert set(found) <= set(patch[touched])
    assert stats.ks_2samp(found, patch[touched]).pvalue > 0.001
    assert not np.array_equal(np.sort(found), np.sort(patch[touched]))  # with replacement: some come twice


@pytest.mark.parametrize("id", CONTROLS)
def test_what_is_drawn_hangs_on_seed_and_key_alone(id):
    patch, mask = case()
    found = control(id, patch, mask, 0, "a")
    assert_array_equal(control(id, patch, mask, 0, "a"), found)
    for seed, key in ((1, "a"), (0, "b")):
        assert (control(id, patch, mask, seed, key) != found).any()


@pytest.mark.parametrize("kind", ["shuffled", "randomized", "randomized_sampled"])
def test_the_full_patch_needs_no_mask(kind):
    patch, mask = case()
    assert_array_equal(control(f"{kind}_full", patch, None, 0, "a"), control(f"{kind}_full", patch, mask, 0, "a"))


def test_a_region_of_one_value_or_one_voxel_stays():
    patch, mask = case()
    patch[mask] = 7
    one = np.zeros(SHAPE, bool)
    one[3, 3, 3] = True
    for kind in ("shuffled", "randomized", "randomized_sampled"):
        assert_array_equal(control(f"{kind}_roi", patch, mask, 0, "a"), patch)
        assert_array_equal(control(f"{kind}_roi", patch, one, 0, "a"), patch)


def test_the_whole_range_of_int16_can_be_drawn():
    patch = np.zeros(SHAPE, np.int16)
    patch[0, 0, :2] = -32768, 32767
    found = control("randomized_full", patch, None, 0, "a")
    assert found.min() < -30000 and found.max() > 30000


@pytest.mark.parametrize("id", [id for id in CONTROLS if not id.endswith("_full")])
def test_a_mask_that_is_missing_empty_or_of_another_shape_is_an_error(id):
    patch, mask = case()
    for given, words in ((None, NO_MASK), (np.zeros(SHAPE, bool), EMPTY_MASK), (mask[:-1], "the mask is")):
        with pytest.raises(NegativeControlError, match=words):
            control(id, patch, given, 0, "a")


@pytest.mark.parametrize("id", ids("shuffled"))
def test_a_mask_that_fills_the_patch_leaves_nothing_outside_it(id):
    patch, full = case()[0], np.ones(SHAPE, bool)
    if id.endswith("_non_roi"):
        with pytest.raises(NegativeControlError, match=FULL_MASK):
            control(id, patch, full, 0, "a")
    else:
        assert_array_equal(np.sort(control(id, patch, full, 0, "a").ravel()), np.sort(patch.ravel()))


def test_an_unknown_control_is_answered_with_those_there_are():
    with pytest.raises(NegativeControlError, match=r"unknown negative control 'shuffled'.*randomized_sampled_full"):
        control("shuffled", *case(), 0, "a")


@pytest.mark.parametrize("patch", [np.zeros(SHAPE), np.zeros(SHAPE[:2], np.int16)])
def test_a_patch_that_is_none_is_refused(patch):
    with pytest.raises(NegativeControlError, match="must be int16 with three axes"):
        control("shuffled_full", patch, None, 0, "a")
