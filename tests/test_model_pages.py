"""Figures, captions and sentences of the page of one model, from small embeddings and a bank of the two real CTs."""

import re

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import diagnostics, model_pages, provision
from tumorbench_utils.models import MODELS, Model, Recipe, ready
from tumorbench_utils.patches import BENCHMARK

torch = pytest.importorskip("torch")


def embed(encoder, batch):
    return encoder(batch)


def build():
    return torch.nn.Sequential(torch.nn.AvgPool3d(12), torch.nn.Flatten(), torch.nn.Linear(64, 5))


SMALL = Model(
    id="small",
    title="Small",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "SPL", (48, 48, 48), ((-1024, 0), (2048, 1)), 5, embed),
)
CONTROL = ready(MODELS.get("volume"))
TIMINGS = pd.DataFrame(
    {"name": ["a", "b"], "cohort": "phantom", "images": [24, 0], "seconds": [6.0, np.nan], "peak_bytes": [2e8, np.nan]}
)


@pytest.fixture(scope="module")
def encoder():
    return ready(SMALL, weights="random", device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    provision.ensure(folder, "lung_ct", BENCHMARK[:1], workers=1)
    return folder


@pytest.fixture(scope="module")
def found():
    generator = np.random.default_rng(0)
    names, volumes = [f"s{n}" for n in range(40)], generator.lognormal(size=40)
    return {
        name: diagnostics.diagnose(generator.normal(size=(40, 8)) + 3, names, volumes)
        for name in ("small.benchmark", "small.authors")
    }


@pytest.mark.parametrize(
    ("cohort", "expected"), [("phantom", "phantom, untrained"), ("lung_ct", "untrained"), ("", "untrained")]
)
def test_untrained_weights_and_phantoms_are_marked(encoder, cohort, expected):
    assert model_pages.mark(encoder, cohort) == expected


def test_a_control_is_marked_by_its_cohort_alone():
    marks = [model_pages.mark(CONTROL, cohort) for cohort in ("phantom", "phantom_retest", "rider")]
    assert marks == ["phantom", "phantom", ""]


def test_what_the_weights_are(encoder):
    assert "tb-notice" in model_pages.weights(encoder) and "untrained" in model_pages.weights(encoder)
    assert model_pages.weights(CONTROL) == "*A control has no weights.*"


def test_a_patch_is_shown_as_fed_and_in_hu_with_its_field(run, encoder):
    shown = model_pages.seen(run, "lung_ct", encoder, "lung1")
    assert "patch of lung1, 48 × 48 × 48 mm along SPL" in shown.caption and "outline of the mask" in shown.caption
    assert shown.svg.count("<image") == 6
    alone = model_pages.seen(run, "lung_ct", CONTROL, "lung1")
    assert alone.svg.count("<image") == 3 and alone.caption.startswith("To look at, not used by the control: patch of")


def test_values_shown_are_those_of_the_recipe(encoder):
    hu = np.array([-2000, -1024, 512, 2048, 3000], np.int16)
    values, limits = model_pages._scaled(encoder, hu)
    assert values.tolist() == [0, 0, 0.5, 1, 1] and limits == (0, 1)


def test_throughput_counts_what_was_computed(encoder):
    shown = model_pages.throughput(TIMINGS, encoder)
    assert (
        "Speed, in patches a second" in shown.caption
        and "24 patches in 6.0 s, 4 a second" in shown.caption
        and "On the CPU, fp32." in shown.caption
    )
    assert "a, PHANTOM: 4 patches a second" in shown.alt
    titled = model_pages.throughput(TIMINGS, encoder, {"a": "Small, untrained"})
    assert "Small, untrained, PHANTOM: 4 patches" in titled.alt and "Small" in titled.svg
    assert model_pages.throughput(TIMINGS.assign(images=0), encoder) is None
    both = TIMINGS.assign(cohort=["lung_ct", "phantom"], images=24, seconds=6.0)
    marks = [
        model_pages.throughput(table.drop(columns="peak_bytes"), CONTROL).caption.split(": ")[0]
        for table in (both, both[::-1], both.tail(1))
    ]
    assert marks == ["PARTLY PHANTOM", "PARTLY PHANTOM", "PHANTOM"] and shown.caption.startswith("PHANTOM, UNTRAINED: ")


def test_a_control_is_not_told_of_a_network_or_of_recipes():
    control, one, two = MODELS.get("volume"), SMALL, MODELS.get("models_genesis")
    assert [model_pages.fed(each).split()[0] for each in (control, one, two)] == ["A", "One", "Two"]
    assert "enter the network" in model_pages.planes(one) and "enter the network" not in model_pages.planes(control)


def test_captions_give_the_figures(found):
    shown = model_pages.spectrum(found, "phantom", "phantom")
    rank = found["small.benchmark"].spectrum.effective_rank
    assert (
        shown.caption.startswith("PHANTOM: Embeddings of PHANTOM")
        and f"small.benchmark: {rank:.1f} of at most 8" in shown.caption
    )
    table = pd.DataFrame({"label": [0.0, 1.0] * 20, "volume_ml": np.arange(1.0, 41)})
    share = found["small.benchmark"].spectrum.shares[0]
    assert (
        f"40 tumours of PHANTOM ({100 * share:.0f} % and"
        in model_pages.projection(found["small.benchmark"], table, "phantom", "", "small.benchmark").caption
    )
    other = model_pages.projection(found["small.authors"], table, "phantom", "phantom", "small.authors")
    assert other.caption.startswith("PHANTOM: small.authors: the first two principal components")


def test_samples_that_are_alike_are_listed_by_the_title_of_the_embedding():
    vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    vectors[1] = vectors[0]
    vectors[3] = 2 * vectors[2]
    alike = diagnostics.diagnose(vectors, [f"s{n}" for n in range(12)])
    told = model_pages.twins({"Small": alike})
    assert list(told) == ["sample", "and", "cosine", "embedding"]
    assert told.to_numpy().tolist() == [["s0", "s1", "same numbers", "Small"], ["s2", "s3", "1.000000", "Small"]]
    apart = diagnostics.diagnose(vectors[4:], [f"s{n}" for n in range(8)])
    assert model_pages.twins({"Small": apart}).empty


def test_recipes_are_compared_with_chance(found):
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(40, 8))
    compared = diagnostics.compare(vectors, vectors)
    shown = model_pages.recipes(compared, ["benchmark", "authors"], "untrained")
    assert (
        f"of {compared.k} nearest neighbours 100 % are shared, {100 * compared.chance:.0f} % by chance" in shown.caption
    )
    few = diagnostics.compare(vectors[:2], vectors[:2])
    assert "2 samples are too few" in model_pages.recipes(few, ["benchmark", "authors"], "").caption


def test_every_part_of_the_findings_bears_the_mark_and_what_is_lost_is_counted(found):
    lost = pd.DataFrame({"cohort": "x", "sample_id": ["a", "a", "b"], "trial": 0, "name": ["m", "n", "m"]})
    points = model_pages.findings(found, None, lost, "phantom", "phantom, untrained").splitlines()
    parts = [point for point in points if point.startswith("- ")]
    assert len(parts) == 3 and all(part.startswith("- **PHANTOM, UNTRAINED: ") for part in parts)
    assert all(point.startswith(("- ", "  - ")) for point in points)
    assert points[-1] == "  - 2 seed points have no vector."
    assert "every seed point has its vector" in model_pages.findings(found, None, lost.head(0), "phantom", "")


def test_the_patch_shown_is_one_that_no_border_cuts_off_if_there_is_one(run, encoder, monkeypatch):
    assert model_pages.whole(run, "lung_ct", [encoder, CONTROL]) == "lung1"
    real = model_pages.bank.Bank

    def cut(path):
        found = real(path)
        found.rows = found.rows.assign(clamped=found.rows["sample_id"] == "lung1")
        return found

    monkeypatch.setattr(model_pages.bank, "Bank", cut)
    assert model_pages.whole(run, "lung_ct", [encoder]) == "lung2"


def test_a_jittered_seed_point_at_the_border_does_not_count(run, encoder, monkeypatch):
    real = model_pages.bank.Bank

    def jittered(path):
        found = real(path)
        moved = found.rows.assign(trial=1, clamped=found.rows["sample_id"] == "lung1")
        found.rows = pd.concat([found.rows.assign(clamped=found.rows["sample_id"] == "lung2"), moved])
        return found

    monkeypatch.setattr(model_pages.bank, "Bank", jittered)
    assert model_pages.whole(run, "lung_ct", [encoder]) == "lung1"


def test_speed_is_remembered_where_the_tables_were_there(tmp_path):
    path = tmp_path / "timings.csv"
    assert model_pages.remembered(TIMINGS, path) is TIMINGS
    TIMINGS.to_csv(path, index=False)
    later = TIMINGS.assign(images=0, seconds=np.nan, status="was there")
    found = model_pages.remembered(later, path).set_index("name")
    assert found["images"].to_dict() == {"a": 24, "b": 0} and found["seconds"]["a"] == 6
    assert model_pages.remembered(TIMINGS, path).set_index("name")["images"].to_dict() == {"a": 24, "b": 0}


def test_numbers_are_tidy(found):
    compared = diagnostics.compare(np.eye(12)[:, :8] + 1, np.eye(12)[:, :8] + 1)
    table = model_pages.tidy(SMALL, found, compared, "phantom")
    assert list(table) == ["model", "cohort", "embedding", "quantity", "value"]
    assert set(table["embedding"]) == {"small.benchmark", "small.authors", "small.benchmark v. small.authors"}
    assert not table.duplicated(["embedding", "quantity"]).any()
    assert re.fullmatch("small", table["model"].unique()[0]) and table["value"].dtype == float
