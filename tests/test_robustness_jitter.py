"""The study's kappa and held-out predictions against scikit-learn and plain loops, sizes of the jitter, bad input."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier

from tests.benchmarks.kappa import released_loop
from tumorbench_utils import knn
from tumorbench_utils.robustness import RobustnessError, agreement, jitter


def jittered(n=80, d=12, trials=5, noise=1.0, signal=0.6, seed=0):
    """Trials (t, n, d) with a class signal, the first without jitter, and labels (n,)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    vectors = rng.normal(size=(n, d)) + signal * labels[:, None]
    return np.stack([vectors, *(vectors + noise * rng.normal(size=(trials - 1, n, d)))]), labels


def people(n, most=3):
    """Patients (n,) of one to ``most`` samples each."""
    return np.array([f"p{number:03}" for number in np.random.default_rng(4).integers(0, 2 * n // most, n)])


def nearest(vectors, training, k):
    """(n, k) by plain sorting of cosine distances."""
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, training)]
    return np.argsort(1 - unit[0] @ unit[1].T, axis=1, kind="stable")[:, :k]


@pytest.mark.parametrize("seed", range(5))
def test_study_kappa_is_that_of_the_plain_loop_of_scikit_learn(seed):
    trials, labels = jittered(seed=seed)
    found = jitter.study_kappa(trials, labels)
    assert found.kappas == pytest.approx(released_loop(trials, labels), abs=1e-12)
    assert 0.1 < found.kappas.mean() < 0.95
    own = [(nearest(trial, trials[0], 1)[:, 0] == np.arange(80)).mean() for trial in trials[1:]]
    assert list(found.itself) == own and 0.2 < min(own) < max(own) < 1


def test_the_study_always_chooses_one_neighbour_and_weighted_kappa_is_plain_kappa():
    trials, labels = jittered()
    found = jitter.study_kappa(trials, labels)
    plain = [cohen_kappa_score(labels, labels[nearest(trial, trials[0], 1)[:, 0]]) for trial in trials[1:]]
    assert found.k == 1 and found.kappas == pytest.approx(plain, abs=1e-12)


def test_study_kappa_where_more_neighbours_win():
    # three copies of each vector with one odd label: one neighbour cannot tell copies apart, k above three is better;
    # entries of +-1/2 and 0 with four of them other than 0 make all arithmetic exact, and so all ties
    rng = np.random.default_rng(3)
    places = np.array([rng.permutation(16)[:4] for _ in range(20)])
    base = np.zeros((20, 16))
    np.put_along_axis(base, places, rng.choice([-0.5, 0.5], (20, 4)), axis=1)
    vectors = np.repeat(base, 3, axis=0)
    labels = np.tile([1, 0, 0], 20)
    labels[:30] = np.tile([0, 1, 1], 10)
    trials = np.stack([vectors, vectors + rng.normal(size=vectors.shape), vectors + rng.normal(size=vectors.shape)])
    found = jitter.study_kappa(trials, labels, k_max=20)
    shares = {k: labels[nearest(vectors, vectors, k)].mean(axis=1) for k in range(1, 21)}
    aucs = {k: roc_auc_score(labels, share) for k, share in shares.items()}
    best = next(k for k in knn.grid_order(20) if aucs[k] > max(aucs.values()) - 1e-12)
    assert found.k == best > 1
    edges = np.linspace(0, 1, 101)
    bins = [np.digitize(labels[nearest(trial, vectors, best)].mean(axis=1), edges) - 1 for trial in trials]
    expected = [cohen_kappa_score(bins[0], other, weights="linear") for other in bins[1:]]
    assert found.kappas == pytest.approx(expected, abs=1e-12)


def test_unjittered_trials_agree_fully_and_k_is_capped_at_the_samples():
    trials, labels = jittered(n=20, trials=3, noise=0)
    found = jitter.study_kappa(trials, labels, k_max=50)
    assert list(found.kappas) == [1, 1] and list(found.itself) == [1, 1]


def test_bad_trials_are_named():
    trials, labels = jittered()
    with pytest.raises(RobustnessError, match="1 trials: it takes the annotated one"):
        jitter.study_kappa(trials[:1], labels)
    with pytest.raises(RobustnessError, match="80 embeddings but 79 labels"):
        jitter.study_kappa(trials, labels[1:])
    with pytest.raises(RobustnessError, match="labels must be 0 or 1; 1 of 80 are not: nan; leave out samples"):
        jitter.study_kappa(trials, np.where(np.arange(80) == 5, np.nan, labels))
    with pytest.raises(RobustnessError, match=r"trial 1: shape \(79, 12\), but the first is \(80, 12\)"):
        jitter.study_kappa([trials[0], trials[1][1:]], labels)
    for value in (np.nan, 0, np.inf):
        broken = trials.copy()
        broken[2, 7] = value
        with pytest.raises(RobustnessError, match="trial 2: 1 vectors are zero or not finite, those of row 7"):
            jitter.study_kappa(broken, labels)


def plainly_held_out(trials, labels, patients, k_max, folds):
    """k, probabilities and decisions by scikit-learn's classifier, one sample at a time."""
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=0)
    chosen, probability, decision = [], np.empty(trials.shape[:2]), np.empty(trials.shape[:2], bool)
    for train, held in splitter.split(labels, labels, patients):
        _, times = np.unique(patients[train], return_counts=True)
        limit = min(k_max, len(train) // 2, len(train) - times.max())
        scores = np.empty((limit, len(train)))
        for place, row in enumerate(train):
            others = train[patients[train] != patients[row]]
            near = nearest(trials[0][[row]], trials[0][others], limit)[0]
            scores[:, place] = np.cumsum(labels[others][near]) / np.arange(1, limit + 1)
        aucs = np.array([roc_auc_score(labels[train], score) for score in scores])
        k = int(np.flatnonzero(aucs > aucs.max() - 1e-12)[0]) + 1
        classifier = KNeighborsClassifier(k, metric="cosine").fit(trials[0][train], labels[train])
        for number, trial in enumerate(trials):
            probability[number, held] = classifier.predict_proba(trial[held])[:, 1]
            decision[number, held] = probability[number, held] >= labels[train].mean() - 1e-12
        chosen.append(k)
    return chosen, probability, decision


@pytest.mark.parametrize(("seed", "folds"), [(0, 5), (1, 10), (2, 3)])
def test_held_out_predictions_are_those_of_a_plain_loop(seed, folds):
    trials, labels = jittered(seed=seed, trials=4)
    patients = people(80)
    labels = labels if seed else (np.unique(patients, return_inverse=True)[1] % 3 == 0).astype(int)
    found = jitter.held_out(trials[0], trials[1:], labels, patients, k_max=30, folds=folds)
    chosen, probability, decision = plainly_held_out(trials, labels, patients, 30, folds)
    assert list(found.k) == chosen and (found.decision == decision).all()
    assert found.probability == pytest.approx(probability, abs=1e-12)
    assert found.auc == pytest.approx([roc_auc_score(labels, scores) for scores in probability], abs=1e-12)
    assert found.agreement == pytest.approx([(row == decision[0]).mean() for row in decision])
    assert found.kappa == pytest.approx([cohen_kappa_score(decision[0], row) for row in decision], abs=1e-12)
    cosine = [[a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(trial, trials[0], strict=True)] for trial in trials]
    assert found.cosine == pytest.approx(np.array(cosine), abs=1e-12)
    assert list(found.itself) == [(nearest(trial, trials[0], 1)[:, 0] == np.arange(80)).mean() for trial in trials]


@pytest.mark.parametrize("seed", [4, 11])
def test_a_probability_equal_to_the_share_is_positive_and_k_at_most_half_of_the_training_part(seed):
    rng, labels = np.random.default_rng(seed), np.tile([0, 1], 20)
    vectors = rng.normal(size=(40, 12)) + 0.5 * labels[:, None]
    trials = np.stack([vectors, vectors + rng.normal(size=vectors.shape)])
    patients = np.arange(40).astype(str)  # the order of the names makes the folds
    found = jitter.held_out(trials[0], trials[1:], labels, patients, folds=4)
    chosen, _, decision = plainly_held_out(trials, labels, patients, 50, 4)
    assert list(found.k) == chosen and (found.decision == decision).all() and max(chosen) <= 15
    ties = found.probability == 0.5  # the training parts are balanced
    assert ties.sum() > 3 and found.decision[ties].all()


def test_a_patient_is_never_predicted_from_the_own_samples():
    # two samples a patient, nearly equal, and labels by chance: whoever peeks has an AUC near 1
    rng = np.random.default_rng(8)
    vectors = np.repeat(rng.normal(size=(100, 6)), 2, axis=0) + 1e-3 * rng.normal(size=(200, 6))
    labels, patients = np.repeat(rng.random(100) < 0.5, 2).astype(int), np.repeat(np.arange(100), 2)
    found = jitter.held_out(vectors, vectors[None], labels, patients)
    assert 0.3 < found.auc[0] < 0.7 and found.k.max() <= 50
    assert found.auc[1] == found.auc[0] and found.agreement[1] == found.kappa[1] == found.itself[1] == 1


def test_stronger_jitter_agrees_less():
    trials, labels = jittered(n=150, trials=2, noise=0.0, signal=1.0)
    noise = np.random.default_rng(1).normal(size=trials[0].shape)
    found = jitter.held_out(trials[0], [trials[0] + size * noise for size in (0.5, 1, 5)], labels, np.arange(150))
    for values in (found.agreement, found.kappa, found.itself, found.cosine.mean(axis=1)):
        assert (np.diff(values) < 0).all()


def test_a_class_of_few_patients_has_fewer_folds():
    trials, labels = jittered(n=30)
    labels[:] = 0
    labels[[3, 10, 20]] = 1
    assert len(jitter.held_out(trials[0], trials[1:], labels, np.arange(30)).k) == 3
    with pytest.raises(RobustnessError, match="two patients of each class; there are 1 positive, 27 negative"):
        jitter.held_out(trials[0], [], labels, np.where(labels, 99, np.arange(30)))


def test_table_gives_limits_of_a_loop_over_drawn_patients():
    trials, labels = jittered(trials=3)
    patients = people(80)
    held = jitter.held_out(trials[0], trials[1:], labels, patients)
    table = held.table(["noise", "more noise"], draws=25, seed=2)
    assert list(table["name"]) == ["reference", "noise", "more noise"] and (table["samples"] == 80).all()
    drawn = []
    for weight in agreement.weights(patients, 25, 2)[1:].astype(int):
        rows = np.repeat(np.arange(80), weight)
        aucs = [roc_auc_score(labels[rows], held.probability[row, rows]) for row in (0, 2)]
        same = (held.decision[2, rows] == held.decision[0, rows]).mean()
        drawn.append((held.cosine[2, rows].mean(), same, aucs[1], aucs[1] - aucs[0]))
    figures = ["cosine", "agreement", "auc", "auc_change"]
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    last = table.iloc[2]
    assert last[[f"{figure}_low" for figure in figures]].tolist() == pytest.approx(list(low), abs=1e-9)
    assert last[[f"{figure}_high" for figure in figures]].tolist() == pytest.approx(list(high), abs=1e-9)
    value = [held.cosine[2].mean(), held.agreement[2], held.auc[2], held.auc[2] - held.auc[0]]
    assert last[figures].tolist() == pytest.approx(value) and last["kappa"] == held.kappa[2]
    zero = table.iloc[0][["cosine", "agreement", "kappa", "auc_change", "auc_change_low", "auc_change_high", "itself"]]
    assert zero.tolist() == pytest.approx([1, 1, 1, 0, 0, 0, 1])
    with pytest.raises(RobustnessError, match="1 names for 2 embeddings"):
        held.table(["noise"])


def test_bad_input_to_held_out_is_named():
    trials, labels = jittered(trials=3)
    patients = [f"p{i}" for i in range(80)]
    with pytest.raises(RobustnessError, match="labels must be 0 or 1; 1 of 80 are not: nan"):
        jitter.held_out(trials[0], trials[1:], np.where(np.arange(80) == 5, np.nan, labels), patients)
    with pytest.raises(RobustnessError, match="80 embeddings but 79 patients"):
        jitter.held_out(trials[0], trials[1:], labels, patients[1:])
    with pytest.raises(RobustnessError, match=r"other 1: shape \(79, 12\), but the reference is \(80, 12\)"):
        jitter.held_out(trials[0], [trials[1][1:]], labels, patients)
    broken = trials.copy()
    broken[2, 6] = np.nan
    with pytest.raises(RobustnessError, match="other 2: 1 vectors are zero or not finite, those of p6"):
        jitter.held_out(broken[0], broken[1:], labels, patients)
    crowded = ["crowd" if row > 3 else patients[row] for row in range(80)]
    labels[:4] = [0, 1, 0, 1]
    with pytest.raises(RobustnessError, match="a few patients have most samples"):
        jitter.held_out(
            trials[0], [], np.where(np.arange(80) > 3, labels, 0), crowded[:4] + ["crowd"] * 38 + ["b"] * 38
        )


def seed_points(sigma=4.0, n=300, trials=3):
    rng = np.random.default_rng(0)
    frames = []
    for trial in range(trials):
        points = 100 + sigma * trial * np.random.default_rng(trial).normal(size=(n, 3)) + np.arange(n)[:, None]
        frames.append(pd.DataFrame(points, columns=["x", "y", "z"]).assign(trial=trial, sample_id=range(n)))
    return pd.concat(frames).sample(frac=1, random_state=rng.integers(9)).reset_index(drop=True)


def test_size_of_a_jitter_is_its_sigma():
    table = jitter.sizes(seed_points())
    assert table["trial"].tolist() == [0, 1, 2] and table["samples"].tolist() == [300] * 3
    assert table["rms_mm"][0] == 0 and table["rms_mm"][1:].tolist() == pytest.approx([4, 8], rel=0.05)
    moved = pd.DataFrame({"sample_id": ["a", "a"], "trial": [0, 7], "x": [1.0, 4.0], "y": [2.0, 2.0], "z": [3.0, -1.0]})
    assert jitter.sizes(moved)["rms_mm"].tolist() == pytest.approx([0, np.sqrt(25 / 3)])


def test_bad_seed_points_are_named():
    rows = pd.DataFrame({"sample_id": ["a", "a", "b"], "trial": [0, 1, 1], "x": 0.0, "y": 0.0, "z": 0.0})
    with pytest.raises(RobustnessError, match="1 samples have no trial 0: b"):
        jitter.sizes(rows)
    with pytest.raises(RobustnessError, match="1 seed points are there twice: a, trial 1"):
        jitter.sizes(rows.assign(sample_id="a"))
    with pytest.raises(RobustnessError, match="1 seed points are not finite: a, trial 1"):
        jitter.sizes(rows.assign(x=[0, np.nan, 0]))
    with pytest.raises(RobustnessError, match=r"lack the column\(s\) trial, z"):
        jitter.sizes(rows[["sample_id", "x", "y"]])


def test_dose_response_is_the_mean_over_the_trials_of_a_size():
    trials, labels = jittered(trials=5)
    held = jitter.held_out(trials[0], trials[1:], labels, np.arange(80))
    rms = pd.DataFrame({"trial": [0, 11, 12, 13, 14], "rms_mm": [0, 1.9, 2.1, 3.8, 4.0], "samples": 80})
    table = jitter.dose_response(held, [11, 12, 13, 14], rms, per_size=2)
    assert table["size_mm"].tolist() == pytest.approx([0, 2, 3.9]) and table["trials"].tolist() == [1, 2, 2]
    for figure, values in (("auc", held.auc), ("agreement", held.agreement), ("cosine", held.cosine.mean(axis=1))):
        assert table[figure].tolist() == pytest.approx([values[0], values[1:3].mean(), values[3:].mean()])
        assert table[f"{figure}_low"].tolist() == pytest.approx([values[0], values[1:3].min(), values[3:].min()])
        assert table[f"{figure}_high"].tolist() == pytest.approx([values[0], values[1:3].max(), values[3:].max()])
    with pytest.raises(RobustnessError, match="4 trials for 4 embeddings beside the reference, 3 of a size"):
        jitter.dose_response(held, [11, 12, 13, 14], rms, per_size=3)
    with pytest.raises(RobustnessError, match="3 trials for 4 embeddings"):
        jitter.dose_response(held, [11, 12, 13], rms, per_size=1)
    with pytest.raises(RobustnessError, match="1 trials have no size: 15"):
        jitter.dose_response(held, [11, 12, 13, 15], rms, per_size=2)
