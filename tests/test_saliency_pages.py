"""The saliency page of a model: maps upright on CT and mask, numbers those of the bare functions, nothing lost."""

import ast
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from test_maps import SMALL, constant, ready

from tumorbench_utils import annotations, artefacts, bank, maps, plots, saliency
from tumorbench_utils import saliency_pages as pages
from tumorbench_utils.cohorts import COHORTS

torch = pytest.importorskip("torch")

ORIGIN, STEP = np.array([-30.0, -30.0, 5.0]), np.array([1.0, 1.0, 2.5])  # of every CT, mm
SHAPE = (20, 60, 60)  # z, y, x
SLOPE = np.array([3.0, 5.0, 7.0])  # HU per mm to the patient's left, back and head
TUMOUR = 2000  # HU
BOX = ((-2.0, 9.0), (-2.0, 4.0), (20.0, 37.5))  # mm along x, y and z (LPS)
SEEDS = {"b1": (2, 1, 30), "a1": (0, 3, 40), "d1": (-18, -18, 12), "c1": (1, 1, 25)}  # in the order of the bank
PATIENTS = {"b1": "P1", "a1": "P1", "d1": "P2", "c1": "P3"}
NO_MASK, FAR = "c1", "d1"
SIZE, STEPS = 3, 3
BOTH = [maps.OCCLUSION, maps.GRADIENTS]
TITLES = ["occlusion", "integrated gradients"]
MARGIN = 4.0


def write_ct(folder, name, number):
    """HU rise along every axis at its own slope; a box of 2000 HU is the tumour and its mask; a little noise."""
    lines = [ORIGIN[axis] + STEP[axis] * np.arange(SHAPE[2 - axis]) for axis in (2, 1, 0)]
    z, y, x = np.meshgrid(*lines, indexing="ij")
    sides = zip((x, y, z), BOX, strict=True)
    drawn = np.logical_and.reduce([(each >= low) & (each <= high) for each, (low, high) in sides])
    noise = np.random.default_rng(number).normal(0, 40 if number else 0, SHAPE)
    hu = np.where(drawn, TUMOUR, -300 + SLOPE[0] * x + SLOPE[1] * y + SLOPE[2] * z) + noise
    for array, suffix in ((hu.round().astype(np.int16), ""), (drawn.astype(np.uint8), ".mask")):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(STEP.tolist())
        image.SetOrigin(ORIGIN.tolist())
        sitk.WriteImage(image, str(folder / f"{name}{suffix}.nrrd"), True)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of a real and a phantom cohort; sample c1 has no mask, and that of d1 is outside its patch."""
    root = tmp_path_factory.mktemp("made")
    for number, name in enumerate(sorted(SEEDS)):
        write_ct(root, name, number)
    samples = pd.DataFrame(SEEDS, ["x", "y", "z"]).T.astype(float).rename_axis("sample_id").reset_index()
    samples["image"] = samples["sample_id"] + ".nrrd"
    masks = {name: f"{name}.mask.nrrd" for name in SEEDS if name != NO_MASK}
    for cohort, some in (("lung_ct", samples), ("phantom", samples.head(2))):
        seeds = bank.seed_points(some, 1, sigma_mm=1.0)
        bank.build(root / "run", cohort, seeds, (SMALL,), root=root, workers=1, masks=masks)
        table = some.assign(patient_id=some["sample_id"].map(PATIENTS), label=1.0, volume_ml=1.0)
        table = annotations.check(table, cohort)
        annotations.write(root / "run", cohort, annotations.Annotations(table, table[:0]), artefacts.provenance({}))
    return root / "run"


def draw(run, encoder, samples=None, cohorts=("lung_ct",), **options):
    return pages.draw(run, encoder, dict.fromkeys(cohorts, samples), size=SIZE, steps=STEPS, progress=False, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder whose weights come from a file, so that it is not called untrained."""
    file = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save(ready(seed=3).module.state_dict(), file)
    return ready(weights=file)


@pytest.fixture(scope="module")
def drawn(run, trained):
    return draw(run, trained, cohorts=("lung_ct", "phantom"))


@pytest.fixture(scope="module")
def cases(run, drawn):
    return pages.cases(run, drawn)


@pytest.fixture(scope="module")
def twin_drawn(run):
    return draw(run, ready(), ["a1", "b1"])


@pytest.fixture(scope="module")
def twins(run, twin_drawn):
    return pages.cases(run, twin_drawn)


@pytest.fixture(scope="module")
def judged(cases, twins):
    return pages.focus_table([*cases, *twins], MARGIN)


@pytest.fixture(scope="module")
def summary(judged):
    return pages.summary(judged[0], 200, 0)


@pytest.fixture(scope="module")
def deleted(cases):
    return pages.deletions(cases, None)


@pytest.fixture(scope="module")
def alike(cases, twins):
    return pages.sanity_table(cases, twins)


def named(cases, sample, cohort="lung_ct"):
    (case,) = [each for each in cases if (each.cohort, each.sample_id) == (cohort, sample)]
    return case


# Cases


def test_cases_come_in_the_order_of_the_bank_with_their_patients(cases):
    found = [(case.cohort, case.sample_id) for case in cases]
    assert found == [*(("lung_ct", name) for name in SEEDS), ("phantom", "b1"), ("phantom", "a1")]
    assert [case.patient_id for case in cases[:4]] == list(PATIENTS.values())
    assert all(list(case.maps) == BOTH and case.spacing == SMALL.spacing for case in cases)


def test_only_samples_and_methods_that_have_a_map_become_cases(run, trained):
    some = draw(run, trained, ["c1", "b1"], methods=["gradients"])
    found = pages.cases(run, some)
    assert [(case.sample_id, list(case.maps)) for case in found] == [("b1", ["gradients"]), ("c1", ["gradients"])]


def test_hu_of_a_case_run_to_the_right_the_front_and_the_head_of_the_patient(cases):
    case = named(cases, "a1")
    assert case.hu.shape == (8, 6, 4)  # R, A, S of an encoder that is fed (4, 6, 8) along S, P, L
    outside = np.where(case.hu < 1000, case.hu, np.nan)
    rises = [np.nanmedian(np.diff(outside, axis=axis)) for axis in range(3)]
    assert_allclose(rises, SLOPE * [-1, -1, 1] * SMALL.spacing, atol=1.5)


def test_the_mask_of_a_case_lies_on_its_tumour(cases):
    for name in ("a1", "b1"):
        case = named(cases, name)
        tumour = case.hu > 850  # halfway between tumour and what is around it
        assert case.reason == "" and case.mask.shape == case.hu.shape and 0.1 < tumour.mean() < 0.9
        assert (case.mask == tumour).mean() > 0.95
    whole = named(cases, "a1")
    assert all((np.flip(whole.mask, axis) == (whole.hu > 850)).mean() < 0.9 for axis in range(3))  # would be seen


@pytest.mark.parametrize("axes", ["SPL", "RAS", "LSA"])
def test_every_voxel_of_map_mask_and_hu_is_where_the_encoder_saw_it(run, axes):
    size = {"SPL": (4, 6, 8), "RAS": (8, 6, 4), "LSA": (8, 4, 6)}[axes]
    encoder = ready(axes, size, name=f"small{axes.lower()}")
    done = draw(run, encoder, ["a1"])
    (case,) = pages.cases(run, done)
    held = bank.Bank(bank.path_of(run, "lung_ct", "small"))
    row = next(row for row in held.rows.itertuples() if (row.sample_id, row.trial) == ("a1", 0))
    native = {"hu": held.patch(row, size, axes, encoder.recipe.pad), "mask": held.mask(row, size, axes)}
    native |= {method: np.abs(maps.read(done[0].drawn.paths["a1", method]).values) for method in BOTH}
    shown = {"hu": case.hu, "mask": case.mask, **case.maps}
    for index in np.ndindex(size):
        place = [0, 0, 0]
        for number, letter, length in zip(index, axes, size, strict=True):
            place["RAS".index({"L": "R", "P": "A"}.get(letter, letter))] = (
                number if letter in "RAS" else length - 1 - number
            )
        for name, array in native.items():
            assert shown[name][tuple(place)] == array[index], (name, index)


def test_maps_of_a_case_have_no_sign(cases, drawn):
    assert (maps.read(drawn[0].drawn.paths["a1", "gradients"]).values < 0).any()
    assert all((values >= 0).all() for case in cases for values in case.maps.values())


def test_a_case_without_a_usable_mask_says_why(cases):
    lacking, far = named(cases, NO_MASK), named(cases, FAR)
    assert lacking.mask is None and lacking.reason
    assert far.mask is None and "empty" in far.reason and far.reason != lacking.reason


# Marks


def test_phantoms_and_untrained_weights_are_marked(cases, twins):
    real, phantom, untrained = named(cases, "a1"), named(cases, "a1", "phantom"), named(twins, "a1")
    both = replace(untrained, cohort="phantom")
    assert [each.mark for each in (real, phantom, untrained, both)] == [
        "", "phantom", "untrained", "phantom, untrained",
    ]  # fmt: skip
    assert [each.title for each in (real, untrained)] == ["Small", "Small, untrained"]
    assert pages.marked([real, real]) == pages.marked([]) == ""
    assert pages.marked([phantom, phantom]) == "phantom"
    assert pages.marked([real, phantom]) == "partly phantom"
    assert pages.marked([real, untrained]) == "partly untrained"
    assert pages.marked([untrained, both]) == "partly phantom, untrained"


def test_a_title_says_untrained_once(twins):
    one = named(twins, "a1")
    told = ready(name="small")
    told.model = replace(told.model, title="A net, untrained by design")
    assert replace(one, encoder=told).title == "A net, untrained by design"


# Focus


def test_focus_is_that_of_the_bare_function_and_what_has_none_is_listed(judged, cases, twins):
    table, lost = judged
    assert len(table) == 2 * (2 + 2 + 2)  # two methods on a1 and b1, of the real cohort, of phantoms and of the twin
    by = table.set_index(["cohort", "encoder", "sample_id", "method"])
    assert by.index.is_unique
    for case in [*cases, *twins]:
        for method in BOTH if case.mask is not None else ():
            row = by.loc[(case.cohort, case.encoder.name, case.sample_id, method)]
            expected = saliency.focus(case.maps[method], case.mask, case.hu, case.spacing, MARGIN)
            assert {name: row[name] for name in expected} == pytest.approx(expected)
            blind = saliency.blind(case.mask, case.hu, case.spacing, MARGIN)
            assert {name: row[name] for name in blind} == pytest.approx(blind)
            inside = case.maps[method][case.mask].sum() / case.maps[method].sum()
            assert row["mass_inside"] == pytest.approx(inside)
            assert (row["patient_id"], row["untrained"]) == (case.patient_id, case.untrained)
    reasons = lost.set_index(["sample_id", "method"])["reason"]
    assert sorted(reasons.index) == sorted((name, method) for name in (NO_MASK, FAR) for method in BOTH)
    assert set(reasons[NO_MASK]) == {named(cases, NO_MASK).reason}
    assert len(table) + len(lost) == 2 * len([*cases, *twins])


def test_a_map_that_points_nowhere_is_listed_with_its_reason(cases):
    case = named(cases, "a1")
    blank = replace(case, maps={"occlusion": np.zeros_like(case.hu, float), "gradients": case.maps["gradients"]})
    table, lost = pages.focus_table([blank], MARGIN)
    assert table["method"].tolist() == ["gradients"]
    assert lost[["cohort", "sample_id", "encoder", "method"]].values.tolist() == [
        ["lung_ct", "a1", case.encoder.name, "occlusion"]
    ]
    assert "0 in all 192 voxels" in lost["reason"][0]
    curves, uncut = pages.deletions([blank], None)
    assert [method for _, _, method in curves] == ["gradients"]
    assert (
        uncut[["sample_id", "method"]].values.tolist() == [["a1", "occlusion"]] and "in all 192" in uncut["reason"][0]
    )


def test_no_case_gives_empty_tables():
    table, lost = pages.focus_table([], MARGIN)
    assert table.empty and lost.empty and pages.summary(table, 50, 0).empty
    assert pages.deletions([], None)[0] == {} and pages.sanity_table([], []).empty


def test_a_summary_has_means_over_cases_and_names_weights_method_and_cohort(summary, judged):
    lung, phantom = (COHORTS.get(name).title for name in ("lung_ct", "phantom"))
    expected = {f"{weights}: {title}" for title, weights in (
        *((lung, f"trained, {each}") for each in TITLES), *((phantom, f"trained, {each}") for each in TITLES),
        *((lung, f"untrained, {each}") for each in TITLES))}  # fmt: skip
    assert set(summary["model"]) == expected
    rows = judged[0].query("cohort == 'phantom' and method == 'occlusion'")
    row = summary.set_index(["model", "measure"]).loc[(f"trained, occlusion: {phantom}", "auc")]
    assert row["value"] == pytest.approx(rows["auc"].mean())
    assert (row["cases"], row["patients"]) == (2, 1) and np.isnan(row["low"])  # both cases are of one patient


def test_intervals_are_those_of_the_draws_and_the_seed(judged):
    table = judged[0].query("cohort == 'lung_ct'").assign(patient_id=judged[0]["sample_id"])
    table = pd.concat([table] + [table.assign(patient_id=table["patient_id"] + str(n)) for n in range(3)])
    first, again, other = (pages.summary(table, 200, seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["low"] <= first["value"]).all() and (first["value"] <= first["high"]).all()
    assert first["value"].tolist() == other["value"].tolist()


# Deletion and sanity


def test_deletion_curves_are_those_of_the_patch_that_the_encoder_is_fed(run, deleted, trained, drawn):
    curves, lost = deleted
    assert lost.empty and len(curves) == 12 and all(len(each.share) == pages.STEPS + 1 for each in curves.values())
    held = bank.Bank(bank.path_of(run, "lung_ct", "small"))
    row = next(row for row in held.rows.itertuples() if (row.sample_id, row.trial) == ("a1", 0))
    recipe = trained.recipe
    image = recipe.scaled(torch.from_numpy(held.patch(row, recipe.size, recipe.axes).copy()))[None, None]
    values = np.abs(maps.read(drawn[0].drawn.paths["a1", "occlusion"]).values)
    expected = saliency.deletion(trained.of_values, image, values, pages.STEPS, -0.2)  # air, cut off at -1000 HU
    found = curves["lung_ct", "a1", "occlusion"]
    assert_allclose(found.distance, expected.distance, rtol=1e-4, atol=1e-7)
    assert found.area == pytest.approx(expected.area, rel=1e-4)
    assert found.displaced_area == pytest.approx(expected.displaced_area, rel=1e-4)


def test_the_sanity_check_pairs_the_same_tumour_and_method(alike, cases, twins):
    assert sorted(zip(alike["sample_id"], alike["method"], strict=True)) == sorted(
        (name, method) for name in ("a1", "b1") for method in BOTH
    )
    row = alike.set_index(["sample_id", "method"]).loc[("b1", "occlusion")]
    one, other = (named(each, "b1").maps["occlusion"].ravel() for each in (cases, twins))
    assert row["spearman"] == pytest.approx(pd.Series(one).corr(pd.Series(other), method="spearman"))
    assert row["cohort"] == "lung_ct" and 0 <= row["top_overlap"] <= 1


def test_a_tumour_of_another_cohort_or_a_method_without_a_map_is_no_pair(cases, twins):
    case = named(twins, "a1")
    assert pages.sanity_table(cases, [replace(case, cohort="rider")]).empty
    alone = replace(case, maps={"gradients": case.maps["gradients"]})
    assert pages.sanity_table(cases, [alone])["method"].tolist() == ["gradients"]


# What was made, of what


def mapped(cohort, encoder, rows):
    columns = ["sample_id", "method", "status", "seconds", "forwards"]
    timings = pd.DataFrame(rows, columns=columns)
    return pages.Mapped(cohort, encoder, maps.Drawn({}, timings, pd.DataFrame(columns=maps.EXCLUDED)))


def test_times_are_means_of_the_maps_drawn_now(trained):
    lung = [("a", 2.0, 25), ("b", 4.0, 25), ("c", 0.0, 0)]
    rows = [(name, "occlusion", maps.DRAWN if forwards else maps.THERE, *each, forwards)
            for name, *each, forwards in lung]  # fmt: skip
    phantom = [("a", "gradients", maps.THERE, 0.0, 0)]
    found = pages.times([mapped("lung_ct", trained, rows), mapped("phantom", trained, phantom)])
    assert list(found) == ["encoder", "cohort", "method", "maps", "seconds a map", "patches a map"]
    assert found.iloc[0].tolist() == [trained.name, "lung_ct", "occlusion", 3, 3.0, 25]
    assert found.iloc[1, 1:4].tolist() == ["phantom", "gradients", 1] and found.iloc[1, 4:].isna().all()
    shown = pages.times_shown([mapped("lung_ct", trained, rows), mapped("phantom", trained, phantom)])
    assert list(shown) == ["cohort", "map", "maps", "seconds each", "passes each"]
    assert shown.iloc[1, :3].tolist() == [COHORTS.get("phantom").title, "Small: integrated gradients", 1]
    assert list(pages.times_shown([mapped("phantom", trained, phantom)])) == ["cohort", "map", "maps"]  # none was drawn
    assert pages.times([]).empty and pages.times([mapped("lung_ct", trained, [])]).empty


def test_inputs_are_hashes_of_all_weights_of_every_patch_and_of_the_masks(drawn, twin_drawn, cases, trained):
    found = pages.inputs([*drawn, *twin_drawn], cases)
    samples = [f"{each.cohort}/{name}" for each in drawn for name in each.samples(9)]
    masks = [f"{case.cohort}/{case.sample_id}, mask" for case in cases if case.mask is not None]
    weights = [f"weights of {each.encoder.name}" for each in (drawn[0], twin_drawn[0])]
    assert sorted(found) == sorted([*weights, *(f"{name}, small" for name in samples), *masks])
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in found.values()) and len(masks) == 4
    assert len(set(found.values())) == 2 + 4 + 2  # phantoms are a1 and b1 once more: patches and masks are the same
    assert found[weights[0]] == trained.weights.sha256 != found[weights[1]]


def test_the_hash_of_a_mask_changes_with_one_voxel(cases):
    case = named(cases, "a1")
    other = case.mask.copy()
    other[0, 0, 0] ^= True
    one, two = (pages.inputs([], [replace(case, mask=mask)])["lung_ct/a1, mask"] for mask in (case.mask, other))
    turned = pages.inputs([], [replace(case, mask=case.mask.reshape(case.mask.shape[::-1]))])["lung_ct/a1, mask"]
    assert len({one, two, turned}) == 3


def test_what_could_not_be_drawn_is_listed_for_every_encoder(run, drawn):
    collapsed = draw(run, ready(embed=constant, name="collapsed"), ["a1", "b1"])
    found = pages.left_out([*drawn, *collapsed])
    assert found[["cohort", "sample_id", "encoder"]].drop_duplicates().values.tolist() == [
        ["lung_ct", name, "collapsed.benchmark.untrained"] for name in ("a1", "b1")
    ]
    assert len(found) == 4 and found["reason"].str.contains("in all 192|nothing to explain").all()
    shown = pages.lost_shown(found, [*drawn, *collapsed])
    assert list(shown)[:3] == ["cohort", "sample", "reason"]  # by cohort, a phone shows the next two
    assert shown["reason"].tolist() == found["reason"].tolist() and set(shown["cohort"]) <= {
        each.title for each in COHORTS
    }
    assert list(pages.left_out(drawn)) == list(found) and pages.left_out([]).empty


def test_encoders_beside_are_those_named_but_for_the_page_s_own(trained):
    own = ready(name="random_encoder")
    name = "random_encoder.benchmark.untrained"
    assert pages.beside([name], [trained, own], device="cpu") == []
    (other,) = pages.beside([name, name], [trained, None], device="cpu")
    assert other.name == name
    with pytest.raises(ValueError, match=r"beside has astra\.benchmark\.file-0123, made with the weights of a file"):
        pages.beside(["astra.benchmark.file-0123"], [trained])


def test_the_first_tumour_with_a_map_of_the_method_is_shown(cases, twins):
    first, *rest = cases
    lacking = replace(first, maps={"gradients": first.maps["gradients"]})
    assert (
        pages.first([lacking, *rest], "occlusion") is rest[0] and pages.first([lacking, *rest], "gradients") is lacking
    )
    assert pages.first([lacking], "occlusion") is None and pages.first([], "occlusion") is None
    phantom = named(cases, "a1", "phantom")
    assert pages.same_tumour(phantom, twins) == [] and pages.same_tumour(None, twins) == []
    assert pages.same_tumour(named(cases, "a1"), twins) == [named(twins, "a1")]


# Figures


def shown_well(shown, mark=""):
    """A figure with caption and alternative text, which open with the mark."""
    assert isinstance(shown, plots.Shown)
    assert len(shown.caption) > 40 and f'aria-label="{shown.alt[:20]}' in shown.svg and len(shown.alt) > 20
    assert shown.caption.startswith(f"{mark.upper()}: ") if mark else not re.match("[A-Z, ]{5,}:", shown.caption)
    return shown.caption


@pytest.mark.parametrize("method", BOTH)
def test_the_map_of_a_tumour_is_shown_with_its_outline_if_there_is_one(method, cases):
    caption = shown_well(pages.planes_shown(named(cases, "a1"), method))
    assert caption.startswith(f"Small, {dict(zip(BOTH, TITLES, strict=True))[method]} on a1") and "outline" in caption
    assert "outline" not in shown_well(pages.planes_shown(named(cases, NO_MASK), method))
    shown_well(pages.planes_shown(named(cases, "a1", "phantom"), method), "phantom")


def test_the_viewer_has_every_slice_and_the_mark(cases, twins):
    viewer = pages.viewer_shown(named(twins, "a1"), "occlusion")
    assert isinstance(viewer, plots.Viewer) and "untrained" in viewer.html.lower()
    assert "Small, untrained, occlusion on a1" in viewer.caption and "Axial slices of a1" in viewer.html
    assert "phantom" in pages.viewer_shown(named(cases, "b1", "phantom"), "gradients").html.lower()


def test_encoders_are_shown_side_by_side_each_with_its_name(cases, twins):
    same = [named(cases, "a1"), named(twins, "a1")]
    caption = shown_well(pages.grid_shown([same[0]], "occlusion"))
    assert caption.startswith("a1, occlusion") and caption.endswith(": Small.")
    shown = pages.grid_shown(same, "occlusion")
    assert shown_well(shown, "partly untrained") and shown.caption.endswith(": Small, Small, untrained.")
    lacking = replace(same[1], maps={})  # listed elsewhere; here its tile says that there is no map
    assert "no map" not in shown.svg and "no map" in pages.grid_shown([same[0], lacking], "occlusion").svg


def test_tables_bear_the_mark_of_what_they_hold(cases, twin_drawn, drawn):
    assert pages.told("Maps", drawn) == "PARTLY PHANTOM: Maps" and pages.told("Maps", drawn[:1]) == "Maps"
    assert pages.told("Maps", twin_drawn) == "UNTRAINED: Maps"


def test_nothing_is_shown_as_nothing(cases):
    for shown in (
        pages.grid_shown([], "occlusion"),
        pages.hu_shown([], "occlusion", ""),
        pages.focus_shown(pd.DataFrame(), ""),
        pages.deletion_shown({}, ""),
        pages.sanity_shown(pd.DataFrame(), ""),
    ):
        assert isinstance(shown, plots.Shown) and "[]" not in shown.caption


def test_focus_is_shown_with_its_figures(summary, judged):
    caption = shown_well(pages.focus_shown(summary, "partly phantom", judged[0]), "partly phantom")
    assert "one case" in pages.focus_shown(summary, "", judged[0]).svg and "Rows may have different cases" in caption
    assert "mass within 7 mm" in pages.focus_shown(summary, "", margin_mm=7.0).svg
    wide = summary.set_index(["model", "measure"])["value"]
    for model in summary["model"].unique():
        names = ("mass_inside", "mass_expected", "mass_inside_centre", "mass_inside_brightness")
        inside, expected, middle, bright = (f"{100 * wide[model, name]:.1f} %" for name in names)
        assert f"{model[1:]}: {inside} of the map inside the tumour, {expected} by volume" in caption
        assert f"by volume, {middle} of a map of the middle, {bright} of brightness" in caption
    assert re.search(r"different cases\. Trained, (occlusion|integrated gradients): ", caption)


def test_mean_saliency_by_hu_is_shown_for_all_cases(cases):
    caption = shown_well(pages.hu_shown(cases, "occlusion", "partly phantom"), "partly phantom")
    assert f"Small, occlusion, {len(cases)} cases" in caption


def test_a_case_that_lacks_the_map_of_a_method_does_not_hide_the_others(cases):
    lacking = replace(named(cases, "b1"), maps={"gradients": named(cases, "b1").maps["gradients"]})
    assert "occlusion, 1 case" in pages.hu_shown([named(cases, "a1"), lacking], "occlusion", "").caption


def test_deletion_is_shown_for_a_few_and_told_for_all(deleted):
    curves, _ = deleted
    shown = pages.deletion_shown(curves, "")
    caption = shown_well(shown)
    assert len(curves) > pages.MOST and shown.svg.count("voxels replaced (%)") == 2  # columns
    for (_, sample, method), each in curves.items():
        told = f"{sample}, {dict(zip(BOTH, TITLES, strict=True))[method]}: area {each.area:.2f}, displaced "
        least, most = sorted(each.displaced_area)[0], sorted(each.displaced_area)[2]
        assert f"{told}{least:.2f} to {most:.2f}" in caption


def test_the_sanity_check_is_shown_with_its_medians(alike):
    caption = shown_well(pages.sanity_shown(alike, "phantom"), "phantom")
    for title, method in zip(TITLES, BOTH, strict=True):
        rows = alike[alike["method"] == method]
        told = f"{title}: median rank correlation {rows['spearman'].median():.2f}, common top tenth "
        assert f"{told[1:]}{100 * rows['top_overlap'].median():.0f} %" in caption


# What the page says


def told_of(lines, opening):
    (line,) = [each for each in lines if each.startswith(opening)]
    return line


def test_findings_tell_the_numbers_of_the_tables(summary, alike, deleted, judged, cases):
    curves, lost = deleted[0], judged[1]
    lines = pages.findings(summary, judged[0], alike, curves, lost, cases).splitlines()
    assert len(lines) == 6 + 2 + 2 + 4 + 1 + 1 and all(line.startswith("- ") for line in lines)
    value = summary.set_index(["cohort", "untrained", "method", "measure"])
    names = {"lung_ct": COHORTS.get("lung_ct").title, "phantom": COHORTS.get("phantom").title}
    for cohort, untrained in (("lung_ct", False), ("phantom", False), ("lung_ct", True)):
        for method, title in zip(BOTH, TITLES, strict=True):
            opening = "".join([*(["PHANTOM: "] * (cohort == "phantom")), *(["UNTRAINED: "] * untrained)])
            line = told_of(lines, f"- {opening}{names[cohort]}, {title}: the tumour has ")
            mine = value.sort_index().loc[(cohort, untrained, method)]["value"]
            own = judged[0].query("cohort == @cohort and untrained == @untrained and method == @method")
            both = " and ".join(f"{each:.1f}" for each in sorted(own["enrichment"]))
            assert f"has {mine['enrichment']:.1f} times the saliency" in line and f"2 cases: {both};" in line
            assert (
                f"middle of the patch {mine['enrichment_centre']:.1f}, brightness {mine['enrichment_brightness']:.1f})"
                in line
            )
            assert f"AUC {mine['auc']:.2f}; a map of the middle has {mine['auc_centre']:.2f}, brightness" in line
            assert f"Rank correlation with HU {mine['hu_spearman']:+.2f}" in line
            bright, volume = (f"{100 * mine[name]:.1f} %" for name in ("bright_mass", "bright_expected"))
            assert f"{bright} on bright voxels outside ({volume} by volume)" in line
            blind = max(mine["auc_centre"], mine["auc_brightness"])
            assert ("not better than" in line) == (round(mine["auc"], 2) <= round(blind, 2))
    assert lines[-1] == f"- {len(lost)} maps could not be made or measured; the reasons are above."


def scored(aucs, centre=0.9, brightness=0.7, **more):
    table = pd.DataFrame({"auc": aucs, "auc_centre": centre, "auc_brightness": brightness})
    names = [name for name in (*saliency.MEASURES, *saliency.BLIND_MEASURES) if name not in table]
    table = table.assign(**dict.fromkeys(names, 0.5)).assign(enrichment=[float(n) for n in range(len(aucs))])
    about = {"cohort": "lung_ct", "encoder": "e", "untrained": False, "method": "occlusion"}
    samples = [f"s{n}" for n in range(len(aucs))]
    return table.assign(**about, sample_id=samples, patient_id=samples, **more)


def said(table):
    return pages.findings(pages.summary(table, 200, 0), table, pd.DataFrame(), {}, pd.DataFrame())


@pytest.mark.parametrize(
    ("aucs", "centre", "brightness", "verdict"),
    [
        (
            [0.97, 0.97],
            0.99,
            0.91,
            "AUC 0.97; a map of the middle has 0.99, brightness 0.91: by AUC better than brightness in 2 of 2 cases, "
            "not better than a map of the middle.",
        ),
        (
            [0.97, 0.9],
            0.91,
            0.99,
            "by AUC better than a map of the middle in 1 of 2 cases, not better than brightness.",
        ),
        ([0.9, 0.9], 0.9, 0.95, "by AUC not better than a map of the middle or brightness."),
        (
            [0.904],
            0.896,
            0.95,
            "AUC 0.90; a map of the middle has 0.90, brightness 0.95: by AUC not better than a map of",
        ),
        ([0.99, 0.85], 0.9, 0.8, "better than both in 1 of 2 cases."),
        ([0.95], 0.9, 0.8, "better than both in 1 of 1 case."),
        ([0.95, 0.95], 0.9, np.nan, "by AUC better than a map of the middle in 2 of 2 cases."),
        ([0.85], 0.9, np.nan, "by AUC not better than a map of the middle."),
        ([0.85], np.nan, np.nan, "by AUC not held against these."),
    ],
)
def test_findings_name_the_blind_maps_that_the_maps_are_better_than(aucs, centre, brightness, verdict):
    assert verdict in said(scored(aucs, centre, brightness))


def test_findings_give_few_cases_and_the_interval_of_many():
    assert "1 case: 0.0;" in said(scored([0.9])) and "2 cases: 0.0 and 1.0;" in said(scored([0.9] * 2))
    assert "4 cases: 0.0, 1.0, 2.0 and 3.0;" in said(scored([0.9] * 4))
    table = scored([0.9] * 6)
    row = pages.summary(table, 200, 0).set_index("measure").loc["enrichment"]
    assert f" {row['low']:.1f} to {row['high']:.1f}, 6 cases of 6 patients;" in said(table)
    assert "Rank correlation with HU +0.50 (+0.50 to +0.50, 6 cases of 6 patients)" in said(table)
    of_few = table.assign(patient_id=["a", "b"] * 3)
    assert "6 cases of 2 patients: 0.0 to 5.0;" in said(of_few)


def test_trained_and_untrained_are_compared_on_the_cases_that_both_have():
    trained, untrained = scored([0.9, 0.8, 0.1]), scored([0.6, 0.7]).assign(untrained=True, encoder="u")
    untrained["enrichment"] += 4
    table = pd.concat([trained, untrained], ignore_index=True)
    (row,) = pages.paired(table).to_dict("records")
    expected = {"enrichment_trained": 0.5, "enrichment_untrained": 4.5, "auc_trained": 0.85, "auc_untrained": 0.65}
    assert row == {"cohort": "lung_ct", "method": "occlusion", "cases": 2} | {
        name: pytest.approx(value) for name, value in expected.items()
    }
    found = said(table)
    assert (
        "2 cases mapped with trained and with random weights: enrichment 0.5 trained, 4.5 untrained; AUC 0.85" in found
    )
    assert pages.paired(trained).empty and pages.paired(pd.DataFrame()).empty and "mapped with" not in said(trained)
    phantom = said(table.assign(cohort="phantom"))
    assert "- PHANTOM, PARTLY UNTRAINED: PHANTOM, occlusion, 2 cases mapped with" in phantom


@pytest.mark.parametrize(
    ("spearman", "words"),
    [
        (0.8, "says little of what was learnt."),
        (0.79, "depends in part on what was learnt."),
        (0.21, "depends in part on what was learnt."),
        (0.2, "depends on what was learnt."),
        (-0.9, "depends on what was learnt."),
    ],
)
def test_a_map_that_random_weights_do_not_change_is_said_to_say_little(spearman, words):
    table = pd.DataFrame({"cohort": "lung_ct", "sample_id": ["a"], "method": "occlusion", "spearman": spearman})
    found = pages.findings(pd.DataFrame(), pd.DataFrame(), table, {}, pd.DataFrame())
    assert (
        f"with random weights of one seed the map has a rank correlation of {spearman:.2f}, 1 case, so it {words}"
        in found
    )


def test_the_sanity_check_is_told_by_cohort_with_its_range_and_mark():
    rows = [("lung_ct", 0.1), ("lung_ct", 0.3), ("phantom", 0.9), ("phantom", 0.95), ("phantom", 1.0)]
    table = pd.DataFrame(rows, columns=["cohort", "spearman"]).assign(method="occlusion", sample_id="s")
    real, phantom = pages.findings(pd.DataFrame(), pd.DataFrame(), table, {}, pd.DataFrame()).splitlines()[-2:]
    assert real.startswith("- PARTLY UNTRAINED: Two lung") and "median 0.20, 0.10 to 0.30 in 2 cases" in real
    assert phantom.startswith("- PHANTOM, PARTLY UNTRAINED: ") and "median 0.95, 0.90 to 1.00 in 3 cases" in phantom


def test_deletion_is_told_by_cohort_with_its_mark(cases, twins):
    good, bad = (SimpleNamespace(counts=counts) for counts in (True, False))
    curves = {
        ("lung_ct", "a", "occlusion"): good,
        ("lung_ct", "b", "occlusion"): bad,
        ("phantom", "a", "occlusion"): bad,
    }
    nothing = pd.DataFrame()
    real, phantom, *_ = pages.findings(nothing, nothing, nothing, curves, nothing, cases).splitlines()[1:]
    assert real.startswith("- Two lung") and "in 1 of 2 maps the most salient" in real
    assert phantom.startswith("- PHANTOM: ") and "in 0 of 1 map the most salient" in phantom
    assert "the same map displaced" in real
    untrained = pages.findings(nothing, nothing, nothing, curves, nothing, twins)
    assert "- UNTRAINED: Two lung" in untrained and "- PHANTOM, UNTRAINED: " in untrained


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ([0.01, 0.05], "- Integrated gradients miss the sum they should have by 5.0 % at most, in 2 maps."),
        ([0.01, 0.2, 0.07], "- **Warning**: integrated gradients of 2 of 3 maps miss the sum they should have by more "
         "than 5 %, at most by 20.0 %"),
    ],
)  # fmt: skip
def test_the_error_of_integrated_gradients_is_told_and_warned_of(errors, words, cases):
    some = [replace(cases[0], figures={"gradients": {"completeness": each}, "occlusion": {}}) for each in errors]
    nothing = pd.DataFrame()
    assert words in pages.findings(nothing, nothing, nothing, {}, nothing, some)
    kept = named(cases, "a1").figures["gradients"]["completeness"]
    assert 0 <= kept < 1 and "ntegrated" not in pages.findings(nothing, nothing, nothing, {}, nothing, [])


def test_the_settings_are_called_the_study_s_only_if_they_are():
    assert "those of the study's released code" in pages.settings(12, 0.25, "gaussian")
    for given in ((11, 0.25, "gaussian"), (12, 0.5, "gaussian"), (12, 0.25, "mean"), (12, 0.25, 0.0)):
        assert "not the study's" in pages.settings(*given)


def test_nothing_judged_is_said_and_written():
    nothing = pages.summary(pages.focus_table([], MARGIN)[0], 50, 0)
    told = pages.findings(nothing, pd.DataFrame(), pd.DataFrame(), {}, pd.DataFrame())
    assert told == "- No map could be held against a tumour."
    table = pages.tidy(nothing, pd.DataFrame(), {}, "small")
    assert table.empty and list(table) == COLUMNS


COLUMNS = ["model", "cohort", "encoder", "method", "measure", "value", "low", "high", "cases"]


def test_numbers_are_tidy(summary, alike, deleted):
    table = pages.tidy(summary, alike, deleted[0], "small")
    assert list(table) == COLUMNS and set(table["model"]) == {"small"}
    assert not table.duplicated(["cohort", "encoder", "method", "measure"]).any()
    found = table.set_index(["cohort", "method", "measure"])
    areas = [each.area for (cohort, _, method), each in deleted[0].items() if (cohort, method) == ("lung_ct", BOTH[0])]
    row = found.loc[("lung_ct", "occlusion", "deletion area")]
    assert row["value"] == pytest.approx(np.mean(areas)) and row["cases"] == len(areas) == 4
    some = [each for (cohort, _, method), each in deleted[0].items() if (cohort, method) == ("lung_ct", BOTH[0])]
    displaced = np.mean([each.displaced_area.mean() for each in some])
    assert found.loc[("lung_ct", "occlusion", "deletion area, displaced"), "value"] == pytest.approx(displaced)
    counts = np.mean([each.counts for each in some])
    assert found.loc[("lung_ct", "occlusion", "deletion counts"), "value"] == pytest.approx(counts)
    same = alike.query("method == 'occlusion'")["spearman"]
    row = found.loc[("lung_ct", "occlusion", "spearman")]
    assert row["value"] == pytest.approx(same.median()) and row["cases"] == 2
    assert row["encoder"] == "trained against random"
    kept = table.merge(summary, on=["cohort", "encoder", "method", "measure", "value", "cases"])
    assert len(kept) == len(summary)


def test_what_a_run_lacks_is_asked_for(run, trained):
    pages.provide(run, ["lung_ct", "phantom"], [trained], 1)  # all is there
    with pytest.raises(RuntimeError, match="cohort=rider"):
        pages.provide(run, ["rider"], [trained], 1)


# The notebook, cell by cell

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "5_saliency.ipynb"
LATE = ("install", "load")  # cells that are not run here


def displayed(given):
    """What every cell of the notebook shows, by its id; ``given`` stands in for the parameters and the models."""
    space, shown = {}, {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code" or cell["id"] in LATE:
            continue
        if cell["id"] == "weights-card":
            space |= given
        *first, last = ast.parse("".join(cell["source"])).body
        expression = last.value if isinstance(last, ast.Expr) else None
        exec(compile(ast.Module(first if expression else [*first, last], []), cell["id"], "exec"), space)
        value = expression and eval(compile(ast.Expression(expression), cell["id"], "eval"), space)
        if cell["id"] == "check":
            space["results"] = str(given["run"] / "results" / "page")
        markup = getattr(value, "_repr_html_", lambda value=value: getattr(value, "data", "") or "")()
        shown[cell["id"]] = re.sub(r"\s+", " ", markup or "")
    return shown, space


@pytest.fixture
def page(run, tmp_path):
    """A page of the run above under a folder of its own, given its encoders."""
    for name in ("annotations", "patches"):
        (tmp_path / name).symlink_to(run / name)

    def made(encoder, twin=None, others=(), **more):
        base = {"run": tmp_path, "cohorts": ["lung_ct", "phantom"], "size": SIZE, "steps": STEPS, "workers": 1}
        return displayed(base | {"encoder": encoder, "twin": twin, "others": list(others), "draws": 50} | more)

    return made


def test_a_page_shows_every_section(page, trained):
    shown, space = page(trained, ready(), [ready(name="other")], twins=1)
    empty = [name for name, markup in shown.items() if re.fullmatch(r"\*.*\*", markup)]
    assert empty == [] and all("figure" in shown[name] for name in shown if name.endswith("-figure"))
    assert shown["grid-figure"].count("Other") and "PARTLY PHANTOM, PARTLY UNTRAINED: Maps drawn" in shown["timings"]
    assert "the mask is empty on the patch grid" in shown["lost"] and "mapped with trained and" in shown["findings"]
    assert "weights of other.benchmark.untrained" in shown["save"] and "beside" in space["record"]["parameters"]


def test_a_page_of_a_constant_embedding_says_so_and_lists_the_reasons(page):
    shown, space = page(ready(embed=constant, name="collapsed"), None, [ready()])
    sections = ["timings", "viewer", "planes-gradients"]
    sections += [f"{name}-figure" for name in ("planes", "focus", "bright", "deletion")]
    assert shown["grid-figure"] == shown["sanity-figure"] == ""
    assert [name for name in sections if not re.fullmatch(r"\*.+\*", shown[name])] == []
    assert len(re.findall("<td[^>]*>[^<]*, untrained</td>", shown["lost"])) == 2 * (4 + 2)
    assert "in all 192 voxels" in shown["lost"] and "PARTLY PHANTOM, UNTRAINED: Maps and measures" in shown["lost"]
    assert "- No map could be held against a tumour. - 12 maps could not be made or measured" in shown["findings"]
    assert pd.read_csv(f"{space['results']}.csv").empty


def test_a_twin_without_any_map_is_listed_too(page, trained):
    shown, _ = page(trained, ready(embed=constant, name="collapsed"), twins=1, cohorts=["lung_ct"])
    assert len(re.findall("<td[^>]*>[^<]*, untrained</td>", shown["lost"])) == 2
    assert shown["sanity-figure"] == "" and "figure" in shown["focus-figure"]
