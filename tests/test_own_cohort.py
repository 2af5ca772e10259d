"""The chapter on cohorts of one's own: its commands run as printed, and what a table may get wrong is told at once."""

import contextlib
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import papermill
import pytest
from IPython.core.interactiveshell import InteractiveShell
from papermill import cli

from tests import real
from tests.dicom import blob, rectangle, volume, write_image, write_rtstruct, write_seg, write_series
from tumorbench_utils import annotations, bank, curation, embeddings, imaging
from tumorbench_utils.cohorts import COHORTS, lung_ct, own, own_check, seeds
from tumorbench_utils.imaging import ImageError, Volume

ROOT = Path(__file__).parents[1]
CHAPTER = (ROOT / "book" / "own_cohort.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\{code-block\} (\w+)\n(?::caption: ([^\n]+)\n)?(.*?)```", CHAPTER, re.DOTALL)
SCANS = "DICOM and seed points"
SMALLER = {"workers": 1, "draws": 100, "repeats": 3, "trials": 2, "few_shot_draws": 5, "nulls": 3, "shots": [1, 5]}
HEADER = ["sample_id", "patient_id", "ct", "mask", "label", "time_days", "event", "clinical_age"]


def block(caption):
    """The code block of the chapter under a caption."""
    (source,) = [source for _, given, source in BLOCKS if given == caption]
    return source


def run(folder, commands):
    """Run commands of the chapter from ``folder``, each line as printed; the output of those that are no notebooks.

    A notebook runs in this process, which spares it a kernel, with the parameters that papermill's own command line
    reads, and fewer draws.
    """
    said = []
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "execute_notebook", execute)
        for line in commands.strip().splitlines():
            if line.startswith("papermill "):
                cli.papermill.main(shlex.split(line)[1:], standalone_mode=False)
            else:
                said.append(shell(folder, line))
    return "".join(said)


def execute(input_path, output_path, parameters, **_):
    notebook = papermill.iorw.load_notebook_node(input_path)
    known = papermill.inspect_notebook(input_path)
    fewer = {name: value for name, value in SMALLER.items() if name in known and name not in parameters}
    if "3b_" not in input_path:
        fewer.pop("trials", None)  # of Optuna there, jittered seed points elsewhere
    notebook = papermill.parameterize.parameterize_notebook(notebook, {**fewer, **parameters})
    session = InteractiveShell()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            session.run_cell(cell.source, store_history=True).raise_error()


def shell(folder, line, path=()):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *map(str, path)])
    done = subprocess.run(
        ["bash", "-euc", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout


def geometry(ct):
    return ct.origin, ct.spacing, ct.direction, ct.source


# Phantoms, from a folder to a row and a record


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The commands of the chapter on 28 phantoms of 24 patients, one after the other."""
    folder, rng, rows = tmp_path_factory.mktemp("own"), np.random.default_rng(0), []
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    (folder / "hospital").mkdir()
    z, y, x = np.indices((64, 64, 64)) - np.array([32, 31, 33])[:, None, None, None]
    for number in range(28):
        patient = number % 24  # four of them have two tumours
        label = patient % 2
        radius = rng.uniform(5, 8) + 1.5 * label
        mask = x**2 + y**2 + z**2 < radius**2
        hu = np.where(mask, rng.normal(20 + 3 * radius, 30, mask.shape), rng.normal(-850, 20, mask.shape))
        for name, array in (("ct", hu.astype(np.int16)), ("mask", mask.astype(np.uint8))):
            made = Volume(array, np.array([-31.0, -180.0, 40.0]), np.ones(3), np.eye(3), "phantom")
            write_image(folder / "hospital" / f"{name}{number}.nii.gz", made)
        names = [f"secret{number}", f"who{patient}", f"ct{number}.nii.gz", f"mask{number}.nii.gz"]
        rows.append([*names, label, int(rng.integers(100, 1500)), int(number % 3 > 0), 50 + patient])
    with (folder / "hospital" / "cases.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])
    said = {source: run(folder, source) for kind, caption, source in BLOCKS if kind == "bash" and caption != SCANS}
    return SimpleNamespace(folder=folder, run=folder / "runs" / "mine", said="".join(said.values()))


def test_phantoms_become_a_row_of_the_leaderboard_and_a_record(finished):
    rows = pd.read_csv(finished.run / "results/7_leaderboard/leaderboard.csv").set_index("table")
    assert set(rows.index) == {"radiomics", "volume"} and set(rows["cohorts"]) == {"own_hospital"}
    assert rows["auc_within"].between(rows["auc_within_low"], rows["auc_within_high"]).all()
    assert "28 of 28 cases can be used, of 24 patients" in finished.said
    assert "12 patients with label 1, 12 with label 0: enough for grouped splits" in finished.said
    records = [json.loads(path.read_text()) for path in sorted((finished.folder / "to_send").rglob("*.json"))]
    assert [(each["table"], each["samples"], each["positives"]) for each in records] == [
        ("radiomics", 28, 14),
        ("volume", 28, 14),
    ]
    assert {each["contributor"] for each in records} == {"my group"}
    stages = {measure["stage"] for each in records for measure in each["measures"]}
    assert {"3", "3b"} <= stages
    known = {(each["head"], each["measure"]): each["value"] for each in records[0]["measures"]}
    assert known["knn", "auc_grouped"] > 0.6  # the label was made with the radius


def test_a_record_holds_nothing_of_a_patient(finished):
    rows = pd.read_csv(finished.folder / "hospital" / "cases.csv", dtype=str)
    texts = [path.read_text() for path in (finished.folder / "to_send").rglob("*.json")]
    texts += [path.read_text() for path in (finished.run / "results/7_leaderboard/records").rglob("*.json")]
    assert len(texts) == 4
    hidden = {*rows["sample_id"], *rows["patient_id"], *rows["ct"], str(finished.folder), "secret", "nii"}
    assert not [name for name in hidden for text in texts if name in text]
    allowed = {"cohort", "contributor", "control", "format", "inputs", "measures", "model", "phantom", "positives"}
    allowed |= {"recipe", "samples", "status", "table", "timings", "title", "variant", "version", "versions", "weights"}
    assert all(set(json.loads(text)) <= allowed for text in texts)


def test_follow_up_and_covariates_of_the_table_arrive(finished):
    table = annotations.read(annotations.path_of(finished.run, "own_hospital"))
    given = pd.read_csv(finished.folder / "hospital" / "cases.csv")
    for name in ("time_days", "event", "clinical_age", "label"):
        assert table[name].tolist() == given[name].tolist()
    assert table["volume_ml"].between(0.4, 5).all()
    assert np.allclose(table[["x", "y", "z"]], [2, -149, 72], atol=0.01)


def test_each_file_that_the_chapter_names_is_written(finished):
    listed = re.search(r"What each writes.*?\n:::", CHAPTER, re.DOTALL)[0]
    names = re.findall(r"`((?:annotations|patches|results|embeddings|predictions|records)/[^`]*)`", listed)
    assert len(names) == 10
    for name in names:
        name = name.replace("<table>", "radiomics")
        name = f"results/7_leaderboard/{name}" if name.startswith("records") else name
        assert (finished.run / name).exists(), name


# Two real CTs: one tumour in every form that the chapter names


def near(ct, mask, reach=(45.0, 60.0, 60.0)):
    """The part of a CT around a mask, for time."""
    middle = np.argwhere(mask).mean(axis=0)
    half = np.array(reach) / ct.spacing[::-1]
    box = [slice(max(int(m - h), 0), int(m + h)) for m, h in zip(middle, half, strict=True)]
    origin = ct.to_physical([each.start for each in box[::-1]])
    part = replace(ct, array=np.ascontiguousarray(ct.array[tuple(box)]), origin=origin)
    return part, np.ascontiguousarray(mask[tuple(box)])


def contours(ct, mask):
    """A rectangle around every run of marked pixels in a row: exactly the mask, by the even-odd rule."""
    for k, row in np.argwhere(mask.any(axis=2)):
        edges = np.flatnonzero(np.diff(np.pad(mask[k, row].astype(int), 1)))
        yield from (rectangle(ct, k, (row, low), (row + 1, high)) for low, high in edges.reshape(-1, 2))


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """The first real tumour as image files and DICOM, with masks and seed points; the second as NIfTI."""
    folder, rows = tmp_path_factory.mktemp("scans"), []
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    root = folder / "scans"
    root.mkdir()
    files = lung_ct.fetch()
    parts = []
    for name in ("lung1", "lung2"):
        ct = real.lung_ct(name)
        parts.append(near(ct, curation.read_segments(files[f"{name}_label.nrrd"], ct)))
    (ct, mask), other = parts
    largest = curation.masks.largest_component(mask)
    seed = curation.masks.tumour(largest, ct).centroid
    index = ct.to_index(seed)
    drawn = replace(ct, array=mask.astype(np.uint8))
    for ending in ("nii.gz", "nrrd", "mha"):
        write_image(root / f"ct.{ending}", ct)
        write_image(root / f"mask.{ending}", drawn)
    slices = write_series(root / "ct", ct)
    write_seg(root / "seg.dcm", slices, {"GTV": largest, "lung": ct.array < -500})
    write_rtstruct(root / "rtstruct.dcm", slices[0].FrameOfReferenceUID, {"GTV-1": list(contours(ct, largest))})
    write_image(root / "ct2.nii", other[0])
    for name, image, drawn, place in (
        ("nifti", "ct.nii.gz", "mask.nii.gz", {}),
        ("nrrd", "ct.nrrd", "mask.nrrd", {}),
        ("mha", "ct.mha", "mask.mha", {}),
        ("seg", "ct", "seg.dcm", {}),
        ("rtstruct", "ct", "rtstruct.dcm", {}),
        ("lps", "ct", "", dict(zip("xyz", seed, strict=True))),
        ("ras", "ct.nii.gz", "", dict(zip(("x_ras", "y_ras", "z_ras"), seed * [-1, -1, 1], strict=True))),
        ("voxel", "ct.nrrd", "", dict(zip("ijk", index, strict=True))),
    ):
        rows.append({"sample_id": name, "patient_id": "lung1", "ct": image, "mask": drawn, "label": 1, **place})
    at = curation.masks.tumour(curation.masks.largest_component(other[1]), other[0]).centroid
    rows.append(
        {"sample_id": "other", "patient_id": "lung2", "ct": "ct2.nii", "label": 0, **dict(zip("xyz", at, strict=True))}
    )
    pd.DataFrame(rows).to_csv(root / "cases.csv", index=False)
    commands = (
        block(SCANS)
        .replace("check scans", "check scans --segment gtv")
        .replace("-p images scans", "-p images scans -p segment gtv")
    )
    said = run(folder, commands)
    return SimpleNamespace(root=root, run=folder / "runs" / "scans", said=said, seed=seed, spacing=ct.spacing)


def test_every_form_of_a_tumour_gives_the_same_seed_point(scans):
    table = annotations.read(annotations.path_of(scans.run, "own_scans")).set_index("sample_id")
    assert len(table) == 9 and annotations.read_excluded(scans.run, "own_scans").empty
    same = table.drop(index="other")
    assert np.abs(same[["x", "y", "z"]] - scans.seed).max(axis=None) < 0.1
    assert same["volume_ml"].notna().to_dict() == {name: name not in ("lps", "ras", "voxel") for name in same.index}
    assert same["volume_ml"].dropna().max() - same["volume_ml"].dropna().min() < 1e-6


def test_every_form_of_a_tumour_gives_the_same_patch(scans):
    held = bank.Bank(bank.path_of(scans.run, "own_scans", "iso_1mm"))
    patches = {row.sample_id: held.patch(row, (48, 48, 48)).astype(int) for row in held.rows.itertuples()}
    first, other = patches.pop("nifti"), patches.pop("other")
    assert len(patches) == 7 and first.std() > 100  # HU: a tumour in a lung
    assert {name: np.abs(patch - first).max() <= 1 for name, patch in patches.items()} == dict.fromkeys(patches, True)
    assert np.abs(other - first).max() > 100


def test_every_form_of_a_tumour_gives_the_same_embedding(scans):
    table = embeddings.read(scans.run / "embeddings/own_scans/random_encoder.benchmark.untrained.parquet")
    vectors = dict(zip(table.sample_id, table.vectors, strict=True))
    other = vectors.pop("other")
    spread = np.ptp(np.stack(list(vectors.values())), axis=0).max()
    assert spread < 0.1 * np.abs(other - vectors["nifti"]).max()


def test_the_check_finds_nothing_to_stop_but_says_that_a_tumour_is_there_twice(scans):
    assert "9 of 9 cases can be used, of 2 patients" in scans.said
    assert "fewer than the 10 of each class" in scans.said
    found = own_check.check(scans.root, segment="gtv").faults
    assert {fault.follows for fault in found} <= {own.LOOK}


def test_a_mask_of_several_segments_needs_a_choice(scans):
    found = own_check.check(scans.root).faults
    assert [(fault.sample_id, fault.column, fault.follows) for fault in found if fault.follows != own.LOOK] == [
        ("seg", "mask", own.LEFT_OUT)
    ]
    (fault,) = [str(fault) for fault in found if fault.follows != own.LOOK]
    assert fault.endswith("seg.dcm: 2 segments match ''; choose with segment, a pattern, among: GTV, lung")


# Tables and images that are wrong


def folder_of(path, *rows, header="sample_id,patient_id,ct,x,y,z,label"):
    path.mkdir(parents=True, exist_ok=True)
    (path / "cases.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def told(path, **options):
    """Faults of a folder as (row, column, what follows), and their words by the same."""
    return {(fault.row, fault.column, fault.follows): fault.fault for fault in own_check.check(path, **options).faults}


@pytest.mark.parametrize("caption", ["hospital/cases.csv", "scans/cases.csv"])
def test_the_tables_of_the_chapter_are_such_tables(tmp_path, caption):
    (tmp_path / "cases.csv").write_text(block(caption))
    assert own.faults(own.read(tmp_path / "cases.csv")) == []
    assert own.cases(tmp_path / "cases.csv")["reason"].isna().all()


STOPPING = {
    "sample twice": ("a,q,ct.nii,1,2,3,0", "sample_id", "'a' is there already"),
    "no name": (",q,ct.nii,1,2,3,0", "sample_id", "is empty"),
    "no patient": ("b,,ct.nii,1,2,3,0", "patient_id", "is empty"),
    "label in words": ("b,q,ct.nii,1,2,3,malignant", "label", "'malignant' is not 0 or 1"),
    "label beyond": ("b,q,ct.nii,1,2,3,2", "label", "'2' is not 0 or 1"),
    "no number": ("b,q,ct.nii,1,two,3,0", "y", "'two' is not a number"),
    "part of a place": ("b,q,ct.nii,1,,3,0", "x", "takes all of x, y, z"),
}


@pytest.mark.parametrize("case", STOPPING)
def test_what_stops_a_run_is_told_with_row_and_column(tmp_path, case):
    row, column, words = STOPPING[case]
    folder = folder_of(tmp_path, "a,p,ct.nii,1,2,3,1", "", row)  # an empty row is no case, and is counted
    assert words in told(folder)[4, column, own.STOPS]
    with pytest.raises(own.CasesError, match=rf"cases.csv: 1 fault\n  row 4, column {column}: .*{re.escape(words)}"):
        own.cases(folder / "cases.csv")


def test_all_faults_come_at_once_and_the_command_fails(tmp_path, capsys):
    folder = folder_of(tmp_path, *(row for row, *_ in STOPPING.values()), "c,r,,1,2,3,1", "d,r,ct.nii,,,,")
    with pytest.raises(SystemExit) as left:
        own_check.main("check", ["check", str(folder)])
    said = capsys.readouterr().out
    assert left.value.code == 1 and "stops the run (10)" in said and "Mend what stops the run" in said
    assert "row 9, column ct: is empty" in said and "rows 8, 10, column mask: no mask and no seed point" in said
    with pytest.raises(own.CasesError, match=r"10 faults(\n  row .*){5}\n  and 5 more"):
        own.cases(folder / "cases.csv")


def test_a_column_that_is_misspelt_is_named(tmp_path):
    folder = folder_of(tmp_path, "a,p,c,1", header="Sample_ID,PatientID,ct,Label")
    assert set(told(folder).values()) == {"is missing; rename 'Sample_ID'", "is missing; rename 'PatientID'"}
    folder = folder_of(tmp_path, "a,p,c,1", header="sample_id,patient_id,ct,Label")
    assert told(folder)[1, "label", own.STOPS] == "is missing; rename 'Label'"
    assert (1, "label", own.STOPS) not in told(folder, variant="none")
    with pytest.raises(SystemExit, match=r"error: .*no cases.csv in it"):
        own_check.main("check", ["check", str(tmp_path / "nowhere")])


def test_what_spreadsheets_do_to_a_table_changes_nothing(tmp_path):
    plain = "sample_id,patient_id,ct,x,y,z,label\n007,p,scans/a.nii,1.5,-2,3,1\nb,q,scans/b.nii,4,5,6.25,\n"
    other = plain.replace(".5", ",5", 1)
    forms = {
        "plain": plain.encode(),
        "mark": b"\xef\xbb\xbf" + plain.encode(),
        "windows": plain.replace("\n", "\r\n").replace("scans/", "scans\\").encode(),
        "tabs": plain.replace(",", "\t").encode(),
        "semicolons": plain.replace(",", ";").replace("1.5", "1,5").encode(),
        "spaces": plain.replace(",", " , ").encode(),
        "commas at the end": plain.replace("\n", ",,\n").encode(),
    }
    tables = {}
    for name, content in forms.items():
        (tmp_path / "cases.csv").write_bytes(content)
        tables[name] = own.cases(tmp_path / "cases.csv")
    assert other != plain and tables["plain"]["sample_id"].tolist() == ["007", "b"]
    assert tables["plain"]["seed"].tolist() == [seeds.Seed((1.5, -2, 3)), seeds.Seed((4, 5, 6.25))]
    for name, table in tables.items():
        assert table.equals(tables["plain"]), name
    (tmp_path / "cases.csv").write_bytes(plain.replace("q", "é").encode("latin-1"))
    with pytest.raises(own.CasesError, match=r"cases.csv: not UTF-8 .*'CSV UTF-8'"):
        own.cases(tmp_path / "cases.csv")
    (tmp_path / "cases.csv").write_text(plain + "c,r,scans/c.nii,1,2,3,0,9\n")
    with pytest.raises(own.CasesError, match="row 4 has 8 columns, the header 7"):
        own.cases(tmp_path / "cases.csv")


def placed(path, name="ct.nii", **changes):
    """A small CT at ORIGIN in a file."""
    return write_image(path / name, replace(volume(SHAPE), **changes))


SHAPE = (12, 20, 24)  # (z, y, x)


def test_a_seed_point_outside_is_told_with_the_convention_in_which_it_lies_inside(tmp_path):
    ct = volume(SHAPE)
    inside = ct.to_physical([10, 8, 5])
    x, y, z = inside
    folder = folder_of(
        tmp_path,
        f"a,p,ct.nii,{x},{y},{z},1",
        f"b,q,ct.nii,{-x},{-y},{z},0",
        "c,r,ct.nii,10,8,5,0",
        "d,s,ct.nii,9e3,0,0,0",
    )
    placed(tmp_path)
    faults = told(folder)
    assert [row for row, _, follows in faults if follows == own.LEFT_OUT] == [3, 4, 5]
    assert "it would lie inside as mm in RAS (columns x_ras, y_ras, z_ras)" in faults[3, "x", own.LEFT_OUT]
    assert "it would lie inside as voxel indices (columns i, j, k)" in faults[4, "x", own.LEFT_OUT]
    assert "take the CT that it was set on" in faults[5, "x", own.LEFT_OUT]
    measured = curation.measure(own.cases(folder / "cases.csv"), folder, workers=1)
    assert measured.table["sample_id"].tolist() == ["a"] and np.allclose(measured.table[["x", "y", "z"]], inside)
    assert measured.excluded["reason"].tolist() == [faults[row, "x", own.LEFT_OUT] for row in (3, 4, 5)]
    around = ct.array[4:7, 7:10, 9:12].mean()
    assert measured.table["tumour_hu"].iloc[0] == pytest.approx(around) and measured.table["volume_ml"].isna().all()


def test_a_seed_point_far_from_its_mask_leaves_the_case_out():
    ct, seed = volume((40, 60, 60)), seeds.Seed((55.0, 55, 38), seeds.VOXEL)
    mask = blob(ct)
    with pytest.raises(ImageError, match=r"lies \d+ mm from the largest part of its mask"):
        seeds.described(ct, mask, seed)
    within = seeds.described(ct, mask, seeds.Seed((4.0, 5, 4), seeds.VOXEL))
    assert np.allclose([within[name] for name in "xyz"], ct.to_physical([4, 5, 4]))
    assert within["volume_ml"] == seeds.described(ct, mask)["volume_ml"]


def test_images_that_cannot_be_used_are_told_from_their_headers(tmp_path):
    ct = volume(SHAPE)
    placed(tmp_path)
    far = replace(ct, array=np.ones(SHAPE, np.uint8), origin=ct.origin + 500)
    write_image(tmp_path / "far.nrrd", far)
    write_image(tmp_path / "coarse.nrrd", replace(far, origin=ct.origin, spacing=ct.spacing * 1.5))
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / "four.nii")
    nowhere = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), None)
    nowhere.header["pixdim"][1:4] = 1
    nibabel.save(nowhere, tmp_path / "nowhere.nii")
    metres = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.diag([1e-3, 1e-3, 1e-3, 1]))
    metres.header.set_xyzt_units("meter")
    nibabel.save(metres, tmp_path / "metres.nii")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8bnothing")
    write_series(tmp_path / "two", ct)
    for path in sorted((tmp_path / "two").iterdir())[:2]:
        path.rename(path.with_name(f"x{path.name}"))
    write_series(tmp_path / "two", ct)
    names = ("none.nii", "four.nii", "nowhere.nii", "broken.nii.gz", "two", "metres.nii", "ct.nii", "ct.nii", "ct.nii")
    masks = ("", "", "", "", "", "", "far.nrrd", "coarse.nrrd", "none.nrrd")
    rows = [f"s{k},p{k},{name},{mask},1" for k, (name, mask) in enumerate(zip(names, masks, strict=True))]
    faults = told(folder_of(tmp_path, *rows, header="sample_id,patient_id,ct,mask,label"))
    expected = {
        (2, "ct", own.LEFT_OUT): "none.nii: no such image",
        (3, "ct", own.LEFT_OUT): "four.nii: (4, 4, 4, 2) values are no 3D image",
        (4, "ct", own.LEFT_OUT): "nowhere.nii: neither qform nor sform",
        (5, "ct", own.LEFT_OUT): "broken.nii.gz: its header cannot be read",
        (6, "ct", own.LEFT_OUT): "two: 2 series in one folder",
        (7, "ct", own.LOOK): "the header says meter; millimetres are read",
        (8, "mask", own.LEFT_OUT): "far.nrrd: no voxel of it lies in ct.nii",
        (9, "mask", own.LOOK): "on another grid than ct.nii; it is resampled",
        (10, "mask", own.LEFT_OUT): "none.nrrd: no such",
    }
    assert {key: words in faults.get(key, "") for key, words in expected.items()} == dict.fromkeys(expected, True)


def test_what_is_rarely_right_is_pointed_at(tmp_path):
    placed(tmp_path)
    (x, y, z), (u, v, w) = volume(SHAPE).to_physical([[10, 8, 5], [12, 9, 6]])
    rows = [f"a,p,ct.nii,{x},{y},{z},1,100,", f"b,p,ct.nii,{u},{v},{w},0,,", f"c,q,{tmp_path}/ct.nii,{x},{y},{z},0,9,1"]
    rows.append(f"d,q,ct.nii,{x},{y},{z},,,")
    faults = told(folder_of(tmp_path, *rows, header="sample_id,patient_id,ct,x,y,z,label,time_days,event"))
    assert faults.pop((5, "label", own.LEFT_OUT)).startswith("is empty")
    assert set(faults) == {
        (2, "label", own.LOOK),
        (2, "time_days", own.LOOK),
        *((row, "ct", own.LOOK) for row in (2, 3, 4, 5)),
    }
    assert "both labels" in faults[2, "label", own.LOOK] and "absolute" in faults[4, "ct", own.LOOK]
    assert "several patients" in faults[3, "ct", own.LOOK] and "same tumour" in faults[5, "ct", own.LOOK]


def test_a_header_alone_says_where_an_image_lies(tmp_path):
    ct = volume(SHAPE, "oblique")
    write_series(tmp_path / "dicom", ct, order=[*range(1, len(ct.array)), 0])
    paths = [write_image(tmp_path / f"ct.{ending}", ct) for ending in ("nii.gz", "nrrd", "mha")]
    for path in [tmp_path / "dicom", *paths]:
        found, read = own_check.grid(path), imaging.read_ct(path)
        assert found.array.shape == read.array.shape and np.allclose(found.steps, read.steps, atol=1e-6)
        assert np.allclose(found.origin, read.origin, atol=1e-4)


# Names and rules of one's own


def test_a_cohort_of_any_name_is_known_without_registration():
    mine = COHORTS.get("own_clinic_a")
    assert (mine.id, mine.title) == ("own_clinic_a", "Own images, clinic a") and "own_clinic_a" in COHORTS
    assert COHORTS.get("own_clinic_retest").endpoints == {} and set(mine.endpoints) == {"paper", "two_year"}
    for name in ("own_", "owner", "own_a/b", "own_a.b", "own_é"):
        assert name not in COHORTS
    assert own.COHORT.id in [cohort.id for cohort in COHORTS] and "own_clinic_a" not in [each.id for each in COHORTS]


def test_scans_without_a_label_are_kept_in_a_cohort_for_retest_and_two_years_read_follow_up(tmp_path):
    rows = ["a-test,a,c,1,2,3,100,1", "a-retest,a,c,1,2,3,800,0", "b-test,b,c,1,2,3,,"]
    header = "sample_id,patient_id,ct,x,y,z,time_days,event"
    cases = own.cases(folder_of(tmp_path, *rows, header=header) / "cases.csv")
    made = curation.select(COHORTS.get("own_x_retest"), cases).annotations
    assert len(made.table) == 3 and made.excluded.empty
    made = curation.select(COHORTS.get("own_x"), cases, "two_year").annotations
    assert made.table["label"].tolist() == [0, 1] and made.excluded["sample_id"].tolist() == ["b-test"]
    with pytest.raises(annotations.AnnotationError, match=r"own_x: .*no column 'label'"):
        curation.select(COHORTS.get("own_x"), cases)


def test_a_package_brings_a_cohort(tmp_path):
    (tmp_path / "my_cohort.py").write_text(block("my_cohort.py"))
    project = tomllib.loads(block("pyproject.toml"))["project"]
    info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()  # what pip makes of the file
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in points.items()))
    code = (
        "import pandas as pd; from tumorbench_utils.cohorts import COHORTS; each = COHORTS.get('own_histology');"
        "rows = pd.DataFrame({'histology': ['carcinoma', 'hamartoma', None]});"
        "print(each.title, list(each.endpoint().label(rows).fillna(-1)))"
    )
    said = shell(tmp_path, f'{sys.executable} -c "{code}"', path=[tmp_path])
    assert said == "Hospital, histology [1.0, 0.0, -1.0]\n"


def test_the_half_widths_of_the_chapter_are_those_of_the_formula():
    patients, widths = (
        [float(each) for each in re.findall(r"[\d.]+", line)]
        for line in re.search(r"(\| Patients of each class.*)\n\| ---.*\n\| AUC 0.75 (.*)", CHAPTER).groups()
    )
    auc = 0.75
    for n, width in zip(patients, widths, strict=True):
        both = (n - 1) * (auc / (2 - auc) - auc**2) + (n - 1) * (2 * auc**2 / (1 + auc) - auc**2)
        assert round(1.96 * np.sqrt((auc * (1 - auc) + both) / n**2), 2) == width
