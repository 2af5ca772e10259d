"""Figures of a map against mask and HU: worked by hand, by scikit-learn and scipy; means with their intervals."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tumorbench_utils import saliency
from tumorbench_utils.saliency import FocusError, SaliencyError


def case(shape=(9, 8, 7), seed=0):
    """Map, mask and HU: some saliency negative, some equal, some bone in the mask and some outside."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, bool)
    mask[3:6, 2:5, 2:4] = True
    values = rng.normal(size=shape).round(1) + mask
    return values, mask, rng.integers(-1000, 900, shape).astype(np.int16)


def test_a_case_worked_by_hand():
    values = np.array([4.0, 2, 1, -5, 3, 0]).reshape(1, 1, 6)  # mass 10
    mask = np.array([0, 1, 1, 0, 0, 0], bool).reshape(1, 1, 6)
    hu = np.array([300, 400, 0, 199, 200, -50]).reshape(1, 1, 6)
    found = saliency.focus(values, mask, hu, (1, 1, 2.0), margin_mm=2.0)
    ranks = stats.spearmanr([4, 2, 1, -5, 3, 0], hu.ravel()).statistic
    assert found == pytest.approx(
        {
            "mass_inside": 0.3,
            "mass_expected": 2 / 6,
            "enrichment": 0.9,
            "mass_near": 0.7,  # voxels 0 to 3: one voxel is 2 mm
            "near_expected": 4 / 6,
            "pointing": 0,
            "pointing_near": 1,
            "auc": (2 + 2) / 8,  # 2 and 1 both exceed -5 and 0, of four voxels outside
            "hu_spearman": ranks,
            "bright_mass": 0.7,  # voxels 0 and 4; voxel 1 is in the mask
            "bright_expected": 2 / 6,
        }
    )
    assert tuple(found) == saliency.MEASURES


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_loops_scikit_learn_and_scipy(seed):
    values, mask, hu = case(seed=seed)
    spacing = np.array([0.8, 1.5, 3.0])
    found = saliency.focus(values, mask, hu, spacing, 2.0)
    tumour = np.argwhere(mask) * spacing
    mass, near_mass, near_count, bright = 0.0, 0.0, 0, 0.0
    for voxel in itertools.product(*map(range, values.shape)):
        own = max(values[voxel], 0)
        mass += own
        near = np.linalg.norm(tumour - np.array(voxel) * spacing, axis=1).min() <= 2.0
        near_mass, near_count = near_mass + own * near, near_count + near
        bright += own * (hu[voxel] >= 200 and not mask[voxel])
    assert found["mass_near"] == pytest.approx(near_mass / mass)
    assert found["near_expected"] == pytest.approx(near_count / values.size)
    assert found["bright_mass"] == pytest.approx(bright / mass)
    assert found["auc"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), abs=1e-12)
    expected = stats.spearmanr(values.ravel(), hu.ravel()).statistic
    assert found["hu_spearman"] == pytest.approx(expected, abs=1e-12)


def test_equal_tops_share_the_point():
    values, mask, hu = case()
    values = np.minimum(values, 0)
    values[4, 3, 2] = values[0, 0, 0] = values[0, 0, 1] = values[2, 3, 2] = 7  # in, far, far, beside the mask
    found = saliency.focus(values, mask, hu, (1, 1, 1), 1.0)
    assert (found["pointing"], found["pointing_near"]) == (0.25, 0.5)


@pytest.mark.parametrize("factor", [1e-12, 3.7, 1e9])
def test_the_scale_of_a_map_does_not_matter(factor):
    values, mask, hu = case()
    plain = saliency.focus(values, mask, hu, (1, 2, 3))
    assert saliency.focus(values * factor, mask, hu, (1, 2, 3)) == pytest.approx(plain)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_the_axes_does_not_matter(order):
    values, mask, hu = case()
    spacing = np.array([0.7, 1.0, 2.5])
    turned = [each.transpose(order) for each in (values, mask, hu)]
    assert saliency.focus(*turned, spacing[list(order)]) == pytest.approx(saliency.focus(values, mask, hu, spacing))


def test_a_map_of_the_mask_is_perfect_and_its_reverse_the_opposite():
    _, mask, hu = case()
    right = saliency.focus(mask.astype(float), mask, hu, (1, 1, 1))
    assert (right["mass_inside"], right["auc"], right["pointing"]) == (1, 1, 1)
    assert right["enrichment"] == pytest.approx(1 / mask.mean())
    wrong = saliency.focus(1.0 - mask, mask, hu, (1, 1, 1), margin_mm=0)
    assert (wrong["mass_inside"], wrong["mass_near"], wrong["auc"], wrong["pointing"]) == (0, 0, 0, 0)


def test_equal_hu_have_no_rank_correlation():
    values, mask, hu = case()
    found = saliency.focus(values, mask, np.zeros_like(hu), (1, 1, 1))
    assert np.isnan(found["hu_spearman"]) and found["bright_expected"] == 0


def test_large_patches_take_no_time():
    import time

    rng = np.random.default_rng(0)
    values = rng.random((64, 64, 64))
    begun = time.perf_counter()
    saliency.focus(values, values > 0.9, rng.integers(-1000, 900, values.shape), (1, 1, 1))
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"mask": np.zeros((9, 8, 7), bool)}, FocusError, "the mask is empty on the patch grid"),
        ({"mask": np.ones((9, 8, 7), bool)}, FocusError, "the mask fills the patch"),
        ({"mask": np.ones((9, 8, 7), int)}, FocusError, "the mask is int64, must be bool"),
        ({"saliency": np.zeros((9, 8, 7))}, SaliencyError, "the map is 0 in all 504 voxels"),
        ({"saliency": -np.arange(504.0).reshape(9, 8, 7)}, SaliencyError, "nowhere above zero"),
        ({"saliency": np.full((9, 8, 7), np.nan)}, SaliencyError, "NaN or infinity in 504 of 504"),
        ({"saliency": np.zeros((9, 8, 6))}, SaliencyError, r"map \(9, 8, 6\), mask \(9, 8, 7\)"),
        ({"hu": np.full((9, 8, 7), np.inf)}, SaliencyError, "HU are NaN or infinite in 504"),
        ({"spacing": (1, 1)}, SaliencyError, "spacing is"),
        ({"spacing": (1, 1, 0)}, SaliencyError, "spacing is"),
        ({"margin_mm": -1}, SaliencyError, "margin -1 mm"),
    ],
)
def test_bad_input_is_named(changed, error, message):
    values, mask, hu = case()
    given = {"saliency": values, "mask": mask, "hu": hu, "spacing": (1, 1, 1)} | changed
    with pytest.raises(error, match=message):
        saliency.focus(**given)


def test_blind_maps_are_a_gaussian_in_mm_around_the_middle_and_the_brightness():
    _, mask, hu = case()
    spacing = np.array([0.7, 1.5, 2.0])
    extent = spacing * mask.shape
    place = np.moveaxis(np.indices(mask.shape), 0, -1) * spacing + spacing / 2 - extent / 2
    centred = np.exp(-(((place / (extent / 4)) ** 2).sum(axis=-1)) / 2)
    found = saliency.blind(mask, hu, spacing, 2.0)
    assert tuple(found) == saliency.BLIND_MEASURES
    for name, values in (("centre", centred), ("brightness", hu + 1024.0)):
        expected = saliency.focus(values, mask, hu, spacing, 2.0)
        assert {each: found[f"{each}_{name}"] for each in saliency.HELD_AGAINST} == pytest.approx(
            {each: expected[each] for each in saliency.HELD_AGAINST}
        )


def test_a_blind_map_of_the_middle_finds_a_centred_tumour_that_a_uniform_one_does_not():
    mask = np.zeros((12, 12, 12), bool)
    mask[4:8, 4:8, 4:8] = True
    found = saliency.blind(mask, np.where(mask, 40, -800), (1, 1, 1))
    assert found["auc_centre"] > 0.97 and found["pointing_centre"] == 1 and found["enrichment_centre"] > 2
    assert found["auc_brightness"] == 1  # soft tissue in lung
    corner = np.roll(mask, 4, (0, 1, 2))
    assert saliency.blind(corner, np.where(mask, 40, -800), (1, 1, 1))["pointing_centre"] == 0


@pytest.mark.parametrize("hu", [-1024, -2000, 40])
def test_brightness_without_contrast_has_no_measures_and_the_middle_has(hu):
    _, mask, _ = case()
    found = saliency.blind(mask, np.full(mask.shape, hu), (1, 1, 1))
    assert np.isnan([found[f"{each}_brightness"] for each in saliency.HELD_AGAINST]).all()
    assert np.isfinite([found[f"{each}_centre"] for each in saliency.HELD_AGAINST]).all()


def test_blind_maps_are_held_against_a_mask_as_any_map_is():
    _, mask, hu = case()
    with pytest.raises(FocusError, match="the mask is empty"):
        saliency.blind(~mask & mask, hu, (1, 1, 1))


def cases(patients=30, seed=0):
    """One to three cases a patient of two models; model b lacks a few values."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        level = rng.normal()
        for model in "ab":
            rows += [(f"p{patient}", model, "x", level + rng.normal(), rng.random()) for _ in range(1 + patient % 3)]
    table = pd.DataFrame(rows, columns=["patient_id", "model", "note", "auc", "pointing"])
    table.loc[(table["model"] == "b") & (table["patient_id"].isin(["p3", "p4"])), "auc"] = np.nan
    return table


def bootstrapped(rows, name, draws, seed):
    """Draw patients one by one and pool the cases of those drawn."""
    rows = rows.dropna(subset=[name])
    values = [part.to_numpy() for _, part in rows.groupby("patient_id")[name]]
    rng = np.random.default_rng(seed)
    means = [
        np.concatenate([values[i] for i in rng.integers(0, len(values), len(values))]).mean() for _ in range(draws)
    ]
    return np.quantile(means, (0.025, 0.975))


def test_summary_has_means_counts_and_the_interval_of_a_loop_over_draws():
    table = cases()
    found = saliency.summarise(table, ["model"], draws=4000).set_index(["model", "measure"])
    assert list(found.index) == [("a", "pointing"), ("a", "auc"), ("b", "pointing"), ("b", "auc")]
    for (model, measure), row in found.iterrows():
        rows = table[table["model"] == model]
        assert row["value"] == pytest.approx(rows[measure].mean())
        assert row["cases"] == rows[measure].count() and row["lacking"] == rows[measure].isna().sum()
        low, high = bootstrapped(rows, measure, 4000, 5)
        assert [row["low"], row["high"]] == pytest.approx([low, high], abs=0.06 * (high - low))
    assert found.loc[("b", "auc"), ["cases", "patients", "lacking"]].tolist() == [57, 28, 3]
    assert found.loc[("a", "auc"), "patients"] == 30


def test_interval_is_over_patients_not_over_cases():
    table = cases()
    copied = pd.concat([table] * 5)  # more cases of the same patients tell nothing new
    one, five = (saliency.summarise(each, ["model"]) for each in (table, copied))
    np.testing.assert_allclose(one[["value", "low", "high"]], five[["value", "low", "high"]])


def test_summary_can_be_repeated_and_a_group_does_not_hang_on_others():
    table = cases()
    whole = saliency.summarise(table, ["model"])
    pd.testing.assert_frame_equal(whole, saliency.summarise(table, "model"))
    alone = saliency.summarise(table[table["model"] == "b"], ["model"])
    pd.testing.assert_frame_equal(whole[whole["model"] == "b"].reset_index(drop=True), alone)
    assert not whole["low"].equals(saliency.summarise(table, ["model"], seed=1)["low"])


@pytest.mark.parametrize("patients", [1, 2, 4, 5, 6])
def test_fewer_than_five_patients_have_no_interval(patients):
    found = saliency.summarise(cases(patients), ["model"], ["pointing"])
    assert saliency.FEWEST == 5 and set(found["patients"]) == {patients}
    assert (found[["low", "high"]].notna() == (patients >= 5)).all(axis=None)


def test_blind_measures_go_through_the_summary():
    table = cases().assign(auc_centre=0.9, enrichment_brightness=2.0)
    found = saliency.summarise(table).set_index("measure")["value"]
    assert list(found.index) == ["pointing", "auc", "auc_centre", "enrichment_brightness"]
    assert found["auc_centre"] == pytest.approx(0.9)


def test_one_patient_has_no_interval_and_none_has_no_mean():
    table = cases(1)
    found = saliency.summarise(pd.concat([table, table]), ["model", "note"])
    assert found[["low", "high"]].isna().all(axis=None) and found["value"].notna().all()
    assert set(found["patients"]) == {1} and set(found["cases"]) == {2}
    nothing = saliency.summarise(table.assign(auc=np.nan), measures=["auc"]).iloc[0]
    assert np.isnan(nothing["value"]) and nothing["cases"] == 0 and nothing["lacking"] == 2


def test_measures_may_be_named_and_groups_left_out():
    table = cases().assign(area=1.5)
    found = saliency.summarise(table, measures=["area"])
    assert list(found) == ["measure", "value", "low", "high", "cases", "patients", "lacking"]
    assert found.loc[0, ["measure", "value", "low", "high"]].tolist() == ["area", 1.5, 1.5, 1.5]


def test_tables_that_cannot_be_summarised_are_named():
    table = cases()
    with pytest.raises(SaliencyError, match=r"missing columns: \['cohort', 'area'\]"):
        saliency.summarise(table, ["model", "cohort"], ["auc", "area"])
    with pytest.raises(SaliencyError, match="0 cases"):
        saliency.summarise(table[:0], ["model"])
    with pytest.raises(SaliencyError, match="0 measures"):
        saliency.summarise(table[["patient_id", "model"]], ["model"])
    with pytest.raises(SaliencyError, match="1 of 120 cases have no patient_id"):
        saliency.summarise(table.assign(patient_id=[None, *table["patient_id"][1:]]))
