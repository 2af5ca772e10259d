"""Tables, figures, sentences and files of the robustness page, from small embedding tables and a bank of noise."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from tumorbench_utils import annotations, bank, embeddings, extraction, models, plots, provision, robustness, stress
from tumorbench_utils import robustness_pages as pages
from tumorbench_utils.models import TEN, Model, Recipe, ready
from tumorbench_utils.patches import Geometry
from tumorbench_utils.plots import Several, Shown
from tumorbench_utils.plots.base import nothing
from tumorbench_utils.registry import UnknownNameError
from tumorbench_utils.robustness.controls import CONTROLS
from tumorbench_utils.robustness_pages.readers import jitter_sizes
from tumorbench_utils.robustness_pages.showing import MOST, in_groups, likeness

torch = pytest.importorskip("torch")

COHORT = "own"
SMALL = Geometry("small", (2.0, 1.5, 2.0), (8, 8, 8))
PEOPLE = [f"p{number:02}" for number in range(24)]
LABELS = np.tile([0.0, 1.0], 12)
NOBODY = pd.DataFrame(columns=["what", "sample_id", "reason"])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def signal(seed=0, strength=2.0, d=6):
    """Embeddings (24, d) that tell the label, but not always."""
    return normal(len(PEOPLE), d, seed=seed) + strength * LABELS[:, None] * np.eye(d)[0] + 0.3


def annotate(run, table, cohort=COHORT):
    nobody = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
    annotations.write(run, cohort, annotations.Annotations(table, nobody), {})
    return annotations.read(annotations.path_of(run, cohort))


def table_of(sample_id, patient_id, label=np.nan):
    seeds = {"x": 0.0, "y": 0.0, "z": 0.0}
    return pd.DataFrame({"sample_id": sample_id, "patient_id": patient_id}).assign(**seeds, label=label)


def put(run, name, sample_id, vectors, trial=None, cohort=COHORT, **given):
    given = {"title": name.capitalize(), "recipe": "benchmark", "source": "extraction"} | given
    record = {"parameters": given, "inputs": {}}
    return embeddings.write(embeddings.path_of(run, cohort, name), sample_id, vectors, record, trial)


@pytest.fixture
def samples(tmp_path):
    """Annotations of 24 patients with one labelled sample each, written into a run and read."""
    return annotate(tmp_path, table_of(PEOPLE, PEOPLE, LABELS))


def build():
    return torch.nn.Sequential(torch.nn.Conv3d(1, 4, 3), torch.nn.ReLU(), torch.nn.Conv3d(4, 5, 3))


def embed(network, batch):
    return network(batch).mean((2, 3, 4))


@pytest.fixture(scope="module")
def encoder():
    recipe = Recipe(SMALL, "SPL", (8, 6, 8), ((-1000, 0), (1000, 1)), 5, embed)
    return ready(Model(id="toy", title="Toy", build=build, benchmark=recipe), weights="random", device="cpu")


@pytest.fixture(scope="module")
def banked(tmp_path_factory):
    """A run with a bank of four samples, of which a0 is cut off by the border, and two trials each of two sizes."""
    root = tmp_path_factory.mktemp("banked")
    for name in "abcd":
        noise = np.random.default_rng(ord(name)).integers(-1000, 1000, (20, 40, 40)).astype(np.int16)
        image = sitk.GetImageFromArray(noise)
        image.SetSpacing((1.0, 1.0, 2.5))
        image.SetOrigin((-20.0, -20.0, 0.0))
        sitk.WriteImage(image, str(root / f"{name}.nrrd"), True)
    middle = {"a0": (-19.0, 0, 20), "b0": (1, 2, 25), "c0": (-2, -1, 24), "d0": (3, 0, 26)}
    seeds = pd.DataFrame(middle, ["x", "y", "z"]).T.astype(float).rename_axis("sample_id").reset_index()
    seeds["image"] = [f"{name[0]}.nrrd" for name in seeds["sample_id"]]
    points = bank.seed_points(seeds, 2, [1.0, 3.0])
    for cohort in ("phantom", COHORT):
        bank.build(root / "run", cohort, points, (SMALL,), root=root, workers=1)
    return root / "run"


def told(shown, *words):
    """Words stand both in the caption and in the alt of one figure."""
    assert isinstance(shown, Shown)
    for word in words:
        assert word in shown.caption and word in shown.alt, f"{word!r}: {shown.caption} | {shown.alt}"


def identified(table):
    """What the figure of identification says of each embedding, which its caption has no room for."""
    shown = pages.identification_shown(table, "")
    assert isinstance(shown, Shown) and "Dotted: chance." in shown.caption
    return shown.alt.removeprefix("Dot plot of identification rates. ").removesuffix(".").split("; ")


# Tables read


def test_a_title_says_what_differs_from_a_trained_model_of_the_benchmark(tmp_path):
    given = {
        "plain": {"title": "Astra", "untrained": False},
        "random": {"title": "CT-FM", "untrained": True},
        "said": {"title": "Random encoder, untrained", "untrained": True},
        "volume": {"title": "Tumour volume", "recipe": None},
    }
    for name, parameters in given.items():
        put(tmp_path, name, ["a"], [[1.0]], **parameters)
    assert pages.titled(tmp_path, COHORT, list(given)) == {
        "plain": "Astra",
        "random": "CT-FM, untrained",
        "said": "Random encoder, untrained",
        "volume": "Tumour volume",
    }


def test_a_title_of_a_table_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(embeddings.EmbeddingError, match=r"nobody\.parquet: no such embedding table"):
        pages.titled(tmp_path, COHORT, ["nobody"])


@pytest.mark.parametrize(
    ("cohort", "titles", "expected"),
    [
        ("phantom", ["A"], "phantom"),
        ("phantom_retest", ["A, untrained", "B, untrained"], "phantom, untrained"),
        ("phantom", ["A", "B, untrained"], "phantom, partly untrained"),
        ("rider", ["A", "B, untrained"], "partly untrained"),
        ("rider", ["B, untrained"], "untrained"),
        ("rider", ["A", "B"], ""),
        (COHORT, [], ""),
    ],
)
def test_phantoms_and_untrained_weights_are_marked(cohort, titles, expected):
    assert pages.mark(cohort, dict(enumerate(titles))) == expected


def test_inputs_are_the_checksums_of_the_files(tmp_path):
    path = put(tmp_path, "one", ["a"], [[1.0]])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert pages.inputs(tmp_path, COHORT, ["one"]) == {"own/one.parquet": digest}


def provide(run, cohort, names, weights=()):
    pages.provide(run, cohort, names, dict(weights), 1, 2, [4.0], device="cpu")


def test_what_is_there_is_not_made_again(tmp_path, samples, monkeypatch):
    before = put(tmp_path, "fmcib_authors", PEOPLE, signal()).read_bytes()
    monkeypatch.setattr(provision, "ensure", lambda *_: pytest.fail("nothing lacks"))
    monkeypatch.setattr(extraction, "extract", lambda *_, **__: pytest.fail("nothing lacks"))
    provide(tmp_path, COHORT, ["fmcib_authors"])
    assert embeddings.path_of(tmp_path, COHORT, "fmcib_authors").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("fmcib_authors", UnknownNameError, "fmcib_authors"),
        ("random_encoder", ValueError, "no embedding table is called 'random_encoder'"),
        ("random_encoder.benchmark.file-12", ValueError, "give its path as weights"),
    ],
)
def test_a_table_that_cannot_be_made_is_an_error_that_names_it_before_anything_is_made(tmp_path, name, error, words):
    with pytest.raises(error, match=words):
        provide(tmp_path, "phantom", [name])
    assert not list(tmp_path.iterdir())


def test_a_cohort_that_cannot_be_made_says_which_notebook_to_run(tmp_path):
    with pytest.raises(provision.ProvisionError, match=r"lacks for cohort rider.*1_data_curation\.ipynb"):
        provide(tmp_path, "rider", ["volume"])


def test_annotations_that_lack_are_asked_for_even_if_no_table_does(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(provision, "ensure", lambda *given: asked.append(given))
    put(tmp_path, "volume", ["a"], [[1.0]])
    provide(tmp_path, COHORT, ["volume"])
    assert asked == [(tmp_path, COHORT, [], 1, 2, [4.0])]


def test_a_lacking_table_is_made_with_its_annotations_and_the_others_are_left_alone(tmp_path):
    put(tmp_path, "mine", ["a"], [[1.0]], cohort="lung_ct")
    provide(tmp_path, "lung_ct", ["mine", "volume"])
    made = embeddings.read(embeddings.path_of(tmp_path, "lung_ct", "volume"))
    assert set(made.sample_id) == set(annotations.read(annotations.path_of(tmp_path, "lung_ct"))["sample_id"])
    assert embeddings.read(embeddings.path_of(tmp_path, "lung_ct", "mine")).sample_id.tolist() == ["a"]


def test_encoders_are_those_of_the_names_made_as_asked(monkeypatch):
    assert [each.name for each in pages.encoders_of(["volume", "radiomics"], {})] == ["volume", "radiomics"]
    asked = []
    monkeypatch.setattr(models, "called", lambda *given, **how: asked.append((given, how)))
    pages.encoders_of(["a", "b"], {"b": "file"}, device="cpu", precision="bf16")
    how = {"device": "cpu", "precision": "bf16"}
    assert asked == [(("a", {"b": "file"}), how), (("b", {"b": "file"}), how)]


# Test and retest

TITLES = {"good": "Good", "flat": "Flat", "lacking": "Lacking, untrained"}


@pytest.fixture
def twice(tmp_path):
    """Nine patients scanned twice, one without a retest; of them a good embedding, a constant one, and one that lacks
    the retest of p01."""
    people = PEOPLE[:10]
    names = [f"{person}-{scan}" for person in people for scan in ("test", "retest")]
    given = annotate(tmp_path, table_of(names, np.repeat(people, 2)).iloc[:-1])
    names, both = names[:-1], np.repeat(normal(10, 5), 2, axis=0) + 0.1 * normal(20, 5, seed=1)
    put(tmp_path, "good", names, both[:-1])
    put(tmp_path, "flat", names, np.full((19, 5), 0.7))
    kept = [name != "p01-retest" for name in names]
    put(tmp_path, "lacking", np.array(names)[kept], both[:-1][kept], untrained=True)
    return given


@pytest.fixture
def scans(tmp_path, twice):
    return pages.retested(tmp_path, COHORT, list(TITLES), twice, 200, 1)


def test_scans_of_a_patient_are_held_against_each_other(tmp_path, scans):
    table = embeddings.read(embeddings.path_of(tmp_path, COHORT, "good"))
    vectors = dict(zip(table.sample_id, table.vectors.astype(float), strict=True))
    found = scans.found["good"]
    assert found.patients.tolist() == PEOPLE[:9]
    for row, one in enumerate(PEOPLE[:9]):
        for column, other in enumerate(PEOPLE[:9]):
            a, b = vectors[f"{one}-test"], vectors[f"{other}-retest"]
            expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
            assert found.similar[row, column] == pytest.approx(expected, abs=1e-6)


def test_patients_are_paired_by_name_whatever_the_order_of_the_table(tmp_path, twice, scans):
    mixed = twice.sample(frac=1, random_state=3)
    again = pages.retested(tmp_path, COHORT, ["good"], mixed, 200, 1).found["good"]
    order = [list(again.patients).index(person) for person in PEOPLE[:9]]
    assert_allclose(again.within[order], scans.found["good"].within)


def test_every_scan_in_no_pair_is_listed_with_its_reason(scans):
    assert set(scans.left_out.itertuples(index=False, name=None)) == {
        ("all", "p09-test", "p09", "no retest scan"),
        ("lacking", "p01-retest", "p01", "no embedding"),
        ("lacking", "p01-test", "p01", "no embedding of the patient's other scan"),
    }
    assert len(scans.left_out) == 3
    assert scans.found["lacking"].patients.tolist() == ["p00", *PEOPLE[2:9]]


def test_a_cohort_without_second_scans_has_no_retest(tmp_path, samples):
    put(tmp_path, "good", PEOPLE, signal())
    assert pages.retested(tmp_path, COHORT, ["good"], samples, 50) is None


def test_an_embedding_of_two_pairs_is_an_error_that_names_them(tmp_path, twice):
    put(tmp_path, "few", [f"p0{n}-{scan}" for n in (2, 5) for scan in ("test", "retest")], normal(4, 3))
    with pytest.raises(robustness.RobustnessError, match=r"2 pairs \(p02, p05\)"):
        pages.retested(tmp_path, COHORT, ["few"], twice, 50)


def test_the_retest_table_has_the_figures_their_intervals_and_the_verdict(scans):
    table = pages.retest_table(scans, TITLES).set_index("embedding")
    assert table["title"].to_dict() == TITLES and table["patients"].to_dict() == {"good": 9, "flat": 9, "lacking": 8}
    for name, found in scans.found.items():
        assert table.loc[name, "within-patient cosine"] == pytest.approx(np.diag(found.similar).mean())
        others = [found.similar[a, b] for a in range(len(found.rank)) for b in range(len(found.rank)) if a != b]
        assert table.loc[name, "between-patient cosine"] == pytest.approx(np.mean(others))
        assert table.loc[name, "identification rate"] == (found.rank == 1).mean()
        for row in found.summary.itertuples():
            ends = table.loc[name, [f"{row.quantity}, low", f"{row.quantity}, high"]].tolist()
            assert_array_equal(np.array(ends, float), [row.low, row.high])
    assert table["verdict"].to_dict() == {name: found.verdict for name, found in scans.found.items()}
    assert table.loc["good", "verdict"] == "usable"


def test_a_constant_embedding_is_called_useless_wherever_it_appears(scans):
    table = pages.retest_table(scans, TITLES)
    flat = table.set_index("embedding").loc["flat"]
    assert flat["within-patient cosine"] == pytest.approx(1) and flat["verdict"] == "useless"
    assert flat["identification rate"] == 0 and "All vectors are the same" in flat["reason"]
    empty = pd.DataFrame()
    sentences = pages.findings(table, {}, empty, empty, empty, empty, empty, {}, "").splitlines()
    assert sentences[1] == f"- Flat: **useless** on test and retest. {flat['reason']}"
    assert identified(table)[1] == "Flat: 0%, useless"
    told(pages.icc_shown(scans, TITLES, ""), "Flat: every dimension is constant")


def test_the_figures_of_test_and_retest_give_their_numbers(scans):
    table = pages.retest_table(scans, TITLES)
    shown = pages.retest_shown(scans, TITLES, "phantom, partly untrained")
    assert shown.caption.startswith("PHANTOM, PARTLY UNTRAINED: ")
    for row in table.itertuples():
        within, between = table.loc[row.Index, ["within-patient cosine", "between-patient cosine"]]
        told(shown, f"{row.title}: {likeness(within)} within, {likeness(between)} between")
    rates = zip(table["title"], table["identification rate"], table["verdict"], strict=True)
    assert identified(table) == [f"{title}: {rate:.0%}, {verdict}" for title, rate, verdict in rates]
    values = scans.found["good"].icc
    good = sum(value >= 0.75 for value in values) / len(values)
    told(pages.icc_shown(scans, TITLES, ""), f"Good: median {np.median(values):.2f}, {good:.0%} of 5 dimensions")


def test_the_published_cosine_stands_beside_ours_and_either_may_lack(scans):
    table = pages.retest_table(scans, TITLES | {"good": TEN.get("ct_fm").title})
    beside = pages.retest_published(table).set_index("title")
    assert len(beside) == 12 and {model.title for model in TEN} < set(beside.index)
    assert beside.loc[TEN.get("fmcib").title, "as published, RIDER"] == 0.990284
    assert beside.loc[TEN.get("fmcib").title].drop("as published, RIDER").isna().all()
    both, ours = beside.loc[TEN.get("ct_fm").title], beside.loc["Flat"]
    assert both["as published, RIDER"] == 0.980702 and both["verdict"] == "usable"
    assert both["this run, same patient"] == table["within-patient cosine"][0] and both["identified"] == 1
    assert both["this run, other patients"] == table["between-patient cosine"][0]
    assert pd.isna(ours["as published, RIDER"]) and ours["verdict"] == "useless"


# Jittered seed points


@pytest.fixture
def moved(tmp_path, samples):
    """Embeddings of two jittered seed points of each of two sizes; p03 lacks two trials, p05 all, p07 has no label."""
    given = samples.assign(label=samples["label"].where(samples["sample_id"] != "p07"))
    clean = signal()
    trials = [clean, *(clean + size * normal(24, 6, seed=seed) for seed, size in enumerate((0.2, 0.2, 0.9, 0.9), 1))]
    rows = [(name, trial, trials[trial][at]) for trial in (3, 0, 1, 2, 4) for at, name in enumerate(PEOPLE)]
    rows = [row for row in rows if row[0] != "p05" and row[:2] not in {("p03", 2), ("p03", 4)}]
    names, numbers, vectors = zip(*rows, strict=True)
    put(tmp_path, "good", names, np.array(vectors), numbers)
    return given, np.array(trials)


@pytest.fixture
def readers(tmp_path, moved):
    return {"good": pages.jittered(tmp_path, COHORT, "good", moved[0])}


KEPT = [at for at, name in enumerate(PEOPLE) if name not in ("p03", "p05", "p07")]


def test_trials_are_those_of_labelled_samples_that_have_all_of_them(readers, moved):
    found = readers["good"]
    assert found.rows["sample_id"].tolist() == [PEOPLE[at] for at in KEPT] and found.trial.tolist() == [1, 2, 3, 4]
    assert_array_equal(found.reference, moved[1][0][KEPT].astype(np.float32))
    assert_array_equal(found.others, moved[1][1:, KEPT].astype(np.float32))
    assert_array_equal(found.rows["label"], LABELS[KEPT])


def test_samples_without_all_trials_are_listed_once_with_the_reason(readers):
    lost = pages.jitter_left_out(readers | {"again": readers["good"]})
    assert lost.to_numpy().tolist() == 2 * [
        ["good", "p03", "not every jittered seed point has one"],
        ["good", "p05", "no embedding"],
    ]
    assert pages.jitter_left_out({}).empty


def test_rows_follow_the_annotations_whatever_the_order_of_the_vectors(tmp_path, moved):
    mixed = moved[0].sample(frac=1, random_state=2)
    found = pages.jittered(tmp_path, COHORT, "good", mixed)
    assert found.rows["sample_id"].tolist() == [name for name in mixed["sample_id"] if PEOPLE.index(name) in KEPT]
    at = [PEOPLE.index(name) for name in found.rows["sample_id"]]
    assert_array_equal(found.others[2], moved[1][3][at].astype(np.float32))


def test_annotated_seed_points_alone_are_no_jitter(tmp_path, samples):
    put(tmp_path, "good", PEOPLE, signal())
    assert pages.jittered(tmp_path, COHORT, "good", samples) is None


def test_the_kappa_of_the_study_is_that_of_the_nearest_training_patch(readers, moved):
    found = pages.study_kappas(readers, 2)["good"]
    labels = LABELS[KEPT].astype(int)
    first, second = (trial[KEPT].astype(np.float32).astype(float) for trial in moved[1][1:3])
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second)]
    nearest = [max(range(len(labels)), key=lambda row: unit[1][at] @ unit[0][row]) for at in range(len(labels))]
    assert found.k == 1 and len(found.kappas) == 1
    assert found.kappas[0] == pytest.approx(cohen_kappa_score(labels, labels[nearest], weights="linear"))
    assert found.itself[0] == np.mean([at == row for at, row in enumerate(nearest)])
    assert len(pages.study_kappas(readers, 4)["good"].kappas) == 3


KAPPAS = {
    "mine": robustness.StudyKappa(1, np.array([0.5, 0.8]), np.array([0.7, 0.76])),
    "theirs": robustness.StudyKappa(3, np.array([0.25]), np.array([0.5])),
}
NAMED = {"mine": "Mine, untrained", "theirs": TEN.get("ct_fm").title}


def test_kappas_stand_beside_all_ten_published_ones():
    table = pages.kappa_table(KAPPAS, NAMED).set_index("title")
    assert len(table) == 11 and {model.title for model in TEN} < set(table.index)
    assert table["as published"].notna().sum() == 10 and table["this run"].notna().sum() == 2
    assert table.loc[TEN.get("fmcib").title, "as published"] == 0.6957
    assert table.loc[TEN.get("fmcib").title].drop("as published").isna().all()
    both, ours = table.loc[NAMED["theirs"]], table.loc["Mine, untrained"]
    assert both.tolist() == [0.8976, 0.25, 1, 3, 0.5]
    assert pd.isna(ours["as published"]) and ours.drop("as published").tolist() == pytest.approx([0.65, 2, 1, 0.73])
    alone = pages.kappa_table({}, {})
    assert len(alone) == 10 and alone["this run"].isna().all() and alone["as published"].notna().all()


def test_the_figure_of_kappas_gives_the_means_of_this_run():
    shown = pages.kappas_shown(KAPPAS, NAMED, "phantom")
    told(shown, "PHANTOM: ", "Mine, untrained: 0.65", f"{NAMED['theirs']}: 0.25")
    told(pages.kappas_shown({}, {}, ""), "none")


def test_the_size_of_the_jitter_is_measured_in_the_bank(banked):
    rows = bank.Bank(bank.path_of(banked, "phantom", "small")).rows.set_index(["sample_id", "trial"])
    sizes = jitter_sizes(banked, "phantom").set_index("trial")["rms_mm"]
    assert sizes.index.tolist() == [0, 1, 2, 3, 4] and sizes[0] == 0
    for trial in (1, 2, 3, 4):
        names = [name for name, number in rows.index if number == trial]
        apart = [rows.loc[(name, trial), axis] - rows.loc[(name, 0), axis] for name in names for axis in "xyz"]
        assert sizes[trial] == pytest.approx(np.sqrt(np.mean(np.square(np.array(apart, float)))), rel=1e-5)


def test_dose_is_the_mean_over_the_trials_of_a_size(banked, readers):
    honest = pages.held_out(readers, 0)
    table = pages.dose(banked, "phantom", honest, readers, {"good": "Good"}, 2)
    found, held = readers["good"], honest["good"]
    directly = robustness.jitter.held_out(
        found.reference, found.others, found.rows["label"].astype(int), found.rows["patient_id"]
    )
    assert_array_equal(held.probability, directly.probability)
    sizes = jitter_sizes(banked, "phantom")["rms_mm"]
    assert_allclose(table["size_mm"], [0, (sizes[1] + sizes[2]) / 2, (sizes[3] + sizes[4]) / 2])
    assert table["trials"].tolist() == [1, 2, 2] and set(table["title"]) == {"Good"}
    assert set(table["embedding"]) == {"good"}
    for row, block in zip(table.itertuples(), ([0], [1, 2], [3, 4]), strict=True):
        aucs = [roc_auc_score(held.labels, held.probability[at]) for at in block]
        same = [(held.decision[at] == held.decision[0]).mean() for at in block]
        near = [_cosine(found.reference, [found.reference, *found.others][at]) for at in block]
        for figure, values in {"auc": aucs, "agreement": same, "cosine": near}.items():
            ends = [getattr(row, f"{figure}{end}") for end in ("", "_low", "_high")]
            assert ends == pytest.approx([np.mean(values), min(values), max(values)], abs=1e-6)
    shown = pages.dose_shown(table, "phantom")
    last = table.iloc[2]
    told(
        shown,
        f"Good at {last.size_mm:.1f} mm: cosine {last.cosine:.3f}, {last.agreement:.0%} of",
        f"AUC {last.auc:.2f}",
    )


def _cosine(one, other):
    pairs = zip(np.asarray(one, float), np.asarray(other, float), strict=True)
    return np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def test_trials_that_the_bank_does_not_know_or_that_make_no_sizes_are_errors(banked, readers):
    honest = pages.held_out(readers, 0)
    with pytest.raises(robustness.RobustnessError, match="4 trials for 4 embeddings beside the reference, 3 of a size"):
        pages.dose(banked, "phantom", honest, readers, {"good": "Good"}, 3)
    assert pages.dose(banked, "phantom", {}, {}, {}, 2).empty


# Figures of many embeddings


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [(0.9874, "0.987"), (-0.25, "-0.250"), (0.999, "0.999"), (0.999997, "1 − 3e-06"), (1.0, "1"), (np.nan, "nan")],
)
def test_a_cosine_near_one_is_written_by_what_it_lacks(cosine, expected):
    assert likeness(cosine) == expected


def test_more_than_six_titles_are_drawn_in_two_figures():
    table = pd.DataFrame({"title": np.repeat([f"T{number}" for number in range(7)], 2), "value": range(14)}, range(14))
    drawn = []
    shown = in_groups(table, lambda some: drawn.append(some) or "figure")
    assert isinstance(shown, Several) and shown.shown == ["figure", "figure"] and MOST == 6
    assert [each["title"].unique().tolist() for each in drawn] == [["T0", "T1", "T2", "T3", "T4", "T5"], ["T6"]]
    assert [each.index.tolist() for each in drawn] == [list(range(12)), [0, 1]]
    assert pd.concat(drawn)["value"].tolist() == list(range(14))
    assert in_groups(table[table["title"] != "T6"], lambda some: "figure") == "figure"


def test_the_figures_of_seven_embeddings_lose_none(banked, readers, shaken, scrambled, samples, monkeypatch):
    tables = {
        "dose": pages.dose(banked, "phantom", pages.held_out(readers, 0), readers, {"good": "Good"}, 2),
        "responses": pages.responses(shaken, samples, {"good": "Good"}, 0),
        "controls": pages.scramble_table(scrambled, samples, {"good": "Good"}, 50, 0),
    }
    for name, table in tables.items():
        drawn = []
        monkeypatch.setattr(plots, name, lambda some, drawn=drawn: drawn.append(some) or nothing("drawn"))
        many = pd.concat([table.assign(title=f"Model {number}") for number in range(7)], ignore_index=True)
        shown = getattr(pages, f"{name}_shown")(many, "phantom")
        assert isinstance(shown, Several) and len(shown.shown) == 2
        assert all(each.caption.startswith("PHANTOM: ") and each.alt.startswith("PHANTOM: ") for each in shown.shown)
        assert [each["title"].nunique() for each in drawn] == [6, 1]
        kept = [column for column in many if column != "control"]  # drawn by its title
        pd.testing.assert_frame_equal(pd.concat(drawn, ignore_index=True)[kept], many[kept])


# Perturbed patches and negative controls


@pytest.fixture
def shaken():
    """Vectors of perturbed patches in an order of their own, of all patients and one without annotations."""
    order = np.random.default_rng(5).permutation(24)
    names = np.array([*np.array(PEOPLE)[order], "stranger"])
    clean = np.vstack([signal()[order], normal(1, 6)]).astype(np.float32)
    keys = [("noise", 10.0), ("noise", 50.0), ("shift", -40.0), ("noise", 25.0)]
    strength = (0.1, 1.5, 0.4, 0.6)
    vectors = {
        key: clean + size * normal(25, 6, seed=at) for at, (key, size) in enumerate(zip(keys, strength, strict=True))
    }
    lost = pd.DataFrame([("clean", "p99", "outside the image"), ("noise-10", "p98", "not finite")], columns=[*NOBODY])
    return {"good": stress.Stressed(names, clean, vectors, lost, {}, 0.0)}


@pytest.fixture
def scrambled():
    clean = signal()
    near, far = clean + 0.05 * normal(24, 6, seed=1), normal(24, 6, seed=2)
    vectors = {"shuffled_roi": near, "randomized_non_roi": far}
    lost = pd.DataFrame([("shuffled_roi", "p97", "the mask is empty in the patch")], columns=[*NOBODY])
    return {"good": stress.Stressed(np.array(PEOPLE), clean, vectors, lost, {}, 0.0)}


def test_responses_are_held_out_judgements_with_the_clean_patch_as_size_zero(shaken, samples):
    table = pages.responses(shaken, samples.sample(frac=1, random_state=1), {"good": "Good"}, 4)
    found = shaken["good"]
    label = dict(zip(PEOPLE, LABELS.astype(int), strict=True))
    names = found.sample_id[:-1]  # the stranger has no label
    others = np.stack(list(found.vectors.values()))[:, :-1]
    held = robustness.jitter.held_out(found.clean[:-1], others, [label[name] for name in names], names, seed=4)
    expected = held.table([*map(str, found.vectors)])
    assert list(zip(table["kind"], table["size"], strict=True)) == [("noise", 0), ("shift", 0), *found.vectors]
    figures = [column for column in expected if column != "name"]
    assert_allclose(table[figures].iloc[2:].to_numpy(float), expected[figures].iloc[1:].to_numpy(float))
    for row in (0, 1):
        assert_allclose(table[figures].iloc[row].to_numpy(float), expected[figures].iloc[0].to_numpy(float))
    assert table["cosine"][3] == pytest.approx(_cosine(found.clean[:-1], others[1]))
    aucs = [roc_auc_score(held.labels, held.probability[row]) for row in (0, 2)]
    assert table["auc_change"][3] == pytest.approx(aucs[1] - aucs[0]) and table["auc"][0] == pytest.approx(aucs[0])
    assert set(table["samples"]) == {24} and set(table["embedding"]) == {"good"} and set(table["title"]) == {"Good"}
    assert set(zip(table["kind_title"], table["unit"], strict=True)) == {("Noise", "HU"), ("HU shift", "HU")}
    assert "name" not in table


def test_a_sample_without_a_label_is_judged_by_no_classifier(shaken, samples):
    given = samples.assign(label=samples["label"].where(samples["sample_id"] != "p07"))
    assert set(pages.responses(shaken, given, {"good": "Good"}, 0)["samples"]) == {23}


def test_nothing_perturbed_is_an_empty_table(banked, encoder, samples):
    options = {"batch": None, "seed": 0}
    assert pages.perturbed(banked, "phantom", [encoder], {}, options) == {}
    assert pages.scrambled(banked, "phantom", [encoder], [], options) == {}
    assert pages.responses({}, samples, {}, 0).empty and pages.scramble_table({}, samples, {}, 50, 0).empty
    assert pages.stress_left_out({"perturbations": {}, "controls": {}}, {}).empty


def test_patches_of_each_encoder_are_perturbed_by_its_name(banked, encoder):
    options = {"batch": 2, "seed": 1, "progress": False}
    found = pages.perturbed(banked, COHORT, [encoder], {"shift": [20]}, options)
    assert list(found) == [encoder.name] and list(found[encoder.name].vectors) == [("shift", 20.0)]
    assert set(found[encoder.name].sample_id) == {"a0", "b0", "c0", "d0"}
    found = pages.scrambled(banked, COHORT, [encoder], ["shuffled_full"], options)
    assert list(found[encoder.name].vectors) == ["shuffled_full"]


def test_the_figure_of_responses_tells_the_largest_change(shaken, samples):
    table = pages.responses(shaken, samples, {"good": "Good"}, 0)
    worst = table.loc[table["cosine"].idxmin()]
    assert (worst["kind"], worst["size"]) == ("noise", 50)
    words = f"Good: noise 50 HU, cosine {worst['cosine']:.3f}, {worst['agreement']:.0%} of decisions unchanged"
    told(pages.responses_shown(table, ""), words)


@pytest.mark.parametrize(("cohort", "mark"), [("phantom", "PHANTOM: "), (COHORT, "")])
def test_tiles_show_the_strongest_of_each_kind_on_a_whole_patch(banked, encoder, cohort, mark):
    kinds = {"noise": [25, 10], "shift": [-40, 20], "thickness": [2.5, 5]}
    shown = pages.tiles_shown(banked, cohort, encoder, kinds, 0)
    rows = bank.Bank(bank.path_of(banked, cohort, "small")).rows
    assert rows.set_index(["sample_id", "trial"])["clamped"][("a0", 0)]
    assert shown.caption.startswith(f"{mark}b0, axial plane")
    told(shown, "Noise 25 HU, HU shift -40 HU, Thicker slices 5 mm")
    assert shown.svg.count("<image") == 4 and ("phantom" in shown.svg.split(">", 1)[1]) == bool(mark)


def test_negative_controls_from_patches_are_compared_and_judged(scrambled, samples):
    table = pages.scramble_table(scrambled, samples, {"good": "Good"}, 100, 3)
    found = scrambled["good"]
    directly = robustness.negatives.compare(found.clean, found.vectors, PEOPLE, 100, 3)
    assert_allclose(table[["cosine_low", "retrieval_high"]], directly[["cosine_low", "retrieval_high"]])
    held = robustness.jitter.held_out(found.clean, list(found.vectors.values()), LABELS, PEOPLE, seed=3)
    base = roc_auc_score(LABELS, held.probability[0])
    for at, (row, vectors) in enumerate(zip(table.itertuples(), found.vectors.values(), strict=True), 1):
        assert row.cosine == pytest.approx(_cosine(found.clean, vectors))
        assert row.auc_change == pytest.approx(roc_auc_score(LABELS, held.probability[at]) - base)
        cosines = [[_cosine([one], [other]) for other in vectors] for one in found.clean]
        assert row.retrieval == np.mean([np.argmax(each) == own for own, each in enumerate(cosines)])
    assert table["control"].tolist() == list(found.vectors)
    assert table["control_title"].tolist() == [CONTROLS[name] for name in found.vectors]
    assert table["retrieval"][0] == 1 and table["retrieval"][1] < 0.5
    row = table.iloc[1]
    words = f"{row.control_title}: cosine {row.cosine:.3f}, {row.retrieval:.0%} found, AUC {row.auc_change:+.3f}"
    told(pages.controls_shown(table, ""), words)


def test_every_sample_left_out_of_stress_is_listed(shaken, scrambled):
    table = pages.stress_left_out({"perturbations": shaken, "controls": scrambled}, {"good": "Good"})
    assert table.to_numpy().tolist() == [
        ["Good", "clean", "p99", "outside the image"],
        ["Good", "noise-10", "p98", "not finite"],
        ["Good", "shuffled_roi", "p97", "the mask is empty in the patch"],
    ]
    assert list(table) == ["embedding", "what", "sample_id", "reason"]


RELEASED = {"fmcib": "FMCIB (own recipe)", "fmcib_roi": "tumour shuffled", "fmcib_rest": "surroundings shuffled"}


@pytest.fixture
def released(tmp_path, samples):
    """Published vectors and two controls, in another order than the annotations; p04 and p11 are not changed in one."""
    original, order = signal().astype(np.float32), np.random.default_rng(8).permutation(24)
    roi, rest = original + 0.1 * normal(24, 6, seed=1), normal(24, 6, seed=2)
    roi[[4, 11]], rest[4] = original[[4, 11]], original[4]
    put(tmp_path, "fmcib", PEOPLE, original, title=RELEASED["fmcib"], source="registry")
    for name, vectors in {"fmcib_roi": roi, "fmcib_rest": rest}.items():
        put(tmp_path, name, np.array(PEOPLE)[order], vectors[order], title=RELEASED[name], source="registry")
    return original, {"fmcib_roi": roi.astype(np.float32), "fmcib_rest": rest.astype(np.float32)}


def published_controls(run, samples, controls=("fmcib_roi", "fmcib_rest")):
    return pages.published_controls(run, COHORT, ["fmcib"], list(controls), samples, RELEASED, 100, 2)


def test_published_controls_are_compared_sample_by_sample(tmp_path, samples, released):
    table, _ = published_controls(tmp_path, samples)
    original, others = released
    assert table["control"].tolist() == list(others)
    assert table["control_title"].tolist() == ["tumour shuffled", "surroundings shuffled"]
    assert set(table["embedding"]) == {"fmcib"} and set(table["title"]) == {"FMCIB (own recipe)"}
    held = robustness.jitter.held_out(original, list(others.values()), LABELS, PEOPLE, seed=2)
    judged = held.table(list(others)).iloc[1:]
    for column in ("auc_change", "auc_change_low", "auc_change_high"):
        assert_allclose(table[column], judged[column])
    assert_allclose(table["cosine"], [_cosine(original, vectors) for vectors in others.values()])
    assert table["identical"].tolist() == [2, 1] and set(table["samples"]) == {24}


def test_patients_whose_control_is_the_original_are_named(tmp_path, samples, released):
    _, odd = published_controls(tmp_path, samples)
    found = [("tumour shuffled", "p04"), ("tumour shuffled", "p11"), ("surroundings shuffled", "p04")]
    assert list(odd.itertuples(index=False, name=None)) == found and list(odd) == ["control", "sample_id"]
    empty = pd.DataFrame()
    sentence = pages.findings(None, {}, empty, empty, empty, empty, odd, {}, "phantom")
    assert sentence.startswith("- 2 patients have a control") and "p04 (2), p11 (1)" in sentence


def test_without_published_controls_there_is_nothing_to_compare(tmp_path, samples):
    assert all(table.empty for table in published_controls(tmp_path, samples, ()))


def test_a_published_control_that_lacks_is_an_error_that_names_it(tmp_path, samples, released):
    with pytest.raises(embeddings.EmbeddingError, match="no embeddings of fmcib_full"):
        published_controls(tmp_path, samples, ["fmcib_full"])


# Sentences and files

DOSE = pd.DataFrame(
    {
        "title": ["A"] * 3 + ["B"] * 2,
        "embedding": ["a"] * 3 + ["b"] * 2,
        "size_mm": [4.04, 0, 8.06, 0, 8.06],
        "cosine": [0.9, 1, 0.8, 1, 0.7],
        "agreement": [0.95, 1, 0.87, 1, 0.63],
        "auc": [0.7, 0.78, 0.61, 0.66, 0.52],
    }
)
RESPONSES = pd.DataFrame(
    {
        "title": "A",
        "embedding": "a",
        "kind": ["noise", "noise", "shift"],
        "size": [0.0, 50.0, -40.0],
        "kind_title": ["Noise", "Noise", "HU shift"],
        "unit": "HU",
        "cosine": [1, 0.912, 0.85],
        "agreement": [1, 0.71, 0.83],
    }
)
CONTROL = pd.DataFrame(
    {
        "title": "A",
        "embedding": "a",
        "control": ["shuffled_roi", "shuffled_full"],
        "control_title": ["Tumour shuffled", "Whole patch shuffled"],
        "retrieval": [0.76, 0.16],
        "auc_change_high": [0.02, -0.01],
    }
)
EMPTY = pd.DataFrame()
JOINED = {"mine": "Mine", "theirs": "Theirs"}


def test_sentences_give_the_numbers_of_the_tables_and_bear_the_mark():
    compared = CONTROL.assign(title="FMCIB", auc_change_high=[0.01, 0.03])
    text = pages.findings(None, KAPPAS, DOSE, RESPONSES, CONTROL, compared, EMPTY, JOINED, "phantom, untrained")
    lines = text.splitlines()
    assert len(lines) == 7 and all(line.startswith("- ") for line in lines)
    assert [line.startswith("- PHANTOM, UNTRAINED: ") for line in lines] == [True] * 6 + [False]
    plain = [line.removeprefix("- ").removeprefix("PHANTOM, UNTRAINED: ") for line in lines]
    assert plain[0] == "Mine: the study's kappa is 0.65 with k = 1; in 73% of cases a moved patch finds itself."
    assert plain[1] == "Theirs: the study's kappa is 0.25 with k = 3; in 50% of cases a moved patch finds itself."
    assert plain[2].startswith("A: a seed point that is 8.1 mm off") and "leaves 87% of decisions" in plain[2]
    assert "AUC 0.78 at the annotated seed points, 0.61 there." in plain[2]
    assert plain[3].startswith("B: ") and "leaves 63%" in plain[3] and "AUC 0.66 at" in plain[3]
    assert (
        "noise of 50 HU changes most decisions (29%)" in plain[4]
        and "similarity to the clean patch of 0.912" in plain[4]
    )
    assert plain[5].startswith("A: 1 of 2 negative controls lose AUC beyond their interval.")
    assert plain[5].endswith("Tumour shuffled 76%, Whole patch shuffled 16%.")
    assert plain[6].startswith("FMCIB: 0 of 2 negative controls lose AUC")


def test_sentences_of_real_tables_give_their_numbers(shaken, scrambled, samples):
    responses = pages.responses(shaken, samples, {"good": "Good"}, 0)
    scramble = pages.scramble_table(scrambled, samples, {"good": "Good"}, 100, 0)
    first, second = pages.findings(None, {}, EMPTY, responses, scramble, EMPTY, EMPTY, {}, "").splitlines()
    worst = responses.loc[responses["agreement"].idxmin()]
    assert f"noise of {worst['size']:g} HU changes most decisions ({1 - worst['agreement']:.0%})" in first
    assert f"{worst['cosine']:.3f}" in first and worst["size"] > 0
    assert f"{(scramble['auc_change_high'] < 0).sum()} of 2 negative controls lose" in second
    assert f"Tumour shuffled {scramble['retrieval'][0]:.0%}" in second


def test_a_page_with_nothing_says_so():
    assert pages.findings(None, {}, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, {}, "phantom") == (
        "*Nothing to compare on this page.*"
    )


@pytest.fixture
def saved(tmp_path, scans):
    retest = pages.retest_table(scans, TITLES)
    odd = pd.DataFrame({"control": ["tumour shuffled"], "sample_id": ["p04"]})
    parts = {"retest": retest, "dose": DOSE, "responses": RESPONSES, "controls": CONTROL, "odd": odd}
    record = {"parameters": {"seed": 1}}
    pages.save(f"{tmp_path}/out/{COHORT}", parts | {"none": None, "empty": EMPTY}, KAPPAS, COHORT, record)
    return tmp_path / "out", parts, pd.read_csv(tmp_path / "out" / f"{COHORT}.csv")


def test_every_table_is_written_with_its_record_and_none_that_is_empty(saved):
    folder, parts, _ = saved
    written = [f"{COHORT}.csv", *(f"{COHORT}.{part}.csv" for part in parts)]
    assert {path.name for path in folder.glob("*.csv")} == set(written)
    for name in written:
        record = (folder / name).with_suffix(".provenance.json")
        assert json.loads(record.read_text()) == {"parameters": {"seed": 1}}
    for part, table in parts.items():
        pd.testing.assert_frame_equal(pd.read_csv(folder / f"{COHORT}.{part}.csv"), table, check_dtype=False)


def test_the_tidy_table_has_a_row_a_number_with_its_condition(saved):
    _, parts, tidy = saved
    assert list(tidy) == ["cohort", "part", "embedding", "quantity", "value"] and set(tidy["cohort"]) == {COHORT}
    assert not tidy.duplicated(["part", "embedding", "quantity"]).any() and tidy["value"].dtype == float
    values = tidy.set_index(["part", "embedding", "quantity"])["value"]
    assert values["responses", "a", "agreement noise 50.0"] == 0.71
    assert values["responses", "a", "cosine shift -40.0"] == 0.85
    assert values["dose", "b", "auc 8.06"] == 0.52 and values["dose", "a", "auc 0.0"] == 0.78
    assert values["controls", "a", "retrieval shuffled_full"] == 0.16
    retest = parts["retest"].set_index("embedding")
    assert values["retest", "good", "gap"] == pytest.approx(retest.loc["good", "gap"])
    assert values["retest", "flat", "identification rate"] == 0 and values["retest", "lacking", "patients"] == 8
    assert (
        values["jitter", "mine", "kappa"] == pytest.approx(0.65) and values["jitter", "theirs", "finds itself"] == 0.5
    )
    counted = {"retest": 3 * 19, "dose": 5 * 3, "responses": 3 * 2, "controls": 2 * 2, "jitter": 4}
    assert tidy["part"].value_counts().to_dict() == counted


def test_a_page_without_any_table_writes_an_empty_tidy_one(tmp_path):
    pages.save(f"{tmp_path}/none", {"retest": None, "dose": EMPTY}, {}, COHORT, {})
    assert list(pd.read_csv(tmp_path / "none.csv")) == ["cohort", "part", "embedding", "quantity", "value"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.csv", "none.provenance.json"]
