"""The saliency page of a model: maps upright on CT and mask, numbers those of the bare functions, nothing lost."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose
from test_maps import SMALL, ready

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


def draw(run, encoder, cohort="lung_ct", samples=None, **options):
    return maps.draw(run, cohort, encoder, samples, size=SIZE, steps=STEPS, progress=False, **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """An encoder whose weights come from a file, so that it is not called untrained."""
    file = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save(ready(seed=3).module.state_dict(), file)
    return ready(weights=file)


@pytest.fixture(scope="module")
def drawn(run, trained):
    return {cohort: draw(run, trained, cohort) for cohort in ("lung_ct", "phantom")}


@pytest.fixture(scope="module")
def cases(run, trained, drawn):
    return [case for cohort in drawn for case in pages.cases(run, cohort, trained, drawn[cohort])]


@pytest.fixture(scope="module")
def twins(run):
    twin = ready()
    return pages.cases(run, "lung_ct", twin, draw(run, twin, samples=["a1", "b1"]))


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
    some = draw(run, trained, samples=["c1", "b1"], methods=["gradients"])
    found = pages.cases(run, "lung_ct", trained, some)
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
    done = draw(run, encoder, samples=["a1"])
    (case,) = pages.cases(run, "lung_ct", encoder, done)
    held = bank.Bank(bank.path_of(run, "lung_ct", "small"))
    row = next(row for row in held.rows.itertuples() if (row.sample_id, row.trial) == ("a1", 0))
    native = {"hu": held.patch(row, size, axes, encoder.recipe.pad), "mask": held.mask(row, size, axes)}
    native |= {method: np.abs(maps.read(done.paths["a1", method]).values) for method in BOTH}
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
    assert (maps.read(drawn["lung_ct"].paths["a1", "gradients"]).values < 0).any()
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
    values = np.abs(maps.read(drawn["lung_ct"].paths["a1", "occlusion"]).values)
    expected = saliency.deletion(trained.of_values, image, values, pages.STEPS, -0.2)  # air, cut off at -1000 HU
    found = curves["lung_ct", "a1", "occlusion"]
    assert_allclose(found.distance, expected.distance, rtol=1e-4, atol=1e-7)
    assert found.area == pytest.approx(expected.area, rel=1e-4)
    assert found.random_area == pytest.approx(expected.random_area, rel=1e-4)


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


def test_times_are_means_of_the_maps_drawn_now():
    timings = pd.DataFrame(
        [
            ("lung_ct", "a", "occlusion", maps.DRAWN, 2.0, 25),
            ("lung_ct", "b", "occlusion", maps.DRAWN, 4.0, 25),
            ("lung_ct", "c", "occlusion", maps.THERE, 0.0, 0),
            ("phantom", "a", "gradients", maps.THERE, 0.0, 0),
        ],
        columns=["cohort", "sample_id", "method", "status", "seconds", "forwards"],
    )
    found = pages.times(timings)
    assert list(found) == ["cohort", "method", "maps", "seconds a map", "patches a map"]
    assert found.iloc[0].tolist() == ["lung_ct", "occlusion", 3, 3.0, 25]
    assert found.iloc[1, :3].tolist() == ["phantom", "gradients", 1] and found.iloc[1, 3:].isna().all()


def test_inputs_are_hashes_of_the_weights_and_of_every_patch(drawn):
    found = pages.inputs(drawn)
    expected = [f"{name}/{sample}, {method}" for name, each in drawn.items() for sample, method in each.paths]
    assert list(found) == ["weights", *expected]
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in found.values())
    assert found["lung_ct/a1, occlusion"] == found["lung_ct/a1, gradients"] != found["lung_ct/b1, occlusion"]


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
    assert "untrained" in shown.caption.split(":")[0].lower() and shown.caption.endswith(": Small, Small, untrained.")
    lacking = replace(same[1], maps={})  # listed elsewhere; here its tile says that there is no map
    assert "no map" not in shown.svg and "no map" in pages.grid_shown([same[0], lacking], "occlusion").svg


def test_focus_is_shown_with_its_figures(summary):
    caption = shown_well(pages.focus_shown(summary, "partly phantom"), "partly phantom")
    wide = summary.set_index(["model", "measure"])["value"]
    for model in summary["model"].unique():
        inside, expected = wide[model, "mass_inside"], wide[model, "mass_expected"]
        assert f"{model}: {inside:.1%} of the map inside the tumour, {expected:.1%} by volume" in caption


def test_mean_saliency_by_hu_is_shown_for_all_cases(cases):
    caption = shown_well(pages.hu_shown(cases, "occlusion", "partly phantom"), "partly phantom")
    assert f"Small, occlusion, {len(cases)} cases" in caption


def test_a_case_that_lacks_the_map_of_a_method_does_not_hide_the_others(cases):
    lacking = replace(named(cases, "b1"), maps={"gradients": named(cases, "b1").maps["gradients"]})
    assert "occlusion, 1 cases" in pages.hu_shown([named(cases, "a1"), lacking], "occlusion", "").caption


def test_deletion_is_shown_for_a_few_and_told_for_all(deleted):
    curves, _ = deleted
    shown = pages.deletion_shown(curves, "")
    caption = shown_well(shown)
    assert len(curves) > pages.MOST and shown.svg.count("voxels replaced (%)") == 1
    for (_, sample, method), each in curves.items():
        told = f"{sample}, {dict(zip(BOTH, TITLES, strict=True))[method]}: area {each.area:.2f}, random "
        assert f"{told}{each.random_area:.2f}" in caption


def test_the_sanity_check_is_shown_with_its_medians(alike):
    caption = shown_well(pages.sanity_shown(alike, "phantom"), "phantom")
    for title, method in zip(TITLES, BOTH, strict=True):
        rows = alike[alike["method"] == method]
        told = f"{title}: median rank correlation {rows['spearman'].median():.2f}, common top tenth "
        assert f"{told}{rows['top_overlap'].median():.0%}" in caption


# What the page says


def test_findings_tell_the_numbers_of_the_tables(summary, alike, deleted, judged):
    curves, lost = deleted[0], judged[1]
    lines = pages.findings(summary, alike, curves, lost).splitlines()
    assert len(lines) == 6 + 2 + 1 + 1 and all(line.startswith("- ") for line in lines)
    value = summary.set_index(["cohort", "untrained", "method", "measure"])
    names = {"lung_ct": COHORTS.get("lung_ct").title, "phantom": COHORTS.get("phantom").title}
    for cohort, untrained in (("lung_ct", False), ("phantom", False), ("lung_ct", True)):
        for method, title in zip(BOTH, TITLES, strict=True):
            opening = "".join([*(["PHANTOM: "] * (cohort == "phantom")), *(["UNTRAINED: "] * untrained)])
            (line,) = [each for each in lines if each.startswith(f"- {opening}{names[cohort]}, {title}: ")]
            of = {name: value.loc[(cohort, untrained, method, name), "value"] for name in saliency.MEASURES}
            assert f"has {of['enrichment']:.1f} times the saliency" in line and "(one patient)" in line
            assert f"AUC {of['auc']:.2f}, rank correlation with HU {of['hu_spearman']:+.2f}" in line
            assert f"{of['bright_mass']:.1%} on bright voxels outside ({of['bright_expected']:.1%} by" in line
            assert line.endswith("2 cases.")
    like = alike.groupby("method")["spearman"].median()
    for method, title in zip(BOTH, TITLES, strict=True):
        words = "so it says little" if like[method] >= pages.ALIKE else "so it depends on"
        assert any(f"the {title} map has a rank correlation of {like[method]:.2f}, {words}" in each for each in lines)
    better = sum(each.area > each.random_area for each in curves.values())
    assert f"- In {better} of {len(curves)} maps the most salient voxels" in lines[-2]
    assert lines[-1].startswith(f"- {len(lost)} maps could not be judged")


@pytest.mark.parametrize(("spearman", "words"), [(0.5, "says little"), (0.49, "depends on"), (-0.9, "depends on")])
def test_a_map_that_random_weights_do_not_change_is_said_to_say_little(spearman, words):
    table = pd.DataFrame({"cohort": "lung_ct", "sample_id": ["a"], "method": "occlusion", "spearman": spearman})
    found = pages.findings(pd.DataFrame({"cohort": [], "untrained": [], "method": []}), table, {}, pd.DataFrame())
    assert words in found and f"{spearman:.2f}" in found


def test_findings_give_an_interval_where_there_are_several_patients(judged):
    table = judged[0].query("cohort == 'lung_ct' and not untrained").assign(patient_id=judged[0]["sample_id"])
    summary = pages.summary(table, 200, 0)
    row = summary.set_index(["method", "measure"]).loc[("occlusion", "enrichment")]
    found = pages.findings(summary, pd.DataFrame(), {}, pd.DataFrame())
    assert f"({row['low']:.1f} to {row['high']:.1f})" in found and "one patient" not in found


def test_nothing_judged_is_said_and_written():
    nothing = pages.summary(pages.focus_table([], MARGIN)[0], 50, 0)
    assert pages.findings(nothing, pd.DataFrame(), {}, pd.DataFrame()) == "*No map could be judged.*"
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
