"""Tables, figures, sentences and files of the page beyond kNN, from small embedding tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import annotations, artefacts, embeddings, knn, phantom, statistics
from tumorbench_utils import probe_pages as pages
from tumorbench_utils.plots import Shown
from tumorbench_utils.probe_pages.clinic import _null_labels
from tumorbench_utils.probes import calibration, clinical, few_shot, linear

N = 60
PEOPLE = [f"p{number:02}" for number in range(N)]
LABELS = (np.arange(N) % 5 < 2).astype(float)
TITLES = {"volume": "Tumour volume", "good": "Good", "noise": "Noise"}


def annotate(run, cohort="own", people=PEOPLE, **columns):
    rng = np.random.default_rng(0)
    place = dict.fromkeys("xyz", 0.0)
    given = {
        "clinical_age": 60 + 5 * LABELS + 6 * rng.normal(size=N),
        "clinical_site": "one",
        "volume_ml": rng.lognormal(size=N),
    }
    table = pd.DataFrame({"sample_id": people, "patient_id": people, **place, "label": LABELS, **(given | columns)})
    nobody = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
    annotations.write(run, cohort, annotations.Annotations(table.dropna(axis=1, how="all"), nobody), {})


def put(run, name, vectors, cohort="own", people=PEOPLE):
    record = {"parameters": {"title": TITLES[name]}, "inputs": {}}
    embeddings.write(embeddings.path_of(run, cohort, name), people, vectors, record)


def signal(seed=0, strength=1.6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(N, 8)) + strength * LABELS[:, None] * (np.arange(8) < 2) + 0.2


@pytest.fixture(scope="module", autouse=True)
def few_splits():
    """Three splits in place of ten: the pages do the same with each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(knn, "N_SPLITS", 3)
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    annotate(folder)
    put(folder, "good", signal())
    put(folder, "noise", signal(1, 0.0))
    return folder


@pytest.fixture(scope="module")
def judged(run):
    return pages.judged(run, "own", ["good", "noise"], TITLES, k_max=50, trials=3, seed=2)


@pytest.fixture(scope="module")
def known(judged):
    return pages.clinic(judged, draws=50, trials=3, seed=2)


@pytest.fixture(scope="module")
def measures(judged):
    return pages.believed(judged, draws=50)


def best(table):
    """The model and head of the highest AUC, as a caption has it."""
    row = table.loc[table["value"].idxmax()]
    return f"{row['title']}, {row['series']} {row['value']:.3f}"


def told(shown, *words):
    assert isinstance(shown, Shown)
    for word in words:
        assert word in shown.caption, f"{word!r}: {shown.caption}"


def test_both_heads_are_those_of_their_rooms_on_the_same_splits(judged):
    splits = knn.grouped_splits(LABELS, PEOPLE)
    assert judged.k_max == min(len(split.train) for split in splits) < 50
    near = knn.evaluate(signal().astype(np.float32), LABELS, splits, judged.k_max)
    line = linear.evaluate(signal().astype(np.float32), LABELS, splits, 3, 2)
    assert judged.evaluations["good", "knn"].scores.equals(near.scores)
    assert judged.evaluations["good", "linear"].scores.equals(line.scores)
    table = pages.heads_table(judged).set_index(["model", "head"])
    assert tuple(table.loc["good", "knn"][["value", "low", "high"]]) == linear.interval(near)
    assert tuple(table.loc["good", "linear"][["value", "low", "high"]]) == linear.interval(line)
    value = table.loc["good", "linear"]["value"]
    shown = pages.heads_shown(judged, "phantom")
    told(shown, "PHANTOM", f"k (1 to {judged.k_max})", f"Highest is {best(table.reset_index())}")
    assert f"Good, linear probe {value:.3f}" in shown.alt
    assert pages.coverage(judged) is None


def test_differences_are_linear_minus_knn_corrected_over_the_models(judged):
    found = pages.heads_differences(judged, 100, 1)
    assert list(found["title"]) == ["Good", "Noise"]
    assert found["difference"].to_numpy() == pytest.approx(found["linear probe"] - found["kNN"])
    assert list(found["p_holm"]) == list(statistics.holm(found["p"]))
    pair = {"a": judged.predictions["noise", "knn"], "b": judged.predictions["noise", "linear"]}
    expected = statistics.paired_bootstrap(pair, "a", 100, 1).iloc[0]
    assert found["low"][1] == expected["low"] and found["p"][1] == expected["p"]
    assert f"{expected['difference']:+.3f}" in pages.heads_words(found)["difference"][1]


def test_few_labels_say_what_is_impossible(judged):
    found, unable = pages.few_labels(judged, [1, 10, 30], 20, 3)
    assert unable == [30] and set(found["m"]) == {1, 10} and set(found["title"]) == {"Good", "Noise"}
    expected = few_shot.summary(few_shot.evaluate(judged.vectors["noise"], LABELS, PEOPLE, [1, 10], 20, 3))
    assert list(found.loc[found["model"] == "noise", "auc"]) == list(expected["auc"])
    best = found[(found["model"] == "good") & (found["m"] == 10) & (found["judge"] == "class mean")].iloc[0]
    told(pages.few_labels_shown(judged, found, unable, ""), "Too few patients for 30", f"{best['auc']:.2f}", "20 draws")
    nothing, unable = pages.few_labels(judged, [40], 5)
    assert nothing.empty and unable == [40]
    told(pages.few_labels_shown(judged, nothing, unable, ""), "Too few patients for 40")


def test_calibration_and_rare_outcomes(judged, measures):
    expected = calibration.measures(judged.predictions["good", "linear"], 50)
    some = measures[(measures["model"] == "good") & (measures["head"] == "linear")]
    assert list(some["value"]) == list(expected["value"]) and list(some["low"]) == list(expected["low"])
    assert "Good, kNN: predicted" in pages.reliability_shown(judged, "").alt
    skill = some.set_index("measure")["value"]["brier_skill"]
    shown = pages.brier_shown(measures, "untrained")
    told(shown, "UNTRAINED", "; lowest is ")
    assert f"Good, linear probe {skill:.2f} (" in shown.alt
    told(pages.rare_shown(judged, measures, ""), "here 40 %")
    table = pages.calibration_table(measures)
    assert list(table["judge"]) == ["kNN", "linear probe"] * 2 and table["Brier"][0].count(" to ") == 1
    rare = pages.rare_table(measures).set_index(["embedding", "judge"]).loc[("Good", "linear probe")]
    row = some.set_index("measure").loc["pr_auc"]
    assert rare["average precision"] == f"{row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    assert rare["chance"] == row["chance"]


def test_the_clinic_is_compared_with_what_each_embedding_adds(judged, known):
    assert known.used == ["clinical_age"]
    assert dict(known.left_out.to_numpy()) == {"clinical_site": "constant"}
    assert list(known.table["features"]) == ["clinical", "volume", "embedding", "both", "embedding", "both"]
    of = clinical.covariates(judged.annotations)
    alone = clinical.alone(judged.annotations, of, LABELS, judged.splits, 3, 2)
    assert known.table["value"][0] == linear.interval(alone)[0]
    assert known.added["alone"].to_numpy() == pytest.approx([known.table["value"][0]] * 2, abs=1e-6)
    assert known.added["together"][0] == pytest.approx(known.table["value"][3], abs=1e-6)
    assert known.added["difference"][0] > 0.05 > known.added["difference"][1]
    told(
        pages.clinic_shown(known, ""),
        "what the clinic knows (age; the volume is judged alone)",
        "site: constant",
        f"{known.added['difference'][0]:+.3f}",
    )
    table = pages.clinic_table(known)
    assert list(table["embedding"]) == ["Good", "Noise"]
    assert list(table) == ["embedding", "difference", "p, Holm", "alone", "both"]


def test_without_clinical_columns_the_volume_is_what_counts_and_without_both_nothing(tmp_path):
    annotate(tmp_path, clinical_age=np.nan, clinical_site=None)
    put(tmp_path, "good", signal())
    judged = pages.judged(tmp_path, "own", ["good"], {"good": "Tumour volume"}, trials=1)
    found = pages.clinic(judged, draws=20, trials=1)
    assert list(found.table["title"]) == ["Tumour volume, as a covariate", "Tumour volume", "Tumour volume"]
    assert list(found.table["features"]) == ["volume", "embedding", "both"]
    assert found.table["series"].iloc[-1] == "with tumour volume"
    annotate(tmp_path, clinical_age=np.nan, clinical_site=None, volume_ml=np.nan)
    assert pages.clinic(pages.judged(tmp_path, "own", ["good"], TITLES, trials=1), draws=20) is None


def test_the_volume_is_not_asked_what_it_adds_to_itself(tmp_path):
    annotate(tmp_path, clinical_age=np.nan, clinical_site=None)
    for name in ("good", "volume"):
        put(tmp_path, name, signal())
    judged = pages.judged(tmp_path, "own", ["good", "volume"], TITLES, trials=1)
    found = pages.clinic(judged, draws=20, trials=1)
    assert found.table.groupby("features", sort=False)["model"].agg(list).to_dict() == {
        "volume": ["volume"],
        "embedding": ["good", "volume"],
        "both": ["good"],
    }
    assert list(found.added["name"]) == ["good"]


def test_the_tests_are_tried_on_outcomes_of_chance(judged):
    study, shares, untried = pages.honest(judged, 8, seed=1)
    assert untried == ""
    assert len(study) == 8 and list(shares["outcomes"]) == [8] * 3 and study["p"].notna().all()
    again, *_ = pages.honest(judged, 8, seed=1)
    assert again.equals(study)
    told(
        pages.honest_shown(judged, study, shares, ""),
        "8 outcomes",
        f"Something was found in {100 * shares['share'][0]:.1f} %",
        "Good and Noise",
    )


def test_where_one_sample_a_patient_leaves_too_few_the_page_says_so(judged):
    few = replace(judged, labels=(np.arange(N) < 9).astype(int))
    study, shares, untried = pages.honest(few, 3)
    assert study.empty and shares.empty and "not tried on outcomes of chance" in untried and "9 positive" in untried


def crowded(judged, count=14):
    """The same embeddings under many names, one of them the volume."""
    names = [*(f"m{number}" for number in range(count - 1)), "volume"]
    of = {name: ("good", "noise")[number % 2] for number, name in enumerate(names)}
    heads = ("knn", "linear")
    return replace(
        judged,
        titles={name: name.capitalize() for name in names},
        vectors={name: judged.vectors[of[name]] for name in names},
        evaluations={(name, head): judged.evaluations[of[name], head] for name in names for head in heads},
        predictions={(name, head): judged.predictions[of[name], head] for name in names for head in heads},
    )


def test_many_embeddings_are_shown_twelve_at_a_time_and_few_labels_of_the_best_and_volume(judged, measures):
    many = crowded(judged)
    first, last = pages.heads_shown(many, "untrained").shown
    assert first.alt.count("; ") == 23 and first.caption.count("; ") == 1 and "Volume, kNN" in last.alt
    some = measures[measures["model"] == "good"]
    each = [some.assign(model=name, title=title) for name, title in many.titles.items()]
    assert len(pages.brier_shown(pd.concat(each), "").shown) == 2
    one, unable = pages.few_labels(judged, [1], 5)
    few = pd.concat(
        [one[one["model"] == "good"].assign(model=name, title=title) for name, title in many.titles.items()]
    )
    shown = pages.few_labels_shown(many, few, unable, "")
    assert "Of 14 embeddings" in shown.caption and "Volume: " in shown.alt and shown.alt.count(" from 1") == 6
    assert "M0: " in shown.alt and "M1: " not in shown.alt  # the good, not the noise


def test_calibration_has_a_row_a_table_though_two_have_one_title(measures):
    table = pages.calibration_table(measures.assign(title="Same"))
    assert list(table["embedding"]) == ["Same"] * 4
    assert list(table["Brier"]) == list(pages.calibration_table(measures)["Brier"])


def test_phantoms_are_given_the_outcomes_of_their_null_twins(tmp_path):
    people = [f"PHANTOM-0-{number:04d}" for number in range(N)]
    annotate(tmp_path, "phantom_a", people)
    put(tmp_path, "good", signal(), "phantom_a", people)
    judged = pages.judged(tmp_path, "phantom_a", ["good"], TITLES, trials=1)
    few = np.arange(30)
    expected = [phantom.case(number, null=True).malignant for number in few]
    assert list(_null_labels(judged, few)) == expected != list(judged.labels[few])


def test_findings_and_files_have_the_numbers_of_the_tables(run, judged, known, measures):
    differences, (few, _) = pages.heads_differences(judged, 50), pages.few_labels(judged, [1, 5], 10)
    _, shares, _ = pages.honest(judged, 3)
    words = pages.findings(judged, differences, few, measures, known, ["A word on survival."], shares, "phantom")
    above = (pages.heads_table(judged).query("head == 'knn'")["low"] > 0.5).sum()
    assert f"chance for {above} of 2 embeddings with kNN" in words and "- PHANTOM: A word on survival." in words
    assert f"AUC {known.table['value'][0]:.3f}" in words and words.count("\n- ") == 5
    survival = pd.DataFrame([["x"] * 12], columns=pages.rows(judged, few, measures, None, None).columns)
    table = pages.rows(judged, few, measures, known, survival)
    assert set(table["head"]) == {"knn", "linear", "few_shot_1", "few_shot_5", "x"}
    assert set(table["measure"]) == {
        "auc", "pr_auc", "brier", "brier_skill", "calibration_slope", "calibration_error", "x",
    }  # fmt: skip
    assert not table.drop(columns=["value", "low", "high"]).duplicated().any()
    assert (table["n"].iloc[:-1] == N).all() and (table["positives"].iloc[:-1] == LABELS.sum()).all()
    record = artefacts.provenance({"cohort": "own"}, {})
    stem = run / "results" / "3b_beyond_knn" / "own"
    pages.save(stem, table, {"null": shares, "added": known.added}, record)
    assert len(pd.read_csv(f"{stem}.csv")) == len(table) and len(pd.read_csv(f"{stem}.null.csv")) == 3
    pages.save(stem, table, {"null": shares, "added": None}, record)
    assert not (stem.parent / "own.added.csv").exists() and (stem.parent / "own.null.csv").exists()
    pages.write_predictions(run, judged, record)
    back = pd.read_parquet(run / "predictions" / "own" / "linear" / "good.parquet")
    assert list(back) == ["protocol", "split", "sample_id", "patient_id", "label", "probability", "c"]
    assert (back["protocol"] == "grouped").all() and back["split"].nunique() == 3


def test_what_one_side_lacks_is_counted(tmp_path):
    annotate(tmp_path)
    put(tmp_path, "good", signal()[:-1], people=PEOPLE[:-1])
    found = pages.coverage(pages.judged(tmp_path, "own", ["good"], TITLES, trials=1))
    assert found.to_numpy().tolist() == [["Good", "embeddings", 1]]
