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


def test_the_study_kappa_of_an_embedding_that_is_the_same_for_all_is_unknown():
    trials, labels = np.ones((3, 20, 4)), np.tile([0, 1], 10)
    assert np.isnan(jitter.study_kappa(trials, labels).kappas).all()


def test_bad_trials_are_named():
    trials, labels = jittered()
    with pytest.raises(RobustnessError, match="1 trials: it takes one that trains and at least one more"):
        jitter.study_kappa(trials[:1], labels)
    with pytest.raises(RobustnessError, match="80 embeddings but 79 labels"):
        jitter.study_kappa(trials, labels[1:])
    with pytest.raises(RobustnessError, match="labels must be 0 or 1; 1 of 80 are not: nan; leave out samples"):
        jitter.study_kappa(trials, np.where(np.arange(80) == 5, np.nan, labels))
    with pytest.raises(RobustnessError, match=r"later trial 1: shape \(79, 12\), but the first is \(80, 12\)"):
        jitter.study_kappa([trials[0], trials[1][1:]], labels)
    for value in (np.nan, 0, np.inf):
        broken = trials.copy()
        broken[2, 7] = value
        with pytest.raises(RobustnessError, match="later trial 2: 1 vectors are zero or not finite, those of row 7"):
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


def measured(sizes, samples=80):
    """The table of ``sizes`` of trials 1, 2, ..., after trial 0."""
    return pd.DataFrame({"trial": range(len(sizes) + 1), "rms_mm": [0.0, *sizes], "samples": samples})


def test_each_trial_goes_to_the_nominal_size_nearest_on_a_logarithmic_scale():
    found = jitter.nominal(measured([1.9, 4.4, 2.2, 3.7, 1.1, 2.82, 2.84]), [4, 1, 2])
    assert found.to_dict() == {1: 2, 2: 4, 3: 2, 4: 4, 5: 1, 6: 2, 7: 4}  # 2.83 is half way from 2 to 4
    assert found.index.name == "trial" and found.dtype == float
    assert jitter.nominal(measured([]), [2.0]).empty


@pytest.mark.parametrize("samples", [12, 300])
def test_drawn_seed_points_go_to_the_sigma_that_they_were_drawn_with(samples):
    sizes, rng = np.repeat([1.0, 2.0, 4.0, 8.0], 10), np.random.default_rng(samples)
    moves = [np.zeros((samples, 3)), *(sigma * rng.normal(size=(samples, 3)) for sigma in sizes)]
    rows = pd.concat(
        pd.DataFrame(50 + moved, columns=["x", "y", "z"]).assign(trial=trial, sample_id=range(samples))
        for trial, moved in enumerate(moves)
    )
    assert jitter.nominal(jitter.sizes(rows), [1, 2, 4, 8]).tolist() == sizes.tolist()


def test_trials_of_no_nominal_size_are_named_and_few_samples_may_scatter_more():
    with pytest.raises(
        RobustnessError, match=r"2 trials are of none of the sizes 2, 4 mm: trial 1 of 7.50 mm, trial 3"
    ):
        jitter.nominal(measured([7.5, 4.0, 1.1], samples=600), [2, 4])
    few, many = measured([3.3], samples=6), measured([3.3], samples=600)  # allowed: 1.5 * 1.67 and 1.5 * 1.07
    assert jitter.nominal(few, [2]).tolist() == [2]
    with pytest.raises(RobustnessError, match=r"1 trials are of none of the sizes 2 mm: trial 1 of 3.30 mm"):
        jitter.nominal(many, [2])
    for wrong in (0.0, np.nan):
        with pytest.raises(RobustnessError, match=f"trial 2 of {wrong:.2f} mm"):
            jitter.nominal(measured([2.0, wrong]), [2])


def test_bad_nominal_sizes_are_named():
    for wrong in ([], [0, 2], [-1], [np.nan]):
        with pytest.raises(RobustnessError, match="nominal sizes are above 0 mm, not "):
            jitter.nominal(measured([2.0]), wrong)
    with pytest.raises(RobustnessError, match=r"lack the column\(s\) rms_mm, samples"):
        jitter.nominal(pd.DataFrame({"trial": [0, 1]}), [2])


def test_dose_response_is_the_mean_over_the_trials_of_a_size():
    trials, labels = jittered(trials=6)
    held = jitter.held_out(trials[0], trials[1:], labels, np.arange(80))
    nominal = pd.Series({14: 4.0, 11: 2.0, 13: 4.0, 12: 2.0, 15: 2.0})  # neither in order nor equally many of a size
    table = jitter.dose_response(held, [11, 13, 12, 14, 15], nominal, draws=20)
    assert table["size_mm"].tolist() == [0, 2, 4] and table["trials"].tolist() == [1, 3, 2]
    assert table["samples"].tolist() == [80] * 3
    blocks, change = ([0], [1, 3, 5], [2, 4]), held.auc - held.auc[0]
    figures = {"auc": held.auc, "auc_change": change, "agreement": held.agreement, "cosine": held.cosine.mean(axis=1)}
    for figure, values in figures.items():
        assert table[figure].tolist() == pytest.approx([values[block].mean() for block in blocks], abs=1e-12)
    assert table["auc_least"].tolist() == [held.auc[block].min() for block in blocks]
    assert table["auc_most"].tolist() == [held.auc[block].max() for block in blocks]
    assert table[["auc_change", "auc_change_low", "auc_change_high"]].iloc[0].tolist() == [0, 0, 0]
    assert table["auc_low"][0] < table["auc"][0] < table["auc_high"][0]


def test_limits_of_a_dose_are_those_of_a_loop_over_drawn_patients():
    trials, labels = jittered(trials=4)
    patients = people(80)
    held = jitter.held_out(trials[0], trials[1:], labels, patients)
    table = jitter.dose_response(held, [1, 2, 3], pd.Series({1: 3.0, 2: 5.0, 3: 5.0}), draws=25, seed=2)
    drawn = []
    for weight in agreement.weights(patients, 25, 2)[1:].astype(int):
        rows = np.repeat(np.arange(80), weight)
        auc = [roc_auc_score(labels[rows], scores[rows]) for scores in held.probability]
        same = [(row[rows] == held.decision[0, rows]).mean() for row in held.decision]
        mean = np.mean([held.cosine[row, rows].mean() for row in (2, 3)])
        drawn.append((mean, np.mean(same[2:]), np.mean(auc[2:]), np.mean(auc[2:]) - auc[0], auc[0]))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    figures = ["cosine", "agreement", "auc", "auc_change"]
    last, first = table.iloc[2], table.iloc[0]
    assert [*last[[f"{name}_low" for name in figures]], first["auc_low"]] == pytest.approx(list(low), abs=1e-9)
    assert [*last[[f"{name}_high" for name in figures]], first["auc_high"]] == pytest.approx(list(high), abs=1e-9)
    # one trial of a size is its row of the table of the same draws
    row = held.table([1, 2, 3], draws=25, seed=2).iloc[1]
    shared = [f"{name}{end}" for name in figures for end in ("", "_low", "_high")]
    assert table.iloc[1][shared].tolist() == pytest.approx(row[shared].tolist())


def test_trials_without_a_size_are_named():
    trials, labels = jittered(trials=5)
    held = jitter.held_out(trials[0], trials[1:], labels, np.arange(80))
    sizes = pd.Series({11: 2.0, 12: 2.0, 13: 4.0, 14: np.nan})
    with pytest.raises(RobustnessError, match="3 trials for 4 embeddings beside the reference"):
        jitter.dose_response(held, [11, 12, 13], sizes)
    with pytest.raises(RobustnessError, match="2 trials have no size: 14, 15"):
        jitter.dose_response(held, [11, 12, 14, 15], sizes)


def test_likeness_is_the_table_of_held_out_without_what_takes_labels():
    trials, labels = jittered(trials=3)
    trials[2, 5] = trials[0, 6]  # not all find themselves
    patients = people(80)
    expected = jitter.held_out(trials[0], trials[1:], labels, patients).table(["a", "b"], draws=30, seed=4)
    found = jitter.likeness(trials[0], trials[1:], ["a", "b"], patients, draws=30, seed=4)
    assert list(found) == list(expected)
    known = ["name", "cosine", "cosine_low", "cosine_high", "itself", "samples"]
    pd.testing.assert_frame_equal(found[known], expected[known])
    assert found.drop(columns=known).isna().all(axis=None)
    assert found["itself"].iloc[2] < 1 and found["cosine_low"].iloc[2] < found["cosine"].iloc[2]


def test_bad_input_to_likeness_is_named():
    trials, _ = jittered(trials=3)
    patients = [f"p{i}" for i in range(80)]
    with pytest.raises(RobustnessError, match="1 names for 2 embeddings"):
        jitter.likeness(trials[0], trials[1:], ["a"], patients)
    with pytest.raises(RobustnessError, match=r"other 1: shape \(79, 12\), but the reference is \(80, 12\)"):
        jitter.likeness(trials[0], [trials[1][1:]], ["a"], patients)
    with pytest.raises(RobustnessError, match="80 embeddings but 79 patients"):
        jitter.likeness(trials[0], [], [], patients[1:])
    trials[2, 6] = np.nan
    with pytest.raises(RobustnessError, match="other 2: 1 vectors are zero or not finite, those of p6"):
        jitter.likeness(trials[0], trials[1:], ["a", "b"], patients)
