"""Perturbations of patches against SciPy and plain loops, whatever way the axes of a patch run."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from tumorbench_utils.patches import AIR, AXES, oriented
from tumorbench_utils.registry import UnknownNameError
from tumorbench_utils.robustness.perturbations import PERTURBATIONS, PerturbationError, perturbed

torch = pytest.importorskip("torch")

SPACING = (0.8, 1.5, 2.0)  # along R, A, S
KEYS = ["a", "b", "c"]
SIZES = {"noise": 25, "blur": 4, "thickness": 5, "shift": -20, "rotation": 10}


def patches(n=3, shape=(12, 14, 10), seed=0):
    """Smooth enough to have structure, with sharp steps: int16 HU along R, A, S."""
    rng = np.random.default_rng(seed)
    hu = ndimage.gaussian_filter(rng.normal(0, 3000, (n, *shape)), (0, 1, 1, 1)) + 300 * (rng.random((n, *shape)) > 0.8)
    return hu.clip(-900, 2000).astype(np.int16)


def changed(hu, kind, size, spacing=SPACING, axes="RAS", seed=0, keys=KEYS):
    return perturbed(torch.from_numpy(np.ascontiguousarray(hu)), kind, size, spacing, axes, seed, keys).numpy()


# Against independent computations


@pytest.mark.parametrize("fwhm", [1, 2, 4, 15])
def test_blur_is_scipys_gaussian_in_the_axial_plane(fwhm):
    hu = patches()
    expected = hu.astype(np.float64)
    for axis, spacing in ((1, 0.8), (2, 1.5)):
        expected = ndimage.gaussian_filter1d(expected, fwhm / 2.354820045 / spacing, axis, mode="nearest")
    assert_allclose(changed(hu, "blur", fwhm), expected, atol=1e-3)
    assert np.abs(expected - hu).max() > 20


def test_the_blur_of_a_point_has_the_width_asked_for():
    hu = np.zeros((1, 64, 64, 2), np.int16)
    hu[0, 32, 32] = 30000
    profile = changed(hu, "blur", 8, (1, 1, 1), keys=["a"])[0, :, 32, 0]
    at = np.linspace(0, 63, 63 * 100 + 1)
    wide = at[np.interp(at, np.arange(64), profile) >= profile.max() / 2]
    assert np.ptp(wide) == pytest.approx(8, abs=0.1)


def slabs_by_loop(line, spacing, thickness):
    """A line of voxels along S as slices of ``thickness`` mm, interpolated: integrals counted on a fine ruler."""
    fine, n = 2000, len(line)
    margin = int(2 * thickness / spacing) + 1  # voxels
    middle = n * spacing / 2  # mm from the outer border
    depths = (np.arange(-margin * fine, (n + margin) * fine) + 0.5) * spacing / fine
    values = line[np.clip(np.floor(depths / spacing).astype(int), 0, n - 1)]
    centres = [middle + (number + 0.5) * thickness for number in range(-n, n)]
    inside = [each for each in centres if abs(each - middle) < n * spacing / 2 + thickness]
    means = [values[np.abs(depths - each) < thickness / 2].mean() for each in inside]
    return np.interp((np.arange(n) + 0.5) * spacing, inside, means)


@pytest.mark.parametrize("thickness", [2.5, 5, 7.3, 19, 50])
@pytest.mark.parametrize("count", [10, 7])
def test_thickness_is_means_over_slabs_interpolated_to_the_patch(thickness, count):
    hu = patches(1, (3, 2, count))
    found = changed(hu, "thickness", thickness, keys=["a"])
    for place in np.ndindex(3, 2):
        line = hu[(0, *place)].astype(np.float64)
        assert_allclose(found[(0, *place)], slabs_by_loop(line, 2.0, thickness), atol=0.5)


def test_slices_of_two_voxels_are_means_of_pairs_between_which_is_interpolated():
    line = np.array([0, 100, 200, 500, 1000, 0], np.int16).reshape(1, 1, 1, 6)
    # slabs meet at the centre: means 150 at 1.5 and 750 at 3.5; those at -0.5 and 5.5 repeat the outermost voxels
    expected = [150 / 4, 150 * 3 / 4, (3 * 150 + 750) / 4, (150 + 3 * 750) / 4, 750 * 3 / 4, 750 / 4]
    assert_allclose(changed(line, "thickness", 4, keys=["a"]).ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize("thickness", [0.5, 2.0])
def test_slices_no_thicker_than_the_patchs_own_change_nothing(thickness):
    hu = patches()
    assert_array_equal(changed(hu, "thickness", thickness), hu)


@pytest.mark.parametrize("degrees", [2, 10, -30, 90])
def test_rotation_is_scipys_on_cubic_voxels(degrees):
    hu = patches(2, (15, 15, 4))
    expected = ndimage.rotate(hu.astype(float), degrees, (1, 2), reshape=False, order=1, mode="nearest")
    assert_allclose(changed(hu, "rotation", degrees, (1, 1, 1), keys=["a", "b"]), expected, atol=1e-2)


def test_rotation_goes_from_right_to_front():
    hu = np.zeros((1, 9, 9, 1), np.int16)
    hu[0, 8, 4] = 1000  # at the right
    turned = changed(hu, "rotation", 90, (1, 1, 1), keys=["a"])[0, :, :, 0]
    assert np.unravel_index(turned.argmax(), turned.shape) == (4, 8) and turned.max() == pytest.approx(1000, abs=1e-2)


def test_rotation_is_in_millimetres_where_voxels_are_not_cubes():
    hu = patches(1)
    angle = np.radians(10)
    index = np.indices((12, 14)).astype(float)
    right, front = (index[0] - 5.5) * 0.8, (index[1] - 6.5) * 1.5
    at = [
        (right * np.cos(angle) + front * np.sin(angle)) / 0.8 + 5.5,
        (front * np.cos(angle) - right * np.sin(angle)) / 1.5 + 6.5,
    ]
    found = changed(hu, "rotation", 10, keys=["a"])
    for height in range(10):
        expected = ndimage.map_coordinates(hu[0, :, :, height].astype(float), at, order=1, mode="nearest")
        assert_allclose(found[0, :, :, height], expected, atol=1e-2)


@pytest.mark.parametrize("size", [10, 50])
def test_noise_has_the_standard_deviation_asked_for_and_no_bias(size):
    hu = np.full((3, 32, 32, 32), 40, np.int16)
    noise = changed(hu, "noise", size) - 40
    assert noise.std() == pytest.approx(size, rel=0.01) and abs(noise.mean()) < 4 * size / np.sqrt(noise.size)
    assert np.abs(np.corrcoef(noise.reshape(3, -1)) - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02  # white


def test_shift_adds_a_constant():
    hu = patches()
    assert_array_equal(changed(hu, "shift", 20), hu + 20.0)
    assert_array_equal(changed(hu, "shift", -12.5), hu - 12.5)


# Axes, batches, number types


@pytest.mark.parametrize("axes", ["SPL", "LPS", "LAS", "PSR", "IRA"])
@pytest.mark.parametrize("kind", SIZES)
def test_a_turned_patch_is_changed_alike(kind, axes):
    hu = patches()
    spacing = tuple(SPACING[AXES[letter][0]] for letter in axes)
    found = changed(oriented(hu, axes), kind, SIZES[kind], spacing, axes)
    assert_allclose(found, oriented(changed(hu, kind, SIZES[kind]), axes), atol=1e-3)
    assert np.abs(found - oriented(hu, axes)).max() > 5


@pytest.mark.parametrize("kind", SIZES)
def test_batches_and_their_order_change_nothing(kind):
    hu, order = patches(), [2, 0, 1]
    whole = changed(hu, kind, SIZES[kind])
    assert_allclose(changed(hu[order], kind, SIZES[kind], keys=[KEYS[n] for n in order]), whole[order], atol=1e-3)
    assert_allclose(changed(hu[1:2], kind, SIZES[kind], keys=["b"]), whole[1:2], atol=1e-3)


def test_noise_hangs_on_seed_and_key_and_grows_with_its_size():
    hu = np.zeros((3, 6, 6, 6), np.int16)
    noise = changed(hu, "noise", 10)
    assert_array_equal(changed(hu, "noise", 10), noise)
    assert_allclose(changed(hu, "noise", 50), 5 * noise, rtol=1e-5)
    assert (changed(hu, "noise", 10, seed=1) != noise).mean() > 0.99
    assert (changed(hu, "noise", 10, keys=["a", "b", "d"]) != noise).mean((1, 2, 3)).round().tolist() == [0, 0, 1]


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("number", ["int16", "int32", "float32", "float64"])
def test_any_number_type_gives_float32_and_is_left_alone(kind, number):
    hu = torch.from_numpy(patches()).to(getattr(torch, number))
    before = hu.clone()
    found = perturbed(hu, kind, SIZES[kind], SPACING, keys=KEYS)
    assert found.dtype == torch.float32 and found.shape == hu.shape and torch.equal(hu, before)
    assert_allclose(found.numpy(), changed(patches(), kind, SIZES[kind]), atol=1e-3)


@pytest.mark.parametrize("kind", SIZES)
def test_patches_stay_on_their_device(kind):
    hu = torch.from_numpy(patches()).to("meta")  # a device without voxels: what comes from another is an error
    found = perturbed(hu, kind, SIZES[kind], SPACING, keys=KEYS)
    assert found.device.type == "meta" and found.shape == hu.shape and found.dtype == torch.float32


@pytest.mark.parametrize("kind", SIZES)
def test_size_zero_gives_the_input_back(kind):
    hu = torch.from_numpy(patches()).float() + 0.1
    found = perturbed(hu, kind, 0, SPACING, keys=KEYS)
    assert torch.equal(found, hu) and found is not hu


# No tissue, and bad input


@pytest.mark.parametrize(("kind", "size"), [("noise", 50), ("shift", 40), ("shift", -40)])
def test_padding_stays_and_nothing_falls_below_it(kind, size):
    hu = patches()
    hu[:, :4], hu[:, 4:6], hu[:, 6] = AIR, AIR + 5, -2000
    found = changed(hu, kind, size)
    assert (found[:, :4] == AIR).all() and (found[:, 6] == -2000).all()
    assert found[:, 4:6].min() >= AIR and (found[:, 4:6] != AIR + 5).all()


@pytest.mark.parametrize("kind", ["blur", "thickness", "rotation"])
def test_averages_stay_within_the_range_of_the_patch(kind):
    hu = patches()
    found = changed(hu, kind, SIZES[kind])
    assert found.min() >= hu.min() - 1e-3 and found.max() <= hu.max() + 1e-3
    assert_allclose(changed(np.full_like(hu, -700), kind, SIZES[kind]), -700, atol=1e-3)


def test_the_default_ladders_have_a_meaning():
    hu = patches()
    for each in PERTURBATIONS:
        found = [np.abs(changed(hu, each.id, size) - hu).mean() for size in each.sizes if size > 0]
        assert found[0] > 1 and found == sorted(found) and each.title and each.unit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "blur", "size": -1}, "blur of -1 mm: its size must be 0 or more"),
        ({"kind": "noise", "size": float("nan")}, "noise of nan HU"),
        ({"kind": "shift", "size": float("inf")}, "a finite number"),
        ({"axes": "RAR"}, "axes are 'RAR'"),
        ({"axes": "XYZ"}, "axes are 'XYZ'"),
        ({"spacing": (1, 1)}, "three distances in mm"),
        ({"spacing": (1, 1, 0)}, "all above 0"),
        ({"keys": ["a"]}, "1 keys but 3 patches"),
        ({"keys": None}, "give keys"),
        ({"hu": patches()[0]}, "three axes"),
    ],
)
def test_what_has_no_meaning_is_refused(options, words):
    with pytest.raises(PerturbationError, match=words):
        changed(**{"hu": patches(), "kind": "noise", "size": 10} | options)


def test_an_unknown_kind_is_answered_with_those_there_are():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'noise'.*rotation"):
        changed(patches(), "noize", 10)


def test_keys_may_be_an_array_and_are_needed_for_noise_only():
    hu = patches()
    assert_array_equal(changed(hu, "noise", 10, keys=np.array(KEYS, object)), changed(hu, "noise", 10))
    assert_array_equal(changed(hu, "rotation", 5, keys=None), changed(hu, "rotation", 5))
