"""The study of false findings: equal to kNN's own evaluation, and the shares of a test that keeps its promise."""

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import knn, statistics
from tumorbench_utils.probes import ProbeError, linear, null

N = 60
PEOPLE = np.array([f"p{i:02}" for i in range(N)])
LABELS = (np.arange(N) % 5 < 2).astype(int)


@pytest.fixture
def few_splits(monkeypatch):
    monkeypatch.setattr(knn, "N_SPLITS", 3)


def vectors(seed=0, d=5):
    return np.random.default_rng(seed).normal(size=(N, d))


def test_an_outcome_of_chance_has_the_same_numbers_and_splits_that_go_with_it(few_splits):
    before = {each.id: each.split(LABELS, PEOPLE, None) for each in knn.PROTOCOLS}
    outcomes = list(null.permuted(LABELS, 30))
    for one in outcomes:
        assert one.labels.sum() == LABELS.sum()
        for name, splits in one.splits.items():
            for moved, split in zip(splits, before[name], strict=True):
                assert sorted(np.concatenate([moved.train, moved.validation, moved.test])) == list(range(N))
                for part in ("train", "validation", "test"):  # stratified as before
                    assert list(one.labels[getattr(moved, part)]) == list(LABELS[getattr(split, part)])
    assert len({tuple(one.labels) for one in outcomes}) == 30
    assert abs(np.mean([np.corrcoef(one.labels, LABELS)[0, 1] for one in outcomes])) < 0.1
    assert not np.array_equal(outcomes[0].splits["paper"][0].test, before["paper"][0].test)


def test_a_row_is_what_knn_and_the_paired_bootstrap_give(few_splits):
    tables = {"one": vectors(1), "two": vectors(2)}
    outcome = next(null.permuted(LABELS, 1, seed=3))
    row = null.study(tables, PEOPLE, [outcome], k_max=20, draws=100, seed=7).iloc[0]
    named = pd.DataFrame({"sample_id": range(N), "patient_id": range(N)})
    predictions = {}
    for name, each in tables.items():
        for protocol in knn.PROTOCOLS:
            found = protocol.evaluate(each, outcome.labels, outcome.splits[protocol.id], 20)
            if name == "one":
                expected = protocol.interval(found.scores)
                names = [protocol.id, f"{protocol.id}_low", f"{protocol.id}_high"]
                assert list(row[names]) == pytest.approx(expected, abs=1e-12)
        predictions[name] = linear.predictions_table(found.predictions, named)
    paired = statistics.paired_bootstrap(predictions, "one", 100, 7).iloc[0]
    assert (row["p"], row["difference"]) == pytest.approx((paired["p"], paired["difference"]), abs=1e-6)


def test_one_embedding_has_no_difference(few_splits):
    found = null.study({"one": vectors()}, PEOPLE, null.permuted(LABELS, 3), k_max=10)
    assert found["p"].isna().all() and len(null.shares(found)) == 2


def test_shares_count_what_leaves_out_one_half_on_either_side():
    found = pd.DataFrame(
        {
            "paper": [0.6, 0.4, 0.5, 0.52], "paper_low": [0.55, 0.3, 0.4, 0.42], "paper_high": [0.65, 0.5, 0.6, 0.62],
            "grouped": 0.5, "grouped_low": 0.4, "grouped_high": [0.6, 0.6, 0.6, 0.49], "p": [0.04, 0.05, 0.2, 0.01],
        }
    )  # fmt: skip
    shares = null.shares(found)
    assert list(shares["share"]) == [0.25, 0.25, 0.5]
    assert shares["widen"][0] == pytest.approx(np.quantile([0.1 / 0.05, 0.1 / 0.1, 0, 0.02 / 0.1], 0.95))
    assert (shares["low"] < shares["share"]).all() and (shares["outcomes"] == 4).all()


def test_the_papers_interval_makes_findings_up_and_the_corrected_one_does_not():
    found = null.study({"one": vectors()}, PEOPLE, null.permuted(LABELS, 60), k_max=15)
    shares = null.shares(found).set_index("test")["share"]
    assert shares["interval of an AUC, as in the study"] > 0.1
    assert shares["interval of an AUC, patient-grouped, corrected interval"] < 0.1
    assert found["grouped"].mean() == pytest.approx(0.5, abs=0.03)


def test_outcomes_made_elsewhere_are_tried_as_they_are(few_splits):
    outcomes = np.random.default_rng(2).integers(0, 2, (1, N))
    found = null.study({"one": vectors(), "two": vectors(1)}, PEOPLE, null.given(outcomes, PEOPLE), k_max=10, draws=50)
    assert len(found) == 1 and found["p"].between(0, 1).all()
    splits = next(null.given(outcomes, PEOPLE)).splits["grouped"]
    for mine, theirs in zip(splits, knn.grouped_splits(outcomes[0], PEOPLE), strict=True):
        assert np.array_equal(mine.test, theirs.test)


def test_one_sample_of_each_patient():
    patients = np.repeat(["b", "a", "c"], [3, 1, 2])
    rows = null.one_each(patients, seed=1)
    assert sorted(patients[rows]) == ["a", "b", "c"] and list(rows) == sorted(rows)
    assert {int(row) for seed in range(40) for row in null.one_each(patients, seed)} == set(range(6))


def test_bad_input_is_named():
    with pytest.raises(ProbeError, match="one or two embeddings, not on 0"):
        null.study({}, PEOPLE, [])
    with pytest.raises(ProbeError, match="no outcomes"):
        null.study({"one": vectors()}, PEOPLE, [])
    with pytest.raises(ProbeError, match="k goes up to 50, but a split has only 30"):
        null.study({"one": vectors()}, PEOPLE, null.permuted(LABELS, 1))
