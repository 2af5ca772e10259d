"""Clinical covariates: what is learnt from training samples only, what is left out, the fusion out of fold."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from tumorbench_utils import knn
from tumorbench_utils.probes import ProbeError, clinical, linear

N = 150


def toy(seed=0, signal=1.0):
    """Annotations in which age and sex tell something, and vectors that tell something else."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(N) % 5 < 2).astype(int)
    table = pd.DataFrame(
        {
            "sample_id": [f"s{i}" for i in range(N)],
            "patient_id": [f"p{i // 2}" for i in range(N)],
            "label": labels.astype(float),
            "clinical_age": 60 + 8 * labels + 10 * rng.normal(size=N),
            "clinical_gender": np.where(rng.random(N) < 0.4 + 0.3 * labels, "male", "female"),
            "volume_ml": rng.lognormal(size=N),
        }
    )
    table.loc[::7, "clinical_age"] = np.nan
    return table, rng.normal(size=(N, 200)) + signal * labels[:, None] * (np.arange(200) < 4), labels


def split_of(table, labels, number=0):
    return knn.grouped_splits(labels, table["patient_id"], [10 + number])[0]


def test_numbers_and_categories_are_told_apart_and_useless_columns_are_named():
    table, _, _ = toy()
    table["clinical_stage"] = [1.0, 2.0, 3.0] * 50
    table["clinical_site"] = "one"
    table["clinical_nothing"] = np.nan
    table["clinical_code"] = [f"code-{p}" for p in table["patient_id"]]
    table["clinical_number"] = [int(p[1:]) for p in table["patient_id"]]
    table["clinical_flag"] = np.where(np.arange(N) % 4 < 2, "yes", None)  # one level and not known
    found = clinical.covariates(table)
    assert found.numbers == ("clinical_age", "clinical_stage")
    assert found.categories == ("clinical_gender", "clinical_flag")
    assert dict(found.left_out.to_numpy()) == {
        "clinical_site": "constant",
        "clinical_nothing": "empty",
        "clinical_code": "identifies patients",
        "clinical_number": "identifies patients",
    }
    assert clinical.covariates(table, ["volume_ml"]).names == ["volume_ml"]
    with pytest.raises(ProbeError, match="no column clinical_size"):
        clinical.covariates(table, ["clinical_size"])


def test_features_are_learnt_from_training_samples():
    table = pd.DataFrame(
        {
            "clinical_age": [1.0, 2.0, 9.0, np.nan] * 3 + [1000.0, np.nan],
            "clinical_type": ["a", "a", "b", "b"] * 3 + ["new", None],
        }
    )
    table.loc[0, "clinical_type"] = "rare"
    of = clinical.Covariates(("clinical_age",), ("clinical_type",), pd.DataFrame())
    split = knn.Split(0, np.arange(12), np.array([12]), np.array([13]))
    found = clinical._matrices(table, of, split)
    assert found[13, 0] == 2.0  # the median of training, in which 1000 is not
    assert list(found[:4, 1]) == [0, 0, 0, 1] and list(found[12:, 1]) == [0, 1]
    assert found.shape[1] == 2 + 3  # a, b, and the rare joined
    joined = found[0, 2:]
    assert joined.sum() == 1 and (found[12, 2:] == joined).all()  # a level that training lacks is rare
    assert (found[1, 2:] != joined).any() and (found[1, 2:] != found[2, 2:]).any()


def test_clinical_alone_is_a_linear_probe_of_its_features():
    table, _, labels = toy()
    of, split = clinical.covariates(table), split_of(table, labels)
    found = clinical.alone(table, of, labels, [split], trials=4)
    matrix = clinical._matrices(table, of, split)
    expected = linear.evaluate(matrix, labels, [split], trials=4)
    assert found.predictions["probability"].to_numpy() == pytest.approx(expected.predictions["probability"].to_numpy())
    assert found.scores["test_auc"][0] > 0.55


def test_logits_of_training_samples_are_out_of_fold_and_those_of_others_from_all_training_samples():
    table, vectors, labels = toy()
    split, people = split_of(table, labels, 2), table["patient_id"].to_numpy()
    found = clinical.out_of_fold(vectors, labels, people, split, 0.01)
    basis, rows = linear.span(vectors[split.train])
    whole = linear.solve(rows, labels[split.train], 0.01)
    others = np.concatenate([split.validation, split.test])
    assert found[others] == pytest.approx(whole.logits(basis.coordinates(vectors[others])))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=split.seed)
    for learn, held in folds.split(split.train, labels[split.train], people[split.train]):
        assert not set(people[split.train[learn]]) & set(people[split.train[held]])
        basis, rows = linear.span(vectors[split.train[learn]])
        fold = linear.solve(rows, labels[split.train[learn]], 0.01)
        assert found[split.train[held]] == pytest.approx(fold.logits(basis.coordinates(vectors[split.train[held]])))


def test_an_embedding_of_noise_learnt_by_heart_is_not_trusted():
    table, _, labels = toy()
    noise = np.random.default_rng(5).normal(size=(N, 400))
    split = split_of(table, labels)
    found = clinical.out_of_fold(noise, labels, table["patient_id"], split, 1.0)
    _, rows = linear.span(noise[split.train])
    by_heart = linear.solve(rows, labels[split.train], 1.0).logits(rows)
    assert roc_auc_score(labels[split.train], by_heart) == 1.0
    assert roc_auc_score(labels[split.train], found[split.train]) < 0.75


def test_both_is_better_where_each_tells_something_else():
    table, vectors, labels = toy()
    splits, of = knn.grouped_splits(labels, table["patient_id"], [10, 11, 12]), clinical.covariates(table)
    probe = linear.evaluate(vectors, labels, splits, trials=5)
    alone = clinical.alone(table, of, labels, splits, trials=5)
    both = clinical.both(table, of, vectors, probe, labels, splits, trials=5)
    assert both.scores["test_auc"].mean() > alone.scores["test_auc"].mean() + 0.03
    for number, split in enumerate(splits):
        assert list(both.predictions.query(f"split == {number}")["row"]) == list(split.test)
    extra = clinical.out_of_fold(vectors, labels, table["patient_id"], splits[1], probe.scores["c"][1])
    matrix = np.column_stack([clinical._matrices(table, of, splits[1]), extra])
    expected = linear.evaluate(matrix, labels, [splits[1]], trials=5).predictions["probability"]
    found = both.predictions.query("split == 1")["probability"]
    assert found.to_numpy() == pytest.approx(expected.to_numpy())


def test_bad_input_is_named():
    table, vectors, labels = toy()
    splits, of = knn.grouped_splits(labels, table["patient_id"], [10, 11]), clinical.covariates(table)
    nothing = clinical.covariates(table, [])
    with pytest.raises(ProbeError, match="no clinical covariates"):
        clinical.alone(table, nothing, labels, splits)
    with pytest.raises(ProbeError, match="149 annotations but 150 labels"):
        clinical.alone(table[1:], of, labels, splits)
    probe = linear.evaluate(vectors, labels, splits[:1], trials=1)
    with pytest.raises(ProbeError, match="on other splits"):
        clinical.both(table, of, vectors, probe, labels, splits)
