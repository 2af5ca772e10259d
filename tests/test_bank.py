"""The patch bank: one read a CT, the released patches, the same bytes after a kill."""

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import real
import released_pipeline as released
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils import bank, imaging
from tumorbench_utils.patches import AIR, BENCHMARK, Geometry

SMALL = (Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8)), Geometry("centred", (1.5, 1.5, 1.5), (6, 6, 6), "exact"))


def write_ct(path, seed=0):
    """A small CT file of noise over a ramp."""
    noise = np.random.default_rng(seed).integers(-100, 100, (20, 40, 30))
    image = sitk.GetImageFromArray((noise + 10 * np.arange(30)).astype(np.int16))
    image.SetSpacing((1.0, 1.0, 2.5))
    image.SetOrigin((-10.0, -20.0, 5.0))
    sitk.WriteImage(image, str(path), True)


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
    built = bank.build(tmp_path_factory.mktemp("run"), "lungs", bank.seed_points(annotations, 5), workers=1)
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
    assert excluded.groupby("geometry").size().to_dict() == {"iso_1mm": 6, "ct_clip": 6}
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


def test_workers_change_no_byte(cohort, tmp_path):
    one = {name: bytes_of(path) for name, path in build(cohort, tmp_path, 2).paths.items()}
    seeds = bank.seed_points(cohort, 2)
    two = bank.build(tmp_path / "other", "own", seeds, SMALL, root=tmp_path, workers=2)
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
    bank.build(sys.argv[1] + "/run", "own", bank.seed_points(cohort, 2), geometries, root=sys.argv[1], workers=1)
"""


@pytest.mark.parametrize("steps", [0, 1, 3, 5])
def test_a_killed_build_goes_on_and_ends_with_the_same_bytes(cohort, tmp_path, steps):
    expected = bank.build(tmp_path / "once", "own", bank.seed_points(cohort, 2), SMALL, root=tmp_path, workers=1)
    whole = {name: bytes_of(path) for name, path in expected.paths.items()}
    cohort.to_csv(tmp_path / "cohort.csv", index=False)
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
    built = build(cohort, tmp_path, 2)
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
