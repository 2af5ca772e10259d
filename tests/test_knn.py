"""The one pass over k against scikit-learn and Optuna, the splits against the released code's, bad input."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from tests import real
from tumorbench_utils import knn, statistics


def toy(n=200, dim=8, signal=0.4, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    return rng.normal(size=(n, dim)) + signal * labels[:, None], labels


def real_table():
    given = real.registry()
    labels = given.annotations.table["label"].to_numpy(int)
    return given.tables["fmcib_authors"][1], labels


def test_paper_protocol_gives_the_known_figure_on_real_embeddings():
    vectors, labels = real_table()
    evaluation = knn.PROTOCOLS.get("paper").evaluate(vectors, labels, knn.paper_splits(labels))
    mean, low, high = knn.PROTOCOLS.get("paper").interval(evaluation.scores)
    assert (round(mean, 3), round(low, 3), round(high, 3)) == (0.579, 0.553, 0.605)


def test_grouped_interval_learns_from_training_and_validation_samples():
    vectors, labels = toy()
    protocol = knn.PROTOCOLS.get("grouped")
    scores = protocol.evaluate(vectors, labels, protocol.split(labels, np.arange(200), None)).scores
    seen = (scores["n_train"] + scores["n_validation"]).mean()
    expected = statistics.corrected_interval(scores["test_auc"], seen, scores["n_test"].mean())
    assert protocol.interval(scores) == expected and seen > 130


@pytest.mark.parametrize("number", [0, 4])
def test_curve_k_and_auc_are_those_of_scikit_learn_and_optuna_on_real_embeddings(number):
    vectors, labels = real_table()
    split = knn.paper_splits(labels)[number]
    ours = knn.evaluate(vectors, labels, [split], preference=knn.grid_order())
    study = knn.optuna_study(vectors, labels, split)
    theirs = {trial.params["k"]: trial.value for trial in study.trials}
    assert ours.curves[0] == pytest.approx([theirs[k] for k in range(1, 51)], abs=1e-12)
    k = study.best_params["k"]
    assert ours.scores["k"][0] == k
    doubled = vectors.astype(np.float64)
    classifier = KNeighborsClassifier(k, metric="cosine").fit(doubled[split.train], labels[split.train])
    probability = classifier.predict_proba(doubled[split.test])[:, 1]
    assert ours.predictions["probability"].to_numpy() == pytest.approx(probability, abs=1e-12)
    assert ours.scores["test_auc"][0] == pytest.approx(roc_auc_score(labels[split.test], probability), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_chosen_k_agrees_with_optuna_where_many_k_tie(seed):
    vectors, labels = toy(n=60, dim=2, signal=1.2, seed=seed)  # few validation samples: many ties
    split = knn.paper_splits(labels)[0]
    k_max = 20
    ours = knn.evaluate(vectors, labels, [split], k_max, knn.grid_order(k_max))
    tied = np.isclose(ours.curves[0], ours.curves[0].max()).sum()
    assert ours.scores["k"][0] == knn.optuna_study(vectors, labels, split, k_max).best_params["k"], f"{tied} tied"


def test_grid_order_is_the_order_of_optunas_trials_and_of_the_released_notebooks():
    vectors, labels = toy(n=120)
    trials = knn.optuna_study(vectors, labels, knn.paper_splits(labels)[0]).trials
    assert [trial.params["k"] for trial in trials] == list(knn.grid_order())
    assert list(knn.grid_order()[:4]) == [29, 12, 11, 42]  # as the outputs of the released notebooks show


def test_without_a_preference_the_smallest_k_wins_a_tie():
    labels = np.array([0, 1] * 30)
    vectors = np.column_stack([np.where(labels, 1.0, -1.0), np.linspace(0.1, 0.2, 60)])  # every k is perfect
    scores = knn.evaluate(vectors, labels, knn.paper_splits(labels), k_max=5).scores
    assert set(scores["k"]) == {1} and set(scores["test_auc"]) == {1.0}


def test_paper_splits_are_the_released_two_calls():
    labels = toy()[1]
    for split in knn.paper_splits(labels):
        rest, test = train_test_split(np.arange(200), test_size=1 - 0.5 - 0.2, random_state=split.seed, stratify=labels)
        train, validation = train_test_split(
            rest, test_size=0.2 / (0.5 + 0.2), random_state=split.seed, stratify=labels[rest]
        )
        assert all(map(np.array_equal, (split.train, split.validation, split.test), (train, validation, test)))
    assert [split.seed for split in knn.paper_splits(labels)] == list(range(10, 20))


def test_grouped_splits_keep_patients_together_and_classes_balanced():
    rng = np.random.default_rng(2)
    patients = rng.integers(0, 150, 600)
    labels = (rng.random(150) < 0.3).astype(int)[patients]
    for split in knn.grouped_splits(labels, patients):
        parts = (split.train, split.validation, split.test)
        assert sorted(np.concatenate(parts)) == list(range(600))
        people = [set(patients[part]) for part in parts]
        assert not (people[0] & people[1] or people[0] & people[2] or people[1] & people[2])
        assert [len(part) / 600 for part in parts] == pytest.approx([0.5, 0.2, 0.3], abs=0.05)
        assert [labels[part].mean() for part in parts] == pytest.approx([labels.mean()] * 3, abs=0.08)


def test_blocks_of_rows_do_not_change_a_bit(monkeypatch):
    vectors, labels = toy()
    splits = knn.paper_splits(labels)
    whole = knn.evaluate(vectors, labels, splits)
    monkeypatch.setattr(knn, "BLOCK", 7)
    blocked = knn.evaluate(vectors, labels, splits)
    pd.testing.assert_frame_equal(whole.scores, blocked.scores)
    pd.testing.assert_frame_equal(whole.predictions, blocked.predictions)


def test_equal_distances_keep_the_order_of_the_rows():
    vectors = np.ones((6, 3))  # all at distance 0 of one another
    labels = np.array([1, 0, 0, 0, 1, 0])
    split = knn.Split(0, np.array([0, 1, 2, 3]), np.array([4, 5]), np.array([4, 5]))
    assert list(knn.evaluate(vectors, labels, [split], k_max=1).predictions["probability"]) == [1.0, 1.0]


def test_predictions_give_the_auc_and_carry_identifiers():
    vectors, labels = toy()
    annotations = pd.DataFrame(
        {"sample_id": [f"s{i}" for i in range(200)], "patient_id": [f"p{i}" for i in range(200)]}
    )
    evaluation = knn.evaluate(vectors, labels, knn.paper_splits(labels))
    table = knn.predictions_table({"paper": evaluation}, annotations)
    for split, rows in table.groupby("split"):
        assert roc_auc_score(rows["label"], rows["probability"]) == pytest.approx(evaluation.scores["test_auc"][split])
        assert list(rows["label"]) == [labels[int(name[1:])] for name in rows["sample_id"]]
    assert list(table) == ["protocol", "split", "sample_id", "patient_id", "label", "probability", "k"]


def test_auc_curve_against_scikit_learn_at_every_k():
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 80)
    votes = np.cumsum(rng.integers(0, 2, (80, 30)), axis=1)
    expected = [roc_auc_score(labels, votes[:, k]) for k in range(30)]
    assert knn.auc_curve(votes, labels) == pytest.approx(expected, abs=1e-12)


def test_mean_aucs_equal_single_evaluations():
    vectors, labels = toy(n=120)
    repeats = knn.reseeded_splits(labels, 12)
    together = knn.mean_aucs(vectors, labels, repeats, knn.grid_order())
    alone = [knn.evaluate(vectors, labels, s, preference=knn.grid_order()).scores["test_auc"].mean() for s in repeats]
    assert together == pytest.approx(alone, abs=1e-12)
    assert [splits[0].seed for splits in repeats[:2]] == [20, 30]


def test_reordered_splits_are_paper_splits_of_shuffled_rows():
    vectors, labels = toy(n=120)
    order = np.random.default_rng(1).permutation(120)
    there = knn.evaluate(vectors[order], labels[order], knn.paper_splits(labels[order])).scores["test_auc"]
    here = knn.evaluate(vectors, labels, knn.reordered(labels, order)).scores["test_auc"]
    assert list(here) == pytest.approx(list(there), abs=1e-12)
    assert len(knn.reordered_splits(labels, 3)) == 3


def test_bad_input_is_named():
    vectors, labels = toy(n=60)
    with pytest.raises(knn.KNNError, match="k goes up to 50, but a split has only 29 training samples"):
        knn.evaluate(vectors, labels, knn.paper_splits(labels))
    with pytest.raises(knn.KNNError, match="60 embeddings but 59 labels"):
        knn.evaluate(vectors, labels[:-1], knn.paper_splits(labels))
    with pytest.raises(statistics.LabelError, match="all 60 labels are 0"):
        knn.paper_splits(np.zeros(60))
    with pytest.raises(knn.KNNError, match="cannot be split 50/20/30"):
        knn.paper_splits([0, 1] + [0] * 58)
    with pytest.raises(knn.KNNError, match="10 patients of each class; there are 2 positive, 2 negative"):
        knn.grouped_splits([0, 1] * 30, ["a", "b", "c", "d"] * 15)
    with pytest.raises(LookupError, match=r"unknown protocol 'papre'\. Did you mean 'paper'"):
        knn.PROTOCOLS.get("papre")


def test_unusable_vectors_and_parts_are_named():
    vectors, labels = toy(n=120)
    splits = knn.paper_splits(labels)
    for value in (np.nan, 0.0):
        broken = vectors.copy()
        broken[7] = value
        with pytest.raises(knn.KNNError, match="1 embeddings hold NaN or are zero, the first is row 7"):
            knn.evaluate(broken, labels, splits)
    with pytest.raises(knn.KNNError, match="0 splits"):
        knn.evaluate(vectors, labels, [])
    negatives = np.flatnonzero(labels == 0)
    with pytest.raises(knn.KNNError, match="validation part of the split of seed 3 has one class only"):
        knn.evaluate(vectors, labels, [knn.Split(3, splits[0].train, negatives[:4], splits[0].test)])
