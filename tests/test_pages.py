"""Sentences and tables of the data curation pages, from real cohorts and from a bank of small CTs with known masks."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from tests import real
from tests.dicom import DIRECTIONS, ORIGIN, SPACING, blob, write_image
from tumorbench_utils import bank, curation, pages, sources
from tumorbench_utils.annotations import Annotations
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.curation import Measured, Selected
from tumorbench_utils.imaging import Volume
from tumorbench_utils.patches import AIR

NO_CASES = pd.DataFrame(columns=["sample_id", "reason"])
every_cohort = pytest.mark.parametrize("cohort", list(COHORTS), ids=lambda cohort: cohort.id)


# What the registry says


@every_cohort
def test_a_card_has_all_that_the_registry_says(cohort):
    card = pages.card(cohort)
    for said in (cohort.title, cohort.anatomy, cohort.size, cohort.source, cohort.licence, cohort.seed_rule):
        assert said and said in card
    assert card.count("https://doi.org/") == bool(cohort.doi)
    for variant, endpoint in cohort.endpoints.items():
        (line,) = [line for line in card.splitlines() if f"variant `{variant}`" in line]
        assert endpoint.title in line and endpoint.rule[1:] in line
        if endpoint.positives is not None:
            assert f"{endpoint.positives:,} positive, {endpoint.negatives:,} negative" in line
    assert ("- **Endpoint**: none" in card.splitlines()) == (not cohort.endpoints)
    assert "None" not in card and ".." not in card


@every_cohort
def test_an_expectation_names_every_variant(cohort):
    said = pages.expectation(cohort)
    assert re.findall(r"\((\w+)\)", said) == list(cohort.endpoints)
    assert "None" not in said
    if not cohort.endpoints:
        assert said.startswith("Expected: no endpoint.")


@pytest.mark.parametrize(
    ("title", "mark", "after"),
    [
        ("PHANTOM, site A", "phantom", "Site A"),
        ("PHANTOM nodule malignancy", "phantom", "Nodule malignancy"),
        ("PHANTOM", "phantom", "The cohort"),
        ("two-year survival", "phantom", "Two-year survival"),
        ("LUNA16", "", "LUNA16"),
    ],
)
def test_a_title_does_not_repeat_the_mark_before_it(title, mark, after):
    assert pages.after_mark(title, mark) == after


def test_expected_counts_or_that_there_are_none():
    assert pages.expectation(COHORTS.get("luna16")).startswith("Expected: 327 positive, 350 negative (paper)")
    assert pages.expectation(COHORTS.get("phantom")) == "Expected: no set count (paper); no set count (survival)."


def test_an_expectation_says_where_a_table_can_be_fetched():
    told = {cohort.id: re.findall(r"record (\d+)", pages.expectation(cohort)) for cohort in COHORTS}
    assert told.pop("dlcs") == [str(COHORTS.get("dlcs").images.record)]
    assert not any(told.values())


@every_cohort
def test_a_note_follows_another_sentence_or_is_empty(cohort):
    note, said = getattr(cohort.images, "note", ""), pages.noted(cohort)
    assert said.endswith(f": {note}.") if note else said == ""
    before = "Settled by the query, before the flow below begins" in said
    assert before == (cohort.id in ("nsclc_radiomics", "nsclc_radiogenomics", "rider"))  # the masks say who is a case
    assert ".." not in pages.noted(cohort)


def test_hashes_change_with_a_value_and_leave_out_what_is_not_there():
    one, other = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 3]})
    found = pages.hashes(manifest=None, annotations=one)
    assert list(found) == ["annotations"] and re.fullmatch("[0-9a-f]{64}", found["annotations"])
    assert found == pages.hashes(annotations=one.copy())
    assert found != pages.hashes(annotations=other) != pages.hashes(annotations=other[:1])


# The table of the run against that of the page


def table(names, labels):
    return pd.DataFrame({"sample_id": names, "label": labels})


def test_the_same_table_agrees_in_full():
    made = table(["a", "b", "c"], [1.0, 0, 1])
    said = pages.agreement(made.iloc[::-1], made)  # the order says nothing
    assert said.endswith("3 of its 3 samples are among the 3 of this page, 3 of them with the same label.")


def test_other_labels_and_samples_of_one_table_alone_are_counted():
    said = pages.agreement(table(["a", "b", "x"], [1.0, 0, 0]), table(["b", "a", "c", "d"], [0.0, 0, 1, 1]))
    assert said.endswith("2 of its 3 samples are among the 4 of this page, 1 of them with the same label.")


def test_tables_without_labels_agree():
    none = table(["a", "b"], [np.nan, np.nan])
    assert "2 of them with the same label" in pages.agreement(none, none.copy())
    assert "0 of them with the same label" in pages.agreement(none, table(["a", "b"], [0.0, 1]))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0.0, 1, 1], "as many samples and the same counts of classes."),
        ([0.0, 0, 1], "as many samples and other counts of classes."),
        ([0.0, 1], "3 against 2 samples and other counts of classes."),
    ],
)
def test_other_names_are_compared_by_counts(labels, said):
    made = table([f"other {number}" for number in range(len(labels))], labels)
    assert pages.agreement(table(["a", "b", "c"], [1.0, 1, 0]), made).endswith(f"it has {said}")


def test_other_names_without_labels_have_the_same_counts():
    kept, made = table(["a", "b"], [np.nan] * 2), table(["c", "d"], [float("nan")] * 2)
    assert pages.agreement(kept, made).endswith("as many samples and the same counts of classes.")


def test_the_published_table_of_a_cohort_agrees_with_the_released_rows():
    kept = real.registry().annotations.table
    made = curation.select(COHORTS.get("nsclc_radiomics"), real.cohort_rows("nsclc_radiomics")).annotations.table
    said = pages.agreement(kept, made)
    count = f"{len(kept):,}"
    assert f"{count} of its {count} samples" in said and f"{count} of them with the same label" in said


def points(names, *places):
    return pd.DataFrame({"sample_id": names}).join(pd.DataFrame(places, columns=list("xyz"), dtype=float))


def test_the_distance_of_seed_points_is_in_mm_over_the_samples_of_both():
    kept = points(["a", "b", "c", "d"], [0, 0, 0], [1, 1, 1], [5, 5, 5], [9, 9, 9])
    measured = points(["c", "a", "b", "e"], [5, 5, 8], [3, 4, 0], [1, 1, 1], [0, 0, 0])
    said = pages.seed_distance(kept, Measured(measured, NO_CASES))
    assert said == (
        "The seed points of the run's table are 3.00 mm from those measured here (median of 3 samples), at most 5.0 mm."
    )


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (points(["x"], [0, 0, 0]), "cannot be compared: it names its samples otherwise"),
        (points(["a"], [np.nan] * 3), "has no seed points to compare"),
        (pd.DataFrame({"sample_id": ["a"]}), "has no seed points to compare"),
    ],
    ids=["other names", "empty", "no columns"],
)
def test_seed_points_that_cannot_be_compared_are_said_to_be_so(kept, said):
    assert said in pages.seed_distance(kept, Measured(points(["a"], [1, 2, 3]), NO_CASES))


# Quality control


def test_quality_names_the_sample_that_has_the_most():
    found = pd.DataFrame({"sample_id": ["a", "b", "c"], "volume_ml": [0.5, 12345.6, 2], "lowest_hu": [-1024, -3024, 0]})
    rows = pages.quality(found).set_index("quantity")
    assert list(rows.index) == ["tumour volume, ml", "lowest voxel, HU"]  # what was not measured has no row
    assert list(rows.loc["tumour volume, ml"]) == ["0.5", "2", "12,346", "b"]
    assert list(rows.loc["lowest voxel, HU"]) == ["-3,024", "-1,024", "0", "c"]


def test_quality_names_no_sample_where_all_have_the_same_and_phantoms_by_their_number():
    names = ["PHANTOM-001-test", "PHANTOM-002-retest"]
    rows = pages.quality(pd.DataFrame({"sample_id": names, "slices": [100, 100], "volume_ml": [1.0, 2.0]}))
    assert dict(zip(rows["quantity"], rows["most in"], strict=True)) == {
        "tumour volume, ml": "002-retest", "slices": "–",
    }  # fmt: skip


def test_quality_of_one_case_and_of_none():
    one = pd.DataFrame({"sample_id": ["a"], "slices": [100], "slice_mm": [2.0000000000000004], "parts": [np.nan]})
    rows = pages.quality(one)
    assert rows.to_numpy().tolist() == [
        ["slices", "100", "100", "100", "–"],
        ["slice distance, mm", "2", "2", "2", "–"],
    ]
    assert list(pages.quality(one[:0]).columns) == list(rows.columns) and pages.quality(one[:0]).empty


# Banks and views of small CTs with masks

RAS = np.array([-1.0, -1, 1])  # of LPS
LOW, HIGH = (15, 40, 45), (21, 62, 70)  # of the mask, z, y, x
UPRIGHT = ["supine", "in-plane axes reversed", "feet up"]


def ct_of(direction):
    """A smooth CT of 84 x 90 x 90 mm."""
    noise = np.random.default_rng(0).normal(0, 4000, (36, 100, 120))
    hu = ndimage.gaussian_filter(noise, 2).astype(np.int16)
    return Volume(hu, ORIGIN, SPACING, DIRECTIONS[direction], "memory")


def mask_of(ct):
    mask = blob(ct, LOW, HIGH)
    mask[LOW[0] : LOW[0] + 3, LOW[1] : LOW[1] + 8, LOW[2] : LOW[2] + 12] = False  # no flip of it is itself
    return mask


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A bank of three whole tumours, one at the border, one outside and two samples without an image to read."""
    folder = tmp_path_factory.mktemp("pages")
    rows = []
    for name in UPRIGHT:
        ct = ct_of(name)
        write_image(folder / f"{name}.nrrd", ct)
        write_image(folder / f"{name}_mask.nrrd", dataclasses.replace(ct, array=mask_of(ct).astype(np.uint8)))
        rows.append((name, f"{name}.nrrd", f"{name}_mask.nrrd", *ct.to_physical([57, 50, 17])))
    first = ct_of("supine")
    rows.append(("border", "supine.nrrd", "supine_mask.nrrd", *first.to_physical([3, 50, 17])))
    rows.append(("outside", "supine.nrrd", "supine_mask.nrrd", *first.to_physical([57, 50, -4])))
    rows += [("lost", "lost.nrrd", "supine_mask.nrrd", 0, 0, 0), ("nowhere", None, None, 0, 0, 0)]
    cases = pd.DataFrame(rows, columns=["sample_id", "ct", "mask", "x", "y", "z"])
    seeds = bank.seed_points(cases.rename(columns={"ct": "image"}), trials=2, sigma_mm=1)
    masks = cases.set_index("sample_id")["mask"]
    made = bank.build(folder / "run", "own", seeds, root=folder, workers=1, masks=masks)
    bare = bank.build(folder / "bare", "own", seeds, root=folder, workers=1, masks=masks.drop("supine") + "x")
    return SimpleNamespace(bank=made, bare=bare)


def test_banks_count_what_the_border_cuts_off_and_who_is_left_out(built):
    rows = pages.banks(built.bank).set_index("geometry")
    assert list(rows.index) == ["iso_1mm", "ct_clip"]
    assert list(rows["mm along R, A, S"]) == ["1 × 1 × 1", "1.5 × 0.75 × 0.75"]
    assert list(rows)[:2] == ["cut off", "seed outside"]  # what is odd stands first, a phone shows it
    assert list(rows["rows"]) == [15, 15] and list(rows["samples"]) == [5, 5]
    assert list(rows["seed outside"]) == [3, 3] and list(rows["left out"]) == [6, 6]
    assert list(rows["without mask"]) == [0, 0] and list(pages.banks(built.bare)["without mask"]) == [5, 5]
    assert rows.loc["iso_1mm", "cut off"] == 6  # 90 mm in x are needed by the other geometry
    for name, path in built.bank.paths.items():
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        assert rows.loc[name, "MB"] == pytest.approx(size / 1e6) and rows.loc[name, "MB"] > 0.1


def test_views_are_the_first_tumours_once_each(built):
    found = bank.Bank(built.bank.paths["iso_1mm"])
    views = pages.views(found)
    assert sorted(views.titles) == sorted([*UPRIGHT, "border", "outside"])
    assert {patch.shape for patch in views.patches} == {pages.VIEW}
    assert views.spacings == [(1.0, 1.0, 1.0)] * 5
    fewer = pages.views(found, most=2)
    assert fewer.titles == views.titles[:2] and len(fewer.patches) == len(fewer.outlines) == 2
    whole = dict(zip(views.titles, views.outlines, strict=True))
    assert all(whole[name].any() for name in UPRIGHT)
    patch = views.patches[views.titles.index("border")]
    assert whole["border"].any() and not whole["border"][patch == AIR].any()  # what is padded is no tumour


def resampled(array, ct, seed, order):
    """``array`` on the grid of the patch around an LPS ``seed``, from the definition: 1 mm, from the lowest corner."""
    ends = np.array(ct.array.shape[::-1]) - 1
    corners = ct.to_physical(np.stack(np.meshgrid(*[(0, end) for end in ends], indexing="ij"), -1).reshape(-1, 3)) * RAS
    lowest = corners.min(axis=0)
    start = np.trunc(seed * RAS - lowest) - np.array(pages.VIEW) // 2
    ras = lowest + start + np.stack(np.indices(pages.VIEW), -1)
    index = (ras * RAS - ct.origin) @ np.linalg.inv(ct.steps).T  # x, y, z
    return ndimage.map_coordinates(array.astype(float), index[..., ::-1].transpose(3, 0, 1, 2), order=order)


@pytest.mark.parametrize("name", UPRIGHT)
def test_the_outline_is_the_mask_where_the_patch_is(built, name):
    found = bank.Bank(built.bank.paths["iso_1mm"])
    views = pages.views(found)
    at, ct = views.titles.index(name), ct_of(name)
    seed = ct.to_physical([57, 50, 17])
    assert np.abs(views.patches[at] - resampled(ct.array, ct, seed, 1)).max() <= 0.51  # rounded
    share = resampled(mask_of(ct), ct, seed, 1)
    sure = np.abs(share - 0.5) > 1e-4
    assert_array_equal(views.outlines[at][sure], share[sure] > 0.5)
    volume = mask_of(ct).sum() * SPACING.prod()
    assert views.outlines[at].sum() == pytest.approx(volume, rel=0.1)  # mm3


def test_without_a_mask_to_read_there_is_a_view_without_outline(built):
    views = pages.views(bank.Bank(built.bare.paths["iso_1mm"]))
    assert len(views.patches) == 5 and views.outlines == [None] * 5


# What a page shows


def selected(cohort, positives, negatives, left_out=0):
    labels = [1.0] * positives + [0.0] * negatives
    made = SimpleNamespace(table=pd.DataFrame({"label": labels}), excluded=pd.DataFrame({"reason": ["x"] * left_out}))
    flow = pd.DataFrame({"unit": ["sample"], "left_out": [left_out], "why": ["x"]})
    return Selected(made, flow)


def test_a_summary_says_that_counts_are_as_expected():
    cohort = COHORTS.get("c4kc_kits")
    made = curation.select(cohort, real.cohort_rows("c4kc_kits"), "paper", sources.manifest(cohort.images))
    (said,) = pages.summary(cohort, "paper", None, made, None, None)
    assert said == "118 positive and 16 negative samples, as expected; 76 cases left out, each with its reason."


def test_a_summary_says_what_was_expected_instead():
    cohort = COHORTS.get("c4kc_kits")
    (said,) = pages.summary(cohort, "paper", None, selected(cohort, 117, 1016, 3), None, None)
    assert said == (
        "117 positive and 1,016 negative samples, where 118 and 16 were expected; "
        "3 samples left out, each with its reason."
    )
    (said,) = pages.summary(COHORTS.get("phantom"), "paper", None, selected("phantom", 3, 2), None, None)
    assert said == "3 positive and 2 negative samples; none is left out."


def test_a_summary_of_a_manifest_alone():
    series = pd.DataFrame({"bytes": [1.5e9] * 1001})
    assert pages.summary(COHORTS.get("rider"), "paper", series, None, None, None) == [
        "The archive lists 1,001 series of this cohort, 1501.5 GB.",
        "No source of labels was at hand; the annotation table needs one.",
    ]


def test_a_summary_of_a_cohort_without_endpoint_counts_no_classes():
    assert pages.summary(COHORTS.get("rider"), "paper", None, selected("rider", 0, 0), None, None) == []


def test_a_summary_counts_tumours_and_patches_and_a_seed_point_that_every_geometry_lacks_once(built):
    measured = Measured(pd.DataFrame({"sample_id": ["a"] * 5}), pd.DataFrame({"sample_id": ["b"] * 2}))
    said = pages.summary(COHORTS.get("rider"), "paper", None, selected("rider", 0, 0), measured, built.bank)
    assert said == [  # of the second geometry, which is larger, all 15 are cut off
        "5 tumours were measured, 2 could not be.",
        "The patch banks hold 15 patches a geometry; 21 in all are cut off by the border of the image, 6 seed points "
        "were left out.",
    ]


def test_banks_of_fewer_seed_points_are_told_by_the_least_and_the_most(built, monkeypatch):
    first, *_ = built.bank.paths.values()
    rows = {path: bank.Bank(path).rows for path in built.bank.paths.values()}
    rows[first] = rows[first].iloc[:4]
    monkeypatch.setattr(pages, "Bank", lambda path: SimpleNamespace(rows=rows[path]))
    (said,) = pages.summary(COHORTS.get("rider"), "paper", None, selected("rider", 0, 0), None, built.bank)
    assert said.startswith("The patch banks hold 4 to 15 patches a geometry; ")


def test_sized_tables_have_the_volumes_measured_here():
    table = pd.DataFrame({"sample_id": ["a", "b"], "label": [0.0, 1.0], "volume_ml": [9.0, 9.0]})
    measured = Measured(pd.DataFrame({"sample_id": ["b", "c"], "volume_ml": [2.0, 3.0]}), pd.DataFrame())
    found = pages.sized(table, measured)
    assert found["sample_id"].tolist() == ["a", "b"]
    assert np.isnan(found["volume_ml"][0]) and found["volume_ml"][1] == 2


def test_the_curve_is_of_all_patients_once_and_the_exclusions_of_the_sampled_unit():
    table = pd.DataFrame({"patient_id": ["p", "q"], "time_days": [800.0, np.nan], "event": [1.0, 0.0]})
    excluded = pd.DataFrame({"patient_id": ["p", "r"], "time_days": [800.0, 100.0], "event": [1.0, 0.0]})
    found = pages.followed(Annotations(table, excluded))
    assert found["patient_id"].tolist() == ["p", "r"]
    assert pages.followed(Annotations(table[["patient_id"]], excluded[["patient_id"]])).empty
    readers = real.readers()
    assert len(pages.left_out(readers.selected)) == 1097 + 509
    (said,) = pages.summary(COHORTS.get("luna16"), "paper", None, readers.selected, None, None)
    assert said.endswith("as expected; 130 scans and 1,606 nodules left out, each with its reason.")


def test_a_phantom_has_its_notice():
    assert 'class="tb-notice">phantom' in pages.card(COHORTS.get("phantom"))
    assert 'class="tb-notice">phantom' in pages.card(COHORTS.get("phantom_retest"))
    assert "phantom" not in pages.card(COHORTS.get("luna16"))
