"""Few-shot draws against plain loops; nobody drawn is tested; bad input."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from tumorbench_utils.probes import ProbeError, few_shot
from tumorbench_utils.statistics import LabelError


def toy(people=40, seed=0, signal=1.0):
    """Some patients have two samples, two of them of both classes."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(people), 1 + np.arange(people) % 2)
    labels = (patients % 5 < 2).astype(int)
    for one in (1, 3):
        labels[np.flatnonzero(patients == one)] = [0, 1]
    return rng.normal(size=(len(labels), 6)) + signal * labels[:, None], labels, np.array([f"p{i}" for i in patients])


@pytest.mark.parametrize("m", [1, 5, 10])
def test_every_draw_has_m_patients_of_each_class_and_tests_none_of_them(m):
    _, labels, patients = toy()
    drawn = few_shot.draw(labels, patients, m, 50, seed=2)
    for support, held, validation in zip(drawn.support, drawn.held, drawn.validation, strict=True):
        assert list(labels[support]) == [1] * m + [0] * m
        people = patients[support]
        assert len(set(people)) == 2 * m
        assert not set(patients[held]) & set(people) and set(patients[held]) | set(people) == set(patients)
        assert (held | ~validation).all() and not set(patients[validation]) & set(patients[held & ~validation])
        assert len(set(labels[validation])) == len(set(labels[held & ~validation])) == 2
    assert len({tuple(row) for row in drawn.support}) > 40
    share = np.mean(
        [len(set(patients[v])) / len(set(patients[h])) for v, h in zip(drawn.validation, drawn.held, strict=True)]
    )
    assert share == pytest.approx(0.2, abs=0.03)


def test_every_sample_of_a_patient_can_be_the_one_drawn():
    _, labels, patients = toy()
    assert set(few_shot.draw(labels, patients, 5, 300).support.ravel()) == set(range(len(labels)))


@pytest.mark.parametrize("m", [1, 4])
def test_class_means_against_a_plain_loop(m):
    vectors, labels, patients = toy()
    drawn = few_shot.draw(labels, patients, m, 20)
    found = few_shot.aucs(few_shot.prototypes(few_shot.cosines(vectors), drawn), labels, drawn.held)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for auc, support, held in zip(found, drawn.support, drawn.held, strict=True):
        scores = []
        for row in np.flatnonzero(held):
            near = []
            for label in (1, 0):
                mean = unit[support][labels[support] == label].mean(axis=0)
                near.append(unit[row] @ mean / np.linalg.norm(mean))
            scores.append(near[0] - near[1])
        assert auc == pytest.approx(roc_auc_score(labels[held], scores), abs=1e-12)


def test_auc_counts_ties_one_half_and_held_rows_only():
    rng = np.random.default_rng(0)
    scores, held = rng.integers(0, 4, (30, 25)).astype(float), rng.random((30, 25)) < 0.7
    labels = (np.arange(25) % 3 == 0).astype(int)
    expected = [roc_auc_score(labels[h], s[h]) for s, h in zip(scores, held, strict=True)]
    assert few_shot.aucs(scores, labels, held) == pytest.approx(expected, abs=1e-12)


def test_knn_is_scikit_learns_with_k_from_the_validation_patients():
    vectors, labels, patients = toy(signal=0.4)
    drawn = few_shot.draw(labels, patients, 5, 12)
    found, chosen = few_shot.neighbours(few_shot.cosines(vectors), labels, drawn)
    for auc, k, support, held, validation in zip(
        found, chosen, drawn.support, drawn.held, drawn.validation, strict=True
    ):
        curve, models = [], []
        for each in range(1, 11):
            models.append(KNeighborsClassifier(each, metric="cosine").fit(vectors[support], labels[support]))
            curve.append(roc_auc_score(labels[validation], models[-1].predict_proba(vectors[validation])[:, 1]))
        assert k == np.argmax(curve) + 1
        test = held & ~validation
        assert auc == pytest.approx(roc_auc_score(labels[test], models[k - 1].predict_proba(vectors[test])[:, 1]))
    assert len(set(chosen)) > 2


def test_a_summary_has_the_mean_and_central_draws_and_more_labels_help():
    vectors, labels, patients = toy(people=80, signal=0.8)
    table = few_shot.evaluate(vectors, labels, patients, (1, 10), draws=60, seed=1)
    found = few_shot.summary(table).set_index(["judge", "m"])
    some = table[(table["judge"] == "class mean") & (table["m"] == 10)]["auc"]
    assert found.loc["class mean", 10][["auc", "low", "high", "draws"]].tolist() == pytest.approx(
        [some.mean(), *np.quantile(some, (0.025, 0.975)), 60]
    )
    assert found.loc["class mean", 10]["auc"] > found.loc["class mean", 1]["auc"] + 0.05
    again = few_shot.evaluate(vectors, labels, patients, (1, 10), draws=60, seed=1)
    assert again.equals(table)


@pytest.mark.parametrize(("mixed", "negative", "shots"), [(14, 40, [1, 5]), (40, 0, [1, 5, 10]), (6, 6, [1])])
def test_patients_of_both_classes_never_leave_a_part_with_one_class(mixed, negative, shots):
    patients = np.r_[np.repeat(np.arange(mixed), 2), mixed + np.arange(negative)]
    labels = np.r_[np.tile([0, 1], mixed), np.zeros(negative, int)]
    able, _ = few_shot.possible(labels, patients, [1, 5, 10])
    assert able == shots  # half of them count for either class
    vectors = np.random.default_rng(0).normal(size=(len(labels), 4))
    table = few_shot.evaluate(vectors, labels, patients, able, draws=100)
    assert table["auc"].notna().all() and len(table) == 200 * len(able)
    for m in able:
        drawn = few_shot.draw(labels, patients, m, 100)
        for part in (drawn.validation, drawn.held & ~drawn.validation):
            assert all(set(labels[row]) == {0, 1} for row in part)


def test_draws_that_cannot_be_had_are_named(monkeypatch):
    _, labels, patients = toy()
    monkeypatch.setattr(few_shot, "_support", lambda *given: None)
    with pytest.raises(ProbeError, match="5 patients of each class: none of 1,000 draws left both classes"):
        few_shot.draw(labels, patients, 5, 3)


def test_bad_input_and_impossible_numbers_are_named():
    vectors, labels, patients = toy()
    with pytest.raises(ProbeError, match="of 15 patients of each class: the smaller class has 16"):
        few_shot.draw(labels, patients, 15, 5)
    with pytest.raises(ProbeError, match="0 draws"):
        few_shot.draw(labels, patients, 1, 0)
    assert few_shot.possible(labels, patients, [1, 14, 15]) == ([1, 14], [15])
    vectors[3] = 0
    with pytest.raises(ProbeError, match="1 vectors hold NaN or are zero, the first is row 3"):
        few_shot.evaluate(vectors, labels, patients)
    with pytest.raises(ProbeError, match="59 vectors, 60 labels and 60 patients"):
        few_shot.evaluate(vectors[1:], labels, patients)
    with pytest.raises(LabelError):
        few_shot.draw(np.zeros(60), patients, 1, 5)
