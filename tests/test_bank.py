"""The patch bank: one read a CT, the released patches, the same bytes after a kill."""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import dicom
import numpy as np
import pandas as pd
import pytest
import real
import released_pipeline as released
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from tumorbench_utils import artefacts, bank, curation, imaging, masks, patches
from tumorbench_utils.cohorts import lung_ct
from tumorbench_utils.patches import AIR, BENCHMARK, Geometry

SMALL = (Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8)), Geometry("centred", (1.5, 1.5, 1.5), (6, 6, 6), "exact"))


def write_ct(path, seed=0):
    """A small CT file of noise over a ramp."""
    noise = np.random.default_rng(seed).integers(-100, 100, (20, 40, 30))
    image = sitk.GetImageFromArray((noise + 10 * np.arange(30)).astype(np.int16))
    image.SetSpacing((1.0, 1.0, 2.5))
    image.SetOrigin((-10.0, -20.0, 5.0))
    sitk.WriteImage(image, str(path), True)


def write_mask(path, boxes):
    """A mask on the grid of :func:`write_ct`: values by box, given as slices of z, y, x."""
    voxels = np.zeros((20, 40, 30), np.uint8)
    for box, value in boxes.items():
        voxels[tuple(slice(*ends) for ends in box)] = value
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((1.0, 1.0, 2.5))
    image.SetOrigin((-10.0, -20.0, 5.0))
    sitk.WriteImage(image, str(path), True)


LARGE, SMALL_PART = ((3, 9), (14, 26), (5, 15)), ((4, 6), (2, 6), (20, 24))  # about (0, 0, 20), and apart from it


@pytest.fixture
def drawn(cohort, tmp_path):
    """Masks of the cohort: a1 and a2 share one of two parts, d1 has none."""
    write_mask(tmp_path / "a_mask.nrrd", {LARGE: 1, SMALL_PART: 2})
    for name in "bc":
        write_mask(tmp_path / f"{name}_mask.nrrd", {LARGE: 1})
    return {"a1": "a_mask.nrrd", "a2": "a_mask.nrrd", "b1": "b_mask.nrrd", "c1": "c_mask.nrrd", "d1": np.nan, "z": "z"}


@pytest.fixture
def cohort(tmp_path):
    """Four CTs and their annotations: five samples, two of them in one CT."""
    names = ["a", "b", "c", "d"]
    for number, name in enumerate(names):
        write_ct(tmp_path / f"{name}.nrrd", number)
    return pd.DataFrame(
        {
            "sample_id": ["a1", "a2", "b1", "c1", "d1"],
            "image": ["a.nrrd", "a.nrrd", "b.nrrd", "c.nrrd", "d.nrrd"],
            "x": [0.0, 5, 2, -9.8, 3],
            "y": [0.0, 5, -2, -19, 3],
            "z": [20.0, 30, 25, 6, 31],
        }
    )


def build(cohort, tmp_path, trials=0, geometries=SMALL, **options):
    seeds = bank.seed_points(cohort, trials)
    return bank.build(tmp_path / "run", "own", seeds, geometries, root=tmp_path, **{"workers": 1} | options)


def bytes_of(folder):
    """SHA-256 of every file of a folder, by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    """Banks of the two real CTs with five jittered seeds, and seeds near and beyond the border."""
    volumes = {name: real.lung_ct(name) for name in ("lung1", "lung2")}
    seeds = {"lung1": (-21.86, -120.54, -611.5), "lung2": (52.61, -95.87, -256.5)}
    rows = [(name, *seeds[name], volumes[name].source) for name in volumes]
    border = volumes["lung1"].to_physical([2, 509, 1])
    beyond = volumes["lung1"].to_physical([-20, 256, 24])
    rows += [("border", *border, rows[0][-1]), ("beyond", *beyond, rows[0][-1]), ("lost", 900, 900, 900, rows[0][-1])]
    annotations = pd.DataFrame(rows, columns=["sample_id", "x", "y", "z", "image"])
    drawn = {name: lung_ct.fetch()[f"{name}_label.nrrd"] for name in volumes}
    geometries, folder = [*BENCHMARK, Geometry("near", (0.9, 0.9, 2.0), (48, 48, 20), "exact")], tmp_path_factory
    built = bank.build(
        folder.mktemp("run"), "lungs", bank.seed_points(annotations, 5), geometries, workers=1, masks=drawn
    )
    return volumes, built


@functools.cache
def resampled_lung(name, spacing):
    return released.resample(released.tensor(real.lung_ct(name)), spacing)


@pytest.mark.parametrize("name", released.RECIPES)
def test_the_bank_gives_every_models_released_patch_within_one_hu(lungs, name):
    axes, _, spacing, size = released.RECIPES[name]
    path = next(lungs[1].paths[each.id] for each in BENCHMARK if each.spacing == spacing)
    resampled = {key: resampled_lung(key, spacing) for key in ("lung1", "lung2")}
    largest = 0
    for row, patch in bank.Bank(path).patches((size,) * 3, axes):
        of = "lung2" if row.sample_id == "lung2" else "lung1"
        expected = released.patch(resampled[of], (row.x, row.y, row.z), size, axes)
        largest = max(largest, np.abs(patch - expected).max())
    assert largest < 0.51  # rounding to whole HU


def test_what_the_border_does_is_flagged(lungs):
    rows = bank.Bank(lungs[1].paths["iso_1mm"]).rows
    first = rows[rows["trial"] == 0].set_index("sample_id")
    assert first["clamped"].to_dict() == {"lung1": False, "lung2": False, "border": True, "beyond": True}
    assert first["outside"].to_dict() == {"lung1": False, "lung2": False, "border": False, "beyond": True}


def test_a_patch_outside_the_image_is_left_out_and_listed(lungs):
    excluded = lungs[1].excluded
    assert set(excluded["sample_id"]) == {"lost"}
    assert excluded.groupby("geometry").size().to_dict() == {"iso_1mm": 6, "ct_clip": 6, "near": 6}
    assert excluded["reason"].unique().tolist() == [bank.NO_PATCH]


def test_jittered_seeds_share_a_region(lungs):
    found = bank.Bank(lungs[1].paths["iso_1mm"])
    assert found.rows.groupby("sample_id")["entry"].nunique().max() == 1
    assert found.rows.groupby("sample_id").size().to_dict() == {"lung1": 6, "lung2": 6, "border": 6, "beyond": 6}
    assert found.spacing == (1.0, 1.0, 1.0)


def test_a_smaller_patch_is_the_middle_of_a_larger_one(cohort, tmp_path):
    for path in build(cohort, tmp_path).paths.values():
        found = bank.Bank(path)
        row = next(found.rows.query("sample_id == 'a1'").itertuples())
        size = found._regions.shape[1]
        assert_array_equal(found.patch(row, (size - 2,) * 3), found.patch(row, (size,) * 3)[1:-1, 1:-1, 1:-1])


def test_exact_patches_have_their_centre_on_every_seed(cohort, tmp_path):
    found = bank.Bank(build(cohort, tmp_path, trials=3).paths["centred"])
    assert found.rows["entry"].is_unique
    volume = imaging.read_ct(tmp_path / "b.nrrd")
    for row in found.rows.query("sample_id == 'b1'").itertuples():
        nearest = np.round(volume.to_index(np.array([row.x, row.y, row.z]))).astype(int)
        around = volume.array[nearest[2] - 4 : nearest[2] + 5, nearest[1] - 5 : nearest[1] + 6, :]
        assert around.min() <= found.patch(row, (6, 6, 6)).min()
        # the ramp along x tells where the centre is: 10 HU a mm, noise of +-100 averaged over 216 voxels
        assert abs(found.patch(row, (6, 6, 6)).mean() - 10 * (row.x + 10)) < 25


def test_workers_change_no_byte(cohort, drawn, tmp_path):
    one = {name: bytes_of(path) for name, path in build(cohort, tmp_path, 2, masks=drawn).paths.items()}
    seeds = bank.seed_points(cohort, 2)
    two = bank.build(tmp_path / "other", "own", seeds, SMALL, root=tmp_path, workers=2, masks=drawn)
    assert {name: bytes_of(path) for name, path in two.paths.items()} == one


def test_a_finished_bank_is_left_alone(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    (tmp_path / "a.nrrd").unlink()  # it is not read again
    build(cohort, tmp_path)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before


def test_other_seeds_make_another_bank(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    before = bytes_of(path)
    build(cohort.assign(x=cohort["x"] + 3), tmp_path)
    assert bytes_of(path) != before
    build(cohort, tmp_path)
    assert bytes_of(path) == before


KILLED = """
import sys, pandas as pd
from tumorbench_utils import bank
from tumorbench_utils.patches import Geometry
if __name__ == "__main__":
    geometries = [Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8))]
    geometries += [Geometry("centred", (1.5, 1.5, 1.5), (6, 6, 6), "exact")]
    cohort = pd.read_csv(sys.argv[1] + "/cohort.csv")
    write = bank.building._write_case
    def slow(plan, number, rows, excluded):
        print("before", number, flush=True)
        input()
        write(plan, number, rows, excluded)
    bank.building._write_case = slow
    masks = cohort.set_index("sample_id")["mask"]
    seeds = bank.seed_points(cohort, 2)
    bank.build(sys.argv[1] + "/run", "own", seeds, geometries, root=sys.argv[1], workers=1, masks=masks)
"""


@pytest.mark.parametrize("steps", [0, 3])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(cohort, drawn, tmp_path, steps):
    seeds = bank.seed_points(cohort, 2)
    expected = bank.build(tmp_path / "once", "own", seeds, SMALL, root=tmp_path, workers=1, masks=drawn)
    whole = {name: bytes_of(path) for name, path in expected.paths.items()}
    cohort.assign(mask=cohort["sample_id"].map(drawn)).to_csv(tmp_path / "cohort.csv", index=False)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    for _ in range(steps):
        assert process.stdout.readline().startswith("before")
        process.stdin.write("\n")
        process.stdin.flush()
    process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "run").glob("patches/own/*.zarr/rows.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("cases/*.json")}
    assert len(kept) == steps
    time.sleep(0.01)
    built = build(cohort, tmp_path, 2, masks=drawn)
    assert {name: bytes_of(path) for name, path in built.paths.items()} == whole
    assert [path.name for path in (tmp_path / "run/patches/own").iterdir() if path.name.startswith(".")] == []


def test_an_image_that_cannot_be_read_is_left_out_with_its_reason(cohort, tmp_path):
    data = (tmp_path / "b.nrrd").read_bytes()
    (tmp_path / "b.nrrd").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.nrrd").unlink()
    built = build(cohort, tmp_path)
    small = built.excluded.query("geometry == 'small'").set_index("sample_id")["reason"]
    assert set(small.index) == {"b1", "c1"}
    assert small["b1"].startswith("b.nrrd: truncated")  # without the folder, which differs between machines
    assert "no such image" in small["c1"]
    assert bank.Bank(built.paths["small"]).rows["sample_id"].tolist() == ["a1", "a2", "d1"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_seeds_that_are_no_numbers_are_left_out_and_listed(cohort, tmp_path, value):
    cohort.loc[1, "y"] = value
    cohort.loc[4, "image"] = None
    excluded = build(cohort, tmp_path, trials=1).excluded
    found = excluded.query("geometry == 'small'")[["sample_id", "trial", "reason"]].to_numpy().tolist()
    assert sorted(found) == [[name, trial, bank.NO_SEED] for name in ("a2", "d1") for trial in (0, 1)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seeds: seeds.drop(columns="z"), "no column z"),
        (lambda seeds: pd.concat([seeds, seeds.head(1)]), "given twice: a1"),
        (lambda seeds: seeds.assign(trial=1), "without trial 0.*a1, a2, b1, c1, d1"),
        (lambda seeds: pd.concat([seeds, seeds.head(1).assign(trial=1, image="b.nrrd")]), "more than one image: a1"),
    ],
)
def test_seed_tables_that_cannot_be_used(cohort, tmp_path, change, message):
    with pytest.raises(bank.BankError, match=message):
        bank.build(tmp_path / "run", "own", change(bank.seed_points(cohort)), SMALL, root=tmp_path)


def test_annotations_without_images_make_no_bank():
    with pytest.raises(bank.BankError, match=r"no column image, x, y, z"):
        bank.seed_points(pd.DataFrame({"sample_id": ["a"]}))


def test_jitter_has_the_studys_spread_and_depends_on_the_name_alone():
    many = pd.DataFrame({"sample_id": [f"s{n}" for n in range(200)], "image": "a", "x": 1.0, "y": 2.0, "z": 3.0})
    seeds = bank.seed_points(many, 50)
    moved = seeds[seeds["trial"] > 0][["x", "y", "z"]] - [1, 2, 3]
    assert_allclose(moved.mean(), 0, atol=0.15)
    assert_allclose(moved.var(), 16, rtol=0.05)
    assert_allclose(moved.corr() - np.eye(3), 0, atol=0.05)
    few = bank.seed_points(many.iloc[[7, 3]], 50)
    both = few.merge(seeds, on=["sample_id", "trial"], suffixes=("", "_all"))
    assert_array_equal(both[["x", "y", "z"]], both[["x_all", "y_all", "z_all"]])
    assert not np.allclose(bank.seed_points(many, 1, seed=1)["x"], bank.seed_points(many, 1)["x"])


def test_several_sizes_of_jitter_are_blocks_of_trials_with_the_same_shifts():
    many = pd.DataFrame({"sample_id": ["a", "b", "c"], "image": "i", "x": 1.0, "y": 2.0, "z": 3.0})
    seeds = bank.seed_points(many, 4, [4.0, 2.0, 8.0]).set_index(["trial", "sample_id"])[["x", "y", "z"]]
    assert list(seeds.index.unique("trial")) == list(range(13))
    alone = bank.seed_points(many, 4).set_index(["trial", "sample_id"])[["x", "y", "z"]]
    pd.testing.assert_frame_equal(seeds.loc[:4], alone)
    for trial in range(1, 5):
        first, second, third = (seeds.loc[trial + block] - [1, 2, 3] for block in (0, 4, 8))
        assert_allclose(second, first / 2, atol=1e-12)
        assert_allclose(third, first * 2, atol=1e-12)


def test_one_size_of_jitter_gives_what_it_always_gave():
    draws = np.random.default_rng(list(hashlib.sha256(b"5 a").digest())).normal(0, 3.7, (6, 3))
    given = pd.DataFrame([["a", "i", 0.0, 0.0, 0.0]], columns=["sample_id", "image", "x", "y", "z"])
    for size in (3.7, [3.7]):
        assert_array_equal(bank.seed_points(given, 6, size, seed=5)[["x", "y", "z"]][1:], draws)


@pytest.mark.parametrize("sizes", [[], [4.0, 4.0], [0.0], -1, [np.nan], [4.0, np.inf]])
def test_sizes_of_jitter_that_cannot_be_used_are_refused(cohort, sizes):
    with pytest.raises(bank.BankError, match="sizes of the jitter must be"):
        bank.seed_points(cohort, 2, sizes)


def test_patches_of_large_jitter_are_those_of_the_released_pipeline(tmp_path):
    volume = real.lung_ct("lung2")
    where = pd.DataFrame([["lung2", volume.source, 52.61, -95.87, -256.5]], columns=["sample_id", "image", *"xyz"])
    seeds = bank.seed_points(where, 3, [2.0, 8.0])
    masks = {"lung2": lung_ct.fetch()["lung2_label.nrrd"]}
    found = bank.Bank(bank.build(tmp_path, "far", seeds, BENCHMARK[:1], workers=1, masks=masks).paths["iso_1mm"])
    far = np.linalg.norm(found.rows[["x", "y", "z"]] - where[["x", "y", "z"]].to_numpy(), axis=1)
    assert len(found.rows) == 7 and found.rows["entry"].nunique() == 1 and far.max() > 12
    axes, _, spacing, size = released.RECIPES["fmcib"]
    first = found.mask(next(found.rows.itertuples()), (size,) * 3)
    for row in found.rows.itertuples():
        expected = released.patch(resampled_lung("lung2", spacing), (row.x, row.y, row.z), size, axes)
        patch = found.patch(row, (size,) * 3, axes)
        assert np.abs(patch - expected).max() < 0.51
        assert found.mask(row, (size,) * 3).sum() <= first.sum()


def test_a_bank_says_what_it_is(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    assert json.loads((path / "zarr.json").read_text())["zarr_format"] == 3
    record = json.loads((path / "provenance.json").read_text())
    assert record["parameters"]["geometry"]["spacing"] == [2.0, 2.0, 2.0]
    assert set(record["inputs"]) == {"bank", "geometry", "images", "imaging", "patches", "seeds"}
    found = bank.Bank(path)
    assert found._regions.dtype == np.int16 and found._regions.chunks[0] == 1
    assert found._regions.metadata.dimension_names == ("entry", "R", "A", "S")


def test_no_bank(tmp_path):
    with pytest.raises(bank.BankError, match="no patch bank"):
        bank.Bank(tmp_path / "none.zarr")


def test_padding_can_be_another_value(cohort, tmp_path):
    found = bank.Bank(build(cohort, tmp_path).paths["small"])
    row = next(found.rows.query("sample_id == 'c1'").itertuples())
    assert row.clamped
    air, water = found.patch(row, (8, 8, 8)), found.patch(row, (8, 8, 8), pad=0)
    assert_array_equal(air == AIR, (air == AIR) & (water == 0))
    assert (air != water).any()


def test_a_changed_image_makes_another_bank_and_an_unchanged_one_does_not(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    before = bytes_of(path)
    write_ct(tmp_path / "b.nrrd", 9)
    build(cohort, tmp_path)
    changed = bytes_of(path)
    differing = {name for name in before if before[name] != changed[name]}
    assert differing == {"provenance.json", "rows.parquet", "regions/c.2.0.0.0"}
    times = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    build(cohort, tmp_path)
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == times


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_an_image_that_was_left_out_and_is_repaired_comes_into_the_bank(cohort, tmp_path, damage):
    whole = (tmp_path / "b.nrrd").read_bytes()
    (tmp_path / "b.nrrd").unlink() if damage == "gone" else (tmp_path / "b.nrrd").write_bytes(whole[: len(whole) // 2])
    assert set(build(cohort, tmp_path).excluded["sample_id"]) == {"b1"}
    (tmp_path / "b.nrrd").write_bytes(whole)
    built = build(cohort, tmp_path)
    assert built.excluded.empty
    assert "b1" in set(bank.Bank(built.paths["small"]).rows["sample_id"])


def test_a_finished_bank_outlives_its_images(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    before = {each: each.stat().st_mtime_ns for each in path.rglob("*")}
    for image in tmp_path.glob("*.nrrd"):
        image.unlink()
    assert build(cohort, tmp_path).excluded.empty
    assert {each: each.stat().st_mtime_ns for each in path.rglob("*")} == before


def test_a_series_and_the_voxels_apart_from_a_header_are_watched_too(tmp_path):
    (tmp_path / "series").mkdir()
    for name in ("series/1.dcm", "ct.nhdr", "ct.raw.gz", "other.raw.gz"):
        (tmp_path / name).write_bytes(b"1")
    marks = [bank.plans.mark(tmp_path / name) for name in ("series", "ct.nhdr")]
    (tmp_path / "other.raw.gz").write_bytes(b"22")
    assert [bank.plans.mark(tmp_path / name) for name in ("series", "ct.nhdr")] == marks
    (tmp_path / "series" / "2.dcm").write_bytes(b"2")
    (tmp_path / "ct.raw.gz").write_bytes(b"22")
    found = [bank.plans.mark(tmp_path / name) for name in ("series", "ct.nhdr")]
    assert not set(found) & {*marks, bank.plans.MISSING}
    (tmp_path / "ct.nhdr").unlink()
    assert [bank.plans.mark(tmp_path / name) for name in ("ct.nhdr", "absent")] == [bank.plans.MISSING] * 2


def test_an_image_that_goes_during_a_killed_build_is_kept_if_its_case_was_done(cohort, tmp_path, monkeypatch):
    write = bank.building._write_case

    def stop(plan, number, rows, excluded):
        if number == 2:
            raise KeyboardInterrupt
        write(plan, number, rows, excluded)

    monkeypatch.setattr(bank.building, "_write_case", stop)
    with pytest.raises(KeyboardInterrupt):
        build(cohort, tmp_path)
    monkeypatch.undo()
    (tmp_path / "a.nrrd").unlink()
    assert build(cohort, tmp_path).excluded.empty


def test_seeds_that_are_all_no_numbers_make_an_empty_bank(cohort, tmp_path):
    built = build(cohort.assign(x=np.nan), tmp_path, trials=1)
    assert len(built.excluded) == 2 * 2 * len(cohort)
    assert list(bank.Bank(built.paths["small"]).patches((8, 8, 8))) == []


SLAB = Geometry("slab", (2.0, 2.0, 2.0), (30, 30, 30), "exact")


def exact_rows(tmp_path, seed, geometry):
    """The rows of a bank of one exact patch around a seed in the image a.nrrd of the fixture."""
    annotations = pd.DataFrame([["a1", "a.nrrd", *seed]], columns=["sample_id", "image", "x", "y", "z"])
    path = build(annotations, tmp_path, geometries=[geometry]).paths[geometry.id]
    return bank.Bank(path)


@pytest.mark.parametrize(("low", "clamped"), [(0.0, False), (0.6, False), (-0.3, True), (-0.5, True), (-2.0, True)])
def test_exact_patches_that_air_is_mixed_into_are_flagged(cohort, tmp_path, low, clamped):
    geometry = Geometry("own", (1.0, 1.0, 2.5), (6, 6, 6), "exact")
    seed = np.array([-10 + 10, -20 + 20, 5 + 2.5 * (low + 2.5)])  # the lowest voxels lie at index ``low``
    found = exact_rows(tmp_path, seed, geometry)
    assert found.rows["clamped"].tolist() == [clamped]
    if not clamped:
        row = next(found.rows.itertuples())
        assert found.patch(row, (6, 6, 6)).min() > -200


def test_an_exact_patch_around_an_image_smaller_than_itself_is_kept(cohort, tmp_path):
    # the patch reaches over the image on every side but below; the seed and the corners lie outside
    found = exact_rows(tmp_path, (5.0, 0.0, 70.0), SLAB)
    row = next(found.rows.itertuples())
    assert row.clamped and row.outside
    patch = found.patch(row, (30, 30, 30))
    assert (patch[..., 0] > AIR).any() and (patch[..., -1] == AIR).all()


def test_an_exact_patch_that_misses_the_image_is_left_out(cohort, tmp_path):
    annotations = cohort.head(1).assign(z=200.0)
    assert build(annotations, tmp_path, geometries=[SLAB]).excluded["reason"].tolist() == [bank.NO_PATCH]


def test_a_trial_far_from_its_sample_is_named(cohort, tmp_path):
    seeds = bank.seed_points(cohort, 1)
    seeds.loc[(seeds["sample_id"] == "b1") & (seeds["trial"] == 1), "x"] += 3000
    with pytest.raises(bank.BankError, match=r"more than 100 mm from trial 0, to mend or leave out: b1$"):
        bank.build(tmp_path / "run", "own", seeds, SMALL, root=tmp_path, workers=1)


def test_samples_may_be_numbered(cohort, tmp_path):
    built = build(cohort.assign(sample_id=[1, 2, 3, 4, 5]), tmp_path, trials=1)
    assert set(bank.Bank(built.paths["small"]).rows["sample_id"]) == {"1", "2", "3", "4", "5"}


def test_seeds_without_a_name_are_refused(cohort, tmp_path):
    with pytest.raises(bank.BankError, match="1 seed points without sample_id or trial, first in row 2"):
        seeds = bank.seed_points(cohort)
        seeds.loc[2, "sample_id"] = None
        bank.build(tmp_path / "run", "own", seeds, SMALL, root=tmp_path)


# Masks


def kept_masks(built, size=(8, 8, 8), geometry="small", trial=0):
    """The bank and its masks by sample."""
    found = bank.Bank(built.paths[geometry])
    rows = found.rows[found.rows["trial"] == trial].itertuples()
    return found, {row.sample_id: found.mask(row, size) for row in rows}


@functools.cache
def lung_mask(name):
    """The tumour of a real CT as a volume, read without the bank."""
    ct = real.lung_ct(name)
    mask = masks.largest_component(masks.read_mask(lung_ct.fetch()[f"{name}_label.nrrd"], ct))
    return imaging.Volume(mask.astype(np.float32), ct.origin, ct.spacing, ct.direction, ct.source)


@pytest.mark.parametrize(("name", "number"), [("lung1", 0), ("lung2", 0), ("lung1", 1)])
def test_a_mask_lies_where_the_released_pipeline_puts_it(lungs, name, number):
    geometry = BENCHMARK[number]
    resampled = released.resample(released.tensor(lung_mask(name)), geometry.spacing)
    found = bank.Bank(lungs[1].paths[geometry.id])
    size, counted = geometry.size[0], 0
    for row in found.rows.query("sample_id == @name").itertuples():
        share = released.patch(resampled, (row.x, row.y, row.z), size, "SPL")
        mask, sure = found.mask(row, (size,) * 3, "SPL"), np.abs(share - 0.5) > 1e-4
        assert mask.dtype == bool and mask.shape == (size,) * 3
        assert_array_equal(mask[sure], share[sure] > 0.5)
        counted += mask.sum()
    assert counted > 6 * 1000


@pytest.mark.parametrize("name", ["lung1", "lung2"])
def test_the_mask_of_an_exact_patch_is_interpolated_around_its_seed(lungs, name):
    found, volume = bank.Bank(lungs[1].paths["near"]), lung_mask(name)
    for row in found.rows.query("sample_id == @name").itertuples():
        offset = (np.stack(np.indices((48, 48, 20)), -1) - [23.5, 23.5, 9.5]) * [0.9, 0.9, 2.0] * [-1, -1, 1]
        index = volume.to_index(np.array([row.x, row.y, row.z]) + offset)
        share = ndimage.map_coordinates(volume.array, index[..., ::-1].transpose(3, 0, 1, 2), order=1)
        sure = np.abs(share - 0.5) > 1e-4
        assert_array_equal(found.mask(row, (48, 48, 20))[sure], share[sure] > 0.5)


def test_samples_without_a_mask_have_none_and_the_bank_says_why(lungs):
    found, of = kept_masks(lungs[1], (64, 64, 64), "iso_1mm")
    assert {name for name, mask in of.items() if mask is None} == {"border", "beyond"}
    why = found.rows.groupby("sample_id")["mask_reason"].unique().map(list).to_dict()
    assert why == {"lung1": [""], "lung2": [""], "border": [bank.NO_MASK], "beyond": [bank.NO_MASK]}


def test_the_largest_part_of_the_chosen_segments_is_kept(cohort, drawn, tmp_path):
    wide = Geometry("wide", (1.0, 1.0, 2.5), (60, 80, 40), "exact")
    between = cohort.assign(x=cohort["x"] + 0.5, y=cohort["y"] + 0.5, z=cohort["z"] + 1.25)  # voxels meet voxels
    built = build(between, tmp_path, masks=drawn, geometries=[wide])
    found, of = kept_masks(built, wide.size, "wide")
    assert found.rows["clamped"].all()  # larger than the image
    assert of["a1"].sum() == 6 * 12 * 10 and of["d1"] is None
    corner = np.argwhere(of["a1"]).min(axis=0)
    assert_array_equal(np.argwhere(of["a1"]).max(axis=0) - corner, [9, 11, 5])


def test_two_samples_of_one_image_each_have_their_own_mask(cohort, drawn, tmp_path):
    write_mask(tmp_path / "second.nrrd", {((8, 12), (20, 30), (12, 18)): 1})
    _, of = kept_masks(build(cohort, tmp_path, masks=drawn | {"a2": "second.nrrd"}), (8, 8, 8))
    _, shared = kept_masks(build(cohort, tmp_path, masks=drawn), (8, 8, 8))
    assert_array_equal(of["a1"], shared["a1"])
    assert (of["a2"] != shared["a2"]).any()


def test_a_mask_is_turned_and_padded_as_its_patch_is(cohort, drawn, tmp_path):
    found = bank.Bank(build(cohort, tmp_path, 3, masks=drawn).paths["small"])
    for row in found.rows.itertuples():
        mask = found.mask(row, (8, 8, 8))
        if row.sample_id == "d1":
            assert mask is None
            continue
        assert_array_equal(found.mask(row, (8, 8, 8), "SPL"), mask[::-1, ::-1].transpose(2, 1, 0))
        assert not mask[found.patch(row, (8, 8, 8)) == AIR].any()
        if not row.clamped:
            assert_array_equal(found.mask(row, (6, 4, 2)), mask[1:-1, 2:-2, 3:-3])


def test_a_mask_moves_with_a_jittered_seed(cohort, drawn, tmp_path):
    found = bank.Bank(build(cohort, tmp_path, 4, masks=drawn).paths["small"])
    rows = list(found.rows.query("sample_id == 'b1'").itertuples())
    of = {row.voxel_r: found.mask(row, (8, 8, 8)) for row in rows}
    assert len({row.entry for row in rows}) == 1 and len(of) > 1
    for row in rows:
        shift = np.subtract(*([each.voxel_r, each.voxel_a, each.voxel_s] for each in (row, rows[0])))
        own, first = (np.argwhere(found.mask(each, (8, 8, 8))) for each in (row, rows[0]))
        both = {tuple(at) for at in first - shift if ((at >= 0) & (at < 8)).all()}
        assert both <= {tuple(at) for at in own}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "no such image"),
        (lambda path: path.write_bytes(path.read_bytes()[:-40]), "truncated"),
        (lambda path: write_mask(path, {}), "the mask is empty"),
    ],
    ids=["gone", "cut", "empty"],
)
def test_a_mask_that_cannot_be_read_does_not_lose_the_patch(cohort, drawn, tmp_path, damage, said):
    damage(tmp_path / "b_mask.nrrd")
    built = build(cohort, tmp_path, masks=drawn)
    assert built.excluded.empty
    found, of = kept_masks(built)
    assert of["b1"] is None and of["c1"] is not None
    reason = found.rows.set_index("sample_id").loc["b1", "mask_reason"]
    assert reason.startswith("b_mask.nrrd: ") and said in reason  # without the folder


def test_a_mask_that_comes_or_changes_makes_another_bank_and_one_that_goes_does_not(cohort, drawn, tmp_path):
    path = build(cohort, tmp_path, masks=drawn).paths["small"]
    before = bytes_of(path)
    assert "masks/zarr.json" in before
    (tmp_path / "c_mask.nrrd").unlink()
    build(cohort, tmp_path, masks=drawn)
    assert bytes_of(path) == before
    write_mask(tmp_path / "c_mask.nrrd", {((3, 9), (2, 8), (5, 15)): 1})
    build(cohort, tmp_path, masks=drawn)
    changed = {name for name, sha in bytes_of(path).items() if before.get(name) != sha}
    assert changed <= {"provenance.json", "rows.parquet", "masks/c.3.0.0.0"} and "provenance.json" in changed
    build(cohort, tmp_path, masks=drawn, segment="tumour")
    assert json.loads((path / "provenance.json").read_text())["inputs"]["segment"]
    build(cohort, tmp_path)
    assert not (path / "masks").exists() and bank.Bank(path).rows["mask_reason"].unique().tolist() == [bank.NO_MASK]


def test_masks_are_known_by_the_name_of_their_sample_as_text(cohort, drawn, tmp_path):
    numbered = cohort.assign(sample_id=[1, 2, 3, 4, 5])
    given = pd.Series(["a_mask.nrrd", None, "b_mask.nrrd"], index=[1, 2, 3])
    _, of = kept_masks(build(numbered, tmp_path, masks=given))
    assert {name for name, mask in of.items() if mask is not None} == {"1", "3"}


def test_two_masks_of_one_sample_are_refused(cohort, drawn, tmp_path):
    given = pd.Series(["a_mask.nrrd", "b_mask.nrrd"], index=["a1", "a1"])
    with pytest.raises(bank.BankError, match="samples with more than one mask: a1"):
        build(cohort, tmp_path, masks=given)


def test_of_a_seg_the_segments_that_match_are_read_with_the_slices_that_are_needed(tmp_path):
    ct = dicom.volume((40, 20, 20))
    slices = dicom.write_series(tmp_path / "ct", ct)
    near, far = dicom.blob(ct, (3, 4, 5), (8, 10, 12)), dicom.blob(ct, (20, 0, 0), (39, 9, 9))
    dicom.write_seg(tmp_path / "seg.dcm", slices, {"Tumour": near, "Heart": far})
    point = ct.to_physical([8.5, 7.5, 5.5])  # between voxels, as the centre of an even patch
    seeds = bank.seed_points(pd.DataFrame([["s", "ct", *point]], columns=["sample_id", "image", "x", "y", "z"]))
    grid = Geometry("own", tuple(ct.spacing), (10, 10, 6), "exact")
    built = bank.build(tmp_path, "own", seeds, [grid], root=tmp_path, workers=1, masks={"s": "seg.dcm"}, segment="^tum")
    _, of = kept_masks(built, grid.size, "own")
    inside = near[3:9, 3:13, 4:14]  # x to the left and y to the back there, to the right and the front here
    assert inside.sum() == near.sum()
    assert_array_equal(of["s"], inside.T[::-1, ::-1])


def test_the_code_of_all_that_makes_a_bank_is_in_its_record(cohort, drawn, tmp_path, monkeypatch):
    seen, sha256_of = [], artefacts.sha256_of
    monkeypatch.setattr(artefacts, "sha256_of", lambda path: seen.append(Path(path)) or sha256_of(path))
    build(cohort, tmp_path, masks=drawn)
    package = Path(bank.__file__).parent
    wanted = {*package.glob("*.py"), *(Path(each.__file__) for each in (imaging, patches, masks, curation))}
    assert wanted <= set(seen) and len(list(package.glob("*.py"))) > 3


def test_a_bank_from_before_there_were_masks_is_read(cohort, tmp_path):
    path = build(cohort, tmp_path).paths["small"]
    pd.read_parquet(path / bank.ROWS).drop(columns="mask_reason").to_parquet(path / bank.ROWS)
    found, of = kept_masks(SimpleNamespace(paths={"small": path}))
    assert set(of.values()) == {None} and set(found.rows["mask_reason"]) == {bank.NO_MASK}
