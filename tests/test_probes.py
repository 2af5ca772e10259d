"""The linear probe against scikit-learn on raw standardised features; what it may look at; bad input."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tumorbench_utils import knn, statistics
from tumorbench_utils.probes import ProbeError, linear


def toy(n=120, d=30, signal=0.6, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 5 < 2).astype(int)
    vectors = rng.normal(size=(n, d)) * np.geomspace(0.1, 10, d) + 3
    return vectors + signal * labels[:, None] * np.geomspace(0.1, 10, d) * (np.arange(d) < 3), labels


def sklearn_logits(training, labels, other, c):
    model = make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-12, max_iter=20000, solver="lbfgs"))
    model.fit(np.asarray(training, np.float64), labels)
    return model.predict_proba(np.asarray(other, np.float64))[:, 1]


@pytest.mark.parametrize("d", [4, 30, 300])  # fewer and more dimensions than training samples
@pytest.mark.parametrize("c", [1e-4, 0.03, 5.0])
def test_probabilities_are_those_of_scikit_learn_on_standardised_features(d, c):
    vectors, labels = toy(d=d)
    vectors[:60, 1] = 7.0  # constant in training, not in test
    basis, coordinates = linear.span(vectors[:60])
    assert coordinates.shape[1] <= min(59, d)
    ours = 1 / (1 + np.exp(-linear.solve(coordinates, labels[:60], c).logits(basis.coordinates(vectors[60:]))))
    assert ours == pytest.approx(sklearn_logits(vectors[:60], labels[:60], vectors[60:], c), abs=1e-5)


def test_a_rotation_of_correlated_dimensions_in_float32_loses_nothing():
    rng = np.random.default_rng(1)
    labels = (np.arange(100) % 5 < 2).astype(int)
    vectors = (
        rng.normal(size=(100, 12)) @ rng.normal(size=(12, 1000)) + 1e-3 * rng.normal(size=(100, 1000)) + 50
    ).astype("f4")
    basis, coordinates = linear.span(vectors[:60])
    ours = 1 / (1 + np.exp(-linear.solve(coordinates, labels[:60], 1e-3).logits(basis.coordinates(vectors[60:]))))
    assert coordinates.shape[1] < 60
    assert ours == pytest.approx(sklearn_logits(vectors[:60], labels[:60], vectors[60:], 1e-3), abs=1e-5)


def test_a_warm_start_changes_the_way_not_the_end():
    vectors, labels = toy()
    _, coordinates = linear.span(vectors)
    cold = linear.solve(coordinates, labels, 0.1)
    warm = linear.solve(coordinates, labels, 0.1, linear.solve(coordinates, labels, 0.09).weights)
    assert warm.weights == pytest.approx(cold.weights, abs=1e-6) and warm.steps < cold.steps


@pytest.mark.parametrize("c", [1e-6, 0.1, 100.0])
def test_logits_are_those_of_newtons_method_with_the_whole_hessian(c):
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(450, 700)) * np.arange(1, 701) ** -0.5 @ rng.normal(size=(700, 700))
    labels = (vectors[:, 0] + vectors[:, 0].std() * rng.normal(size=450) > 0.5).astype(int)
    basis, coordinates = linear.span(vectors[:400])
    held = basis.coordinates(vectors)
    model = LogisticRegression(C=c, solver="newton-cholesky", tol=1e-12).fit(coordinates, labels[:400])
    cold = linear.solve(coordinates, labels[:400], c)
    warm = linear.solve(coordinates, labels[:400], c, linear.solve(coordinates, labels[:400], c * 30).weights)
    for found in (cold, warm):
        assert found.logits(held) == pytest.approx(model.decision_function(held), abs=1e-6)


def test_a_start_far_off_still_ends_at_the_optimum():
    vectors, labels = toy()
    _, coordinates = linear.span(vectors)
    far = np.full(coordinates.shape[1] + 1, 20.0)
    cold = linear.solve(coordinates, labels, 5.0)
    assert linear.solve(coordinates, labels, 5.0, far).weights == pytest.approx(cold.weights, abs=1e-6)
    assert (far == 20).all()


def test_c_is_the_best_on_validation_and_ties_go_to_the_lower_log_loss():
    vectors, labels = toy()
    fitted = linear.fit(vectors[:60], labels[:60], vectors[60:90], labels[60:90], trials=12, seed=3)
    for row in fitted.trials.itertuples():
        probability = sklearn_logits(vectors[:60], labels[:60], vectors[60:90], row.c)
        assert row.auc == pytest.approx(roc_auc_score(labels[60:90], probability), abs=1e-12)
    assert fitted.validation_auc == fitted.trials["auc"].max() and len(fitted.trials) == 12
    assert fitted.trials["c"].between(linear.LOWEST, linear.HIGHEST).all()
    one = linear.fit(vectors[:60, :1], labels[:60], vectors[60:90, :1], labels[60:90], trials=12)
    tied = one.trials[one.trials["auc"] == one.trials["auc"].max()]
    assert len(tied) > 6 and one.c == tied.loc[tied["log_loss"].idxmin(), "c"] != tied["c"].iloc[0]


def test_each_split_learns_from_train_chooses_on_validation_and_scores_test():
    vectors, labels = toy()
    splits = knn.grouped_splits(labels, np.arange(120), [10, 11])
    found = linear.evaluate(vectors, labels, splits, trials=5, seed=5)
    for number, split in enumerate(splits):
        parts = (vectors[split.train], labels[split.train], vectors[split.validation], labels[split.validation])
        fitted = linear.fit(*parts, 5, 5 + split.seed)
        rows = found.predictions[found.predictions["split"] == number]
        assert list(rows["row"]) == list(split.test) and (rows["c"] == fitted.c).all()
        expected = sklearn_logits(vectors[split.train], labels[split.train], vectors[split.test], fitted.c)
        assert rows["probability"].to_numpy() == pytest.approx(expected, abs=1e-5)
        scores = found.scores.iloc[number]
        assert scores["test_auc"] == pytest.approx(roc_auc_score(labels[split.test], expected), abs=1e-9)
        assert scores["validation_auc"] == fitted.validation_auc
        assert list(scores[["n_train", "n_validation", "n_test"]]) == [
            len(split.train),
            len(split.validation),
            len(split.test),
        ]
    again = linear.evaluate(vectors, labels, splits, trials=5, seed=5)
    assert again.scores.equals(found.scores)


def test_test_samples_change_nothing_but_their_own_prediction():
    vectors, labels = toy()
    split = knn.grouped_splits(labels, np.arange(120), [10])[0]
    before = linear.evaluate(vectors, labels, [split], trials=5)
    changed, flipped = vectors.copy(), labels.copy()
    changed[split.test[1:]] *= -5
    flipped[split.test[:2]] = [1 - flipped[split.test[0]], flipped[split.test[1]]]
    after = linear.evaluate(changed, flipped, [split], trials=5)
    assert before.scores["c"][0] == after.scores["c"][0]
    assert before.predictions["probability"][0] == after.predictions["probability"][0]


def test_the_released_probe_is_scikit_learns_on_raw_features_and_counts_what_stops_short(monkeypatch):
    vectors, labels = toy(d=200)
    splits = knn.grouped_splits(labels, np.arange(120), [10, 11])
    found = linear.released(vectors, labels, splits)
    model = LogisticRegression(max_iter=1000).fit(vectors[splits[1].train], labels[splits[1].train])
    rows = found.predictions[found.predictions["split"] == 1]
    assert rows["probability"].to_numpy() == pytest.approx(
        model.predict_proba(vectors[splits[1].test])[:, 1], abs=1e-12
    )
    assert found.scores["converged"].all()
    monkeypatch.setattr(linear, "ITERATIONS", 5)
    assert not linear.released(vectors, labels, splits).scores["converged"].any()


def test_predictions_fit_the_paired_bootstrap_and_the_corrected_interval():
    vectors, labels = toy()
    people = [f"p{i}" for i in range(120)]
    splits = knn.grouped_splits(labels, people, [10, 11, 12])
    near, line = knn.evaluate(vectors, labels, splits, 20), linear.evaluate(vectors, labels, splits, trials=3)
    named = pd.DataFrame({"sample_id": [f"s{p}" for p in people], "patient_id": people})
    tables = {
        "knn": linear.predictions_table(near.predictions, named),
        "linear": linear.predictions_table(line.predictions, named),
    }
    found = statistics.paired_bootstrap(tables, "knn", draws=100).iloc[0]
    assert found["difference"] == pytest.approx(linear.interval(line)[0] - linear.interval(near)[0], abs=1e-6)
    assert list(tables["linear"]) == ["protocol", "split", "sample_id", "patient_id", "label", "probability", "c"]
    assert (tables["linear"]["sample_id"] == "s" + tables["linear"]["patient_id"]).all()


def test_bad_input_is_named(monkeypatch):
    vectors, labels = toy()
    splits = knn.grouped_splits(labels, np.arange(120), [10])
    broken = vectors.copy()
    broken[4, 2] = np.nan
    with pytest.raises(ProbeError, match="1 vectors hold NaN or infinity, the first is row 4"):
        linear.evaluate(broken, labels, splits)
    with pytest.raises(ProbeError, match="there are 119 labels"):
        linear.evaluate(vectors, labels[:-1], splits)
    with pytest.raises(ProbeError, match="no splits"):
        linear.evaluate(vectors, labels, [])
    with pytest.raises(ProbeError, match="0 trials"):
        linear.evaluate(vectors, labels, splits, trials=0)
    negative = np.flatnonzero(labels == 0)
    with pytest.raises(ProbeError, match="the train part of the split of seed 3 has one class only"):
        linear.evaluate(vectors, labels, [knn.Split(3, negative[:30], splits[0].validation, splits[0].test)])
    monkeypatch.setattr(linear, "STEPS", 2)
    with pytest.raises(ProbeError, match="C = 5 has not converged in 2 steps"):
        linear.solve(linear.span(vectors)[1], labels, 5.0)
