"""Controls and the third-party encoder: volume, radiomics against the IBSI's reference values, untrained, astra."""

import math
import types

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils import artefacts, bank, curation
from tumorbench_utils.cohorts import lung_ct
from tumorbench_utils.models import Control, Model, astra, loading, radiomics, random_encoder, volume
from tumorbench_utils.models.base import Sample, monai_alone

CONTROLS = [volume.MODEL, radiomics.MODEL]


def needs_monai():
    with monai_alone():
        pytest.importorskip("monai")


def sample(patch=None, mask=None, **annotation):
    return Sample(annotation, patch, mask, (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def tumours(tmp_path_factory):
    """Patch (64^3, HU), mask and row of the two real tumours, from a bank."""
    cases, folder = lung_ct.cases(), tmp_path_factory.mktemp("controls")
    measured = curation.measure(cases, artefacts.cache_dir(), workers=1).table
    masks = cases.set_index("sample_id")["mask"]
    built = bank.build(folder, "two", bank.seed_points(measured), root=artefacts.cache_dir(), workers=1, masks=masks)
    found, size = bank.Bank(built.paths["iso_1mm"]), (64, 64, 64)
    rows = found.rows.merge(measured[["sample_id", "volume_ml"]], on="sample_id")
    return {
        row.sample_id: types.SimpleNamespace(row=row, patch=found.patch(row, size), mask=found.mask(row, size))
        for row in rows.itertuples()
    }


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.id)
def test_a_control_gives_as_many_numbers_as_it_has_names(control, tumours):
    if control is radiomics.MODEL:
        pytest.importorskip("numpyradiomics")
    assert isinstance(control, Control)
    assert len(set(control.names())) == len(control.names())
    for each in tumours.values():
        given = sample(each.patch, each.mask, volume_ml=each.row.volume_ml)
        found = control.features(given)
        assert found.shape == (len(control.names()),) and found.dtype == np.float64
        assert np.isfinite(found).all()
        assert_array_equal(control.features(given), found)  # the same bits


# Volume


def volumes(count=421):
    """Volumes in ml as of a lung cancer cohort: from a tenth to some hundreds, two of them a thousandth part apart."""
    many = np.exp(np.random.default_rng(0).normal(np.log(35), 1.5, count))
    many[1] = many[0] * 1.001
    return many


def test_cosine_neighbours_in_float32_are_neighbours_in_log_volume():
    many = volumes()
    stored = np.stack([volume.MODEL.features(sample(volume_ml=each)) for each in many]).astype(np.float32)
    unit = stored.astype(np.float64) / np.linalg.norm(stored.astype(np.float64), axis=1, keepdims=True)
    apart = 1 - unit @ unit.T
    true = np.abs(np.log(many)[:, None] - np.log(many))
    for distances, expected in zip(apart, true, strict=True):
        # what is nearer by more than a thousandth of the volume comes first
        order = np.argsort(distances, kind="stable")
        ranked = expected[order]
        assert (np.maximum.accumulate(ranked) - ranked).max() < 1e-3
        assert set(np.argsort(expected, kind="stable")[:1]) == {order[0]} or expected[order[0]] < 1e-3


def test_a_plain_volume_would_have_no_neighbours():
    single = volumes()[:, None]
    unit = single / np.linalg.norm(single, axis=1, keepdims=True)
    assert np.abs(1 - unit @ unit.T).max() == 0


def test_the_angle_is_straight_in_the_logarithm_and_within_a_right_angle():
    angles = [math.atan2(*volume.MODEL.features(sample(volume_ml=10.0**power))[::-1]) for power in range(-3, 5)]
    assert angles[0] > 0 and angles[-1] < np.pi / 2
    assert_allclose(np.diff(angles), np.pi / 2 / 9)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no volume_ml"),
        ({"volume_ml": None}, "no volume_ml"),
        ({"volume_ml": np.nan}, "no volume_ml"),
        ({"volume_ml": 0.0}, "volume_ml is 0, must lie between 0.0001 and 100000 ml"),
        ({"volume_ml": -3.0}, "volume_ml is -3, must"),
        ({"volume_ml": np.inf}, "volume_ml is inf, must"),
        ({"volume_ml": 4e8}, "volume_ml is 4e.08, must"),  # in mm3, by mistake
    ],
)
def test_a_volume_that_says_nothing_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        volume.MODEL.features(sample(**given))


# Radiomics


# The digital phantom of the IBSI (axes z, y, x; 2 mm), and the voxels that are not in its region of interest
PHANTOM = np.array(
    [
        [[1, 4, 4, 1, 1], [1, 4, 6, 1, 1], [4, 1, 6, 4, 1], [4, 4, 6, 4, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 6, 1, 1], [1, 1, 3, 1, 1], [4, 4, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 9, 1, 1], [1, 1, 6, 1, 1]],
        [[1, 4, 4, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 6, 1, 1]],
    ]
)
OUTSIDE = [(1, 2, 0), (2, 0, 3), (2, 0, 4), (2, 2, 2), (3, 0, 3), (3, 0, 4)]
# Consensus values of the IBSI reference manual (arXiv:1612.07003), of the texture in 3D, averaged over directions or as
# one matrix; three significant digits as printed there, in the order of FEATURES
REFERENCE = {
    "shape": [556, 592, 388, 0.698, 0.843, 13.1, 11.4, 9.31, 8.54, 0.816, 0.749],
    "firstorder": [2.15, 3.05, 1.08, 3 - 0.355, 1, 1, 1, 4, 6, 3, 5, 1.55, 1.11, 567, 2.77, 1.27, 0.512],  # not excess
    "glcm": [
        *(5.06, 145, 16.6, 7.07, 5.32, 0.157, 1.43, 1.56, 3.06, 0.677, 0.618, 0.898, 0.851),
        *(-0.157, 0.52, 0.0604, 2.14, 0.303, 2.4, 0.503, 4.29, 1.92, 3.1),
    ],
    "glszm": [0.255, 550, 1.4, 0.28, 1, 0.2, 0.0676, 0.253, 15.6, 0.0256, 2.76, 503, 1490, 2.64, 331, 2.32],
    "gldm": [0.045, 109, 37.9, 0.512, 4.86, 0.0657, 0.693, 7.66, 0.00963, 0.736, 102, 235, 3.05, 22.1, 4.4],
    "ngtdm": [0.0296, 0.584, 6.54, 13.5, 0.763],
}


def test_every_feature_has_the_reference_value_of_the_ibsi():
    pytest.importorskip("numpyradiomics")
    mask = np.ones(PHANTOM.shape, bool)
    mask[tuple(np.transpose(OUTSIDE))] = False
    found = radiomics.computed(PHANTOM, mask, (2.0, 2.0, 2.0), width=1.0)
    expected = [value for listed in REFERENCE.values() for value in listed]
    assert list(REFERENCE) == list(radiomics.FEATURES)
    assert len(expected) == len(radiomics.names()) == 87
    wrong = {
        name: (value, reference)
        for name, value, reference in zip(radiomics.names(), found, expected, strict=True)
        if not math.isclose(value, reference, rel_tol=0.0055)  # half a unit of the third digit
    }
    assert not wrong


def ball(radius, size=32, noise=20.0):
    """A patch of noise around 40 HU and a mask of one ball in its middle."""
    away = np.linalg.norm(np.indices((size,) * 3) - (size - 1) / 2, axis=0)
    patch = np.random.default_rng(3).normal(40, noise, (size,) * 3).round().astype(np.int16)
    return patch, away <= radius


def named(given):
    pytest.importorskip("numpyradiomics")
    return dict(zip(radiomics.names(), radiomics.MODEL.features(given), strict=True))


def test_features_of_a_ball_are_those_of_a_ball():
    patch, mask = ball(9.0)
    found = named(sample(patch, mask))
    assert found["shape_VoxelVolume"] == mask.sum()
    assert found["shape_MeshVolume"] == pytest.approx(4 / 3 * np.pi * 9**3, rel=0.03)
    assert found["shape_Maximum3DDiameter"] == pytest.approx(18, abs=1)
    assert found["shape_Elongation"] == pytest.approx(1, abs=1e-9)
    assert found["firstorder_Mean"] == pytest.approx(patch[mask].mean())
    assert found["firstorder_Energy"] == pytest.approx((patch[mask].astype(float) ** 2).sum())
    levels = np.unique(patch[mask] // 25, return_counts=True)[1] / mask.sum()
    assert found["firstorder_Entropy"] == pytest.approx(-(levels * np.log2(levels)).sum())


def test_nothing_outside_the_mask_matters():
    patch, mask = ball(7.0)
    other = np.where(mask, patch, np.int16(3000))
    assert named(sample(other, mask)) == named(sample(patch, mask))
    moved = tuple(np.roll(each, (5, -6, 3), (0, 1, 2)) for each in (patch, mask))
    found, expected = named(sample(*moved)), named(sample(patch, mask))
    assert_allclose(list(found.values()), list(expected.values()), rtol=1e-5, atol=1e-9)


def test_a_tumour_that_the_patch_may_cut_off_is_refused():
    patch, mask = ball(7.0)
    low, high = np.nonzero(mask)[0].min(), np.nonzero(mask)[0].max() + 1
    whole = sample(patch[low - 1 : high + 1], mask[low - 1 : high + 1])
    assert np.isfinite(radiomics.features(whole)).all()
    with pytest.raises(ValueError, match="reaches the border of its patch"):
        radiomics.features(sample(patch[low:], mask[low:]))


def test_noise_raises_the_entropy_and_lowers_the_correlation_of_neighbours():
    (calm, mask), (wild, _) = ball(9.0, noise=20), ball(9.0, noise=200)
    assert named(sample(wild, mask))["glcm_JointEntropy"] > named(sample(calm, mask))["glcm_JointEntropy"] + 2


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # of an even grey, which is what is refused
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda patch, mask: (patch, None), "no mask"),
        (lambda patch, mask: (patch, mask & False), "the mask marks 0 voxels of the patch, must be 64 or more"),
        (lambda patch, mask: (patch, mask & (np.arange(32) < 11)), r"the mask marks \d\d? voxels of the patch, must"),
        (
            lambda patch, mask: (patch * 0 + 7, mask),
            "features are not defined in this mask, the first is firstorder_Sk",
        ),
    ],
    ids=["none", "empty", "small", "even"],
)
def test_a_mask_that_tells_nothing_is_refused(change, said):
    pytest.importorskip("numpyradiomics")
    with pytest.raises(ValueError, match=said):
        radiomics.MODEL.features(sample(*change(*ball(6.0))))


def test_radiomics_is_standardised_and_needs_a_mask_and_volume_does_not():
    assert [(each.needs_mask, each.standardise) for each in CONTROLS] == [(False, False), (True, True)]


# Encoders


def embedded(model, tumours, weights, seed=0):
    """Vectors (2, dim) of the two tumours, and what the encoder was filled with."""
    import torch

    module, loaded = loading.prepared(model, weights, seed)
    at = slice(32 - model.benchmark.size[0] // 2, 32 + model.benchmark.size[0] // 2)
    patches = torch.as_tensor(np.stack([each.patch[at, at, at] for each in tumours.values()]))
    with torch.inference_mode():
        return model.benchmark.embed(module, model.benchmark.scaled(patches)[:, None]).numpy(), loaded


def test_the_random_encoder_is_its_seed_alone(tumours):
    needs_monai()
    first, loaded = embedded(random_encoder.MODEL, tumours, "random", seed=1)
    again, _ = embedded(random_encoder.MODEL, tumours, "random", seed=1)
    other, drawn = embedded(random_encoder.MODEL, tumours, "random", seed=2)
    assert drawn.state_sha256 != loaded.state_sha256
    assert loaded.kind == "random"
    assert first.shape == (2, 512) and np.isfinite(first).all()
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01 and np.abs(first[0] - first[1]).max() > 1e-4
    with pytest.raises(loading.CheckpointError, match="random_encoder: no published weights"):
        loading.prepared(random_encoder.MODEL)


@pytest.mark.parametrize("model", [random_encoder.MODEL, astra.MODEL], ids=lambda model: model.id)
def test_parameters_are_those_of_the_encoder(model):
    needs_monai()
    assert isinstance(model, Model)
    module = model.build()
    assert sum(each.numel() for each in module.parameters()) / 1e6 == pytest.approx(model.parameters_encoder, abs=5e-4)
    if model.checkpoint:
        assert len(module.state_dict()) == model.checkpoint.keys


@pytest.fixture
def shards():
    """Whether the weights of astra are installed; they are no requirement of the package."""
    try:
        return loading.locate(astra.MODEL.checkpoint, "astra")
    except loading.CheckpointError as error:
        pytest.skip(f"needs {astra.MODEL.checkpoint.package}: {error}")


def test_astra_loads_whole_and_differs_from_its_untrained_twin(tumours, shards):
    needs_monai()
    found, loaded = embedded(astra.MODEL, tumours, "pretrained")
    assert (loaded.kind, loaded.loaded, loaded.dropped, loaded.other) == ("pretrained", 930, 0, 0)
    assert loaded.sha256 == astra.MODEL.checkpoint.sha256
    twin, drawn = embedded(astra.MODEL, tumours, "random")
    assert found.shape == twin.shape == (2, 2048)
    assert np.isfinite(found).all() and found.std(axis=1).min() > 0.01
    assert drawn.state_sha256 != loaded.state_sha256
    unit, drawn = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (found, twin))
    assert unit[0] @ drawn[0] < unit[0] @ unit[1] < 0.999
