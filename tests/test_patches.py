"""Patches equal those of the released pipeline, run on MONAI's own transforms."""

import dataclasses

import numpy as np
import pytest
import real
import released_pipeline as released
from numpy.testing import assert_allclose, assert_array_equal
from scipy.interpolate import RegularGridInterpolator

from tumorbench_utils import patches
from tumorbench_utils.imaging import Volume

SPACINGS = {(1.0, 1.0, 1.0): (48, 64), (1.5, 0.75, 0.75): (60,)}
TURNS = {
    "as stored": np.eye(3),
    "feet and back first": np.diag([1.0, -1, -1]),
    "coronal slices": np.array([[0, 0, 1.0], [1, 0, 0], [0, -1, 0]]).T,
    "oblique": np.array([[0.98, -0.198997487, 0], [0.198997487, 0.98, 0], [0, 0, 1]]),
    "tilted": np.array([[1, 0, 0], [0, 0.9, -0.43588989], [0, 0.43588989, 0.9]]),
}


def thinned(volume, direction):
    """The middle of a CT, every fourth column and row of it, lying in space as ``direction`` says."""
    array = np.ascontiguousarray(volume.array[:, 128:384:4, 128:384:4])
    return dataclasses.replace(volume, array=array, spacing=volume.spacing * [4, 4, 1], direction=direction)


def seeds_of(volume, seed=0):
    """LPS seed points: in the middle, at and beyond each border, in corners, on whole voxels, far outside."""
    share = np.random.default_rng(seed).uniform(0, 1, (6, 3))
    borders = [(0, 0, 0), (1, 1, 1), (0, 0.5, 1), (1, 0.02, 0.5), (-0.03, 0.5, 0.5), (1.02, 1.01, 0.3), (3, 3, 3)]
    ends = np.array(volume.array.shape[::-1]) - 1
    whole = np.round(share[:2] * ends)
    return volume.to_physical(np.concatenate([share * ends, np.array(borders) * ends, whole]))


def ours(volume, seed, size, spacing, axes):
    grid = patches.released_grid(volume, spacing)
    low, high = patches.crop(grid.voxel(seed), (size,) * 3, grid.shape)
    if (low >= high).any():
        return None
    cut = patches.oriented(patches.sample(volume, grid, low, high), axes)
    return patches.padded(cut, (size,) * 3, patches.AIR)


def compare(volume, spacing, axes=("RAS",)):
    """Largest difference in HU over seeds, sizes and axes; that a patch is outside must agree too."""
    resampled = released.resample(released.tensor(volume), spacing)
    assert_array_equal(patches.released_grid(volume, spacing).shape, resampled.shape[1:])
    largest, outside, cut_off = 0.0, 0, 0
    for size in SPACINGS[spacing]:
        for seed in seeds_of(volume):
            for turn in axes:
                theirs, mine = released.patch(resampled, seed, size, turn), ours(volume, seed, size, spacing, turn)
                assert (theirs is None) == (mine is None)
                if theirs is None:
                    outside += 1
                    continue
                assert mine.shape == theirs.shape == (size,) * 3
                cut_off += bool((theirs == patches.AIR).any(axis=(1, 2)).any())
                largest = max(largest, np.abs(theirs - mine).max())
    assert outside and cut_off  # the seeds reach both cases
    return largest


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", ["lung1", "lung2"])
def test_patches_of_real_cts_equal_the_released_pipeline(name, spacing):
    assert compare(real.lung_ct(name), spacing, ("RAS", "SPL", "LPS", "SLP")) < 0.01


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("turn", TURNS)
def test_whichever_way_the_volume_lies(turn, spacing):
    assert compare(thinned(real.lung_ct("lung1"), TURNS[turn]), spacing) < 0.01


def test_every_recipe_of_the_ten_models_is_read_from_the_two_geometries():
    held = {geometry.spacing: min(geometry.size) for geometry in patches.BENCHMARK}
    assert {spacing for _, _, spacing, _ in released.RECIPES.values()} == set(held)
    assert all(size <= held[spacing] for _, _, spacing, size in released.RECIPES.values())


@pytest.mark.parametrize("name", ["ct_fm", "voco", "merlin"])
def test_padding_with_air_and_then_scaling_is_the_released_order(name):
    axes, window, spacing, size = released.RECIPES[name]
    volume = real.lung_ct("lung1")
    resampled = released.resample(released.tensor(volume), spacing)
    seed = volume.to_physical([3, 500, 2])
    low, high = window
    scaled = (np.clip(ours(volume, seed, size, spacing, axes), low, high) - low) / (high - low)
    assert_allclose(scaled, released.patch(resampled, seed, size, axes, window), atol=1e-4)


def ramp(direction=None):
    """HU that grow linearly in space, so that linear interpolation is exact: 3x + 5y - 7z."""
    volume = Volume(np.zeros((9, 30, 40), np.int16), np.array([-20.0, 10, 5]), np.array([1.0, 2, 4]), np.eye(3), "ramp")
    points = volume.to_physical(np.stack(np.meshgrid(range(40), range(30), range(9), indexing="ij"), -1))
    return dataclasses.replace(volume, array=(points @ [3, 5, -7]).T.astype(np.int16))


def test_exact_patches_are_centred_on_the_seed_to_the_last_digit():
    volume, geometry = ramp(), patches.Geometry("own", (0.7, 0.9, 1.3), (8, 6, 4), "exact")
    seed = np.array([0.123, 37.77, 20.456])
    grid = patches.centred_grid(seed, geometry)
    cut = patches.sample(volume, grid, np.zeros(3, int), np.array(geometry.size))
    assert_allclose(cut.mean(), seed @ [3, 5, -7], rtol=1e-6)
    middle = np.array(geometry.size) / 2 - 0.5
    assert_allclose(grid.to_lps(middle), seed)
    # to the right, to the front and upwards
    assert_allclose(np.diff(cut, axis=0), -3 * 0.7, atol=1e-4)
    assert_allclose(np.diff(cut, axis=1), -5 * 0.9, atol=1e-4)
    assert_allclose(np.diff(cut, axis=2), -7 * 1.3, atol=1e-4)


def test_samples_equal_scipys_interpolation_on_a_real_ct():
    volume = real.lung_ct("lung1")
    geometry = patches.Geometry("own", (1.5, 1.5, 3), (20, 20, 10), "exact")
    grid = patches.centred_grid([-21.86, -120.54, -611.5], geometry)
    points = grid.to_lps(np.stack(np.meshgrid(range(20), range(20), range(10), indexing="ij"), -1))
    axes = [np.arange(n, dtype=float) for n in volume.array.shape]
    expected = RegularGridInterpolator(axes, volume.array.astype(float))(volume.to_index(points)[..., ::-1])
    assert_allclose(patches.sample(volume, grid, np.zeros(3, int), np.array([20, 20, 10])), expected, atol=0.01)


@pytest.mark.parametrize("direction", [np.eye(3), TURNS["oblique"]], ids=["parallel", "oblique"])
def test_beyond_the_image_is_what_one_says(direction):
    volume = dataclasses.replace(ramp(), direction=direction)
    geometry = patches.Geometry("own", (1, 1, 1), (10, 10, 10), "exact")
    far = patches.centred_grid([500.0, 500, 500], geometry)
    assert (patches.sample(volume, far, np.zeros(3, int), np.full(3, 10), beyond=-1024) == -1024).all()
    corner = patches.centred_grid(volume.origin, geometry)
    cut = patches.sample(volume, corner, np.zeros(3, int), np.full(3, 10), beyond=-1024)
    assert (cut == -1024).any() and (cut > -900).any()


@pytest.mark.parametrize(
    ("voxel", "low", "high"),
    [
        ((10, 10, 10), (6, 6, 6), (14, 14, 14)),
        ((1, 19, 10), (0, 15, 6), (5, 20, 14)),
        ((-9, 10, 10), (0, 6, 6), (-5, 14, 14)),
    ],
)
def test_the_crop_is_clamped_to_the_image(voxel, low, high):
    found = patches.crop(np.array(voxel), np.full(3, 8), np.full(3, 20))
    assert_array_equal(found, [low, high])


def test_orientation_names_where_the_axes_run_to():
    patch = np.arange(24).reshape(2, 3, 4)
    turned = patches.oriented(patch, "SPL")
    assert turned.shape == (4, 3, 2)
    assert turned[1, 0, 1] == patch[0, 2, 1]
    assert patches.oriented(np.stack([patch, patch]), "SPL").shape == (2, 4, 3, 2)
    assert_array_equal(patches.oriented(patch), patch)


@pytest.mark.parametrize("axes", ["RA", "RAA", "RAX", "LRS", ""])
def test_axes_that_are_none(axes):
    with pytest.raises(ValueError, match="one letter each"):
        patches.oriented(np.zeros((2, 2, 2)), axes)


def test_the_odd_voxel_of_padding_goes_behind():
    found = patches.padded(np.ones((1, 2, 4)), (4, 4, 4), 0)
    assert_array_equal(found[:, 1, 0], [0, 1, 0, 0])
    assert_array_equal(found[1, :, 0], [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [({"sampling": "guess"}, "guess"), ({"size": (47, 48, 48)}, "even"), ({"spacing": (1, 0, 1)}, "positive")],
)
def test_geometries_that_cannot_be(change, message):
    with pytest.raises(ValueError, match=message):
        patches.Geometry(**{"id": "own", "spacing": (1, 1, 1), "size": (48, 48, 48)} | change)
