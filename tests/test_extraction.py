"""The extraction loop: the vectors of the plain loop, the same bytes after a kill, and nothing lost without a word."""

import errno
import io
import json
import linecache
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils import annotations, artefacts, bank, embeddings, extraction
from tumorbench_utils.bank.reading import Bank
from tumorbench_utils.extraction import passes, records, tasks
from tumorbench_utils.models import base, encoder
from tumorbench_utils.patches import Geometry

torch = pytest.importorskip("torch")

SMALL = Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8))
CENTRED = Geometry("centred", (1.5, 1.5, 1.5), (6, 6, 6), "exact")
SEEDS = {"a1": (0, 0, 20), "a2": (5, 5, 30), "b1": (2, -2, 25), "c1": (-9.8, -19, 6), "d1": (3, 3, 31)}
SEEDS["lost"] = (900, 900, 900)
TRIALS = 2
ROWS = 15  # of five samples and three trials


def build():
    return torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 6, 3))


def embed(network, batch):
    return network(batch).mean((2, 3, 4))


def model(name, geometry=SMALL, axes="RAS", size=(8, 8, 8), embed=embed, **options):
    recipe = base.Recipe(geometry, axes, size, ((-1000, 0), (1000, 1)), 6, embed, **options)
    return base.Model(id=name, title=name.capitalize(), build=build, benchmark=recipe)


FIRST, SECOND = model("first"), model("second", axes="SPL", size=(4, 6, 8))
FINE = model("fine", CENTRED, size=(6, 6, 6))


def ready(*models, **options):
    return [encoder.ready(each, weights="random", device="cpu", **options) for each in models]


def write_case(folder, name, seed):
    """A small CT of noise, and a mask of 10 x 5 x 9 voxels at its middle."""
    noise = np.random.default_rng(seed).integers(-1000, 1000, (20, 40, 30)).astype(np.int16)
    drawn = np.zeros(noise.shape, np.uint8)
    drawn[4:13, 18:23, 8:18] = 1
    for array, suffix in ((noise, ""), (drawn, ".mask")):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 1.0, 2.5))
        image.SetOrigin((-10.0, -20.0, 5.0))
        sitk.WriteImage(image, str(folder / f"{name}{suffix}.nrrd"), True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with banks of two geometries (a sample outside its image is not in them) and annotations."""
    root = tmp_path_factory.mktemp("made")
    for number, name in enumerate("abcd"):
        write_case(root, name, number)
    samples = pd.DataFrame(SEEDS, ["x", "y", "z"]).T.astype(float).rename_axis("sample_id").reset_index()
    samples["image"] = [f"{name[0].replace('l', 'a')}.nrrd" for name in samples["sample_id"]]
    masks = {"a1": "a.mask.nrrd", "b1": "b.mask.nrrd", "c1": "c.mask.nrrd"}
    seeds = bank.seed_points(samples, TRIALS, sigma_mm=1.0)
    bank.build(root / "run", "own", seeds, (SMALL, CENTRED), root=root, workers=1, masks=masks)
    table = samples.assign(patient_id=samples["sample_id"], label=1.0, volume_ml=range(len(samples)))
    table = annotations.check(table[table["sample_id"] != "d1"], "own")
    annotations.write(root / "run", "own", annotations.Annotations(table, table[:0]), artefacts.provenance({}))
    return root / "run"


@pytest.fixture
def run(made, tmp_path):
    """A fresh run folder on the same banks."""
    for name in ("patches", "annotations"):
        (tmp_path / name).symlink_to(made / name)
    return tmp_path


@pytest.fixture(autouse=True)
def small_grains(monkeypatch):
    monkeypatch.setattr(tasks, "GRAIN", 4)


def extract(run, *encoders, **options):
    return extraction.extract(run, "own", encoders, **{"progress": False, "workers": 1} | options)


def bytes_of(run, name="first.benchmark.untrained"):
    folder = embeddings.path_of(run, "own", name).parent
    return (folder / f"{name}.parquet").read_bytes(), (folder / f"{name}.excluded.csv").read_bytes()


def table_of(run, name="first.benchmark.untrained"):
    return embeddings.read(embeddings.path_of(run, "own", name))


def building(run, name="first.benchmark.untrained"):
    return embeddings.path_of(run, "own", name).with_name(f".building-{name}")


@pytest.fixture(scope="module")
def whole(made, tmp_path_factory):
    """Bytes of the tables of an undisturbed run, one encoder at a time, by name."""
    run = tmp_path_factory.mktemp("whole")
    for name in ("patches", "annotations"):
        (run / name).symlink_to(made / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "GRAIN", 4)
        encoders = ready(FIRST, SECOND, FINE)
        for each in encoders:
            extract(run, each)
    return {each.name: bytes_of(run, each.name) for each in encoders}


# What comes out


@pytest.mark.parametrize("which", [FIRST, SECOND, FINE], ids=lambda model: model.id)
def test_the_vectors_are_those_of_the_plain_loop(which, run):
    recipe, (one,) = which.benchmark, ready(which)
    found = embeddings.read(extract(run, one).paths[one.name])
    rows, expected = [], []
    for row, patch in Bank(bank.path_of(run, "own", recipe.geometry.id)).patches(recipe.size, recipe.axes):
        values = torch.from_numpy(np.clip((patch.astype(np.float32) + 1000) / 2000, 0, 1))
        rows.append((row.sample_id, row.trial))
        with torch.no_grad():
            expected.append(embed(one.module, values[None, None])[0].numpy())
    assert list(zip(found.sample_id, found.trial, strict=True)) == rows and len(rows) == ROWS
    assert_allclose(found.vectors, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(found.vectors, axis=0).min() > 0


def test_several_encoders_in_one_pass_make_the_bytes_of_single_passes(run, whole):
    done = extract(run, *ready(FIRST, SECOND, FINE))
    assert {name: bytes_of(run, name) for name in done.paths} == whole
    assert not list((run / "embeddings" / "own").glob(".*"))


def test_a_region_is_read_once_for_all_encoders_and_a_patch_cut_once_for_those_fed_alike(run, monkeypatch):
    cut, opened = [], []
    patch, begin = Bank.patch, Bank.__init__
    monkeypatch.setattr(Bank, "patch", lambda self, *given: cut.append(given[1:]) or patch(self, *given))
    monkeypatch.setattr(Bank, "__init__", lambda self, path: begin(self, path) or opened.append(self))
    extract(run, *ready(FIRST, model("alike"), SECOND))
    assert sorted(set(cut)) == [((4, 6, 8), "SPL", -1024), ((8, 8, 8), "RAS", -1024)]
    assert len(cut) == 2 * ROWS
    assert opened[0]._region.cache_info().misses == len(SEEDS) - 1  # jittered seeds share one


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 100])
def test_the_batch_changes_no_vector(batch, run, whole):
    extract(run, *ready(FIRST), batch=batch)
    if batch > 1:
        assert bytes_of(run) == whole["first.benchmark.untrained"]
    else:
        assert_allclose(table_of(run).vectors, vectors_of(whole["first.benchmark.untrained"]), rtol=1e-5, atol=1e-7)


def vectors_of(tables):
    """The vectors in the bytes of a table."""
    stored = pq.read_table(io.BytesIO(tables[0]))["embedding"]
    return np.array(stored.to_pylist(), np.float32)


@pytest.mark.parametrize("grain", [1, 2, 7, 32])
def test_the_grain_changes_no_vector(grain, run, whole, monkeypatch):
    monkeypatch.setattr(tasks, "GRAIN", grain)
    extract(run, *ready(FIRST))
    assert_allclose(table_of(run).vectors, vectors_of(whole["first.benchmark.untrained"]), rtol=1e-5, atol=1e-7)


def test_a_grain_of_large_patches_is_smaller(run, monkeypatch):
    monkeypatch.setattr(tasks, "GRAIN_BYTES", 3 * 2 * 8**3)
    extract(run, *ready(FIRST))
    assert table_of(run).provenance["parameters"]["grain"] == 3


def test_trials_can_be_chosen(run):
    done = extract(run, *ready(FIRST), trials=[0, 2])
    assert sorted(set(table_of(run).trial)) == [0, 2] and len(table_of(run).trial) == 10
    assert sorted(done.excluded["trial"]) == [0, 2]
    with pytest.raises(extraction.ExtractionError, match=r"small\.zarr: holds no trials 7, 9; the data curation"):
        extract(run, *ready(FIRST), trials=[0, 9, 7])


def test_less_memory_than_hoped_for_changes_no_vector(run, whole):
    def tight(network, batch):
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(network, batch)

    (one,) = ready(model("first", embed=tight))
    extract(run, one)
    assert_array_equal(table_of(run).vectors, vectors_of(whole["first.benchmark.untrained"]))
    assert one.fits == 2


# Killed and resumed


class Stop(BaseException):
    """A hard stop from within."""


def stopping(monkeypatch, after, error):
    """Let only ``after`` grains be written, then raise."""
    keep, kept = tasks.keep, []

    def stop(path, *given):
        if len(kept) == after:
            raise error
        kept.append(path)
        keep(path, *given)

    monkeypatch.setattr(passes, "keep", stop)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_loses_no_finished_grain(after, run, whole, monkeypatch):
    with monkeypatch.context() as patch:
        stopping(patch, after, Stop())
        with pytest.raises(Stop):
            extract(run, *ready(FIRST))
    assert len(list(building(run).glob("*.npz"))) == after
    (again,) = ready(FIRST)
    done = extract(run, again)
    assert bytes_of(run) == whole["first.benchmark.untrained"]
    assert again.usage.samples == done.timings["images"][0] == ROWS - 4 * after
    assert done.timings["status"][0] == "resumed" and not building(run).exists()


def test_a_run_of_two_stopped_in_between_ends_as_each_alone(run, whole, monkeypatch):
    with monkeypatch.context() as patch:
        stopping(patch, 5, Stop())
        with pytest.raises(Stop):
            extract(run, *ready(FIRST, SECOND))
    assert [
        len(list(building(run, name).glob("*.npz")))
        for name in ("first.benchmark.untrained", "second.benchmark.untrained")
    ] == [3, 2]
    extract(run, *ready(SECOND))
    extract(run, *ready(FIRST, SECOND))
    assert [bytes_of(run, name) for name in ("first.benchmark.untrained", "second.benchmark.untrained")] == [
        whole["first.benchmark.untrained"],
        whole["second.benchmark.untrained"],
    ]


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_extraction as t
from tumorbench_utils import embeddings
from tumorbench_utils.extraction import passes, tasks
tasks.GRAIN = 4
def slowly(function, before):
    def call(*given, **named):
        if before: print(flush=True); input()
        out = function(*given, **named)
        if not before: print(flush=True); input()
        return out
    return call
passes.keep = slowly(tasks.keep, True)
embeddings.write = slowly(embeddings.write, False)
t.extract(sys.argv[2], *t.ready(t.FIRST))
"""


@pytest.mark.parametrize("steps", [0, 2])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(steps, run, whole):
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(run)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(steps):
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    done = embeddings.path_of(run, "own", "first.benchmark.untrained").exists()
    assert done == (steps == 4)  # killed between the table and the removal of its grains
    assert len(list(building(run).glob("*.npz"))) == steps
    result = extract(run, *ready(FIRST))
    assert result.timings["status"][0] == ("was there" if done else "resumed")
    assert bytes_of(run) == whole["first.benchmark.untrained"] and not building(run).exists()


CHANGES = {
    "weights": lambda: ready(FIRST, seed=1),
    "precision": lambda: ready(FIRST, precision="bf16"),
    "window": lambda: ready(replace(FIRST, benchmark=replace(FIRST.benchmark, window=((-500, 0), (500, 1))))),
    "size": lambda: ready(model("first", size=(6, 6, 6))),
    "code": lambda: ready(model("first", embed=pooled_otherwise)),
}


def pooled_otherwise(network, batch):
    return network(batch).amax((2, 3, 4))


pooled_otherwise.__module__ = "another_module"  # as if written elsewhere


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [False, True])
def test_what_was_made_of_something_else_is_made_anew(change, finished, run, tmp_path_factory, made, monkeypatch):
    with monkeypatch.context() as patch:
        stopping(patch, ROWS if finished else 2, Stop())
        try:
            extract(run, *ready(FIRST))
        except Stop:
            assert not finished
    (other,) = CHANGES[change]()
    done = extract(run, other)
    assert done.timings["status"][0] == "extracted" and other.usage.samples == ROWS
    fresh = tmp_path_factory.mktemp("fresh")
    (fresh / "patches").symlink_to(made / "patches")
    extract(fresh, *CHANGES[change]())
    assert bytes_of(run) == bytes_of(fresh)


def test_another_torch_makes_a_table_anew_and_another_pandas_does_not(run, monkeypatch):
    extract(run, *ready(FIRST))
    version, status = artefacts._version, []
    for package in ("pandas", "torch"):
        monkeypatch.setattr(artefacts, "_version", lambda name, of=package: "99" if name == of else version(name))
        status.append(extract(run, *ready(FIRST)).timings["status"][0])
    assert status == ["was there", "extracted"]


def test_another_bank_makes_a_table_anew_and_the_same_bank_built_again_does_not(run, made, tmp_path):
    extract(run, *ready(FIRST))
    (run / "patches").unlink()
    samples = pd.DataFrame({"sample_id": ["a1"], "image": ["a.nrrd"], "x": [0.0], "y": [0.0], "z": [20.0]})
    for _ in range(2):
        bank.build(run, "own", bank.seed_points(samples), (SMALL,), root=made.parent, workers=1)
        before = bytes_of(run)
        done = extract(run, *ready(FIRST))
        os.utime(made.parent / "a.nrrd")  # the bank is built again, of the same
    assert done.timings["status"][0] == "was there" and bytes_of(run) == before
    assert len(table_of(run).vectors) == 1


def test_a_table_that_is_there_is_left_alone(run):
    path = extract(run, *ready(FIRST)).paths["first.benchmark.untrained"]
    before = path.stat().st_mtime_ns
    (again,) = ready(FIRST)
    done = extract(run, again)
    assert path.stat().st_mtime_ns == before and again.usage.samples == 0
    assert done.timings[["name", "status", "images"]].values.tolist() == [["first.benchmark.untrained", "was there", 0]]
    assert set(done.excluded["sample_id"]) == {"lost"}


@pytest.mark.parametrize("record", [{}, artefacts.provenance({"source": "released", "title": "FMCIB"})])
def test_a_table_of_another_origin_is_never_overwritten(record, run):
    path = embeddings.path_of(run, "own", "first.benchmark.untrained")
    embeddings.write(path, ["a", "b"], np.ones((2, 3)), record)
    before = path.read_bytes()
    encoders = ready(SECOND, FIRST)
    with pytest.raises(
        extraction.ExtractionError, match=r"first\.benchmark\.untrained\.parquet: holds .* never overwritten"
    ):
        extract(run, *encoders)
    assert path.read_bytes() == before and encoders[0].usage.samples == 0


def test_what_is_no_table_is_not_overwritten_either(run):
    path = embeddings.path_of(run, "own", "first.benchmark.untrained")
    artefacts.write_text(path, "PAR1 or not")
    with pytest.raises(extraction.ExtractionError, match="truncated, or not an embedding table"):
        extract(run, *ready(FIRST))
    assert path.read_text() == "PAR1 or not"


# What cannot be done


def test_missing_banks_are_named_all_at_once(tmp_path):
    with pytest.raises(
        extraction.ExtractionError,
        match=r"first\.benchmark\.untrained: bank 'small' is not there; fine.*geometries small, centred",
    ):
        extract(tmp_path, *ready(FIRST, FINE))


@pytest.mark.parametrize(
    ("geometry", "axes", "size", "words"),
    [
        (replace(SMALL, spacing=(1.0, 2.0, 2.0)), "RAS", (8, 8, 8), "released, 1x2x2 mm, 8x8x8 voxels is needed"),
        (replace(SMALL, sampling="exact"), "RAS", (8, 8, 8), "is released, 2x2x2 mm.* exact, 2x2x2 mm"),
        (replace(SMALL, size=(8, 8, 10)), "SPL", (10, 8, 8), "8x8x10 voxels is needed"),
        (replace(SMALL, size=(10, 8, 8)), "SPL", (8, 8, 10), "10x8x8 voxels is needed"),
    ],
)
def test_a_bank_that_does_not_fit_is_refused(geometry, axes, size, words, run):
    with pytest.raises(extraction.ExtractionError, match=f"own: .*bank 'small' .*{words}.* geometries small"):
        extract(run, *ready(model("first", geometry, axes, size)))


def test_one_name_twice_is_refused(run):
    with pytest.raises(extraction.ExtractionError, match=r"given twice: first\.benchmark\.untrained"):
        extract(run, *ready(FIRST, FIRST))


def broken_at(places, value):
    """An embed that gives ``value`` for some patches, counted from the start."""
    seen = []

    def embed_broken(network, batch):
        vectors = embed(network, batch)
        for at in range(len(batch)):
            if len(seen) + at in places:
                vectors[at] = value
        seen.extend(vectors)
        return vectors

    return embed_broken


@pytest.mark.parametrize(("value", "reason"), [(float("nan"), "NaN or infinity"), (float("inf"), "NaN"), (0, "zero")])
def test_vectors_of_no_use_are_left_out_and_listed(value, reason, run):
    done = extract(run, *ready(model("first", embed=broken_at({0, 6}, value))))
    rows = Bank(bank.path_of(run, "own", "small")).rows
    lost = rows.iloc[[0, 6]]
    found = table_of(run)
    assert len(found.vectors) == ROWS - 2
    assert not {*zip(lost["sample_id"], lost["trial"], strict=True)} & {*zip(found.sample_id, found.trial, strict=True)}
    listed = done.excluded[done.excluded["sample_id"] != "lost"]
    assert listed[["sample_id", "trial"]].values.tolist() == lost[["sample_id", "trial"]].values.tolist()
    assert listed["reason"].str.contains(reason).all()
    stored = pd.read_csv(
        embeddings.path_of(run, "own", "first.benchmark.untrained").with_name("first.benchmark.untrained.excluded.csv")
    )
    assert stored.values.tolist() == done.excluded[["sample_id", "trial", "reason"]].values.tolist()
    assert stored["reason"].tolist()[:3] == [bank.NO_PATCH] * 3


def test_an_encoder_that_gives_nothing_of_use_is_an_error(run, monkeypatch):
    with pytest.raises(extraction.ExtractionError, match=r"no vector of 15 is of use: the embedding holds NaN"):
        extract(run, *ready(model("first", embed=broken_at(range(99), float("nan")))))
    assert not building(run).exists()  # or the next try would find them
    monkeypatch.setattr(passes, "EARLY", 8)
    (one,) = ready(model("first", embed=broken_at(range(99), float("nan"))))
    with pytest.raises(extraction.ExtractionError, match="stopped, since none of its first"):
        extract(run, one)
    assert one.usage.samples == 8


def test_a_resumed_run_is_not_stopped_for_a_bad_stretch(run, monkeypatch):
    monkeypatch.setattr(passes, "EARLY", 4)
    with monkeypatch.context() as patch:
        stopping(patch, 2, Stop())
        with pytest.raises(Stop):
            extract(run, *ready(model("first", embed=broken_at({8, 9, 10, 11}, 0))))
    extract(run, *ready(model("first", embed=broken_at({0, 1, 2, 3}, 0))))
    assert len(table_of(run).vectors) == ROWS - 4


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_and_what_was_finished_stays(code, run, whole, monkeypatch):
    save, saved = np.savez, []

    def full(path, **arrays):
        if len(saved) == 2:
            raise OSError(code, os.strerror(code))
        saved.append(path)
        save(path, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(extraction.ExtractionError, match=r"the disk is full\. What was finished is kept"):
        extract(run, *ready(FIRST))
    monkeypatch.undo()
    monkeypatch.setattr(tasks, "GRAIN", 4)
    assert len(list(building(run).iterdir())) == 3  # two grains and the record, no scrap
    write = pq.write_table
    monkeypatch.setattr(pq, "write_table", lambda *_, **__: (_ for _ in ()).throw(OSError(code, "full")))
    with pytest.raises(extraction.ExtractionError, match="the disk is full"):
        extract(run, *ready(FIRST))
    monkeypatch.setattr(pq, "write_table", write)
    (one,) = ready(FIRST)
    extract(run, one)
    assert one.usage.samples == 0 and bytes_of(run) == whole["first.benchmark.untrained"]


def test_other_errors_of_the_disk_stay_what_they_are(run, monkeypatch):
    monkeypatch.setattr(np, "savez", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
    with pytest.raises(PermissionError):
        extract(run, *ready(FIRST))


# What is told


def test_the_record_tells_all_that_a_table_is_made_of(run):
    extract(run, *ready(FIRST), batch=3)
    record = table_of(run).provenance
    told = record["parameters"]
    assert told["source"] == "extraction" and told["untrained"] and not told["phantom"] and told["control"] is None
    assert (told["model"], told["title"], told["recipe"], told["cohort"]) == ("first", "First", "benchmark", "own")
    assert (told["device"], told["precision"], told["geometry"]["id"], told["feed"]["dim"]) == (
        "cpu",
        "fp32",
        "small",
        6,
    )
    assert told["weights"]["kind"] == "random" and len(told["weights"]["state_sha256"]) == 64
    assert set(record["inputs"]) == {"bank", "weights", "code"} and record["versions"]["torch"]
    assert str(run) not in json.dumps(record) and "batch" not in told


def test_a_phantom_is_named_as_such(run, made):
    (run / "patches").unlink()
    (run / "patches").mkdir()
    (run / "patches" / "phantom_retest").symlink_to(made / "patches" / "own")
    done = extraction.extract(run, "phantom_retest", ready(FIRST), progress=False)
    assert embeddings.read(done.paths["first.benchmark.untrained"]).provenance["parameters"]["phantom"]


def test_timings_say_how_fast_and_where_the_time_went(run):
    timings = extract(run, *ready(FIRST, SECOND, FINE)).timings.set_index("name")
    assert (timings["images"] == ROWS).all() and (timings["status"] == "extracted").all()
    assert (timings["forward_seconds"] <= timings["seconds"]).all()
    assert (timings["seconds"] < timings["pass_seconds"]).all() and (timings["forward_seconds"] > 0).all()
    assert_allclose(timings["images_per_second"], timings["images"] / timings["seconds"])
    together = timings["pass_seconds"].loc[["first.benchmark.untrained", "second.benchmark.untrained"]]
    assert together.nunique() == 1


def test_the_bar_shows_images_a_second(run, capsys, monkeypatch):
    stopping(monkeypatch, 2, Stop())
    with pytest.raises(Stop):
        extract(run, *ready(FIRST), progress=True)
    monkeypatch.setattr(passes, "keep", tasks.keep)
    capsys.readouterr()
    extract(run, *ready(FIRST), progress=True)
    shown = capsys.readouterr().err.split("\r")
    assert "8/15" in shown[1] and "15/15" in shown[-1] and "image/s" in shown[-1]
    extract(run, *ready(SECOND))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("source", ["def f(x):\n    return x\n", "f = lambda x: x\n"])
def test_the_code_of_a_notebook_counts_by_its_own_lines(source, tmp_path, monkeypatch):
    def hash_of(text):
        path = tmp_path / "cell.py"
        path.write_text(text)
        scope = {"__name__": "no_such_module"}
        exec(compile(text, str(path), "exec"), scope)
        linecache.checkcache()
        return records.code_sha256([scope["f"], torch.nn.Conv3d, print])

    assert hash_of(source) == hash_of(source) == hash_of(source + "# the next cell\n")
    assert hash_of(source) != hash_of(source.replace("return x", "return 2 * x").replace(": x", ": 2 * x"))


# Controls


def spread(sample):
    """Two numbers from the patch, one from the annotation, one from the mask."""
    if sample.annotation["volume_ml"] == 2:
        raise ValueError("too round")
    inside = 0 if sample.mask is None else int(sample.mask.sum())
    return np.array([sample.patch.mean(), sample.patch.std(), sample.annotation["volume_ml"], inside])


def control(name="spread", features=spread, **options):
    given = {"geometry": SMALL, "names": lambda: ("mean", "sd", "volume", "voxels")} | options  # lambdas do not pickle
    made = base.Control(id=name, title="Spread", features=features, **given)
    return encoder.ready(made)


def test_a_control_is_computed_from_patch_mask_and_annotation(run):
    done = extract(run, control())
    found, opened = table_of(run, "spread"), Bank(bank.path_of(run, "own", "small"))
    rows = {row.sample_id: row for row in opened.rows.query("trial == 0").itertuples()}
    assert found.sample_id.tolist() == ["a1", "a2", "c1"] and set(found.trial) == {0}
    for name, vector in zip(found.sample_id, found.vectors, strict=True):
        patch, mask = opened.patch(rows[name], SMALL.size), opened.mask(rows[name], SMALL.size)
        volume, voxels = list(SEEDS).index(name), 0 if mask is None else mask.sum()
        assert_allclose(vector, [patch.mean(), patch.std(), volume, voxels], rtol=1e-6)
    assert found.vectors[0, 3] > 0 and found.vectors[1, 3] == 0
    assert dict(done.excluded[["sample_id", "reason"]].values) == {
        "lost": bank.NO_PATCH,
        "b1": "too round",
        "d1": "not in the annotation table",
    }
    told = found.provenance["parameters"]
    assert (
        told["features"] == ["mean", "sd", "volume", "voxels"] and told["model"] == "spread" and not told["untrained"]
    )
    assert done.timings.loc[0, ["status", "images"]].tolist() == ["extracted", 5]


def test_a_control_that_needs_a_mask_leaves_out_samples_without(run):
    done = extract(run, control(needs_mask=True))
    assert table_of(run, "spread").sample_id.tolist() == ["a1", "c1"]
    reasons = dict(done.excluded[["sample_id", "reason"]].values)
    assert reasons["a2"] == bank.NO_MASK and reasons["b1"] == "too round"


def test_another_mask_makes_a_control_anew_but_no_embedding(run, made):
    (run / "patches").unlink()
    samples = pd.DataFrame({"sample_id": ["a1"], "image": ["a.nrrd"], "x": [0.0], "y": [0.0], "z": [20.0]})
    status = []
    for name in ("a", "c", "c"):
        drawn = sitk.ReadImage(str(made.parent / f"{name}.mask.nrrd"))
        sitk.WriteImage(drawn if name == "a" else sitk.BinaryDilate(drawn), str(run / "mask.nrrd"))
        (run / "a.nrrd").exists() or (run / "a.nrrd").symlink_to(made.parent / "a.nrrd")
        seeds = bank.seed_points(samples)
        bank.build(run, "own", seeds, (SMALL,), root=run, workers=1, masks={"a1": "mask.nrrd"})
        status.append(extract(run, control(), ready(FIRST)[0]).timings["status"].tolist())
    assert status == [["extracted", "extracted"], ["extracted", "was there"], ["extracted", "was there"]]


def test_a_control_can_be_asked_for_jittered_seeds(run):
    extract(run, control(needs_mask=True), trials=[0, 1, 2])
    found = table_of(run, "spread")
    assert sorted(found.trial) == [0, 0, 1, 1, 2, 2]


def test_workers_change_no_byte(run, made, tmp_path_factory):
    extract(run, control(), ready(FIRST)[0], trials=[0, 1, 2], workers=2)
    other = tmp_path_factory.mktemp("other")
    for name in ("patches", "annotations"):
        (other / name).symlink_to(made / name)
    extract(other, control(), ready(FIRST)[0], trials=[0, 1, 2], workers=1)
    assert [bytes_of(run, name) for name in ("spread", "first.benchmark.untrained")] == [
        bytes_of(other, name) for name in ("spread", "first.benchmark.untrained")
    ]


def test_a_control_that_cannot_travel_is_computed_here(run):
    here = []

    def features(sample):
        here.append(os.getpid())
        return spread(sample)

    extract(run, control(features=features), workers=2, trials=[0, 1, 2])
    assert set(here) == {os.getpid()}


def test_an_interrupted_control_goes_on(run, whole):
    seen = []

    def features(sample):
        seen.append(sample.annotation["sample_id"])
        if len(seen) == 5:  # in the second grain
            raise Stop
        return spread(sample)

    with pytest.raises(Stop):
        extract(run, control(features=features), trials=[0, 1])
    done = extract(run, control(features=features), trials=[0, 1])
    assert done.timings["status"][0] == "resumed" and done.timings["images"][0] == 6
    expected = [name for name in ("a1", "a2", "c1") for _ in range(2)]
    assert table_of(run, "spread").sample_id.tolist() == expected


def test_features_of_another_length_and_a_missing_annotation_table_are_errors(run):
    with pytest.raises(extraction.ExtractionError, match=r"spread: features of shape \(2,\), but 4 names"):
        extract(run, control(features=lambda sample: np.ones(2)))
    (run / "annotations").unlink()
    with pytest.raises(extraction.ExtractionError, match=r"own\.csv: no annotation table.*curation"):
        extract(run, control())


def test_nothing_asked_is_nothing_done(run):
    done = extract(run)
    assert done.paths == {} and done.timings.empty and done.excluded.empty
