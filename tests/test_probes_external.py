"""External validation: planted shifts and signals, scikit-learn's judges, leakage, the bootstrap by hand, bad input."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tumorbench_utils.probes import external, external_scores
from tumorbench_utils.probes.external import ExternalError


@pytest.fixture(autouse=True, scope="module")
def few_strengths():
    """Three C in place of seven: the tests are about where they come from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "STRENGTHS", external.STRENGTHS[[1, 3, 5]])
        yield


def people(name, n=60, per=1, share=0.5, seed=0):
    rng = np.random.default_rng([seed, *name.encode()])
    label = np.repeat((rng.permutation(n // per) < share * n / per).astype(int), per)
    patient = np.repeat([f"{name}{number:03}" for number in range(n // per)], per)
    return pd.DataFrame({"sample_id": [f"{name}-{row}" for row in range(n)], "patient_id": patient, "label": label})


def signal(samples, strength=1.5, d=12, seed=0, offset=0.0):
    """Vectors whose first feature carries the label; the others are noise."""
    noise = np.random.default_rng([seed, len(samples), *samples["sample_id"][0].encode()]).normal(
        size=(len(samples), d)
    )
    return (noise + strength * samples["label"].to_numpy()[:, None] * np.eye(d)[0] + offset).astype(np.float32)


def sites(first=None, second=None, raw=(), n=60, folds=3):
    a, b = people("a", n), people("b", n)
    both = (a, first if first is not None else signal(a)), (b, second if second is not None else signal(b))
    return [
        external.site(name, samples, {"model": vectors}, raw, folds)
        for name, (samples, vectors) in zip("ab", both, strict=True)
    ]


def scored(both, heads=external.HEADS, draws=400):
    found = external.evaluate(both, heads, k_max=15)
    table = external_scores.scores(found.predictions, draws)
    return found, table.set_index(["measure", "head", "train", "test"])


def test_a_signal_that_both_cohorts_share_is_worth_as_much_elsewhere_as_within():
    _, table = scored(sites(n=80, folds=4))  # within learns from 60, elsewhere from 80
    for head, (train, test) in product(external.HEADS, ["ab", "ba"]):
        row = table.loc[("drop", head, train, test)]
        assert row["p_holm"] > 0.05 and abs(row["value"]) < 0.1
        assert table.loc[("auc_external", head, train, test), "low"] > 0.6


def test_a_signal_that_one_cohort_alone_has_is_lost_in_the_other_beyond_chance():
    a, b = people("a", 120), people("b", 120)
    other = signal(b)[:, [1, 0, *range(2, 12)]]  # the label is in another feature
    found, table = scored(sites(signal(a), other, n=120), draws=1000)
    for head, (train, test) in product(external.HEADS, ["ab", "ba"]):
        row = table.loc[("drop", head, train, test)]
        assert row["high"] < 0 and row["p_holm"] < 0.05
        difference = table["value"]["auc_external", head, train, test] - table["value"]["auc_within", head, test, test]
        assert row["value"] == pytest.approx(difference)
        assert table.loc[("auc_external", head, train, test), "low"] < 0.5
    assert set(found.predictions["train"]) == {"a", "b"}


def test_a_shift_of_the_scanner_hurts_neighbours_elsewhere_only_and_is_undone_by_moving_the_cohort():
    a, b = people("a", 80), people("b", 80)
    shift = np.r_[20, np.zeros(11)].astype(np.float32)  # along the feature that counts
    clean = sites(signal(a, 3), signal(b, 3), ["model"], 80)
    shifted = sites(signal(a, 3), signal(b, 3) + shift, ["model"], 80)
    found, table = scored(shifted, ["knn"], 300)
    _, plain = scored(clean, ["knn"], 300)
    hurt, sound = (each.loc[("auc_external", "knn", "a", "b")] for each in (table, plain))
    assert hurt["value"] < sound["value"] - 0.2
    within = [each["value"]["auc_within", "knn", "b", "b"] for each in (table, plain)]
    assert within[0] == pytest.approx(within[1], abs=0.01)  # scaled by its own training parts
    drop = table.loc[("drop", "knn", "a", "b")]
    assert drop["high"] < 0 and drop["p_holm"] < 0.05
    moved = external_scores.aucs(found.rescaled, 300).set_index(["train", "test"])["value"]["a", "b"]
    assert moved > sound["value"] - 0.05


def test_drift_is_told_in_units_of_the_training_cohort():
    a = people("a")
    vectors = np.column_stack([np.linspace(-1, 1, 60), np.linspace(-2, 2, 60), np.full(60, 3.0)]).astype(np.float32)
    spread = vectors.std(axis=0)
    b = vectors * [2, 2, 1] + 5 * spread
    table = external.drift([external.site(name, each, {"m": values.astype(np.float32)})
                            for name, each, values in (("a", a, vectors), ("b", people("b"), b))])  # fmt: skip
    there = table.set_index("train").loc["a"]
    assert there["shift"] == pytest.approx(5, abs=1e-4) and there["spread"] == pytest.approx(2, abs=1e-4)
    z = (b[:, 0]) / vectors[:, 0].std()  # both moving features are alike in units of the first cohort
    assert there["beyond"] == pytest.approx((np.abs(z) > 3).mean()) and there["beyond_train"] == 0
    assert table.set_index("train").loc["b", "shift"] == pytest.approx(2.5, abs=1e-4)


@pytest.mark.parametrize("raw", [False, True])
def test_external_neighbours_are_those_of_scikit_learn_fitted_on_the_training_cohort(raw):
    a, b = sites(raw=["model"] if raw else [])
    judge = external.learnt(a, "model", "knn", 15)
    steps = [StandardScaler()] if raw else []
    theirs = make_pipeline(*steps, KNeighborsClassifier(int(judge.chosen), metric="cosine"))
    expected = theirs.fit(a.vectors["model"].astype(float), a.labels).predict_proba(b.vectors["model"].astype(float))
    got = external.judged(judge, "a", b, "model")
    assert_allclose(got["probability"], expected[:, 1], atol=1e-12)
    assert list(got["sample_id"]) == list(b.samples["sample_id"]) and set(got["train"] + got["test"]) == {"ab"}


@pytest.mark.parametrize("d", [12, 150])
def test_the_external_linear_probe_is_that_of_scikit_learn_also_with_more_features_than_samples(d):
    samples = people("a"), people("b")
    a, b = sites(*(signal(each, d=d) * 7 + 3 for each in samples))
    judge = external.learnt(a, "model", "linear")
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=judge.chosen, tol=1e-10, max_iter=10_000))
    theirs.fit(a.vectors["model"].astype(float), a.labels)
    expected = theirs.predict_proba(b.vectors["model"].astype(float))[:, 1]
    assert_allclose(external.judged(judge, "a", b, "model")["probability"], expected, atol=1e-5)


def test_k_is_chosen_by_the_auc_of_inner_folds_weighted_by_pairs_and_c_by_their_log_loss():
    samples = people("a", 66, per=2)
    vectors, labels = signal(samples, 0.8), samples["label"].to_numpy()
    here = external.site("a", samples, {"model": vectors}, ["model"], folds=3, seed=4)
    splits = list(StratifiedGroupKFold(3, shuffle=True, random_state=4).split(labels, labels, samples["patient_id"]))
    pairs = [labels[held].sum() * (1 - labels[held]).sum() for _, held in splits]

    def tried(model):
        found = []
        for learnt, held in splits:
            pipeline = make_pipeline(StandardScaler(), model).fit(vectors[learnt].astype(float), labels[learnt])
            score = pipeline.predict_proba(vectors[held].astype(float))[:, 1]
            loss = log_loss(labels[held], score, normalize=False) if hasattr(model, "C") else 0
            found.append((roc_auc_score(labels[held], score), loss))
        return np.average([auc for auc, _ in found], weights=pairs), sum(loss for _, loss in found)

    knn = [tried(KNeighborsClassifier(k, metric="cosine"))[0] for k in range(1, 13)]
    linear = [tried(LogisticRegression(C=c, tol=1e-10, max_iter=10_000)) for c in external.STRENGTHS]
    aucs, losses = map(list, zip(*linear, strict=True))
    neighbours, probe = (external.learnt(here, "model", head, 12) for head in external.HEADS)
    assert_allclose(neighbours.curve, knn, atol=1e-12)
    assert_allclose(probe.curve, aucs, atol=1e-12)
    assert neighbours.chosen == 1 + int(np.argmax(knn)) and neighbours.score == max(neighbours.curve)
    best = int(np.argmin(losses))
    assert best != int(np.argmax(aucs)) and probe.chosen == external.STRENGTHS[best]
    assert probe.score == probe.curve[best]


def test_k_reaches_no_further_than_the_smallest_inner_training_part():
    a = sites(n=30, folds=5)[0]
    assert len(external.learnt(a, "model", "knn", 50).curve) == min(len(part) for part, _ in a.inner) == 20


@pytest.mark.parametrize("head", external.HEADS)
def test_nothing_of_the_test_cohort_reaches_the_judge(head):
    a, b = sites(raw=["model"])
    spoilt = b.vectors["model"].copy()
    spoilt[30:] = spoilt[30:] * 50 - 9
    odd = external.site("b", b.samples.assign(label=1 - b.labels), {"model": spoilt}, ["model"], 3)
    found = [external.evaluate(pair, [head], 15) for pair in ([a, b], [a, odd])]
    choices = [each.choices.query("train == 'a'").reset_index(drop=True) for each in found]
    pd.testing.assert_frame_equal(*choices)
    there = [each.predictions.query("train == 'a' and test == 'b'")["probability"].to_numpy() for each in found]
    assert_allclose(there[0][:30], there[1][:30], atol=1e-12)  # of the samples that stayed as they were
    assert np.abs(there[0][30:] - there[1][30:]).max() > 0.1
    within = [each.predictions.query("train == 'a' and test == 'a'")["probability"].to_numpy() for each in found]
    assert_allclose(*within, atol=0)


@pytest.mark.parametrize("head", external.HEADS)
def test_nothing_of_a_held_out_fold_reaches_its_judge(head):
    samples = people("a")
    vectors = signal(samples)
    here = external.site("a", samples, {"model": vectors}, ["model"], 3)
    fold = here.folds[2]
    spoilt = vectors.copy()
    spoilt[fold.test] = vectors[fold.test] * 30 + 8
    there = external.site("a", samples, {"model": spoilt}, ["model"], 3)
    clean, odd = (external.within(each, "model", head, 15)[1][2] for each in (here, there))
    assert clean.chosen == odd.chosen
    assert_allclose(clean.predict(vectors), odd.predict(vectors), atol=0)


def test_folds_keep_patients_together_and_every_sample_is_held_out_once():
    samples = people("a", 120, per=3)
    here = external.site("a", samples, {"model": signal(samples)})
    person = samples["patient_id"].to_numpy()
    assert sorted(np.concatenate([fold.test for fold in here.folds])) == list(range(120))
    for fold in here.folds:
        assert not set(person[fold.train]) & set(person[fold.test])
        inside = person[fold.train]
        assert sorted(np.concatenate([held for _, held in fold.inner])) == list(range(len(fold.train)))
        assert len(fold.inner) == len(here.inner) == external.INNER
        assert not any(set(inside[learnt]) & set(inside[held]) for learnt, held in fold.inner)
    found, judges = external.within(here, "model", "knn", 15)
    assert len(judges) == 5 and list(found["sample_id"]) == list(samples["sample_id"])
    for number, fold in enumerate(here.folds):
        assert set(found["fold"].to_numpy()[fold.test]) == {number}
        expected = judges[number].predict(here.vectors["model"][fold.test])
        assert_allclose(found["probability"].to_numpy()[fold.test], expected)


def loop_auc(frame, count):
    """Concordant share of the pairs of a fold, each counted as often as both patients were drawn."""
    right = total = 0.0
    rows = list(zip(frame["label"], frame["fold"], frame["patient_id"], frame["probability"], strict=True))
    for one, other in product(rows, rows):
        if one[0] == 1 and other[0] == 0 and one[1] == other[1]:
            times = count[one[2]] * count[other[2]]
            total += times
            right += times * (0.5 * (one[3] == other[3]) + (one[3] > other[3]))
    return right / total if total else np.nan


def predicted(test, train, probability, label, fold=None, patient=None, head="knn"):
    n = len(label)
    patient = [f"{test}{i}" for i in range(n)] if patient is None else patient
    frame = pd.DataFrame({"model": "m", "head": head, "train": train, "test": test, "fold": fold or [0] * n,
                          "sample_id": [f"{test}-{i}" for i in range(n)], "patient_id": patient, "label": label,
                          "probability": probability})  # fmt: skip
    return frame[external.PREDICTIONS]


def test_drawn_aucs_are_those_of_a_loop_over_pairs_of_a_fold():
    rng = np.random.default_rng(3)
    label, fold = rng.integers(0, 2, 24), list(np.repeat([0, 1, 2], 8))
    frame = predicted("b", "b", rng.integers(0, 4, 24) / 4, label, fold, [f"b{i // 2}" for i in range(24)])
    people = external_scores.drawn("b", frame["patient_id"], 40, 0)
    got = external_scores.drawn_aucs(frame, people)
    expected = [loop_auc(frame, dict(zip(people.person.index, row, strict=True))) for row in people.weights]
    assert_allclose(got, expected, atol=1e-6)
    assert (people.weights[0] == 1).all() and (people.weights.sum(axis=1) == 12).all()
    weights = [rows["label"].sum() * (1 - rows["label"]).sum() for _, rows in frame.groupby("fold")]
    each = [roc_auc_score(rows["label"], rows["probability"]) for _, rows in frame.groupby("fold")]
    assert got[0] == pytest.approx(np.average(each, weights=weights))


def tiny():
    """Three cohorts of four patients; external and within predictions of one model."""
    rng = np.random.default_rng(8)
    frames = [
        predicted(test, train, rng.random(4).round(1), [1, 0, 1, 0], [0, 0, 1, 1] if train == test else None)
        for train, test in product("abc", "abc")
    ]
    return pd.concat(frames, ignore_index=True)


def test_the_least_draws_are_those_with_which_the_surest_difference_passes_holm():
    for comparisons in (1, 8, 56):
        draws = external_scores.least_draws(comparisons)
        assert comparisons * 2 / (draws + 1) < 0.05 <= comparisons * 2 / draws
    assert external_scores.least_draws(56) == 2240


def test_the_worst_case_and_its_interval_by_hand():
    table, draws = tiny(), 60
    found = {}
    for (train, test), frame in table[table["train"] != table["test"]].groupby(["train", "test"]):
        people = external_scores.drawn(test, frame["patient_id"], draws, 5)
        counts = [dict(zip(people.person.index, row, strict=True)) for row in people.weights]
        found[train, test] = np.array([loop_auc(frame, count) for count in counts])
    point = {pair: aucs[0] for pair, aucs in found.items()}
    lowest = np.min(list(found.values()), axis=0)[1:]
    lowest = lowest[np.isfinite(lowest)]
    row = external_scores.ranked(external_scores.scores(table, draws, 5)).iloc[0]
    assert (row["train"], row["test"]) == min(point, key=point.get)
    assert row["value"] == pytest.approx(min(point.values()))
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(lowest, (0.025, 0.975)), abs=1e-6)
    assert np.isnan(row["p"]) and row["n_train"] == row["n_test"] == 4


def test_drops_are_paired_on_the_same_draws_and_corrected_over_all():
    table, draws = tiny(), 60
    scores = external_scores.scores(table, draws, 5)
    row = scores.query("measure == 'drop' and train == 'a' and test == 'c'").iloc[0]
    aucs = {}
    for train in "ac":
        frame = table.query("train == @train and test == 'c'")
        people = external_scores.drawn("c", frame["patient_id"], draws, 5)
        aucs[train] = [loop_auc(frame, dict(zip(people.person.index, each, strict=True))) for each in people.weights]
    drop = np.subtract(aucs["a"], aucs["c"])
    rest = drop[1:][np.isfinite(drop[1:])]
    assert row["value"] == pytest.approx(drop[0])
    assert (row["low"], row["high"]) == pytest.approx(np.quantile(rest, (0.025, 0.975)), abs=1e-6)
    tail = min((rest <= 1e-7).sum(), (rest >= -1e-7).sum())
    assert row["p"] == pytest.approx(min(1, 2 * (tail + 1) / (len(rest) + 1)))
    drops = scores["measure"] == "drop"
    assert drops.sum() == 6 and scores.loc[~drops, "p_holm"].isna().all()
    assert (scores.loc[drops, "p_holm"] >= scores.loc[drops, "p"]).all()
    assert dict(scores["measure"].value_counts()) == {"drop": 6, "auc_external": 6, "auc_within": 3, "auc_worst": 1}
    assert set(scores.query("measure == 'auc_within'")["n_train"]) == {2}  # two folds of four: half learns


def test_ranking_by_the_worst_case_is_best_first_and_names_the_cohort():
    frames = [
        predicted(test, train, probability, [1, 1, 0, 0], head=head)
        for head, probability, (train, test) in [
            ("knn", [1, 1, 0, 0], "ab"), ("knn", [0, 1, 0, 0], "ba"), ("linear", [0, 0, 1, 1], "ab"),
            ("linear", [1, 1, 0, 0], "ba"), *((head, [1, 1, 0, 0], pair) for head in external.HEADS
                                               for pair in ("aa", "bb")),
        ]
    ]  # fmt: skip
    table = external_scores.ranked(external_scores.scores(pd.concat(frames), 50))
    assert list(zip(table["head"], table["test"], table["value"], strict=True)) == [
        ("knn", "a", 0.75),
        ("linear", "b", 0),
    ]


def test_calibration_in_the_large_holds_the_mean_prediction_against_what_was_observed():
    a, b = (
        predicted(name, name, [0.2, 0.4, 0.6, 0.8], label) for name, label in (("a", [1, 1, 1, 0]), ("b", [0, 0, 0, 1]))
    )
    table = external_scores.calibration(pd.concat([a, b, predicted("b", "a", [0.9, 0.7, 0.5, 0.7], [0, 0, 0, 1])]), 500)
    assert len(table) == 1
    row = table.iloc[0]
    assert row[["predicted", "observed", "difference", "observed_train"]].tolist() == pytest.approx(
        [0.7, 0.25, 0.45, 0.75]
    )
    weights = external_scores.drawn("b", b["patient_id"], 500, 0).weights[1:]
    expected = np.quantile(weights @ np.array([0.9, 0.7, 0.5, -0.3]) / 4, (0.025, 0.975))
    assert row[["low", "high"]].tolist() == pytest.approx(list(expected), abs=1e-6)


def test_cohorts_are_told_apart_by_an_offset_and_not_without_one():
    a, b = people("a"), people("b")
    for offset, low, high in ((0.0, 0.3, 0.7), (2.0, 0.95, 1.0)):
        found = external.which_site(*sites(signal(a), signal(b, offset=offset)), "model", folds=3)
        assert list(found["label"]) == [0] * 60 + [1] * 60 and found["fold"].nunique() == 3
        assert low <= external_scores.aucs(found, 50)["value"][0] <= high


def test_draws_of_a_cohort_are_the_same_for_every_judge_and_independent_between_cohorts():
    patients = pd.Series([f"p{i}" for i in range(20)])
    first, again, other = (external_scores.drawn(name, patients, 30, 1).weights for name in ("a", "a", "b"))
    assert (first == again).all() and (first[1:] != other[1:]).any()
    assert (first != external_scores.drawn("a", patients, 30, 2).weights).any()


def test_patients_in_two_cohorts_are_named():
    a = people("a")
    both = [external.site(name, a, {"model": signal(a)}, folds=3) for name in "ab"]
    with pytest.raises(ExternalError, match=r"a and b have 60 patients in common: a000, a001, .* and 55 more"):
        external.evaluate(both)


def test_bad_cohorts_are_named():
    a = people("a")
    with pytest.raises(ExternalError, match="a: all 60 labels are 1: an AUC needs both classes"):
        external.site("a", a.assign(label=1), {"model": signal(a)})
    few = people("a", 60, share=0.1)
    with pytest.raises(ExternalError, match="a: 5 folds need 10 patients of each class; there are 6 positive, 54 neg"):
        external.site("a", few, {"model": signal(few)})
    several = people("a", 60, per=4)
    with pytest.raises(ExternalError, match="there are 8 positive, 7 negative"):
        external.site("a", several, {"model": signal(several)})
    with pytest.raises(ExternalError, match=r"a, model: embeddings of shape \(59, 12\) for 60 samples"):
        external.site("a", a, {"model": signal(a)[1:]})
    for value in (np.nan, 0):
        vectors = signal(a)
        vectors[7] = value
        with pytest.raises(ExternalError, match="a, model: 1 embeddings hold NaN or are zero, the first is row 7"):
            external.site("a", a, {"model": vectors})


def test_cohorts_that_do_not_fit_each_other_are_named():
    a, b = people("a"), people("b")
    here = external.site("a", a, {"model": signal(a)}, folds=3)
    with pytest.raises(ExternalError, match="takes two cohorts or more, there is 1"):
        external.evaluate([here])
    with pytest.raises(ExternalError, match="a and b: only one of them has other"):
        external.evaluate([here, external.site("b", b, {"model": signal(b), "other": signal(b)})])
    with pytest.raises(ExternalError, match="model: 12 dimensions in a, 7 in b"):
        external.evaluate([here, external.site("b", b, {"model": signal(b, d=7)})])
    with pytest.raises(LookupError, match=r"unknown head 'forest'\. Known: knn, linear"):
        external.learnt(here, "model", "forest")
