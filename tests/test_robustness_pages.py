"""Tables, figures, sentences and files of the robustness page, from small embedding tables and a bank of noise."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from tumorbench_utils import annotations, bank, embeddings, plots, published, robustness, stress
from tumorbench_utils import robustness_pages as pages
from tumorbench_utils.models import TEN, Model, Recipe, ready
from tumorbench_utils.patches import Geometry
from tumorbench_utils.plots import Several, Shown
from tumorbench_utils.plots.base import nothing
from tumorbench_utils.robustness.controls import CONTROLS
from tumorbench_utils.robustness_pages.readers import Readers, sizes
from tumorbench_utils.robustness_pages.showing import MOST, decimals, in_groups, likeness
from tumorbench_utils.robustness_pages.stressing import TITLES as OF_CONTROLS

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


def test_an_embedding_of_two_pairs_is_shown_and_not_judged(tmp_path, twice):
    put(tmp_path, "few", [f"p0{n}-{scan}" for n in (2, 5) for scan in ("test", "retest")], normal(4, 3))
    found = pages.retested(tmp_path, COHORT, ["good", "few"], twice, 50)
    titles = {"good": "Good", "few": "Few, untrained"}
    table = pages.retest_table(found, titles)
    few = table.set_index("embedding").loc["few"]
    assert (few["patients"], few["verdict"], few["reason"]) == (2, "not judged", "2 pairs: it takes at least 3")
    within = [found.found["few"].similar[at, at] for at in range(2)]
    assert few["within-patient cosine"] == pytest.approx(np.mean(within))
    assert few[[column for column in table if column.endswith((", low", ", high"))]].isna().all()
    cosines, verdicts = (make(table).set_index("embedding") for make in (pages.retest_cosines, pages.retest_verdicts))
    assert cosines.loc["Few, untrained", "within-patient cosine"] == f"{np.mean(within):.3f}"
    assert list(cosines) == ["gap", "within-patient cosine", "between-patient cosine"]  # a phone shows the first
    assert list(verdicts) == ["verdict", "separation", "median ICC"]
    assert verdicts.loc["Few, untrained", "verdict"] == "not judged"
    sentences = findings(retest=table, cohort="phantom").splitlines()
    assert sentences[0].startswith("- PHANTOM: Good: **usable** on test and retest. ")
    assert sentences[1] == (
        "- PHANTOM, UNTRAINED: Few, untrained: **not judged** on test and retest. 2 pairs: it takes at least 3"
    )
    told(pages.identification_shown(table, ""), "Few, untrained: ", "of patients identified, not judged")
    told(pages.retest_shown(found, titles, ""), f"Few, untrained: {likeness(np.mean(within))} within")
    beside = pages.retest_published(table).set_index("embedding").loc["Few, untrained"]
    assert beside["verdict"] == "not judged" and pd.isna(beside["as published, RIDER"])


def test_an_interval_in_words_is_that_of_the_table_and_a_dash_where_nothing_is_known(scans):
    table = pages.retest_table(scans, TITLES)
    shown, judged = pages.retest_cosines(table), pages.retest_verdicts(table)
    assert shown["embedding"].tolist() == judged["embedding"].tolist() == list(TITLES.values())
    assert judged["verdict"].tolist() == table["verdict"].tolist()
    value, low, high = (table.loc[0, f"gap{end}"] for end in ("", ", low", ", high"))
    assert low < value < high and shown["gap"][0] == f"{value:.3f} ({low:.3f} to {high:.3f})"
    near = table.assign(**{"within-patient cosine": 0.99973, "within-patient cosine, high": 0.999997, "gap": 0.00004})
    shown = pages.retest_cosines(near)
    assert shown["within-patient cosine"][0].startswith("0.9997 (") and " to 0.999997)" in shown.iloc[0, 2]
    assert shown["gap"][0].startswith("0.00004 (")
    assert judged["median ICC"][1] == "–"  # a constant embedding has none


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
    assert flat["identification rate"] == 0 and "All vectors of 9 patients are the same" in flat["reason"]
    assert findings(retest=table).splitlines()[1] == f"- Flat: **useless** on test and retest. {flat['reason']}"
    told(pages.identification_shown(table, ""), "Flat: 0 % of patients identified, useless")
    told(pages.icc_shown(scans, TITLES, ""), "Flat: every dimension is constant")


def test_the_figures_of_test_and_retest_give_their_numbers(scans):
    table = pages.retest_table(scans, TITLES)
    shown = pages.retest_shown(scans, TITLES, "phantom, partly untrained")
    assert shown.caption.startswith("PHANTOM, PARTLY UNTRAINED: ")
    for row in table.itertuples():
        within, between = table.loc[row.Index, ["within-patient cosine", "between-patient cosine"]]
        told(shown, f"{row.title}: {likeness(within)} within, {likeness(between)} between")
    rates = zip(table["title"], table["identification rate"], table["verdict"], strict=True)
    words = [f"{title}: {100 * (rate):.0f} % of patients identified, {verdict}" for title, rate, verdict in rates]
    told(pages.identification_shown(table, ""), *words)
    values = scans.found["good"].icc
    good = sum(value >= 0.75 for value in values) / len(values)
    told(
        pages.icc_shown(scans, TITLES, ""),
        f"Good: median {np.median(values):.2f}, {100 * (good):.0f} % of 5 dimensions good or better;",
    )


def test_dimensions_without_an_icc_are_counted(scans):
    lacking = replace(scans.found["good"], icc=np.append(scans.found["good"].icc, np.nan))
    shown = pages.icc_shown(replace(scans, found={"good": lacking}), TITLES, "")
    told(shown, " of 5 dimensions good or better (1 of 6 constant).")


def test_the_caption_of_identification_says_where_its_intervals_come_from(scans):
    words = "by Wilson's method for the share, by bootstrap of patients for the separation"
    assert words in pages.identification_shown(pages.retest_table(scans, TITLES), "").caption


def test_the_published_cosine_stands_beside_ours_and_either_may_lack(scans):
    table = pages.retest_table(scans, TITLES | {"good": TEN.get("ct_fm").title})
    beside = pages.retest_published(table).set_index("embedding")
    assert len(beside) == 12 and {model.title for model in TEN} < set(beside.index)
    assert beside.loc[TEN.get("fmcib").title, "as published, RIDER"] == "0.990"
    assert beside.loc[TEN.get("voco").title, "as published, RIDER"] == "0.999997"
    assert beside.loc[TEN.get("fmcib").title].drop("as published, RIDER").isna().all()
    both, ours = beside.loc[TEN.get("ct_fm").title], beside.loc["Flat"]
    assert both["as published, RIDER"] == "0.981" and both["verdict"] == "usable"
    assert both["this run, same patient"] == likeness(table["within-patient cosine"][0]) and both["identified"] == 1
    assert both["this run, other patients"] == likeness(table["between-patient cosine"][0])
    assert pd.isna(ours["as published, RIDER"]) and ours["verdict"] == "useless"


def test_published_cosines_stand_alone_where_nobody_was_scanned_twice():
    table = pages.retest_published(None)
    assert len(table) == 10 and table["as published, RIDER"].notna().all() and table["verdict"].isna().all()


# Jittered seed points

SIZES = [1.0, 3.0]  # of the trials of the bank


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
def readers(tmp_path, moved, banked):
    (tmp_path / "patches").symlink_to(banked / "patches")
    return pages.jittered(tmp_path, COHORT, ["good"], moved[0], SIZES)


KEPT = [at for at, name in enumerate(PEOPLE) if name not in ("p03", "p05", "p07")]


def test_trials_are_those_of_labelled_samples_that_have_all_of_them(readers, moved):
    found = readers.found["good"]
    assert found.rows["sample_id"].tolist() == [PEOPLE[at] for at in KEPT] and found.trial.tolist() == [1, 2, 3, 4]
    assert_array_equal(found.reference, moved[1][0][KEPT].astype(np.float32))
    assert_array_equal(found.others, moved[1][1:, KEPT].astype(np.float32))
    assert_array_equal(found.labels, LABELS[KEPT])
    assert readers.nominal.to_dict() == {1: 1, 2: 1, 3: 3, 4: 3}


def test_samples_in_no_figure_of_jitter_are_listed_with_the_reason(tmp_path, readers, moved):
    lost = [
        ["good", "p03", "not every jittered seed point has an embedding"],
        ["good", "p05", "no embedding"],
        ["good", "p07", "no outcome"],
    ]
    assert readers.left_out.to_numpy().tolist() == lost
    put(tmp_path, "still", PEOPLE, signal())
    both = pages.jittered(tmp_path, COHORT, ["still", "good"], moved[0], SIZES)
    assert list(both.found) == ["good"]
    assert both.left_out.to_numpy().tolist() == [["still", "all", "annotated seed points only"], *lost]
    nobody = pages.jittered(tmp_path, COHORT, [], moved[0], SIZES)
    assert nobody.found == {} and nobody.left_out.empty and list(nobody.left_out) == list(readers.left_out)


def test_a_cohort_without_outcomes_has_no_readers_and_lists_everybody(tmp_path, moved):
    found = pages.jittered(tmp_path, COHORT, ["good"], moved[0].assign(label=np.nan), SIZES)
    assert found.found == {} and found.nominal.empty
    reasons = found.left_out.set_index("sample_id")["reason"]
    assert reasons.index.tolist() == PEOPLE and reasons.value_counts()["no outcome"] == 22
    assert pages.study_kappas(found)[0] == {} and pages.held_out(found, 0)[0] == {}
    assert pages.dose({}, found, {}, 10, 0).empty


def test_rows_follow_the_annotations_whatever_the_order_of_the_vectors(tmp_path, readers, moved):
    mixed = moved[0].sample(frac=1, random_state=2)
    found = pages.jittered(tmp_path, COHORT, ["good"], mixed, SIZES).found["good"]
    assert found.rows["sample_id"].tolist() == [name for name in mixed["sample_id"] if PEOPLE.index(name) in KEPT]
    at = [PEOPLE.index(name) for name in found.rows["sample_id"]]
    assert_array_equal(found.others[2], moved[1][3][at].astype(np.float32))


def test_sizes_that_the_bank_does_not_have_are_an_error(tmp_path, readers, moved):
    with pytest.raises(robustness.RobustnessError, match=r"of none of the sizes 10, 40 mm: .*Name the sizes of the"):
        pages.jittered(tmp_path, COHORT, ["good"], moved[0], [10, 40])
    with pytest.raises(robustness.RobustnessError, match="nominal sizes are above 0 mm"):
        pages.jittered(tmp_path, COHORT, ["good"], moved[0], [])


def test_jitter_without_a_bank_is_an_error_that_says_which_notebook_builds_it(tmp_path, moved):
    with pytest.raises(bank.BankError, match=f"{COHORT}: no patch bank .* data curation notebook builds it"):
        pages.jittered(tmp_path, COHORT, ["good"], moved[0], SIZES)


@pytest.mark.parametrize(("sizes_mm", "of_size", "study_mm"), [((1, 3), (1, 2), 1), ((2, 4), (3, 4), 4)])
def test_the_kappa_of_the_study_is_that_of_the_nearest_training_patch(readers, moved, sizes_mm, of_size, study_mm):
    """Of the trials of the study's 4 mm, or else of the first size: the first trains."""
    readers = replace(readers, nominal=pd.Series(np.repeat(sizes_mm, 2), [1, 2, 3, 4]))
    found, labels = pages.study_kappas(readers)[0]["good"], LABELS[KEPT].astype(int)
    first, second = (moved[1][trial][KEPT].astype(np.float32).astype(float) for trial in of_size)
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second)]
    nearest = [max(range(len(labels)), key=lambda row: unit[1][at] @ unit[0][row]) for at in range(len(labels))]
    assert readers.study_mm == study_mm and found.k == 1 and len(found.kappas) == 1
    assert found.kappas[0] == pytest.approx(cohen_kappa_score(labels, labels[nearest], weights="linear"))
    assert found.itself[0] == np.mean([at == row for at, row in enumerate(nearest)])


KAPPAS = {
    "mine": robustness.StudyKappa(1, np.array([0.5, 0.8]), np.array([0.7, 0.76])),
    "theirs": robustness.StudyKappa(3, np.array([0.25]), np.array([0.5])),
}
NAMED = {"mine": "Mine, untrained", "theirs": TEN.get("ct_fm").title}


def test_kappas_stand_beside_all_ten_published_ones():
    table = pages.kappa_table(KAPPAS, NAMED).set_index("embedding")
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


def test_the_size_of_the_jitter_is_measured_in_the_bank(banked):
    rows = bank.Bank(bank.path_of(banked, "phantom", "small")).rows.set_index(["sample_id", "trial"])
    found = sizes(banked, "phantom").set_index("trial")["rms_mm"]
    assert found.index.tolist() == [0, 1, 2, 3, 4] and found[0] == 0
    for trial in (1, 2, 3, 4):
        names = [name for name, number in rows.index if number == trial]
        apart = [rows.loc[(name, trial), axis] - rows.loc[(name, 0), axis] for name in names for axis in "xyz"]
        assert found[trial] == pytest.approx(np.sqrt(np.mean(np.square(np.array(apart, float)))), rel=1e-5)


def test_the_size_of_the_jitter_is_read_from_a_bank_that_has_jitter(banked, tmp_path):
    """An exact bank holds trial 0 alone and may come first by name."""
    (tmp_path / "patches" / COHORT).mkdir(parents=True)
    real = bank.path_of(banked, COHORT, "small")
    (tmp_path / "patches" / COHORT / "small.zarr").symlink_to(real)
    seeds = bank.Bank(real).rows.query("trial == 0")[["sample_id", "trial", "x", "y", "z"]]
    seeds = seeds.assign(image=[f"{name[0]}.nrrd" for name in seeds["sample_id"]])
    exact = Geometry("exact", (2.0, 1.5, 2.0), (8, 8, 8), "exact")
    bank.build(tmp_path, COHORT, seeds, (exact,), root=banked.parent, workers=1)
    assert sizes(tmp_path, COHORT)["trial"].tolist() == [0, 1, 2, 3, 4]


def test_the_folds_of_the_honest_variant_hang_on_the_seed_of_the_page(readers):
    found = readers.found["good"]
    patients = found.rows["patient_id"]
    directly = [
        robustness.jitter.held_out(found.reference, found.others, found.labels, patients, seed=seed) for seed in (0, 3)
    ]
    assert (directly[0].probability != directly[1].probability).any()
    held, lost = pages.held_out(readers, 3)
    assert_array_equal(held["good"].probability, directly[1].probability)
    assert lost.empty and list(lost) == list(readers.left_out)


def test_an_embedding_that_nothing_can_be_predicted_of_is_listed(tmp_path, readers, moved):
    one = moved[0].assign(label=np.where(moved[0]["sample_id"] == "p01", 1.0, 0.0))
    held, lost = pages.held_out(pages.jittered(tmp_path, COHORT, ["good"], one, SIZES), 0)
    ((name, sample, reason),) = lost.itertuples(index=False, name=None)
    assert held == {} and (name, sample) == ("good", "all")
    assert reason.startswith("no held-out prediction: ") and "1 positive, 21 negative" in reason


def test_dose_is_the_mean_over_the_trials_of_a_size(readers):
    honest, _ = pages.held_out(readers, 0)
    table = pages.dose(honest, readers, {"good": "Good"}, 200, 5)
    found, held = readers.found["good"], honest["good"]
    assert table["size_mm"].tolist() == [0, 1, 3] and table["trials"].tolist() == [1, 2, 2]
    assert set(table["title"]) == {"Good"} and set(table["embedding"]) == {"good"} and set(table["samples"]) == {21}
    base = roc_auc_score(held.labels, held.probability[0])
    for row, rows in zip(table.itertuples(), ([0], [1, 2], [3, 4]), strict=True):
        aucs = [roc_auc_score(held.labels, held.probability[at]) for at in rows]
        same = [(held.decision[at] == held.decision[0]).mean() for at in rows]
        near = [_cosine(found.reference, [found.reference, *found.others][at]) for at in rows]
        change = [auc - base for auc in aucs]
        for figure, values in {"auc": aucs, "agreement": same, "cosine": near, "auc_change": change}.items():
            value, low, high = (getattr(row, f"{figure}{end}") for end in ("", "_low", "_high"))
            assert value == pytest.approx(np.mean(values), abs=1e-6) and low - 1e-9 <= value <= high + 1e-9
        assert (row.auc_least, row.auc_most) == pytest.approx((min(aucs), max(aucs)))
    directly = robustness.jitter.dose_response(held, found.trial, readers.nominal, 200, 5)
    pd.testing.assert_frame_equal(table[list(directly)], directly)
    again = pages.dose(honest, readers, {"good": "Good"}, 200, 6)
    assert again["auc"].tolist() == table["auc"].tolist() and again["auc_low"].tolist() != table["auc_low"].tolist()
    last = table.iloc[2]
    kept = f"{100 * last.agreement:.0f} % of decisions unchanged"
    words = f"Good at 3 mm: cosine {last.cosine:.3f}, {kept}, AUC {last.auc:.2f}"
    told(pages.dose_shown(table, "phantom"), f"{words} ({last.auc_low:.2f} to {last.auc_high:.2f})")


def _cosine(one, other):
    pairs = zip(np.asarray(one, float), np.asarray(other, float), strict=True)
    return np.mean([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in pairs])


def test_trials_that_the_bank_does_not_know_are_an_error(readers):
    honest, _ = pages.held_out(readers, 0)
    unknown = Readers(readers.found, readers.nominal.drop(4), readers.left_out)
    with pytest.raises(robustness.RobustnessError, match="1 trials have no size: 4"):
        pages.dose(honest, unknown, {"good": "Good"}, 10, 0)


# Figures of many embeddings


@pytest.mark.parametrize(
    ("cosine", "expected"),
    [
        (0.9874, "0.987"),
        (-0.25, "-0.250"),
        (0.999, "0.999"),
        (0.999997, "0.999997"),
        (0.99974, "0.9997"),
        (1 - 1e-15, "1"),
        (1.0, "1"),
        (np.nan, "nan"),
        (0.9995, "0.9995"),
    ],
)
def test_a_cosine_near_one_has_the_decimals_that_tell_it_from_one(cosine, expected):
    assert likeness(cosine) == expected


def test_a_small_number_has_the_decimals_that_tell_it_from_nothing():
    assert [decimals(size) for size in (0, 0.2, 0.0006, -0.0004, 0.00003, np.nan)] == [3, 3, 3, 4, 5, 3]


def test_more_than_six_titles_are_drawn_in_two_figures():
    table = pd.DataFrame({"title": np.repeat([f"T{number}" for number in range(7)], 2), "value": range(14)}, range(14))
    drawn = []
    shown = in_groups(table, lambda some: drawn.append(some) or "figure")
    assert isinstance(shown, Several) and shown.shown == ["figure", "figure"] and MOST == 6
    assert [each["title"].unique().tolist() for each in drawn] == [["T0", "T1", "T2", "T3", "T4", "T5"], ["T6"]]
    assert [each.index.tolist() for each in drawn] == [list(range(12)), [0, 1]]
    assert pd.concat(drawn)["value"].tolist() == list(range(14))
    assert in_groups(table[table["title"] != "T6"], lambda some: "figure") == "figure"


def test_the_figures_of_seven_embeddings_lose_none(readers, shaken, scrambled, samples, monkeypatch):
    tables = {
        "dose": pages.dose(pages.held_out(readers, 0)[0], readers, {"good": "Good"}, 50, 0),
        "responses": pages.responses(shaken, samples, {"good": "Good"}, 50, 0),
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
    table = pages.responses(shaken, samples.sample(frac=1, random_state=1), {"good": "Good"}, 60, 4)
    found = shaken["good"]
    label = dict(zip(PEOPLE, LABELS.astype(int), strict=True))
    names = found.sample_id[:-1]  # the stranger has no label
    others = np.stack(list(found.vectors.values()))[:, :-1]
    held = robustness.jitter.held_out(found.clean[:-1], others, [label[name] for name in names], names, seed=4)
    expected = held.table([*map(str, found.vectors)], draws=60, seed=4)
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
    assert set(pages.responses(shaken, given, {"good": "Good"}, 50, 0)["samples"]) == {23}


def test_without_outcomes_the_likeness_of_all_samples_is_shown_and_no_decision(shaken, samples):
    table = pages.responses(shaken, samples.assign(label=np.nan), {"good": "Good"}, 50, 0)
    found = shaken["good"]
    assert set(table["samples"]) == {25} and table[["agreement", "kappa", "auc", "auc_change"]].isna().all(axis=None)
    assert_allclose(
        table["cosine"], [1, 1, *(_cosine(found.clean, each) for each in found.vectors.values())], rtol=1e-6
    )
    assert (table["cosine_low"] <= table["cosine"]).all() and (table["cosine"] <= table["cosine_high"]).all()
    worst = table["cosine"].min()
    told(pages.responses_shown(table, ""), f"Good: noise (50 HU), cosine {worst:.3f}, no decision known")
    assert findings(responses=table) == (
        "- Good: the perturbation that moves the embedding most is noise (50 HU), to a cosine similarity of "
        f"{worst:.3f}."
    )


def test_a_class_of_one_patient_leaves_likeness_alone(shaken, samples):
    one = samples.assign(label=np.where(samples["sample_id"] == "p01", 1.0, 0.0))
    table = pages.responses(shaken, one, {"good": "Good"}, 50, 0)
    assert table["auc"].isna().all() and table["cosine"].notna().all() and set(table["samples"]) == {25}


def test_embeddings_that_change_nothing_are_said_to_change_nothing(shaken, samples, monkeypatch):
    monkeypatch.setattr(plots, "responses", lambda _: nothing("drawn"))
    found = shaken["good"]
    still = replace(found, vectors=dict.fromkeys(found.vectors, found.clean))
    table = pages.responses({"good": still}, samples, {"good": "Good"}, 50, 0)
    assert (table["agreement"] == 1).all()
    assert findings(responses=table) == "- Good: none of the perturbations changes a held-out decision."
    shown = pages.responses_shown(table.assign(cosine=1.0), "")
    assert " 0 HU" not in shown.caption
    told(shown, "Good: noise (10 HU), cosine 1, 100 % of decisions unchanged")


def test_nothing_perturbed_is_an_empty_table(banked, encoder, samples):
    options = {"batch": None, "seed": 0}
    assert pages.perturbed(banked, "phantom", [encoder], {}, options) == {}
    assert pages.scrambled(banked, "phantom", [encoder], [], options) == {}
    assert pages.responses({}, samples, {}, 50, 0).empty and pages.scramble_table({}, samples, {}, 50, 0).empty
    assert pages.stress_left_out({"perturbations": {}, "controls": {}}, samples, {}).empty


def test_patches_of_each_encoder_are_perturbed_by_its_name(banked, encoder):
    options = {"batch": 2, "seed": 1, "progress": False}
    found = pages.perturbed(banked, COHORT, [encoder], {"shift": [20]}, options)
    assert list(found) == [encoder.name] and list(found[encoder.name].vectors) == [("shift", 20.0)]
    assert set(found[encoder.name].sample_id) == {"a0", "b0", "c0", "d0"}
    found = pages.scrambled(banked, COHORT, [encoder], ["shuffled_full"], options)
    assert list(found[encoder.name].vectors) == ["shuffled_full"]


def test_the_figure_of_responses_tells_the_largest_change(shaken, samples):
    table = pages.responses(shaken, samples, {"good": "Good"}, 50, 0)
    worst = table.loc[table["agreement"].idxmin()]  # the same as in the sentences at the end of the page
    assert (worst["kind"], worst["size"]) == ("noise", 50)
    words = (
        f"Good: noise (50 HU), cosine {worst['cosine']:.3f}, {100 * (worst['agreement']):.0f} % of decisions unchanged"
    )
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
    assert table["control_title"].tolist() == [OF_CONTROLS[name] for name in found.vectors]
    assert table["retrieval"][0] == 1 and table["retrieval"][1] < 0.5
    judged = held.table(list(found.vectors), draws=100, seed=3)
    for column in ("auc_change", "auc_change_low", "auc_change_high"):
        assert_allclose(table[column], judged[column].iloc[1:])
    for column in ("auc", "auc_low", "auc_high"):
        assert set(table[f"clean_{column}"]) == {judged[column][0]}
    assert set(table["samples_with_outcome"]) == {24} and table["clean_auc"][0] == pytest.approx(base)


def test_controls_have_the_names_of_the_published_ones():
    assert set(OF_CONTROLS) == set(CONTROLS) and len(set(OF_CONTROLS.values())) == len(CONTROLS)
    assert published.CONTROLS.items() <= OF_CONTROLS.items()
    assert OF_CONTROLS["randomized_sampled_full"] == "whole patch resampled"


def test_the_caption_of_controls_names_the_embedding(scrambled, samples, monkeypatch):
    monkeypatch.setattr(plots, "controls", lambda _: nothing("drawn"))
    two = {"good": scrambled["good"], "other": scrambled["good"]}
    table = pages.scramble_table(two, samples, {"good": "Good", "other": "Other"}, 50, 0)
    row = table.iloc[1]
    found = f"{100 * row.retrieval:.0f} % found"
    words = f"{row.control_title}: cosine {row.cosine:z.3f}, {found}, AUC {row.auc_change:+.3f} ("
    told(pages.controls_shown(table, ""), f"Good, {words}", f"Other, {words}")


def test_controls_of_a_cohort_without_outcomes_have_likeness_and_no_auc(scrambled, samples):
    labelled = pages.scramble_table(scrambled, samples, {"good": "Good"}, 50, 0)
    table = pages.scramble_table(scrambled, samples.assign(label=np.nan), {"good": "Good"}, 50, 0)
    same = ["control", "cosine", "cosine_low", "cosine_high", "retrieval", "identical", "samples"]
    pd.testing.assert_frame_equal(table[same], labelled[same])
    assert table[["auc_change", "auc_change_low", "clean_auc"]].isna().all(axis=None)
    assert set(table["samples_with_outcome"]) == {0}
    assert findings(controls=table).startswith("- Good: no AUC could be had. Share of samples")
    assert pages.controls_shown(table, "").svg


def test_a_control_that_destroys_the_signal_is_named_and_one_that_does_not_is_not(scrambled, samples):
    clean = signal(strength=8)
    near = {name: vectors + clean - scrambled["good"].clean for name, vectors in scrambled["good"].vectors.items()}
    vectors = near | {"randomized_non_roi": scrambled["good"].vectors["randomized_non_roi"]}
    found = replace(scrambled["good"], clean=clean, vectors=vectors)
    table = pages.scramble_table({"good": found}, samples, {"good": "Good"}, 200, 3)
    assert table["auc_change_high"][1] < 0 <= table["auc_change_high"][0] and table["clean_auc_low"][0] > 0.5
    words = findings(controls=table)
    assert f"of the held-out AUC of the originals, {table['clean_auc'][0]:.2f} (" in words
    assert "these controls cost some: surroundings randomised. Share of samples" in words


def test_where_the_originals_are_at_chance_no_control_is_said_to_cost_anything(scrambled, samples):
    found = scrambled["good"]
    blind = replace(found, clean=normal(24, 6, seed=11))
    table = pages.scramble_table({"good": blind}, samples, {"good": "Good"}, 200, 3)
    assert table["clean_auc_low"][0] <= 0.5
    words = findings(controls=table.assign(auc_change_low=-0.3, auc_change_high=0.1))
    assert "is not shown to be above chance, so that no change of it can be called a loss. Share" in words
    assert "cost some" not in words


def test_at_chance_a_change_whose_interval_leaves_out_nothing_is_told_with_the_auc_it_leads_to():
    rows = CONTROL.assign(clean_auc=0.582, clean_auc_low=0.336, auc_change=[-0.246, 0.3], auc_change_low=[-0.496, 0.1])
    told_of = lambda **more: findings(controls=rows.assign(**more)).partition(" Share")[0]  # noqa: E731
    start = "- A: the held-out AUC of the originals, 0.58 (0.34 to 0.80), is not shown to be above chance, so that no "
    start += "change of it can be called a loss."
    away = "The interval of the change leaves out 0 for tumour shuffled (AUC 0.34)"
    assert told_of(auc_change_high=[-0.014, 0.5]) == f"{start} {away}, whole patch shuffled (AUC 0.88)."
    assert told_of(auc_change_high=[-0.014, 0.5], auc_change_low=[-0.496, -0.1]) == f"{start} {away}."
    assert told_of(auc_change_high=[0.0, 0.5], auc_change_low=[-0.496, 0.0]) == start


@pytest.fixture
def masked(tmp_path, encoder):
    """A bank of three samples: tumour everywhere, in the left half, and one without a mask."""
    x = np.broadcast_to(np.arange(40), (40, 40, 40))
    arrays = {"a": x * 0, "b": x * 0, "c": x * 0, "a.mask": x * 0 + 1, "b.mask": (x < 20) * 1}
    for name, array in arrays.items():
        image = sitk.GetImageFromArray(array.astype(np.int16))
        image.SetOrigin((-19.5, -19.5, -19.5))
        sitk.WriteImage(image, str(tmp_path / f"{name}.nrrd"))
    table = pd.DataFrame({"sample_id": list("abc"), "image": [f"{name}.nrrd" for name in "abc"]})
    points = bank.seed_points(table.assign(x=0.0, y=0.0, z=0.0), 1, [1.0])
    masks = {name: f"{name}.mask.nrrd" for name in "ab"}
    bank.build(tmp_path / "run", COHORT, points, (SMALL,), root=tmp_path, workers=1, masks=masks)
    return tmp_path / "run"


def test_the_share_of_the_tumour_is_the_mean_over_the_samples_that_have_a_mask(masked, banked, encoder):
    assert pages.tumour_share(masked, COHORT, encoder) == pytest.approx((1 + 0.5) / 2, abs=1 / 16)
    assert np.isnan(pages.tumour_share(banked, COHORT, encoder))


def test_every_sample_left_out_of_stress_is_listed(shaken, scrambled, samples):
    given = samples.assign(label=samples["label"].where(samples["sample_id"] != "p07"))
    table = pages.stress_left_out({"perturbations": shaken, "controls": scrambled}, given, {"good": "Good"})
    assert table.iloc[[0, 1, 4, 5]].to_numpy().tolist() == [
        ["Good", "clean", "p99", "outside the image"],
        ["Good", "noise-10", "p98", "not finite"],
        ["Good", "shuffled_roi", "p97", "the mask is empty in the patch"],
        ["Good", "controls", "p07", "no outcome"],
    ]
    assert set(table.iloc[2:4].itertuples(index=False, name=None)) == {
        ("Good", "perturbations", "p07", "no outcome"),
        ("Good", "perturbations", "stranger", "no outcome"),
    }
    assert list(table) == ["embedding", "what", "sample_id", "reason"] and len(table) == 6


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
    return pages.published_controls(run, COHORT, "fmcib", list(controls), samples, RELEASED, 100, 2)


def test_published_controls_are_compared_sample_by_sample(tmp_path, samples, released):
    table, _, lost = published_controls(tmp_path, samples)
    original, others = released
    assert table["control"].tolist() == list(others)
    assert table["control_title"].tolist() == ["tumour shuffled", "surroundings shuffled"]
    assert set(table["embedding"]) == {"fmcib"} and set(table["title"]) == {"FMCIB (own recipe)"}
    held = robustness.jitter.held_out(original, list(others.values()), LABELS, PEOPLE, seed=2)
    judged = held.table(list(others), draws=100, seed=2).iloc[1:]
    for column in ("auc_change", "auc_change_low", "auc_change_high"):
        assert_allclose(table[column], judged[column])
    assert_allclose(table["cosine"], [_cosine(original, vectors) for vectors in others.values()])
    assert table["identical"].tolist() == [2, 1] and set(table["samples"]) == {24} and lost.empty
    assert set(table["samples_with_outcome"]) == {24} and table["clean_auc"][0] == pytest.approx(held.auc[0])


def test_samples_that_a_published_table_lacks_are_listed(tmp_path, samples, released):
    _, others = released
    names = ["stranger", *PEOPLE[:20], *PEOPLE[21:]]
    vectors = np.vstack([normal(1, 6), np.delete(others["fmcib_rest"], 20, axis=0)])
    put(tmp_path, "fmcib_rest", names, vectors, title=RELEASED["fmcib_rest"], source="registry")
    table, _, lost = published_controls(tmp_path, samples)
    assert set(table["samples"]) == {23}
    assert set(lost.itertuples(index=False, name=None)) == {
        ("surroundings shuffled", "p20", "no embedding"),
        ("surroundings shuffled", "stranger", "no annotation"),
    }
    assert list(lost) == ["embedding", "sample_id", "reason"]


@pytest.mark.parametrize(("unknown", "outcomes"), [(["p07"], 23), (PEOPLE, 0)])
def test_published_controls_of_samples_without_an_outcome_still_have_likeness(
    tmp_path, samples, released, unknown, outcomes
):
    given = samples.assign(label=samples["label"].mask(samples["sample_id"].isin(unknown)))
    table, odd, _ = published_controls(tmp_path, given)
    original, others = released
    assert_allclose(table["cosine"], [_cosine(original, vectors) for vectors in others.values()])
    assert set(table["samples"]) == {24} and set(table["samples_with_outcome"]) == {outcomes} and len(odd) == 3
    assert table["auc_change"].notna().all() if outcomes else table["auc_change"].isna().all()


def test_patients_whose_control_is_the_original_are_named(tmp_path, samples, released):
    _, odd, _ = published_controls(tmp_path, samples)
    found = [("tumour shuffled", "p04"), ("tumour shuffled", "p11"), ("surroundings shuffled", "p04")]
    assert list(odd.itertuples(index=False, name=None)) == found and list(odd) == ["control", "sample_id"]
    sentence = findings(odd=odd, cohort="phantom")
    assert "2 samples with controls" in sentence and "p04 (2 controls), p11 (1 control)" in sentence


def test_without_published_controls_there_is_nothing_to_compare(tmp_path, samples):
    assert all(table.empty for table in published_controls(tmp_path, samples, ()))


def test_a_published_control_that_lacks_is_an_error_that_names_it(tmp_path, samples, released):
    with pytest.raises(embeddings.EmbeddingError, match="no embeddings of fmcib_full"):
        published_controls(tmp_path, samples, ["fmcib_full"])


# Sentences and files

DOSE = pd.DataFrame(
    {
        "title": ["A"] * 3 + ["B, untrained"] * 2,
        "embedding": ["a"] * 3 + ["b"] * 2,
        "size_mm": [4.0, 0, 8, 0, 8],
        "cosine": [0.9, 1, 0.8, 1, 0.7],
        "agreement": [0.95, 1, 0.87, 1, 0.63],
        "agreement_low": [0.9, 1, 0.81, 1, 0.52],
        "agreement_high": [0.98, 1, 0.92, 1, 0.74],
        "auc": [0.7, 0.78, 0.61, 0.66, 0.52],
        "auc_low": [0.6, 0.69, 0.5, 0.57, 0.41],
        "auc_high": [0.8, 0.88, 0.72, 0.74, 0.63],
        "auc_change": [-0.08, 0, -0.17, 0, -0.14],
        "auc_change_low": [-0.1, 0, -0.26, 0, -0.25],
        "auc_change_high": [-0.01, 0, -0.07, 0, 0.02],
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
        "samples": 24,
    }
)
CONTROL = pd.DataFrame(
    {
        "title": "A",
        "embedding": "a",
        "control": ["shuffled_roi", "shuffled_full"],
        "control_title": ["tumour shuffled", "whole patch shuffled"],
        "retrieval": [0.76, 0.16],
        "auc_change": [0.004, -0.05],
        "auc_change_low": [-0.012, -0.0341],
        "auc_change_high": [0.02, -0.01],
        "clean_auc": 0.71,
        "clean_auc_low": 0.62,
        "clean_auc_high": 0.8,
    }
)
EMPTY = pd.DataFrame()
JOINED = {"mine": "Mine", "theirs": "Theirs, untrained"}


def findings(cohort="", retest=None, kappas=None, dose=EMPTY, responses=EMPTY, controls=EMPTY, odd=EMPTY):
    """The sentences of a page of which some tables are there."""
    return pages.findings(cohort, retest, kappas or {}, dose, responses, controls, odd, JOINED)


def test_sentences_give_the_numbers_of_the_tables_and_each_bears_its_own_mark():
    both = pd.concat([CONTROL, CONTROL.assign(title="FMCIB", auc_change_high=[0.01, 0.03])])
    lines = findings("phantom", None, KAPPAS, DOSE, RESPONSES, both).splitlines()
    mine, theirs = "PHANTOM", "PHANTOM, UNTRAINED"
    assert lines == [
        f"- {mine}: Mine: kappa by the study's rule is 0.65 with k = 1; in 73 % of cases a moved patch finds itself.",
        f"- {theirs}: Theirs, untrained: kappa by the study's rule is 0.25 with k = 3; in 50 % of cases a moved patch "
        "finds itself.",
        f"- {mine}: A: a seed point that is 8 mm off (standard deviation on each axis) leaves 87 % (81 % to 92 %) of "
        "held-out decisions as they were; the AUC of 0.78 (0.69 to 0.88) changes by -0.17 (-0.26 to -0.07).",
        f"- {theirs}: B, untrained: a seed point that is 8 mm off (standard deviation on each axis) leaves 63 % (52 % "
        "to 74 %) of held-out decisions as they were; the AUC of 0.66 (0.57 to 0.74) changes by -0.14 (-0.25 to "
        "+0.02).",
        f"- {mine}: A: the perturbation that changes the most held-out decisions is noise (50 HU): 29 % of 24, at a "
        "cosine similarity to the clean patch of 0.912.",
        f"- {mine}: A: of the held-out AUC of the originals, 0.71 (0.62 to 0.80), these controls cost some: whole "
        "patch shuffled. Share of samples whose original has its own control nearest: tumour shuffled 76 %, whole "
        "patch shuffled 16 %.",
        f"- {mine}: FMCIB: no control is shown to cost any of the held-out AUC of the originals, 0.71 (0.62 to 0.80); "
        "a loss of up to 0.034 cannot be excluded. Share of samples whose original has its own control nearest: tumour "
        "shuffled 76 %, whole patch shuffled 16 %.",
    ]
    assert findings(COHORT, dose=DOSE).splitlines()[1].startswith("- UNTRAINED: B, untrained: ")


def test_no_change_is_not_told_of_the_clean_patch():
    words = findings(responses=RESPONSES.assign(agreement=1.0))
    assert words == "- A: none of the perturbations changes a held-out decision."


def test_an_interval_that_is_not_known_is_no_loss():
    words = findings(controls=CONTROL.assign(auc_change_low=np.nan, auc_change_high=np.nan))
    assert "no control is shown to cost any of the held-out AUC of the originals, 0.71 (0.62 to 0.80). Share" in words


def test_a_loss_is_called_excluded_only_by_intervals_that_do():
    words = findings(controls=CONTROL.assign(auc_change_low=[0.0, 0.01], auc_change_high=0.2))
    assert "of the originals, 0.71 (0.62 to 0.80). Share" in words and "cannot be excluded" not in words


def test_a_kappa_that_is_undefined_is_said_to_be():
    alike = robustness.StudyKappa(1, np.array([np.nan, np.nan]), np.array([0.1, 0.1]))
    assert "Mine: kappa by the study's rule is undefined with k = 1" in findings(kappas={"mine": alike})
    told(pages.kappas_shown({"mine": alike}, JOINED, ""), "Mine: undefined")


def test_sentences_of_real_tables_give_their_numbers(shaken, scrambled, samples):
    responses = pages.responses(shaken, samples, {"good": "Good"}, 50, 0)
    scramble = pages.scramble_table(scrambled, samples, {"good": "Good"}, 100, 0)
    first, second = findings(responses=responses, controls=scramble).splitlines()
    worst = responses.loc[responses["agreement"].idxmin()]
    assert f"decisions is noise ({worst['size']:g} HU): {100 * (1 - worst['agreement']):.0f} % of 24" in first
    assert f"{worst['cosine']:.3f}" in first and worst["size"] > 0
    row = scramble.iloc[0]
    reach = f"{row.clean_auc:.2f} ({row.clean_auc_low:.2f} to {row.clean_auc_high:.2f})"
    assert second.startswith(f"- Good: the held-out AUC of the originals, {reach}, is not shown to be above chance")
    assert f"tumour shuffled {100 * (scramble['retrieval'][0]):.0f} %" in second


def test_a_page_with_nothing_says_so():
    assert findings("phantom") == "*Nothing to compare on this page.*"


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
    assert values["responses", "a", "agreement noise 50"] == 0.71
    assert values["responses", "a", "cosine shift -40"] == 0.85
    assert values["dose", "b", "auc 8"] == 0.52 and values["dose", "a", "auc 0"] == 0.78
    assert values["controls", "a", "retrieval shuffled_full"] == 0.16
    retest = parts["retest"].set_index("embedding")
    assert values["retest", "good", "gap"] == pytest.approx(retest.loc["good", "gap"])
    assert values["retest", "flat", "identification rate"] == 0 and values["retest", "lacking", "patients"] == 8
    assert (
        values["jitter", "mine", "kappa"] == pytest.approx(0.65) and values["jitter", "theirs", "finds itself"] == 0.5
    )
    counted = {"retest": 3 * 19, "dose": 5 * 10, "responses": 3 * 3, "controls": 2 * 7, "jitter": 4}
    assert tidy["part"].value_counts().to_dict() == counted


def test_a_page_without_any_table_writes_an_empty_tidy_one(tmp_path):
    pages.save(f"{tmp_path}/none", {"retest": None, "dose": EMPTY}, {}, COHORT, {})
    assert list(pd.read_csv(tmp_path / "none.csv")) == ["cohort", "part", "embedding", "quantity", "value"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.csv", "none.provenance.json"]


def test_a_table_of_an_earlier_run_is_not_left(tmp_path):
    pages.save(f"{tmp_path}/x", {"dose": DOSE, "retest": RESPONSES}, {}, COHORT, {})
    assert (tmp_path / "x.dose.provenance.json").exists()
    pages.save(f"{tmp_path}/x", {"dose": EMPTY, "retest": None, "responses": RESPONSES}, {}, COHORT, {})
    kept = {"x.csv", "x.provenance.json", "x.responses.csv", "x.responses.provenance.json"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert set(pd.read_csv(tmp_path / "x.csv")["part"]) == {"responses"}


def test_a_cohort_of_one_class_has_no_kappa_and_the_page_goes_on(tmp_path):
    readers = pages.readers.Readers({"one": jittered_of(np.ones(6))}, pd.Series({1: 4.0, 2: 4.0}), pd.DataFrame())
    found, lost = pages.study_kappas(readers)
    assert found == {} and lost["reason"].str.startswith("no kappa: all 6 labels are 1").all()


def jittered_of(labels):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"sample_id": [f"s{n}" for n in range(len(labels))], "label": labels})
    return pages.readers.Jittered(rows, rng.normal(size=(6, 4)), np.array([1, 2]), rng.normal(size=(2, 6, 4)))
