"""Embedding what was perturbed: the vectors of a plain loop, nothing made twice, and nothing lost without a word."""

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils import bank, embeddings, models, stress
from tumorbench_utils.bank.reading import Bank
from tumorbench_utils.models import base, encoder
from tumorbench_utils.patches import BENCHMARK, Geometry
from tumorbench_utils.registry import UnknownNameError
from tumorbench_utils.robustness.controls import EMPTY_MASK, FULL_MASK, NegativeControlError, control
from tumorbench_utils.robustness.perturbations import PerturbationError, perturbed

torch = pytest.importorskip("torch")

SMALL = Geometry("small", (2.0, 1.5, 2.0), (8, 8, 8))
ISO = BENCHMARK[0]
SEEDS = {"a1": (0, 0, 20), "a2": (4, 2, 24), "b1": (2, -2, 25), "c1": (-2, -1, 28), "d1": (3, 3, 31), "e1": (3, 1, 28)}
SEEDS["lost"] = (900, 900, 900)
MASKS = {"a1": "inner", "b1": "inner", "c1": "far", "d1": "inner", "e1": "all"}
THERE = ["a1", "a2", "b1", "c1", "d1", "e1"]
KINDS = {"noise": [25, 50], "thickness": [5], "shift": [-20.0]}


def build():
    return torch.nn.Sequential(torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, 6, 3))


def embed(network, batch):
    return network(batch).mean((2, 3, 4))


def encoder_of(axes="SPL", size=(8, 6, 8), geometry=SMALL, pad=-1024, weights="random", **options):
    recipe = base.Recipe(geometry, axes, size, ((-1000, 0), (1000, 1)), 6, embed, pad=pad)
    model = base.Model(id="toy", title="Toy", build=build, benchmark=recipe)
    return encoder.ready(model, weights=weights, device="cpu", **options)


def draw(array, path):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.5))
    image.SetOrigin((-15.0, -20.0, 0.0))
    sitk.WriteImage(image, str(path), True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run folder with two banks: a mask may be missing, lie elsewhere, or be everywhere; one sample is not there."""
    root = tmp_path_factory.mktemp("made")
    shape = (20, 40, 30)
    for name in "abcde":
        noise = np.random.default_rng(ord(name)).integers(-1000, 1000, shape).astype(np.int16)
        draw(noise, root / f"{name}.nrrd")
    drawn = {name: np.zeros(shape, np.uint8) for name in ("inner", "far", "all")}
    drawn["inner"][6:13, 18:25, 10:18] = 1
    drawn["far"][:2, :2, :2] = 1
    drawn["all"][:] = 1
    for name, array in drawn.items():
        draw(array, root / f"{name}.mask.nrrd")
    samples = pd.DataFrame(SEEDS, ["x", "y", "z"]).T.astype(float).rename_axis("sample_id").reset_index()
    samples["image"] = [f"{name[0].replace('l', 'a')}.nrrd" for name in samples["sample_id"]]
    masks = {name: f"{which}.mask.nrrd" for name, which in MASKS.items()}
    seeds = bank.seed_points(samples, trials=1, sigma_mm=1.0)
    bank.build(root / "run", "own", seeds, (SMALL, ISO), root=root, workers=1, masks=masks)
    return root / "run"


@pytest.fixture
def run(made, tmp_path):
    """A fresh run folder on the same banks."""
    (tmp_path / "patches").symlink_to(made / "patches")
    return tmp_path


def perturb(run, one, kinds=KINDS, samples=None, **options):
    return stress.perturb(run, "own", one, kinds, samples, **{"progress": False} | options)


def controlled(run, one, controls=("shuffled_roi", "randomized_non_roi"), samples=None, **options):
    return stress.negative_controls(run, "own", one, controls, samples, **{"progress": False} | options)


def files(run, one):
    return {path.stem: path.read_bytes() for path in stress.folder_of(run, "own", one.name).iterdir()}


def rows_of(run, one):
    there = Bank(bank.path_of(run, "own", one.geometry.id))
    rows = there.rows[there.rows["trial"] == 0]
    return there, list(rows.itertuples())


def by_loop(one, hu):
    """The vector of one patch, without the encoder's own batching."""
    values = np.clip((np.asarray(hu, np.float32) + 1000) / 2000, 0, 1)
    with torch.no_grad():
        return embed(one.module, torch.from_numpy(values)[None, None])[0].numpy()


def refused(left_out):
    """What was left out: table, sample, reason."""
    return set(left_out.itertuples(index=False, name=None))


# What comes out


@pytest.mark.parametrize("axes", ["RAS", "SPL"])
def test_the_vectors_are_those_of_a_plain_loop_over_perturbed_patches(run, axes):
    one = encoder_of(axes)
    found = perturb(run, one, seed=3)
    there, rows = rows_of(run, one)
    assert found.sample_id.tolist() == [row.sample_id for row in rows] and set(found.sample_id) == set(THERE)
    patches = [there.patch(row, one.recipe.size, axes) for row in rows]
    assert_allclose(found.clean, [by_loop(one, patch) for patch in patches], atol=1e-6)
    assert list(found.vectors) == [("noise", 25.0), ("noise", 50.0), ("thickness", 5.0), ("shift", -20.0)]
    spacing = {"R": 2.0, "A": 1.5, "P": 1.5, "S": 2.0, "L": 2.0}
    for (kind, size), vectors in found.vectors.items():
        for row, patch, vector in zip(rows, patches, vectors, strict=True):
            hu = torch.from_numpy(patch.copy())[None]
            hu = perturbed(hu, kind, size, [spacing[letter] for letter in axes], axes, 3, [row.sample_id])
            assert_allclose(vector, by_loop(one, hu[0].numpy()), atol=1e-6)
        assert vectors.dtype == np.float32 and np.abs(vectors - found.clean).max() > 1e-4


def test_the_controls_are_those_of_a_plain_loop_over_patches_and_masks(run):
    one = encoder_of()
    found = controlled(run, one, seed=2)
    there, rows = rows_of(run, one)
    rows = [row for row in rows if row.sample_id in ("a1", "b1", "d1")]
    assert found.sample_id.tolist() == [row.sample_id for row in rows]
    for id, vectors in found.vectors.items():
        for row, vector, clean in zip(rows, vectors, found.clean, strict=True):
            patch, mask = (read(row, one.recipe.size, "SPL") for read in (there.patch, there.mask))
            assert_allclose(vector, by_loop(one, control(id, patch, mask, 2, row.sample_id)), atol=1e-6)
            assert_allclose(clean, by_loop(one, patch), atol=1e-6)
            assert np.abs(vector - clean).max() > 1e-4


def test_what_the_border_cut_off_is_padded_as_the_recipe_says(run):
    one = encoder_of("RAS", (40, 40, 64), ISO, pad=300)  # the image has 30 mm along R
    found = perturb(run, one, {}, ["a1"])
    there, rows = rows_of(run, one)
    vectors = [by_loop(one, there.patch(rows[0], one.recipe.size, "RAS", pad)) for pad in (300, -1024)]
    assert_allclose(found.clean[0], vectors[0], atol=1e-6)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3 and found.vectors == {}


def test_size_zero_is_the_clean_patch_and_only_the_annotated_seed_points_are_embedded(run):
    one = encoder_of()
    found = perturb(run, one, {"blur": [0]})
    assert_array_equal(found.vectors["blur", 0.0], found.clean)
    assert one.usage.samples == 2 * len(THERE)


def test_the_real_random_encoder_runs(run):
    one = encoder.ready(models.MODELS.get("random_encoder"), weights="random", device="cpu")
    found = perturb(run, one, {"shift": [40]}, ["a1"])
    assert found.clean.shape == (1, 512) and found.vectors["shift", 40.0].shape == (1, 512)
    again = controlled(run, one, ["shuffled_full"], ["a1"])
    assert again.status == {"clean": "was there", "shuffled_full": "embedded"}
    assert_array_equal(again.clean, found.clean)


def test_the_batch_changes_no_vector(run, made, tmp_path_factory, monkeypatch):
    whole = perturb(run, encoder_of())
    for batch in (1, 2, 5):
        other = tmp_path_factory.mktemp("other")
        (other / "patches").symlink_to(made / "patches")
        monkeypatch.setattr(stress, "GRAIN", batch + 1)
        found = perturb(other, encoder_of(), {"noise": [25], "thickness": [5]}, batch=batch)
        assert_allclose(found.clean, whole.clean, atol=1e-5, rtol=0)
        for key, vectors in found.vectors.items():
            assert_allclose(vectors, whole.vectors[key], atol=1e-5, rtol=0)


def test_a_choice_of_samples_has_the_vectors_of_all_in_the_order_of_the_bank(run):
    whole = perturb(run, encoder_of())
    found = perturb(run, encoder_of(), samples=["d1", "a1"])
    place = [whole.sample_id.tolist().index(name) for name in found.sample_id]
    assert found.sample_id.tolist() == ["a1", "d1"]
    assert_allclose(found.vectors["noise", 50.0], whole.vectors["noise", 50.0][place], atol=1e-6)


def test_tables_are_files_of_the_run_that_say_what_they_are_made_of(run):
    one = encoder_of()
    perturb(run, one, seed=7)
    controlled(run, one)
    names = {"clean", "noise-25", "noise-50", "thickness-5", "shift--20", "shuffled_roi", "randomized_non_roi"}
    assert set(files(run, one)) == names
    record = embeddings.read(run / "stress" / "own" / "toy.benchmark.untrained" / "noise-25.parquet").provenance
    expected = {"perturbation": "noise", "size": 25.0, "unit": "HU", "seed": 7, "cohort": "own", "model": "toy"}
    assert expected.items() <= record["parameters"].items() and record["parameters"]["untrained"]
    assert {"bank", "weights", "code", "change"} <= set(record["inputs"])


# Nothing is made twice


def test_what_is_there_is_read_and_only_a_missing_table_is_made_with_the_same_bytes(run):
    first = perturb(run, encoder_of())
    assert set(first.status.values()) == {"embedded"} and first.seconds > 0
    before = files(run, encoder_of())
    (stress.folder_of(run, "own", encoder_of().name) / "noise-25.parquet").unlink()
    one = encoder_of()
    found = perturb(run, one)
    assert [what for what, status in found.status.items() if status == "embedded"] == ["noise-25"]
    assert one.usage.samples == len(THERE)
    assert files(run, one) == before
    for key, vectors in first.vectors.items():
        assert_array_equal(found.vectors[key], vectors)


def test_a_killed_run_goes_on_at_its_last_finished_table(run, monkeypatch):
    one = encoder_of()
    whole = perturb(run, one)
    before = files(run, one)
    for path in stress.folder_of(run, "own", one.name).iterdir():
        path.unlink()
    calls, of_hu = [], one.of_hu

    def killed(hu, batch=None):
        calls.append(len(hu))
        if len(calls) == 6:  # in the middle of the third table
            raise KeyboardInterrupt
        return of_hu(hu, batch)

    monkeypatch.setattr(stress, "GRAIN", 3)
    one.of_hu = killed
    with pytest.raises(KeyboardInterrupt):
        perturb(run, one)
    assert set(files(run, one)) == {"clean", "noise-25"}
    one = encoder_of()
    found = perturb(run, one)
    assert [what for what, status in found.status.items() if status == "was there"] == ["clean", "noise-25"]
    assert one.usage.samples == 3 * len(THERE)
    assert files(run, one) == before
    assert_array_equal(found.vectors["noise", 50.0], whole.vectors["noise", 50.0])


def test_another_seed_makes_what_is_drawn_anew_and_nothing_else(run):
    first, found = perturb(run, encoder_of()), perturb(run, encoder_of(), seed=1)
    assert [what for what, status in found.status.items() if status == "embedded"] == ["noise-25", "noise-50"]
    assert np.abs(found.vectors["noise", 25.0] - first.vectors["noise", 25.0]).max() > 1e-4
    assert_array_equal(found.vectors["shift", -20.0], first.vectors["shift", -20.0])
    controlled(run, encoder_of())
    again = controlled(run, encoder_of(), seed=1)
    assert again.status == {"clean": "was there", "shuffled_roi": "embedded", "randomized_non_roi": "embedded"}


def test_another_recipe_or_other_weights_make_all_tables_anew(run):
    perturb(run, encoder_of(), {"blur": [1]})
    for options in ({"pad": 0}, {"axes": "RAS", "size": (8, 8, 8)}, {"seed": 4}):
        found = perturb(run, encoder_of(**options), {"blur": [1]})
        assert found.status == {"clean": "embedded", "blur-1": "embedded"}


def test_a_control_asked_for_later_leaves_the_others_as_they_are(run):
    first = controlled(run, encoder_of(), ["shuffled_roi"])
    found = controlled(run, encoder_of(), ["shuffled_roi", "shuffled_non_roi", "shuffled_full"])
    assert [what for what, status in found.status.items() if status == "was there"] == ["clean", "shuffled_roi"]
    assert set(first.sample_id) - set(found.sample_id) == {"e1"}  # whose mask is everywhere


# Nothing is lost without a word


def test_samples_without_a_usable_mask_are_left_out_of_all_and_listed(run):
    found = controlled(run, encoder_of(), ["shuffled_roi", "shuffled_non_roi", "shuffled_full"])
    assert found.sample_id.tolist() == ["a1", "b1", "d1"]
    assert {len(vectors) for vectors in [found.clean, *found.vectors.values()]} == {3}
    lost = {("clean", "lost", "the patch lies outside the image"), ("shuffled_non_roi", "e1", FULL_MASK)}
    for what in ("shuffled_roi", "shuffled_non_roi"):
        lost |= {(what, "a2", "no mask"), (what, "c1", EMPTY_MASK)}
    assert refused(found.excluded) == lost and list(found.excluded) == ["what", "sample_id", "reason"]
    read = controlled(run, encoder_of(), ["shuffled_roi", "shuffled_non_roi", "shuffled_full"])
    assert set(read.status.values()) == {"was there"} and read.excluded.equals(found.excluded)


def nobody_left(found, one):
    assert found.sample_id.shape == (0,) and found.clean.shape == (0, 6)
    assert {(vectors.shape, vectors.dtype.name) for vectors in found.vectors.values()} == {((0, 6), "float32")}
    return list(found.vectors), found.status


def test_a_cohort_whose_masks_allow_no_control_has_no_rows_and_all_reasons(run):
    one = encoder_of()
    for _ in range(2):  # a table without a row is no file, and is asked for again
        found = controlled(run, one, ["shuffled_roi", "shuffled_non_roi", "shuffled_full"], samples=["a2", "c1"])
        controls, status = nobody_left(found, one)
        assert controls == ["shuffled_roi", "shuffled_non_roi", "shuffled_full"]
        assert status["shuffled_roi"] == status["shuffled_non_roi"] == "of no sample"
        reasons = {("a2", "no mask"), ("c1", EMPTY_MASK)}
        lost = {(what, *each) for what in ("shuffled_roi", "shuffled_non_roi") for each in reasons}
        assert refused(found.excluded) == lost
    assert set(files(run, one)) == {"clean", "shuffled_full"}


def test_a_cohort_without_any_mask_has_no_rows_and_all_reasons(tmp_path):
    draw(np.random.default_rng(0).integers(-1000, 1000, (20, 40, 30)).astype(np.int16), tmp_path / "a.nrrd")
    samples = pd.DataFrame({"sample_id": ["a1", "a2"], "x": [0.0, 4.0], "y": 0.0, "z": 24.0, "image": "a.nrrd"})
    bank.build(tmp_path / "run", "own", bank.seed_points(samples), (SMALL,), root=tmp_path, workers=1)
    found = controlled(tmp_path / "run", encoder_of())
    assert nobody_left(found, encoder_of())[1]["shuffled_roi"] == "of no sample"
    assert found.excluded["sample_id"].tolist() == ["a1", "a2"] * 2 and (found.excluded["reason"] != "").all()


def test_samples_that_no_two_controls_share_are_listed_and_none_is_left(run):
    found = controlled(run, encoder_of(), ["shuffled_roi", "shuffled_non_roi"], samples=["e1", "a2"])
    assert found.status == {"clean": "embedded", "shuffled_roi": "embedded", "shuffled_non_roi": "of no sample"}
    nobody_left(found, encoder_of())
    assert ("shuffled_non_roi", "e1", FULL_MASK) in refused(found.excluded)


@pytest.mark.parametrize(("cohort", "phantom"), [("phantom", True), ("phantom_retest", True), ("not_a_phantom", False)])
def test_a_cohort_is_a_phantom_by_its_record_and_not_by_its_name(made, tmp_path, cohort, phantom):
    (tmp_path / "patches").mkdir()
    (tmp_path / "patches" / cohort).symlink_to(made / "patches" / "own")
    stress.perturb(tmp_path, cohort, encoder_of(), {}, ["a1"], progress=False)
    path = stress.folder_of(tmp_path, cohort, encoder_of().name) / "clean.parquet"
    assert embeddings.read(path).provenance["parameters"]["phantom"] is phantom


def test_controls_of_the_full_patch_need_no_mask(run):
    found = controlled(run, encoder_of(), ["randomized_full"])
    assert set(found.sample_id) == set(THERE) and found.excluded["sample_id"].tolist() == ["lost"]


def spoilt(value, row, number):
    """An encoder that gives a vector of ``value`` for one row in its call of this number."""
    one, calls = encoder_of(), []
    of_hu = one.of_hu

    def spoil(hu, batch=None):
        vectors = of_hu(hu, batch)
        calls.append(len(hu))
        if len(calls) == number:
            vectors = vectors.clone()
            vectors[row] = value
        return vectors

    one.of_hu = spoil
    return one


@pytest.mark.parametrize(("value", "reason"), [(np.nan, "NaN or infinity"), (np.inf, "infinity"), (0.0, "is zero")])
def test_a_vector_of_no_use_leaves_its_sample_out_of_all_and_is_listed(run, value, reason):
    found = perturb(run, spoilt(value, 1, 3))
    assert found.sample_id.tolist() == [name for name in THERE if name != "a2"]
    assert {len(vectors) for vectors in [found.clean, *found.vectors.values()]} == {5}
    assert np.isfinite(np.stack(list(found.vectors.values()))).all()
    ((what, name, why),) = refused(found.excluded[found.excluded["sample_id"] != "lost"])
    assert (what, name) == ("noise-50", "a2") and reason in why
    assert refused(perturb(run, encoder_of()).excluded) == refused(found.excluded)  # read from the table


def test_a_sample_that_the_bank_lacks_is_listed(run):
    found = perturb(run, encoder_of(), samples=["b1", "lost", "nobody"])
    assert found.sample_id.tolist() == ["b1"]
    expected = {("clean", "lost", "the patch lies outside the image"), ("clean", "nobody", "not in the patch bank")}
    assert refused(found.excluded) == expected


# Bad input, before anything runs


@pytest.mark.parametrize(
    ("kinds", "error", "words"),
    [
        ({"blur": [1], "noize": [10]}, UnknownNameError, "unknown perturbation 'noize'"),
        ({"blur": [1, -2]}, PerturbationError, "blur of -2.0 mm"),
        ({"noise": [float("nan")]}, PerturbationError, "noise of nan HU"),
    ],
)
def test_an_unknown_kind_or_size_is_refused_before_anything_runs(run, kinds, error, words):
    one = encoder_of()
    with pytest.raises(error, match=words):
        perturb(run, one, kinds)
    assert not (run / "stress").exists() and one.usage.samples == 0


def test_an_unknown_control_is_refused_before_anything_runs(run):
    with pytest.raises(NegativeControlError, match="unknown negative control 'shuffled_lung'"):
        controlled(run, encoder_of(), ["shuffled_roi", "shuffled_lung"])
    assert not (run / "stress").exists()


@pytest.mark.parametrize("call", [perturb, controlled])
def test_a_control_without_a_network_is_refused(run, call):
    with pytest.raises(stress.StressError, match="volume: a control without a network"):
        call(run, encoder.ready(models.MODELS.get("volume")))


def test_no_samples_left_is_an_error(run):
    with pytest.raises(stress.StressError, match="none of the 1 samples"):
        perturb(run, encoder_of(), samples=["nobody"])
    with pytest.raises(stress.StressError, match=r"clean: none of 2 samples is left: .*NaN"):
        controlled(run, spoilt(np.nan, slice(None), 1), samples=["a1", "b1"])
    with pytest.raises(stress.StressError, match=r"shuffled_roi: none of 2 samples is left: no mask, .*NaN"):
        controlled(run, spoilt(np.nan, slice(None), 2), samples=["a2", "b1"])
    assert not (stress.folder_of(run, "own", encoder_of().name) / "shuffled_roi.parquet").exists()


def test_no_sample_common_to_all_tables_is_an_error(run):
    perturb(run, spoilt(np.nan, 0, 2), {"blur": [1]}, ["a1", "b1"])
    with pytest.raises(stress.StressError, match="no sample has a vector in each of clean, blur-1, shift-20"):
        perturb(run, spoilt(np.nan, 1, 1), {"blur": [1], "shift": [20]}, ["a1", "b1"])


def test_a_bank_that_is_missing_or_does_not_fit_is_an_error(run):
    with pytest.raises(bank.BankError, match="no patch bank"):
        perturb(run, encoder_of(geometry=Geometry("none", (1, 1, 1), (8, 8, 8))))
    for geometry in (
        Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8)),
        Geometry("small", (2.0, 1.5, 2.0), (8, 8, 8), "exact"),
    ):
        with pytest.raises(stress.StressError, match="Build it anew"):
            perturb(run, encoder_of(geometry=geometry))
    with pytest.raises(stress.StressError, match=r"needs patches of .* and \(8, 6, 10\) voxels along SPL"):
        perturb(run, encoder_of(size=(8, 6, 10)))


def test_the_bar_counts_all_tables_and_begins_at_those_that_are_there(run, capfd):
    perturb(run, encoder_of(), {"shift": [20]}, progress=True)
    first = capfd.readouterr().err
    perturb(run, encoder_of(), {"shift": [20], "blur": [1]}, progress=True)
    second = capfd.readouterr().err
    assert "toy.benchmark.untrained, perturbations: 100%" in first and "12/12" in first
    assert " 67%" in second and "12/18" in second and "18/18" in second
