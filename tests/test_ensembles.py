"""Ensembles against plain scikit-learn and plain loops; planted, useless and doubled models; no leakage."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from tumorbench_utils import ensembles, knn, statistics
from tumorbench_utils.ensembles import evaluating, neighbours, rules

NAMES = ("one", "two", "three")


def cohort(n=180, dim=5, signal=(0.5, 0.3, 0.1), seed=0, each=1):
    """Vectors by model, labels and patients of ``each`` samples a patient, in random order."""
    rng = np.random.default_rng(seed)
    patients = rng.permutation(np.repeat(np.arange(n // each), each))
    labels = (rng.random(n // each) < 0.4).astype(int)[patients]
    names = [*NAMES, *"abcdefgh"]
    vectors = {
        name: (rng.normal(size=(n, dim)) + strength * labels[:, None]).astype(np.float32)
        for name, strength in zip(names, signal, strict=False)
    }
    return vectors, labels, patients


def splits_of(patients, count=3, seed=1):
    """Patient-grouped splits without the care, and the time, of :func:`knn.grouped_splits`."""
    rng, people = np.random.default_rng(seed), np.unique(patients)
    found = []
    for number in range(count):
        parts = np.split(rng.permutation(people), [len(people) // 2, 7 * len(people) // 10])
        found.append(knn.Split(number, *(np.flatnonzero(np.isin(patients, part)) for part in parts)))
    return found


def fitted(vectors, labels, rows, k):
    return KNeighborsClassifier(k, metric="cosine").fit(vectors[rows].astype(float), labels[rows])


def chances(vectors, labels, rows, asked, k):
    """(asked, models) probabilities of scikit-learn's kNN."""
    models = [fitted(each, labels, rows, k).predict_proba(each[asked].astype(float)) for each in vectors.values()]
    return np.column_stack([each[:, 1] for each in models])


def logistic(c):
    return LogisticRegression(C=c, class_weight="balanced", solver="newton-cholesky", tol=1e-12, max_iter=1000)


def of_split(found, name, number):
    each = found[name]
    predictions = each.predictions[each.predictions["split"] == number]
    return predictions["probability"].to_numpy(), each.choices[each.choices["split"] == number].set_index("model")


@pytest.fixture(scope="module")
def given():
    return cohort(each=2)


@pytest.fixture(scope="module")
def splits(given):
    return splits_of(given[2])


@pytest.fixture(scope="module")
def found(given, splits):
    return ensembles.evaluate(*given, splits, k_max=30)


def test_single_models_are_those_of_the_knn_stage(given, splits, found):
    vectors, labels, _ = given
    for name, each in vectors.items():
        alone = knn.evaluate(each, labels, splits, k_max=30)
        ours = found[name]
        assert ours.kind == "single" and list(ours.choices["k"]) == list(alone.scores["k"])
        columns = list(ours.scores)
        pd.testing.assert_frame_equal(ours.scores, alone.scores[columns], check_exact=True)
        columns = ["split", "row", "label", "probability"]
        pd.testing.assert_frame_equal(ours.predictions, alone.predictions[columns], check_exact=True)


def test_reference_is_the_model_and_k_of_highest_validation_auc_in_each_split(given, splits, found):
    vectors, labels, _ = given
    curves = np.array([knn.evaluate(each, labels, splits, k_max=30).curves for each in vectors.values()])
    for number in range(len(splits)):
        model, k = np.unravel_index(np.argmax(curves[:, number]), curves[:, number].shape)
        probability, choice = of_split(found, ensembles.REFERENCE, number)
        assert list(choice.index) == [NAMES[model]] and choice["k"].iloc[0] == k + 1
        assert probability == pytest.approx(of_split(found, NAMES[model], number)[0], abs=1e-11)


def test_oracle_is_the_best_single_by_test_and_marked_so(found):
    means = {name: found[name].scores["test_auc"].mean() for name in NAMES}
    oracle = found[ensembles.ORACLE]
    assert set(oracle.choices["model"]) == {max(means, key=means.get)} and oracle.kind == "oracle"
    assert oracle.scores["test_auc"].mean() == max(means.values())
    assert "optimistic" in ensembles.ENSEMBLES[ensembles.ORACLE]


def test_nearest_neighbours_are_those_of_a_plain_loop_in_any_block(monkeypatch):
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 4))
    vectors[7] = vectors[3]  # a twin comes first, not the sample itself
    among, other = np.array([3, 7, 1, 30, 22, 9, 14]), np.array([39, 0, 8])
    tasks = [(among, other), (among, among), (among, np.array([], int))]
    cosine = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)

    def plain(row, count):
        return sorted((each for each in among if each != row), key=lambda each: (-cosine[row, each], each))[:count]

    for block in (2048, 7):
        monkeypatch.setattr(neighbours, "BLOCK", block)
        from_others, own, nothing = ensembles.nearest(vectors, tasks, 5)
        assert from_others.tolist() == [plain(row, 5) for row in other]
        assert own.tolist() == [plain(row, 5) for row in among]
        assert own[0, 0] == 7 and own[1, 0] == 3 and nothing.shape == (0, 5)
    assert ensembles.nearest(vectors, tasks, 50)[0].shape == (3, 7)
    assert ensembles.nearest(vectors, tasks, 50)[1].shape == (7, 6)
    with pytest.raises(ValueError, match="task 0: some of the samples"):
        ensembles.nearest(vectors, [(among, np.array([3, 0]))], 2)


def test_alignment_weighted_and_equal_means_are_those_of_plain_scikit_learn_on_training_neighbours(
    given, splits, found
):
    vectors, labels, _ = given
    for number, split in enumerate(splits):
        near = [
            NearestNeighbors(n_neighbors=11, metric="cosine").fit(each[split.train].astype(float)).kneighbors(
                each[split.train].astype(float), return_distance=False
            )[:, 1:]
            for each in vectors.values()
        ]  # fmt: skip
        matrix = np.ones((3, 3))
        for i, j in [(0, 1), (0, 2), (1, 2)]:
            shared = [len(set(a) & set(b)) for a, b in zip(near[i], near[j], strict=True)]
            matrix[i, j] = matrix[j, i] = np.mean(shared)
        weights = matrix.mean(axis=1) / matrix.mean(axis=1).sum()
        expected = chances(vectors, labels, split.train, split.test, 10)
        for name, weight in (("alignment_weighted", weights), ("equal_weights", np.full(3, 1 / 3))):
            probability, choice = of_split(found, name, number)
            assert list(choice["weight"]) == pytest.approx(list(weight), abs=1e-12) and set(choice["k"]) == {10}
            assert probability == pytest.approx(expected @ weight, abs=1e-9)


def plain_stacking(vectors, labels, split):
    """k, C and test probabilities of the released search, written out."""
    best = -1.0
    for k in (5, 10, 15, 25):
        validation = chances(vectors, labels, split.train, split.validation, k)
        for c in (0.25, 1.0, 4.0):
            meta = logistic(c).fit(validation, labels[split.validation])
            score = roc_auc_score(labels[split.validation], meta.predict_proba(validation)[:, 1])
            if score > best:
                test = chances(vectors, labels, split.train, split.test, k)
                best, chosen = score, (k, c, meta.coef_[0], meta.predict_proba(test)[:, 1])
    return chosen


def test_stacking_as_released_is_that_of_plain_scikit_learn(given, splits, found):
    vectors, labels, _ = given
    for number, split in enumerate(splits[:2]):
        k, c, coefficients, expected = plain_stacking(vectors, labels, split)
        probability, choice = of_split(found, "stacking_released", number)
        assert (set(choice["k"]), set(choice["C"])) == ({k}, {c})
        assert choice["weight"].to_numpy() == pytest.approx(coefficients, abs=1e-9)
        assert probability == pytest.approx(expected, abs=1e-9)


def test_the_solver_of_the_released_code_stops_a_little_earlier(given, splits, found):
    vectors, labels, _ = given
    split = splits[0]
    probability, choice = of_split(found, "stacking_released", 0)
    k, c = int(choice["k"].iloc[0]), choice["C"].iloc[0]
    validation, test = (chances(vectors, labels, split.train, part, k) for part in (split.validation, split.test))
    released = LogisticRegression(C=c, class_weight="balanced", max_iter=2000)
    released.fit(validation, labels[split.validation])
    assert probability == pytest.approx(released.predict_proba(test)[:, 1], abs=3e-3)


def test_nested_stacking_is_that_of_plain_scikit_learn_with_the_same_folds(given, splits, found):
    vectors, labels, patients = given
    split = splits[1]
    folds = neighbours.inner_folds(labels[split.train], patients[split.train], seed=0)
    best = -1.0
    for k in (5, 10, 15, 25):
        inner = np.empty((len(folds), 3))
        for number in range(5):
            asked = split.train[folds == number]
            inner[folds == number] = chances(vectors, labels, split.train[folds != number], asked, k)
        for c in (0.25, 1.0, 4.0):
            score = np.empty(len(folds))
            for number in range(5):
                out = folds == number
                meta = logistic(c).fit(inner[~out], labels[split.train][~out])
                score[out] = meta.predict_proba(inner[out])[:, 1]
            if roc_auc_score(labels[split.train], score) > best:
                best, chosen = roc_auc_score(labels[split.train], score), (k, c, inner.copy())
    k, c, inner = chosen
    validation = chances(vectors, labels, split.train, split.validation, k)
    seen = np.concatenate([split.train, split.validation])
    meta = logistic(c).fit(np.vstack([inner, validation]), labels[seen])
    expected = meta.predict_proba(chances(vectors, labels, split.train, split.test, k))[:, 1]
    probability, choice = of_split(found, "stacking_nested", 1)
    assert (set(choice["k"]), set(choice["C"])) == ({k}, {c})
    assert probability == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_nested_choice_scores_no_sample_by_a_meta_learner_that_was_fitted_to_it(seed):
    rng = np.random.default_rng(seed)
    n, limits = 40, neighbours.Limits(25, 10, (5, 10), (5, 10, 15, 25), "")
    votes = [np.cumsum(rng.integers(0, 2, (6, size, 25)), axis=2) for size in (n, 20, 30)]
    labels, others, fold = rng.integers(0, 2, n), np.tile([0, 1], 10), np.arange(n) % 5
    part = rules.Part(
        limits, labels, others, fold, np.eye(6), votes[1], votes[2], votes[0], np.ones(6, int), np.ones(6)
    )
    scores = {}
    for k in limits.nested:
        given = votes[0][:, :, k - 1].T / k
        for c in (0.25, 1.0, 4.0):
            parts = {out: ensembles.stacking(given[fold != out], labels[fold != out], c) for out in range(5)}
            scores[k, c] = roc_auc_score(
                labels, [parts[out].predict(one[None])[0] for out, one in zip(fold, given, strict=True)]
            )
    outcome = ensembles.stacking_nested(part)
    assert (outcome.k[0], outcome.c) == max(scores, key=scores.get)


@pytest.mark.parametrize("seed", range(12))
def test_meta_learner_is_scikit_learns_however_odd_the_data(seed):
    rng = np.random.default_rng(seed)
    n, models, c = int(rng.integers(6, 80)), int(rng.integers(2, 12)), float(rng.choice([0.25, 1, 4, 100]))
    labels = np.append([0, 1], (rng.random(n - 2) < rng.uniform(0.05, 0.6)).astype(int))
    given = np.round(rng.random((n, models)), 1)
    if seed % 3 == 0:
        given[:, 0] = labels  # the classes can be told apart without fault
    if seed % 3 == 1:
        given[:, 1] = given[:, 0]
    ours = ensembles.stacking(given, labels, c)
    theirs = logistic(c).fit(given, labels)
    assert ours.coefficients == pytest.approx(theirs.coef_[0], abs=1e-7)
    assert ours.predict(given) == pytest.approx(theirs.predict_proba(given)[:, 1], abs=1e-8)


def plain_greedy(probabilities, labels):
    """Numbers of the models that Caruana's selection takes, with lists and scikit-learn's AUC."""
    bag, reached = [], -1.0
    while True:
        tried = [
            roc_auc_score(labels, np.mean(probabilities[[*bag, each]], axis=0).round(12))
            for each in range(len(probabilities))
        ]
        if max(tried) <= reached:
            return bag
        reached = max(tried)
        bag.append(tried.index(reached))


@pytest.mark.parametrize("seed", [0, 1, 4])
def test_greedy_choice_is_that_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    probabilities = rng.integers(0, 6, (4, 60)) / 5 * 0.7 + 0.3 * labels * rng.random((4, 1))
    taken = ensembles.greedy(probabilities, labels)
    assert taken.tolist() == np.bincount(plain_greedy(probabilities, labels), minlength=4).tolist()
    assert seed != 1 or taken.tolist() == [2, 0, 1, 2]  # with replacement


def test_greedy_choice_worked_by_hand():
    labels = np.array([1, 1, 1, 0, 0, 0])
    first = [0.6, 1.0, 0.2, 0.4, 0.2, 1.0]  # 5 of 9 pairs in order
    second = [0.0, 0.8, 1.0, 0.2, 0.2, 0.8]  # 5.5: taken to begin with
    # with the first 0.3 0.9 0.6 | 0.3 0.2 0.9: 6, if 0.3 is 0.3 however it was added up; with the first once more
    # 0.4 0.933 0.467 | 0.333 0.2 0.933: 6.5, and then no gain by either
    assert ensembles.greedy(np.array([first, second]), labels).tolist() == [2, 1]
    assert ensembles.greedy(np.array([labels, second, labels]), labels).tolist() == [1, 0, 0]


def test_doubles_of_a_model_change_nothing_for_the_greedy_choice(given, splits, found):
    vectors, labels, patients = given
    doubled = {**vectors, "again": vectors["one"], "once more": vectors["two"]}
    more = ensembles.evaluate(doubled, labels, patients, splits, k_max=30)["greedy"]
    pd.testing.assert_frame_equal(more.predictions, found["greedy"].predictions, check_exact=True)
    pd.testing.assert_frame_equal(more.choices, found["greedy"].choices)


def test_greedy_choice_weighs_models_at_their_own_k_as_often_as_they_were_taken(given, splits, found):
    vectors, labels, _ = given
    for number, split in enumerate(splits):
        probability, choice = of_split(found, "greedy", number)
        own = {name: of_split(found, name, number)[1]["k"].iloc[0] for name in choice.index}
        assert dict(choice["k"]) == own and choice["weight"].sum() == pytest.approx(1)
        seen = [
            chances(
                {name: vectors[name]},
                labels,
                split.train,
                split.validation,
                int(of_split(found, name, number)[1]["k"].iloc[0]),
            )
            for name in NAMES
        ]
        taken = ensembles.greedy(np.column_stack(seen).T, labels[split.validation])
        assert dict(choice["weight"]) == {
            name: times / taken.sum() for name, times in zip(NAMES, taken, strict=True) if times
        }
        parts = [
            row.weight * chances({row.Index: vectors[row.Index]}, labels, split.train, split.test, row.k)[:, 0]
            for row in choice.itertuples()
        ]
        assert probability == pytest.approx(np.sum(parts, axis=0), abs=1e-9)


def what_was_chosen(found):
    """All that was chosen or fitted, the oracle aside."""
    return pd.concat({name: each.choices for name, each in found.items() if each.kind != "oracle"})


def test_test_labels_change_no_choice_and_no_probability(given, splits):
    vectors, labels, patients = given
    split = splits[0]
    before = ensembles.evaluate(vectors, labels, patients, [split], k_max=30)
    turned = labels.copy()
    turned[split.test] = np.random.default_rng(0).permutation(1 - turned[split.test])
    after = ensembles.evaluate(vectors, turned, patients, [split], k_max=30)
    pd.testing.assert_frame_equal(what_was_chosen(after), what_was_chosen(before), check_exact=True)
    for name, each in before.items():
        if each.kind != "oracle":
            assert list(after[name].predictions["probability"]) == list(each.predictions["probability"])
            assert list(after[name].predictions["label"]) != list(each.predictions["label"])


def test_test_vectors_change_no_choice(given, splits):
    vectors, labels, patients = given
    split = splits[0]
    rng = np.random.default_rng(5)
    others = {name: each.copy() for name, each in vectors.items()}
    for each in others.values():
        each[split.test] = rng.normal(size=(len(split.test), each.shape[1])) + 3 * labels[split.test][:, None]
    before = ensembles.evaluate(vectors, labels, patients, [split], k_max=30)
    after = ensembles.evaluate(others, labels, patients, [split], k_max=30)
    pd.testing.assert_frame_equal(what_was_chosen(after), what_was_chosen(before), check_exact=True)
    assert list(after["greedy"].predictions["probability"]) != list(before["greedy"].predictions["probability"])


def test_validation_samples_do_choose_but_are_no_neighbours(given, splits):
    vectors, labels, patients = given
    split = splits[0]
    turned = labels.copy()
    turned[split.validation] = 1 - turned[split.validation]
    before = ensembles.evaluate(vectors, labels, patients, [split], k_max=30)
    after = ensembles.evaluate(vectors, turned, patients, [split], k_max=30)
    chosen = [of_split(each, "stacking_released", 0)[1]["weight"] for each in (before, after)]
    assert not np.allclose(*chosen)
    for name in ("alignment_weighted", "equal_weights"):  # which choose nothing
        assert list(after[name].predictions["probability"]) == list(before[name].predictions["probability"])


def test_models_that_each_know_one_half_of_the_samples_are_better_together():
    rng = np.random.default_rng(0)
    labels, half, patients = rng.integers(0, 2, 300), rng.integers(0, 2, 300), np.arange(300)
    sign = 2 * labels - 1
    vectors = {
        name: np.column_stack([np.where(half == own, sign, 0) * 1.5, *rng.normal(0, 0.5, (3, 300))])
        + rng.normal(0, 0.3, (300, 4))
        for own, name in enumerate(("left", "right"))
    }
    found = ensembles.evaluate(vectors, labels, patients, splits_of(patients, 2))
    table = ensembles.compared(found, patients, draws=300).set_index("name")
    for name in ("greedy", "stacking_nested", "stacking_released", "equal_weights"):
        assert table.loc[name, "auc"] > table.loc[["left", "right"], "auc"].max() + 0.05
        assert table.loc[name, "difference_low"] > 0 and table.loc[name, "p_holm"] < 0.05
    assert table.loc[["left", "right"], "taken"].min() > 0.25


def test_of_useless_models_no_ensemble_is_better():
    vectors, labels, patients = cohort(n=200, signal=(0, 0, 0, 0), seed=4)
    found = ensembles.evaluate(vectors, labels, patients, splits_of(patients, 2))
    table = ensembles.compared(found, patients, draws=300)
    assert table["p_holm"].min() > 0.05 or (table.loc[table["p_holm"] <= 0.05, "difference"] < 0).all()
    assert table.loc[table["kind"] == "ensemble", "auc"].between(0.38, 0.62).all()


def test_differences_are_the_paired_bootstraps_and_the_oracle_is_no_competitor(given, found):
    _, _, patients = given
    table = ensembles.compared(found, patients, draws=200, seed=3)
    assert list(table["name"]) == [*NAMES, *ensembles.ENSEMBLES]
    rows = table.set_index("name")
    frames = {
        name: found[name].predictions.assign(
            sample_id=[f"s{row:03}" for row in found[name].predictions["row"]],
            patient_id=patients[found[name].predictions["row"]],
        )
        for name in rows.index[rows["kind"] != "oracle"]
    }
    expected = statistics.paired_bootstrap(frames, ensembles.REFERENCE, 200, 3).set_index("name")
    for name, row in expected.iterrows():
        assert rows.loc[name, ["difference", "difference_low", "difference_high", "p", "p_holm"]].tolist() == list(
            row[["difference", "low", "high", "p", "p_holm"]]
        )
        assert rows.loc[name, "auc"] == pytest.approx(row["auc"], abs=1e-6)
    oracle = rows.loc[ensembles.ORACLE]
    best = found[ensembles.ORACLE].choices["model"].iloc[0]
    assert oracle["difference"] == rows.loc[best, "difference"] and np.isnan(oracle["p_holm"])
    assert rows.loc[ensembles.REFERENCE, ["difference", "p"]].isna().all()
    low, high = found["greedy"].interval()[1:]
    scores = found["greedy"].scores
    learnt = (scores["n_train"] + scores["n_validation"]).mean()
    expected = statistics.corrected_interval(scores["test_auc"], learnt, scores["n_test"].mean())
    assert (rows.loc["greedy", "low"], rows.loc["greedy", "high"]) == (low, high) == expected[1:]


def test_how_often_each_model_is_chosen_and_taken(given, found):
    table = ensembles.compared(found, given[2], draws=20).set_index("name")
    chosen, taken = found[ensembles.REFERENCE].choices, found["greedy"].choices
    for name in NAMES:
        assert table.loc[name, "chosen"] == pytest.approx((chosen["model"] == name).mean())
        assert table.loc[name, "taken"] == pytest.approx(taken.loc[taken["model"] == name, "weight"].sum() / 3)
    assert table.loc[list(NAMES), ["chosen", "taken"]].sum().tolist() == pytest.approx([1, 1])
    assert table.loc[list(ensembles.ENSEMBLES), ["chosen", "taken"]].isna().all(axis=None)


def test_without_splits_those_of_the_patient_grouped_protocol_are_used(given, splits, found, monkeypatch):
    asked = []
    monkeypatch.setattr(knn, "grouped_splits", lambda *of: asked.append(of) or splits)
    again = ensembles.evaluate(*given, k_max=30)
    assert [list(each) for each in asked[0]] == [list(given[1]), list(given[2])]
    pd.testing.assert_frame_equal(again["greedy"].predictions, found["greedy"].predictions)


def test_k_goes_as_far_as_the_smallest_training_part_and_the_note_says_so():
    vectors, labels, patients = cohort(n=36, signal=(1, 1), seed=2)
    splits = splits_of(patients, 2, seed=0)
    note = ensembles.evaluate(vectors, labels, patients, splits)["greedy"].note
    assert note == (
        "The smallest training part has 18 samples: single models choose k up to 18 instead of 50; stacking as "
        "released uses k of 5, 10, 15; nested stacking uses k of 5, 10."
    )
    split = knn.Split(0, splits[0].train[:10], splits[0].validation, splits[0].test)
    few = ensembles.evaluate(vectors, labels, patients, [split])
    assert "alignment uses 9 neighbours instead of 10" in few["greedy"].note
    assert set(few["alignment_weighted"].choices["k"]) == {9} and few["one"].choices["k"].max() <= 10
    vectors, labels, patients = cohort(n=120)
    assert ensembles.evaluate(vectors, labels, patients, splits_of(patients, 2))["one"].note == ""


def test_inner_folds_keep_patients_together_and_both_classes_in_all_that_is_left():
    _, labels, patients = cohort(n=120, each=3)
    folds = neighbours.inner_folds(labels, patients, seed=0)
    assert sorted(np.unique(folds)) == [0, 1, 2, 3, 4]
    assert all(len(np.unique(folds[patients == each])) == 1 for each in patients)
    people = pd.DataFrame({"fold": folds, "label": labels, "patient": patients}).drop_duplicates("patient")
    assert np.ptp(people.groupby("fold").size()) <= 1 and np.ptp(people.groupby("fold")["label"].sum()) <= 1
    assert not np.array_equal(folds, neighbours.inner_folds(labels, patients, seed=1))
    rare = np.array([1] * 2 + [0] * 20)
    assert sorted(np.unique(neighbours.inner_folds(rare, np.arange(22), 0))) == [0, 1]
    with pytest.raises(ValueError, match="too few patients of a class"):
        neighbours.inner_folds(np.array([1] * 2 + [0] * 20), np.array([0, 0, *range(1, 21)]), 0)


def test_the_seed_is_of_the_inner_folds_only(given, splits, found):
    other = ensembles.evaluate(*given, splits, k_max=30, seed=9)
    changed = [name for name in found if not other[name].predictions.equals(found[name].predictions)]
    assert changed == ["stacking_nested"]


def test_every_rule_has_a_title():
    assert {*rules.RULES, ensembles.ORACLE} == set(ensembles.ENSEMBLES) == set(evaluating.ENSEMBLES)
    assert all(one != two for one, two in pairwise(sorted(ensembles.ENSEMBLES.values())))


def test_bad_input_is_named(given, splits):
    vectors, labels, patients = given
    error = ensembles.EnsembleError

    def refused(message, vectors=vectors, labels=labels, patients=patients, splits=splits, **options):
        with pytest.raises(error, match=message):
            ensembles.evaluate(vectors, labels, patients, splits, **options)

    refused("two models at least; there are 1: one", {"one": vectors["one"]})
    refused("must not be called greedy", {**vectors, "greedy": vectors["one"]})
    refused("two: 179 embeddings but 180 labels", {**vectors, "two": vectors["two"][1:]})
    refused("179 patients but 180 labels", patients=patients[1:])
    refused("nothing to evaluate: 0 splits", splits=[])
    refused("nothing to evaluate: 3 splits, k up to 0", k_max=0)
    for value in (np.nan, 0.0):
        broken = vectors["three"].copy()
        broken[4] = value
        refused("three: 1 embeddings hold NaN or are zero, first row 4", {**vectors, "three": broken})
    train, validation, test = splits[0].train, splits[0].validation, splits[0].test
    twice = knn.Split(5, np.append(train, test[0]), validation, test[1:])  # the patient's other sample is in test
    refused(f"seed 5 has patient {patients[test[0]]} in two parts", splits=[twice])
    negatives = validation[labels[validation] == 0]
    refused("validation part of the split of seed 5 has one class", splits=[knn.Split(5, train, negatives, test)])
    with pytest.raises(statistics.LabelError, match="all 180 labels are 0"):
        ensembles.evaluate(vectors, np.zeros(180), patients, splits)
