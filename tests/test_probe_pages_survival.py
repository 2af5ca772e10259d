"""The survival part of a page, from small tables of a run: who is followed, who is left out, what is said."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from tumorbench_utils import annotations, embeddings
from tumorbench_utils.plots import Shown
from tumorbench_utils.probe_pages import survival as page
from tumorbench_utils.probes import concordance

COHORT, N = "own", 70
MODELS = ["good", "noise"]
TITLES = {"good": "Good", "noise": "Noise", "unused": "Unused"}


def follow_up(n=N, seed=0):
    rng = np.random.default_rng(seed)
    hazard = rng.normal(size=n)
    death, leave = rng.exponential(700 * np.exp(-1.8 * hazard)), rng.exponential(2500, n)
    return hazard, np.ceil(np.minimum(death, leave)) + 1, (death <= leave).astype(float), rng


def write(run, follow=True, events=None, clinical=True, known=True):
    """70 patients; those censored before two years are excluded by the endpoint, but embedded."""
    hazard, time, event, rng = follow_up()
    event = event if events is None else events
    names = np.array([f"p{number:02}" for number in range(N)])
    table = pd.DataFrame({"sample_id": names, "patient_id": names, "x": 0.0, "y": 0.0, "z": 0.0})
    table["label"] = np.where(time > 730, 1.0, np.where(event == 1, 0.0, np.nan))
    if follow:
        table["time_days"], table["event"] = time, event
    if clinical:
        table["clinical_age"] = np.where(np.arange(N) % 9 == 0, np.nan, 60 + 5 * hazard + rng.normal(0, 5, N))
        table["clinical_gender"] = np.where(rng.random(N) < 0.5, "male", "female")
        table["volume_ml"] = np.exp(1 + 0.7 * hazard + rng.normal(size=N))
    early = table["label"].isna()
    names_kept = ["sample_id", "patient_id", "time_days", "event"] + [
        "clinical_age",
        "clinical_gender",
        "volume_ml",
    ] * known
    kept = [name for name in names_kept if name in table]
    twice = table.loc[~early, kept].head(2).assign(sample_id=["again0", "again1"])
    excluded = pd.concat([table.loc[early, kept], twice]).assign(reason="by the endpoint")
    if follow:
        table.loc[table.index[~early][5], "time_days"] = np.nan
    found = annotations.Annotations(table[~early].reset_index(drop=True), excluded.reset_index(drop=True))
    annotations.write(run, COHORT, found, {})
    vectors = {
        "good": np.column_stack([hazard, rng.normal(size=(N, 5))]) + 0.1,
        "noise": np.random.default_rng(9).normal(size=(N, 8)),
    }
    ids = [*names, "again0", "again1"]
    for name, values in vectors.items():
        some = slice(0, None) if name == "good" else slice(1, None)  # the first patient has no noise
        record = {"parameters": {"title": name}, "inputs": {}}
        both = np.vstack([values, values[:2] + 0.01])
        embeddings.write(embeddings.path_of(run, COHORT, name), ids[some], both[some], record)
    return table, early.to_numpy()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    table, early = write(run)
    return page.survived(run, COHORT, MODELS, TITLES, draws=200), table, early


def test_everybody_followed_is_used_once_those_too_whom_the_endpoint_left_out(made):
    found, table, early = made
    used, gone = set(found.samples["patient_id"]), table["patient_id"][~early].iloc[5]
    assert early.sum() > 3 and set(table["patient_id"][early]) <= used
    assert used == set(table["patient_id"]) - {gone} and len(found.samples) == N - 1
    # the first patient's first scan is in one table only, the second scan in both
    assert [name for name in found.samples["sample_id"] if name.startswith("again")] == ["again0"]
    assert found.early == early.sum() and found.labelled == N - 1 - early.sum() - 1
    reasons = found.left_out.set_index("sample_id")["reason"].to_dict()
    assert reasons == {
        "p00": "no embedding in every table",
        gone: "no follow-up",
        "again1": "another sample of a patient counted already",
    }
    counts = page.survival_left_out(found)
    assert list(counts) == ["reason", "samples"] and counts["samples"].sum() == 3


def test_the_table_has_the_columns_of_the_results_and_the_planted_model_leads(made):
    found = made[0]
    table = page.survival_table(found, "survival")
    assert list(table) == [*page.COLUMNS, "positives"]
    assert set(table["measure"]) == {"c_harrell", "c_td", "auc_two_year"} and set(table["variant"]) == {"survival"}
    assert (table["n"] == len(found.samples)).all() and (table["positives"] == found.samples["event"].sum()).all()
    heads = table.groupby("model")["head"].unique().map(set)
    assert heads["good"] == {"cox", "knn_survival"} and heads["clinical"] == heads["volume"] == {"cox"}
    assert set(table["features"][table["model"] == "clinical"]) == {"clinical"}
    assert set(table["features"][table["model"] == "volume"]) == {"embedding"}
    values = table[table["measure"] == "c_harrell"].set_index(["model", "head"])
    assert values["value"]["good", "cox"] > 0.7 and values["value"]["volume", "cox"] > 0.6
    assert values["value"]["noise", "cox"] < 0.6 and values["low"]["noise", "cox"] < 0.5
    each = found.evaluations["good", "cox"]
    row = each.predictions[each.predictions["split"] == 0]
    samples = found.samples.iloc[row["row"]]
    alone = concordance.harrell(samples["time_days"], samples["event"], row["risk"]).value
    assert each.scores["c_harrell"][0] == pytest.approx(alone)
    assert found.foremost == "good"


def test_clinical_numbers_keep_their_gaps_and_words_become_columns():
    samples = pd.DataFrame({"patient_id": list("abcd"), "clinical_age": [60.5, np.nan, 70.0, 71.0],
                            "clinical_stage": ["I", None, "II", "I"]})  # fmt: skip
    matrix = page._clinical(samples, page.Covariates(("clinical_age",), ("clinical_stage",), pd.DataFrame()))
    expected = [[60.5, 0, 1, 0, 0], [np.nan, 1, 0, 0, 1], [70, 0, 0, 1, 0], [71, 0, 1, 0, 0]]
    assert_allclose(matrix, expected)


def test_figures_and_sentences_carry_the_numbers_of_the_run_and_the_mark(made):
    found = made[0]
    forest, groups = page.survival_shown(found, "phantom"), page.risk_groups_shown(found, "phantom")
    values = page.survival_table(found)
    best = values[values["measure"] == "c_harrell"]["value"].max()
    assert isinstance(forest, Shown) and f"{best:.2f}" in forest.caption and "Noise" in forest.alt
    ratio = found.groups["good"][2].hazard_ratio
    assert f"hazard ratio {ratio:.2f}" in groups.caption and "Good" in groups.caption and ratio > 1.5
    for shown in (forest, groups):
        assert shown.caption.startswith("PHANTOM: ") and "nan" not in shown.caption
    sentences = page.survival_found(found)
    assert (
        f"{len(found.samples)} patients were followed" in sentences[0] and f"{found.early} left before" in sentences[0]
    )
    assert any("Brier" in line for line in sentences) and not any("nan" in line for line in sentences)
    table = page.risk_groups_table(found)
    assert list(table["groups"]) == [2, 3] * 4 and (table["p, Holm"] >= table["log-rank p, one-sided"]).all()


def test_differences_are_to_the_first_model_in_each_head(made):
    table = made[0].differences
    assert sorted(table["name"][table["head"] == "cox"]) == ["clinical", "noise", "volume"]
    assert list(table["name"][table["head"] == "knn_survival"]) == ["noise"]
    row = table[(table["name"] == "noise") & (table["head"] == "cox")].iloc[0]
    assert row["difference"] < 0 and row["high"] < 0


def test_what_is_lacking_is_said_and_gives_nothing(tmp_path):
    write(tmp_path / "none", follow=False, clinical=False)
    assert page.survived(tmp_path / "none", COHORT, MODELS, TITLES, 10) is None
    lacking = page.survival_lacking(tmp_path / "none", COHORT, MODELS)
    assert lacking == "Own images has no follow-up: its annotations have no time_days and event."
    one = np.zeros(N)
    one[3] = 1
    write(tmp_path / "one", events=one)
    assert page.survived(tmp_path / "one", COHORT, MODELS, TITLES, 10) is None
    assert "1 deaths among 68 patients" in page.survival_lacking(tmp_path / "one", COHORT, MODELS)
    assert page.survival_lacking(tmp_path / "one", COHORT, []) == "No embedding was named."


def test_covariates_that_nobody_knows_of_the_excluded_are_not_used_and_named(tmp_path, made):
    assert made[0].unknown == [] and made[0].samples["volume_ml"].notna().all()
    write(tmp_path, known=False)
    found = page.survived(tmp_path, COHORT, MODELS, TITLES, draws=20)
    assert found.unknown == ["clinical_age", "clinical_gender", "volume_ml"]
    assert set(found.features) == set(MODELS) and len(found.samples) == len(made[0].samples)
    line = "Not used, since they are not known of patients whom the endpoint left out: age, sex, tumour volume."
    assert line in page.survival_found(found)


def test_covariates_of_the_excluded_are_theirs_though_a_file_has_them_as_text(tmp_path):
    table, early = write(tmp_path)
    path = annotations.path_of(tmp_path, COHORT).with_suffix(".excluded.csv")
    text = pd.read_csv(path, dtype=str)
    text.loc[text.index[0], "clinical_age"] = "unknown"
    text.to_csv(path, index=False)
    everybody = page._everybody(tmp_path, COHORT).set_index("sample_id")
    first, second = table["sample_id"][early].iloc[:2]
    ages = table.set_index("sample_id")["clinical_age"]
    assert np.isnan(everybody.loc[first, "clinical_age"])
    assert everybody.loc[second, "clinical_age"] == pytest.approx(ages[second])
    assert everybody.loc[second, "clinical_gender"] == table.set_index("sample_id").loc[second, "clinical_gender"]
