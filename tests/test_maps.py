"""Saliency maps of a run: those of the bare functions, kept one by one, drawn anew when what made them changed."""

import itertools
import json
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from test_extraction import write_case

from tumorbench_utils import bank, maps, models, saliency
from tumorbench_utils.bank.seeds import NO_SEED, BankError
from tumorbench_utils.models import base, encoder
from tumorbench_utils.patches import Geometry, oriented

torch = pytest.importorskip("torch")

SMALL = Geometry("small", (2.0, 2.0, 3.0), (8, 8, 8))
SEEDS = {"a1": (0, 0, 20), "b/2 ü": (2, -2, 25), "c1": (-9.8, -19, 6), "." + "long" * 60: (5, 5, 30)}
ODD, LONG = list(SEEDS)[1], list(SEEDS)[3]
LOST = "lost"
FAST = {"progress": False, "size": 3, "steps": 3}


def build():
    return torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv3d(8, 6, 3))


def embed(network, batch):
    return network(batch).mean((2, 3, 4)) + torch.linspace(-1, 1, 6, device=batch.device)


def ready(axes="SPL", size=(4, 6, 8), embed=embed, name="small", seed=0, weights="random", **options):
    recipe = base.Recipe(SMALL, axes, size, ((-1000, -0.2), (1000, 1)), 6, embed, **options)
    model = base.Model(id=name, title=name.capitalize(), build=build, benchmark=recipe)
    return encoder.ready(model, weights=weights, device="cpu", seed=seed)


def write_bank(root, cohort, names):
    samples = pd.DataFrame({name: SEEDS[name] for name in names}, ["x", "y", "z"]).T.astype(float)
    samples = samples.rename_axis("sample_id").reset_index()
    samples["image"] = [f"{'abcd'[list(SEEDS).index(name)]}.nrrd" for name in samples["sample_id"]]
    samples.loc[len(samples)] = [LOST, np.nan, 0, 0, "a.nrrd"]
    seeds = bank.seed_points(samples, 1, sigma_mm=1.0)
    bank.build(root / "run", cohort, seeds, (SMALL,), root=root, workers=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with the banks of two cohorts; one sample of each has no seed point."""
    root = tmp_path_factory.mktemp("made")
    for number, name in enumerate("abcd"):
        write_case(root, name, number)
    write_bank(root, "own", SEEDS)
    write_bank(root, "other", ["c1"])
    return root / "run"


@pytest.fixture
def run(made, tmp_path):
    (tmp_path / "patches").symlink_to(made / "patches")
    return tmp_path


def draw(run, one=None, cohort="own", **options):
    return maps.draw(run, cohort, one or ready(), **FAST | options)


def image_of(run, one, sample):
    held = bank.Bank(bank.path_of(run, "own", "small"))
    row = next(row for row in held.rows.itertuples() if (row.sample_id, row.trial) == (sample, 0))
    return one.recipe.scaled(torch.from_numpy(held.patch(row, one.recipe.size, one.recipe.axes).copy()))[None, None]


def bytes_of(run):
    folder = run / "saliency"
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def stems(run):
    return sorted(path.name for path in (run / "saliency").glob("*/*/*"))


# What is drawn


def test_maps_are_those_of_the_bare_functions_on_the_scaled_patch(run):
    one = ready()
    done = draw(run, one)
    assert list(done.paths) == list(itertools.product(SEEDS, maps.METHODS))
    for sample in SEEDS:
        image = image_of(run, one, sample)
        occluded = saliency.occlude(one.of_values, image, 3, 0.25, "gaussian", batch=one.batch)
        found = maps.read(done.paths[sample, "occlusion"])
        assert_array_equal(found.values, occluded.map)
        assert found.values.dtype == np.float32 and found.values.shape == (4, 6, 8)
        gradients = saliency.integrated(one.differentiable, image, -0.2, 3)
        found = maps.read(done.paths[sample, "gradients"])
        assert np.abs(found.values - gradients.map).max() < 1e-6 * np.abs(gradients.map).max() + 1e-9
        assert found.figures["completeness"] == pytest.approx(gradients.completeness, rel=1e-3)


def test_a_map_knows_what_it_is(run):
    one = ready()
    found = maps.read(draw(run, one, samples=[ODD]).paths[ODD, "occlusion"])
    assert (found.sample_id, found.method, found.axes, found.spacing) == (ODD, "occlusion", "SPL", (3.0, 2.0, 2.0))
    parameters = found.record["parameters"]
    assert parameters["method_parameters"] == {"size": 3, "overlap": 0.25, "fill": "gaussian", "fill_value": "gaussian"}
    assert parameters["untrained"] and not parameters["phantom"] and parameters["encoder"] == one.name
    assert set(found.record["inputs"]) == {"bank", "weights", "code", "saliency"}


def test_windows_and_their_distances_are_kept(run):
    import zarr

    one = ready()
    path = draw(run, one, samples=["a1"], methods=["occlusion"]).paths["a1", "occlusion"]
    group = zarr.open_group(path, mode="r")
    expected = saliency.occlude(one.of_values, image_of(run, one, "a1"), 3, batch=one.batch)
    assert_array_equal(group["windows"][:], expected.windows)
    assert_allclose(group["distances"][:], expected.distances, rtol=1e-6)
    assert group.metadata.zarr_format == 3 and group.attrs["cohort"] == "own" and group.attrs["untrained"] is True


def test_air_is_the_scaled_value_of_minus_1024_hu(run):
    one = ready(clip=False)
    air = -0.2 - 24 / 2000 * 1.2
    found = maps.read(draw(run, one, samples=["a1"], fill="air").paths["a1", "occlusion"])
    expected = saliency.occlude(one.of_values, image_of(run, one, "a1"), 3, fill=air, batch=one.batch).map
    assert_allclose(found.values, expected, rtol=1e-4)
    assert found.record["parameters"]["method_parameters"]["fill_value"] == pytest.approx(air)
    record = maps.read(maps.file_of(run, one.name, "own", "a1", "gradients")).record
    assert record["parameters"]["method_parameters"]["start_value"] == pytest.approx(air)


@pytest.mark.parametrize(
    ("asked", "drawn"),
    [
        ({"most": 2}, list(SEEDS)[:2]),
        ({"most": 99}, list(SEEDS)),
        ({"samples": ["c1", "a1"]}, ["c1", "a1"]),
        ({"samples": ["c1"], "most": 2}, ["c1"]),
    ],
)
def test_the_first_samples_or_those_that_are_named_are_drawn(asked, drawn, run):
    done = draw(run, methods=["occlusion"], **asked)
    assert [sample for sample, _ in done.paths] == drawn == done.timings["sample_id"].tolist()
    listed = [] if "samples" in asked else [LOST]  # what the bank could not hold, even where not all are drawn
    assert done.excluded["sample_id"].tolist() == listed


def test_timings_count_every_patch_that_was_embedded(run):
    one = ready()
    calls = []
    through = one.differentiable
    one.differentiable = lambda values: calls.append(len(values)) or through(values)
    timings = draw(run, one, samples=["a1"]).timings.set_index("method")
    windows = 2 * 3 * 4  # 4, 6 and 8 voxels by windows of 3 in steps of 2, the last at the end
    assert timings.loc["occlusion", "forwards"] == one.usage.samples == windows + 1
    assert timings.loc["gradients", "forwards"] == sum(calls) > FAST["steps"]
    assert (timings["seconds"] > 0).all() and (timings["status"] == "drawn").all()


def test_one_bar_counts_the_maps(run, capsys):
    draw(run, samples=["a1", "c1"], progress=True)
    written = capsys.readouterr().err
    assert "small.benchmark.untrained, own" in written and "4/4" in written


def test_cohorts_and_encoders_have_their_own_folders(run):
    first, second = ready(), ready("RAS", name="second")
    paths = {
        path
        for one, cohort in itertools.product((first, second), ("own", "other"))
        for path in draw(run, one, cohort, samples=["c1"], methods=["occlusion"]).paths.values()
    }
    assert len(paths) == 4 and all(maps.read(path).sample_id == "c1" for path in paths)
    assert {path.parent.relative_to(run).as_posix() for path in paths} == {
        f"saliency/{name}.benchmark.untrained/{cohort}" for name in ("small", "second") for cohort in ("own", "other")
    }


def test_any_sample_id_makes_a_file_name(run):
    names = {
        sample: maps.file_of(run, "e", "own", sample, "occlusion").name for sample in (*SEEDS, LONG + "er", "../x")
    }
    assert names["a1"] == "a1.occlusion.zarr" and names[ODD] == "b%2F2%20%C3%BC.occlusion.zarr"
    assert len(set(names.values())) == len(names) and max(map(len, names.values())) < 160
    assert not any("/" in name for name in names.values())


# Kept, resumed, made anew


def test_a_second_run_leaves_every_map_alone(run):
    draw(run)
    before, one = bytes_of(run), ready()
    done = draw(run, one)
    assert (done.timings["status"] == "was there").all() and (done.timings["forwards"] == 0).all()
    assert one.usage.samples == 0 and bytes_of(run) == before and len(done.paths) == 2 * len(SEEDS)


def test_a_map_that_was_removed_or_damaged_is_drawn_again_alone_with_the_same_bytes(run):
    paths = draw(run).paths
    before = bytes_of(run)
    shutil.rmtree(paths["c1", "gradients"])
    (paths["a1", "occlusion"] / "zarr.json").write_text("{")
    done = draw(run)
    again = done.timings.loc[done.timings["status"] == "drawn", ["sample_id", "method"]].values.tolist()
    assert again == [["a1", "occlusion"], ["c1", "gradients"]] and bytes_of(run) == before


class Stop(BaseException):
    """A hard stop from within."""


@pytest.mark.parametrize("finished", [0, 3])
def test_a_stopped_run_loses_one_map_and_ends_with_the_same_bytes(finished, run, made, tmp_path_factory, monkeypatch):
    whole, kept = tmp_path_factory.mktemp("whole"), []
    (whole / "patches").symlink_to(made / "patches")
    draw(whole, most=2)

    def stop(*given):
        """Only so many maps are given their names; maps have no clean-up, so this leaves what a kill leaves."""
        if len(kept) == finished:
            raise Stop
        kept.append(os.replace(*given))

    with monkeypatch.context() as patch:
        patch.setattr(maps, "os", SimpleNamespace(replace=stop))
        with pytest.raises(Stop):
            draw(run, most=2)
    (left,) = (run / "saliency").glob("*/*/.building-*")
    assert len(stems(run)) == finished + 1
    os.utime(left, (0, 0))  # long ago
    done = draw(run, most=2)
    assert (done.timings["status"] == "was there").sum() == finished
    assert bytes_of(run) == bytes_of(whole)


def test_what_another_is_writing_now_is_left_alone(run):
    first = draw(run, samples=["a1"], methods=["occlusion"]).paths["a1", "occlusion"]
    other = first.with_name(f".building-0123-{first.name}")
    shutil.copytree(first, other)
    shutil.rmtree(first)
    draw(run, samples=["a1"])
    assert other.exists() and len(stems(run)) == 3


@pytest.mark.parametrize("moment", ["while ours is drawn", "while ours is renamed"])
def test_of_two_that_draw_the_same_map_at_once_the_first_to_be_whole_stays(moment, run, monkeypatch):
    theirs = draw(run, samples=["a1"], methods=["occlusion"]).paths["a1", "occlusion"]
    aside, one = run / "aside", ready()
    theirs.rename(aside)

    def arrive():
        if not theirs.exists():
            shutil.copytree(aside, theirs)
            (theirs / "theirs").touch()

    through = one.of_values
    if moment.endswith("drawn"):
        one.of_values = lambda values, batch: (arrive(), through(values, batch))[1]
    else:  # onto a folder that is not empty: an OSError
        monkeypatch.setattr(maps, "os", SimpleNamespace(replace=lambda *given: (arrive(), os.replace(*given))))
    done = draw(run, one, samples=["a1"], methods=["occlusion"])
    assert (theirs / "theirs").exists() and stems(run) == [theirs.name]
    assert done.timings["status"].tolist() == ["drawn"] and maps.read(done.paths["a1", "occlusion"]).sample_id == "a1"


def test_an_older_map_that_another_puts_there_is_replaced(run):
    theirs = draw(run, samples=["a1"], methods=["occlusion"], size=4).paths["a1", "occlusion"]
    (theirs / "theirs").touch()
    draw(run, samples=["a1"], methods=["occlusion"])
    assert not (theirs / "theirs").exists() and stems(run) == [theirs.name]


CHANGES = {
    "weights": (lambda: ready(seed=1), {}, maps.METHODS),
    "window of the recipe": (lambda: ready(pad=-1000), {}, maps.METHODS),
    "size of a window": (ready, {"size": 4}, ("occlusion",)),
    "overlap": (ready, {"overlap": 0.5}, ("occlusion",)),
    "fill": (ready, {"fill": "mean"}, ("occlusion",)),
    "steps": (ready, {"steps": 5}, ("gradients",)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_made_of_something_else_is_made_anew_and_nothing_more(change, run):
    draw(run, samples=["a1"])
    other, options, methods = CHANGES[change]
    done = draw(run, other(), samples=["a1"], **options)
    assert tuple(done.timings.loc[done.timings["status"] == "drawn", "method"]) == methods
    again = draw(run, other(), samples=["a1"], **options)
    assert (again.timings["status"] == "was there").all()


def test_code_of_the_method_counts(run, monkeypatch):
    draw(run, samples=["a1"])
    otherwise = saliency.occlude
    monkeypatch.setattr(maps, "occlude", lambda *given, **named: otherwise(*given, **named))
    done = draw(run, samples=["a1"])
    assert done.timings["status"].tolist() == ["drawn", "was there"]


def test_a_bank_that_gains_samples_makes_no_map_stale_but_other_voxels_do(tmp_path):
    for number, name in enumerate("abcd"):
        write_case(tmp_path, name, number)
    write_bank(tmp_path, "own", ["c1"])
    draw(tmp_path / "run")
    write_bank(tmp_path, "own", list(SEEDS)[:3])  # c1 has another entry now
    status = draw(tmp_path / "run", samples=["c1"]).timings["status"]
    assert status.tolist() == ["was there", "was there"]
    image = sitk.ReadImage(str(tmp_path / "c.nrrd"))
    sitk.WriteImage(image + 1, str(tmp_path / "c.nrrd"), True)
    write_bank(tmp_path, "own", list(SEEDS)[:3])
    assert draw(tmp_path / "run", samples=["c1"]).timings["status"].tolist() == ["drawn", "drawn"]


# What cannot be drawn


def test_samples_without_a_usable_map_are_listed_with_a_reason_and_the_others_drawn(run):
    peaks = {sample: float(image_of(run, ready(), sample).max()) for sample in SEEDS}
    limit = sorted(peaks.values())[-2]
    bad = [sample for sample, peak in peaks.items() if peak >= limit]
    draw(run, ready(seed=1), samples=bad)

    def broken(network, batch):
        """NaN for the patches of the highest values, as a network may give."""
        return torch.where(batch.amax((1, 2, 3, 4))[:, None] >= limit, torch.nan, embed(network, batch))

    done = draw(run, ready(embed=broken))
    listed = done.excluded.set_index(["sample_id", "method"])["reason"]
    assert sorted(listed.index) == sorted(itertools.product([*bad, LOST], maps.METHODS))
    assert all("NaN" in listed[sample, method] for sample in bad for method in maps.METHODS)
    assert listed[LOST, "occlusion"] == NO_SEED
    assert sorted(done.paths) == sorted(itertools.product(set(SEEDS) - set(bad), maps.METHODS))
    assert not maps.file_of(run, ready().name, "own", bad[0], "occlusion").exists()  # the older one is gone


def constant(network, batch):
    return 0 * network(batch).mean((2, 3, 4)) + 1


def test_a_collapsed_encoder_has_no_maps(run):
    done = draw(run, ready(embed=constant), samples=["a1"])
    assert not done.paths and not len(done.timings) and stems(run) == []
    assert ["in all 192 voxels" in done.excluded["reason"][0], "nothing to explain" in done.excluded["reason"][1]] == [
        True, True,
    ]  # fmt: skip


def test_a_sample_that_the_bank_could_not_hold_may_be_named_and_is_listed(run):
    done = draw(run, samples=[LOST, "a1"], methods=["occlusion"])
    assert list(done.paths) == [("a1", "occlusion")]
    assert done.excluded.values.tolist() == [[LOST, "occlusion", NO_SEED]]


BAD = {
    "unknown sample": ({"samples": ["a1", "zz", "yy"]}, r"holds no sample 'zz', 'yy'"),
    "one sample": ({"samples": "a1"}, r"samples are 'a1', must be a list"),
    "sample twice": ({"samples": ["a1", "a1"]}, r"samples given twice: a1"),
    "unknown method": ({"methods": ["occlusion", "lime"]}, r"must be one or more of occlusion, gradients"),
    "one method": ({"methods": "occlusion"}, r"in a list"),
    "no method": ({"methods": []}, r"must be one or more"),
    "method twice": ({"methods": ["gradients"] * 2}, r"methods given twice: gradients"),
    "most": ({"most": -1}, r"most is -1"),
    "window": ({"size": 5}, r"size is 5 voxels, larger than the patch of \(4, 6, 8\)"),
    "no window": ({"size": 0}, r"size is 0"),
    "overlap": ({"overlap": 1.0}, r"overlap is 1.0"),
    "fill": ({"fill": "water"}, r"fill is 'water', must be a number or one of gaussian, mean, local, air"),
    "not a fill": ({"fill": np.nan}, r"fill is nan"),
    "steps and batch": ({"steps": 0, "batch": 0}, r"steps is 0, must be 1 or more; batch is 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_had_is_an_error_before_anything_is_drawn(name, run):
    options, words = BAD[name]
    one = ready()
    with pytest.raises(maps.MapsError, match=words):
        draw(run, one, **options)
    assert one.usage.samples == 0 and not (run / "saliency").exists()


def test_a_control_has_no_maps(run):
    with pytest.raises(maps.MapsError, match="volume: a control has no network"):
        draw(run, encoder.ready(models.MODELS.get("volume")))


def test_a_bank_that_is_missing_or_too_small_is_named(run):
    with pytest.raises(BankError, match="no patch bank"):
        draw(run, cohort="third")
    with pytest.raises(maps.MapsError, match=r"needs released.*\[10, 8, 8\] voxels"):
        draw(run, ready("RAS", (10, 8, 8)))
    other = ready()
    finer = replace(other.model.benchmark, geometry=replace(SMALL, spacing=(1.0, 1.0, 1.0)))
    other.model = replace(other.model, benchmark=finer)
    with pytest.raises(maps.MapsError, match=r"\[2\.0, 2\.0, 3\.0\] mm.*needs released, \[1\.0, 1\.0, 1\.0\] mm"):
        draw(run, other)


def test_reading_what_is_no_map_is_an_error(run, made):
    with pytest.raises(maps.MapsError, match="no saliency map"):
        maps.read(run / "saliency" / "nothing.zarr")
    with pytest.raises(maps.MapsError, match="no saliency map"):
        maps.read(bank.path_of(made, "own", "small"))


def test_the_provenance_is_plain_json_without_paths(run):
    path = draw(run, samples=["a1"]).paths["a1", "occlusion"]
    text = (path / "zarr.json").read_text(encoding="utf-8")
    assert str(run) not in text and json.loads(text)["attributes"]["provenance"] == maps.read(path).record


# Orientation

ALL_AXES = ["".join(each) for order in itertools.permutations(["RL", "AP", "SI"]) for each in itertools.product(*order)]


@pytest.mark.parametrize("axes", ALL_AXES)
def test_upright_puts_every_voxel_where_the_patient_has_it(axes):
    array = np.random.default_rng(0).random((3, 4, 5))
    found = maps.upright(array, axes)
    for index in np.ndindex(array.shape):
        place = {}
        for number, letter, length in zip(index, axes, array.shape, strict=True):
            axis = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
            place[axis] = number if letter in "RAS" else length - 1 - number
        assert found[place[0], place[1], place[2]] == array[index]
    patch = np.random.default_rng(1).random((3, 4, 5))
    assert_array_equal(maps.upright(oriented(patch, axes), axes), patch)


@pytest.mark.parametrize(("shape", "axes"), [((3, 4), "RAS"), ((3, 4, 5), "RAX"), ((3, 4, 5), "RLS"), ((3, 4, 5), "")])
def test_axes_that_are_none_are_refused(shape, axes):
    with pytest.raises(maps.MapsError, match="must be 3"):
        maps.upright(np.zeros(shape), axes)
