"""The workshop's first three exercises against scikit-learn and plain loops, on planted leaks, sizes and curves."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from tumorbench_utils import annotations, artefacts, embeddings, knn, published, workshop
from tumorbench_utils.cohorts import lidc
from tumorbench_utils.plots import workshop as figures
from tumorbench_utils.workshop import choice, leakage, size

HASH = {published.WHEEL: published.WHEEL_SHA256}


def patients_of(n=120, dim=6, noise=0.3, seed=0, signal=0.0):
    """Views of n patients: a second one near the first, and one that has nothing to do with it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    first = rng.normal(size=(n, dim)) + signal * labels[:, None]
    vectors = {"original": first, "near": first + noise * rng.normal(size=(n, dim)), "far": rng.normal(size=(n, dim))}
    vectors = {name: array.astype(np.float32) for name, array in vectors.items()}
    names = np.array([f"P{number}" for number in rng.permutation(n)])
    return workshop.Views(labels, names, vectors, pd.DataFrame({"patient_id": names}), HASH)


@pytest.fixture(scope="module")
def seen():
    return patients_of()


def fitted(vectors, labels, split, k, rows):
    unit = np.asarray(vectors, float)
    near = KNeighborsClassifier(k, metric="cosine").fit(unit[split.train], labels[split.train])
    return near.predict_proba(unit[rows])[:, 1]


# What every exercise begins with


def stage(run, tables, n=6):
    rows = [(f"S{i}", f"P{i}", i % 2) for i in range(n)]
    table = pd.DataFrame(rows, columns=["sample_id", "patient_id", "label"])
    table = annotations.check(table.astype({"label": float}), "nsclc_radiomics")
    record = {"parameters": {"variant": "paper"}, "inputs": {}}
    annotations.write(run, "nsclc_radiomics", annotations.Annotations(table, table[:0]), record)
    for name, (ids, vectors) in tables.items():
        record = {"parameters": {"title": name}, "inputs": HASH}
        embeddings.write(embeddings.path_of(run, "nsclc_radiomics", name), ids, vectors, record)


def test_views_lie_row_by_row_whatever_the_order_of_their_tables(tmp_path):
    ids, vectors = np.array([f"S{i}" for i in range(6)], object), np.arange(1.0, 13).reshape(6, 2)
    stage(tmp_path, {"a": (ids, vectors), "b": (ids[:0:-1], 100 + vectors[:0:-1])})  # b lacks the first sample
    found = workshop.views(tmp_path, "nsclc_radiomics", {"first": "a", "second": "b"})
    assert list(found.patients) == ["P1", "P2", "P3", "P4", "P5"] and list(found.labels) == [1, 0, 1, 0, 1]
    assert np.array_equal(found.vectors["first"], vectors[1:])
    assert np.array_equal(found.vectors["second"], 100 + vectors[1:])
    assert found.inputs == HASH and list(found.table["sample_id"]) == list(ids[1:])


def test_a_check_says_what_it_verified():
    told = workshop.checked("0.1.0", HASH, {"patients": (421, 421)})
    assert told.splitlines()[0] == "tumorbench 0.1.0, as pinned."
    assert (
        f"tumorimagingbench-0.1.4: SHA-256 {published.WHEEL_SHA256[:16]}..., as expected." in told
    )  # one line of a phone
    assert "421 patients, as expected" in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("0.0.9", HASH, {}), "written for tumorbench 0.0.9, but 0.1.0 is installed"),
        (("0.1.0", {published.WHEEL: "0" * 64}, {}), f"{published.WHEEL}: SHA-256 is 0000"),
        (("0.1.0", {"other.whl": "0" * 64}, {}), "other.whl is no input of an exercise"),
        (
            ("0.1.0", HASH, {"patients": (420, 421), "views": (5, 5)}),
            "not those of the exercise: 420 patients, expected",
        ),
    ],
    ids=["version", "hash", "file", "count"],
)
def test_a_check_that_fails_says_why(given, told):
    with pytest.raises(workshop.WorkshopError, match=told):
        workshop.checked(*given)


def test_published_aucs_come_as_published_and_sorted():
    study = workshop.as_published("luna16")
    assert len(study) == 10 and set(study["series"]) == {"published"} and study["auc"].is_monotonic_decreasing
    assert study.iloc[0]["title"] == "FMCIB" and round(study.iloc[0]["auc"], 3) == 0.886
    with pytest.raises(workshop.WorkshopError, match="no AUC on 'rider'"):
        workshop.as_published("rider")


def test_tidy_results_hold_every_number_once():
    one = pd.DataFrame({"rule": ["a", "b"], "way": ["x", "y"], "auc": [0.5, np.nan], "n": [3, 4]})
    table = workshop.tidy({"one": one, "two": pd.DataFrame([{"gain": 1.0}])})
    assert list(table.columns) == ["part", "what", "measure", "value"]
    values = table.set_index(["part", "what", "measure"])["value"].to_dict()
    expected = {("one", "a, x", "auc"): 0.5, ("one", "a, x", "n"): 3, ("one", "b, y", "n"): 4, ("two", "", "gain"): 1}
    assert values == expected


def test_a_page_has_heads_in_words_and_limits_in_one_column():
    table = pd.DataFrame({"rule": ["a", "b"], "n_pairs": [3, 4], "low": [0.25, np.nan], "high": [0.5, 1.0], "sd": 0.1})
    shown = workshop.for_page(table, digits=2)
    assert list(shown) == ["rule", "number of pairs", "95 % interval", "standard deviation"]
    assert shown["95 % interval"].tolist() == ["0.25\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.50", "–"] and shown[
        "number of pairs"
    ].tolist() == [3, 4]
    assert "low" in table and list(workshop.for_page(table[["rule", "sd"]])) == ["rule", "standard deviation"]
    assert "95 % of splits" in workshop.for_page(table, limits="95 % of splits")
    whole = workshop.for_page(table.assign(gain=[-0.0001, 0.25]), 2, whole="gain", sign="+")
    assert list(whole) == ["rule", "number of pairs", "standard deviation", "gain"]
    assert whole["gain"].tolist() == ["+0.00 (+0.25 to +0.50)", "+0.25"]  # no minus before nothing, no limits unknown
    chance = workshop.for_page(
        pd.DataFrame({"rho": [0.2], "dealt_low": [-0.1], "dealt_high": [0.1], "n": [3]}), digits=1
    )
    assert chance.to_dict("list") == {"correlation": [0.2], "by chance": ["-0.1\xa0to\xa00.1"], "patients": [3]}


# Leakage


def test_splits_by_patient_are_the_studys_splits_of_patients(seen):
    _, labels, patients = leakage.stacked(seen, ["original", "near", "far"])
    order = np.argsort(seen.patients)
    for split, own in zip(
        leakage.by_patient(labels, patients, [3, 4]), knn.paper_splits(seen.labels[order], [3, 4]), strict=True
    ):
        for part in ("train", "validation", "test"):
            rows = getattr(split, part)
            assert sorted(patients[rows]) == sorted(np.repeat(seen.patients[order][getattr(own, part)], 3))
        assert len(np.unique(np.concatenate([split.train, split.validation, split.test]))) == len(labels)
    assert leakage.shared_patients(patients, leakage.by_patient(labels, patients, [3])).tolist() == [0]
    assert leakage.shared_patients(patients, knn.paper_splits(labels, [3])).iloc[0] > 0.5


def test_a_patient_of_two_labels_cannot_be_split_by_patient():
    with pytest.raises(workshop.WorkshopError, match="1 patients have rows of both labels, the first is B"):
        leakage.by_patient([0, 0, 0, 1], ["A", "A", "B", "B"])


def test_the_audit_finds_the_neighbours_that_scikit_learn_finds(seen):
    vectors, labels, patients = leakage.stacked(seen, ["original", "near"])
    splits = knn.paper_splits(labels, [0, 1])
    table = leakage.audit(vectors, patients, splits, above=0.9)
    for number, split in enumerate(splits):
        rows = table[table["split"] == number]
        other = NearestNeighbors(n_neighbors=1, metric="cosine").fit(vectors[split.train].astype(float))
        distance, near = other.kneighbors(vectors[split.test].astype(float))
        assert np.array_equal(rows["row"], split.test) and np.array_equal(rows["nearest"], split.train[near[:, 0]])
        assert rows["cosine"].to_numpy() == pytest.approx(1 - distance[:, 0], abs=1e-12)
        assert np.array_equal(rows["same_patient"], patients[split.test] == patients[split.train[near[:, 0]]])
    assert np.array_equal(table["suspicious"], table["cosine"] > 0.9) and 0 < table["suspicious"].mean() < 1


def test_a_near_twin_leaks_and_a_far_one_does_not(seen):
    table = leakage.by_view(seen, "original", ["near", "far"], range(4), k_max=20)
    means = table.groupby(["view", "way"])[["auc", "twins"]].mean()
    assert means["auc"]["near", "by row"] > 0.65 and means["twins"]["near", "by row"] > 0.4
    assert abs(means["auc"]["near", "by patient"] - 0.5) < 0.12 and means["twins"]["near", "by patient"] == 0
    assert means["twins"]["far", "by row"] < 0.1 and abs(means["auc"]["far", "by row"] - 0.5) < 0.12
    vectors, labels, _ = leakage.stacked(seen, ["original", "near"])
    split = knn.paper_splits(labels, [0])[0]
    row = table.query("view == 'near' and way == 'by row' and split == 0").iloc[0]
    score = fitted(vectors, labels, split, int(row["k"]), split.test)
    assert row["auc"] == pytest.approx(roc_auc_score(labels[split.test], score), abs=1e-12)


def test_the_strongest_dimensions_are_those_of_the_largest_correlation(seen):
    vectors = np.column_stack([seen.vectors["original"], np.zeros(120), 3 - seen.labels])
    expected = [abs(stats.pearsonr(column, seen.labels)[0]) for column in seen.vectors["original"].T.astype(float)]
    found = leakage.strongest(vectors, seen.labels, 4)
    assert found[0] == 7 and list(found[1:]) == list(np.argsort(expected)[::-1][:3])


def best_k(vectors, labels, split, part, k_max):
    rows = getattr(split, part)
    aucs = [roc_auc_score(labels[rows], fitted(vectors, labels, split, k, rows)) for k in range(1, k_max + 1)]
    return int(np.argmax(np.round(aucs, 12))) + 1, max(aucs)


def test_the_size_of_every_leak_is_that_of_a_plain_loop():
    made = patients_of(70, 12, signal=0.4)
    vectors, labels, k_max, count = made.vectors, made.labels, 4, 4
    splits = knn.paper_splits(labels, [0])
    table = leakage.sizes(vectors, labels, splits, count, k_max).set_index(["leak", "split"])
    first = vectors["original"].astype(float)
    for number, split in enumerate(splits):
        test = labels[split.test]

        def tested(array, split=split, test=test):
            k, _ = best_k(array, labels, split, "validation", k_max)
            return roc_auc_score(test, fitted(array, labels, split, k, split.test))

        of_all = [tested(array) for array in vectors.values()]
        valid = [best_k(array, labels, split, "validation", k_max)[1] for array in vectors.values()]
        learnt = np.concatenate([split.train, split.validation])
        expected = {
            "scale": [
                tested(StandardScaler().fit(first[part]).transform(first)) for part in (split.train, slice(None))
            ],
            "k": [of_all[0], best_k(first, labels, split, "test", k_max)[1]],
            "model": [of_all[int(np.argmax(valid))], max(of_all)],
            "dimensions": [
                tested(first[:, leakage.strongest(first[part], labels[part], count)]) for part in (learnt, slice(None))
            ],
        }
        for leak, pair in expected.items():
            assert table.loc[(leak, number), ["honest", "leaky"]].tolist() == pytest.approx(pair, abs=1e-9), leak
    assert np.allclose(table["difference"], table["leaky"] - table["honest"])


def test_a_ranking_has_the_patient_leak_beside_the_others(seen):
    table = leakage.ranking(seen, "original", "near", seen.labels[::-1], range(2), count=3, k_max=5)
    assert table.groupby("leak", sort=False).size().to_dict() == dict.fromkeys(leakage.LEAKS, 2)
    changed = replace(seen, labels=seen.labels[::-1])
    rows = leakage.by_view(changed, "original", ["near"], range(2), 5).set_index(["way", "split"])["auc"]
    patient = table[table["leak"] == "patient"]
    assert patient["leaky"].tolist() == rows["by row"].tolist()
    assert patient["honest"].tolist() == rows["by patient"].tolist()
    means = leakage.summary(table).set_index("leak")
    assert means["difference"]["patient"] == pytest.approx(patient["difference"].mean())
    assert means["low"]["patient"] < means["difference"]["patient"] < means["high"]["patient"]


def test_a_name_tells_of_siblings_and_of_nothing_where_patients_are_kept_together():
    patients = np.repeat([f"P{i}" for i in range(40)], 2)
    labels = np.repeat(np.arange(40) % 2, 2)
    split = knn.Split(0, np.arange(0, 80, 2), np.array([1, 3]), np.arange(5, 80, 2))
    found = leakage.siblings(labels, patients, [split])
    assert found.loc[0, ["known", "auc"]].tolist() == [1, 1]
    half = knn.Split(0, np.arange(0, 40, 2), np.array([1, 3]), np.arange(21, 80, 2))  # 10 of the 30 are known
    assert leakage.siblings(labels, patients, [half]).loc[0, "known"] == pytest.approx(10 / 30)
    whole = leakage.siblings(labels, patients, leakage.by_patient(labels, patients, range(2)))
    assert whole["known"].tolist() == [0, 0] and whole["auc"].tolist() == [0.5, 0.5]


# Size


def test_the_longest_diameter_is_that_between_two_points_of_a_slice():
    rng, rows = np.random.default_rng(0), []
    for annotation, z in product((7, 3), (0.0, 2.5)):
        for x, y in rng.integers(0, 60, (25, 2)):
            rows.append((annotation, z, x, y))
    points = pd.DataFrame(rows, columns=["annotation_id", "z", "x", "y"]).sample(frac=1, random_state=0)
    contours = points.groupby(["annotation_id", "z"])[["x", "y"]]
    expected = contours.apply(lambda each: pdist(each.to_numpy(float)).max()).groupby(level=0).max()
    found = size.longest(points)
    assert list(found.index) == [3, 7] and found.to_numpy() == pytest.approx(expected.to_numpy(), rel=0.0011)
    assert (found <= expected + 1e-9).all()


def test_diameters_of_a_nodule_are_those_of_its_readers_in_mm():
    scans = pd.DataFrame({"pixel_spacing": [0.5, 2.0]}, index=[1, 2])
    readings = pd.DataFrame({"scan_id": [1, 1, 2]}, index=[10, 11, 12])
    ends = {10: 8, 11: 12, 12: 5}
    points = [(name, 0.0, x, 0) for name, end in ends.items() for x in (0, end)]
    points = pd.DataFrame(points, columns=["annotation_id", "z", "x", "y"])
    found = size.drawn(lidc.Annotations(scans, None, readings, points), pd.Series(["a", "a", "b"], index=[10, 11, 12]))
    assert found.loc["a"].tolist() == [2, 5, 4, 6] and found.loc["b"].tolist() == [1, 10, 10, 10]


def test_nodules_that_a_run_has_are_read_with_the_files_they_were_made_of(tmp_path):
    path = tmp_path / "workshop" / "luna16_nodules.csv"
    table = pd.DataFrame({"nodule_id": ["1.2_1"], "patient_id": ["007"], "label": [1], "margin": [4.0]})
    artefacts.write_csv(path, table, artefacts.provenance({}, {"a.whl": "12"}))
    assert size.nodules(tmp_path).loc[0, "patient_id"] == "007" and size.inputs(tmp_path) == {"a.whl": "12"}


def test_ratings_speak_for_malignancy():
    table = pd.DataFrame({name: [1.0, 5.0] for name in size.RATINGS})
    scores = size.scores(table)
    assert scores["unsharp margin"].tolist() == [-1, -5] and scores["spiculation"].tolist() == [1, 5]
    assert len(scores) == 5


def test_pairs_of_one_size_differ_by_no_more_than_asked():
    assert size.near([10, 11, 12.2], 1.1).tolist() == [[True, True, False], [True, True, False], [False, False, True]]
    assert size.near([10, 11, 12.2], 100).all() and size.same([1, 1, np.nan]).sum() == 4
    for given, within in (([0, 1], 1.1), ([1, 2], 0.9)):
        with pytest.raises(workshop.WorkshopError, match="sizes must be positive"):
            size.near(given, within)


@pytest.fixture(scope="module")
def tumours():
    rng = np.random.default_rng(1)
    labels, size_mm = np.arange(150) % 2, rng.lognormal(2.3, 0.5, 150) * np.where(np.arange(150) % 2, 1.6, 1)
    scores = {"disguise": size_mm + rng.normal(0, 1, 150), "texture": labels + rng.normal(0, 1, 150).round(1)}
    return labels, size_mm, scores, np.repeat([f"P{i}" for i in range(50)], 3)


def test_aucs_over_comparable_pairs_are_those_of_a_plain_loop(tumours):
    labels, size_mm, scores, patients = tumours
    comparable = size.near(size_mm, 1.2)
    table = size.compared(labels, scores, comparable, patients, draws=200).set_index(["score", "pairs"])
    for name, score in scores.items():
        won = [
            (score[i] > score[j]) + 0.5 * (score[i] == score[j])
            for i, j in product(np.flatnonzero(labels == 1), np.flatnonzero(labels == 0))
            if max(size_mm[i], size_mm[j]) <= 1.2 * min(size_mm[i], size_mm[j])
        ]
        row = table.loc[(name, "comparable")]
        assert row["auc"] == pytest.approx(np.mean(won), abs=1e-12) and row["n_pairs"] == len(won)
        assert table.loc[(name, "all"), "auc"] == pytest.approx(roc_auc_score(labels, score), abs=1e-12)
    assert (table["low"] < table["auc"]).all() and (table["auc"] < table["high"]).all()
    fall = table["auc"].xs("all", level="pairs") - table["auc"].xs("comparable", level="pairs")
    assert fall["disguise"] > 0.15 and abs(fall["texture"]) < 0.1
    wide = (table["high"] - table["low"]).unstack()
    assert (wide["comparable"] > wide["all"]).all()


def test_drawn_patients_bring_all_their_samples(tumours):
    labels, _, scores, patients = tumours
    texture = {"texture": scores["texture"]}
    everything = np.ones((150, 150), bool)
    alone = size.compared(labels, texture, everything, np.arange(150), 300)
    one_fold = np.tile(np.arange(10), 15)  # fewer and larger patients: a wider interval
    few = size.compared(labels, texture, everything, one_fold, 300)
    assert few["auc"].tolist() == alone["auc"].tolist() and few["low"].tolist() != alone["low"].tolist()
    with pytest.raises(workshop.WorkshopError, match="no positive sample is comparable"):
        size.compared(labels, texture, size.same(np.arange(150)), patients)


def test_bands_begin_with_their_edge_and_one_class_has_no_auc():
    labels, diameter = [0, 1, 0, 1, 1], [2.0, 3.0, 5.0, 5.5, 9.0]
    found = size.bands(labels, {"size": np.array(diameter)}, diameter, [0, 5, 8, np.inf])
    assert found["band"].tolist() == ["0 to 5", "5 to 8", "from 8"]
    assert found[["samples", "positives"]].to_numpy().tolist() == [[2, 1], [2, 1], [1, 1]]
    assert found["size"].tolist()[:2] == [1, 1] and np.isnan(found["size"][2])


def test_a_page_shows_a_row_a_score_and_how_many_of_a_band_are_malignant():
    labels, diameter = [0, 1, 0, 1, 1], np.array([2.0, 3.0, 5.0, 5.5, 9.0])
    shown = size.by_band(size.bands(labels, {"up": diameter, "down": -diameter}, diameter, [0, 5, 8, np.inf]))
    assert list(shown) == ["diameter, mm", "0 to 5", "5 to 8", "from 8"]
    rows = [["malignant", "1 of 2", "1 of 2", "1 of 1"], ["up", "1.00", "1.00", "–"], ["down", "0.00", "0.00", "–"]]
    assert shown.to_numpy().tolist() == rows


def test_an_embedding_knows_what_its_neighbours_share(seen):
    vectors = seen.vectors["original"].astype(float)
    other = NearestNeighbors(n_neighbors=6, metric="cosine")
    known = vectors[:, 0] + 0.1 * vectors[:, 1]
    gaps = np.where(np.arange(120) < 10, np.nan, known)
    found = size.knows(vectors, {"known": known, "noise": seen.labels, "gaps": gaps}, 5, draws=60).set_index("quantity")
    near = other.fit(vectors).kneighbors(vectors, return_distance=False)[:, 1:]
    assert found["rho"]["known"] == pytest.approx(stats.spearmanr(known, known[near].mean(axis=1))[0], abs=1e-12)
    assert found["low"]["known"] > found["dealt_high"]["known"] and found["rho"]["noise"] < 0.3
    assert (found["dealt_low"] < found["dealt"]).all() and (found["dealt"] < found["dealt_high"]).all()
    assert (found["dealt_low"] < 0).all() and (found["dealt"].abs() < 0.1).all()
    assert found.loc["gaps", ["n", "missing"]].tolist() == [110, 10] and found["rho"]["gaps"] > 0.5


def test_a_judge_by_cosine_reads_sizes_as_angles_and_not_as_numbers(tumours):
    labels, size_mm, _, _ = tumours
    splits = knn.paper_splits(labels, [0])
    number, angle = (
        knn.evaluate(each, labels, splits, 20).scores["test_auc"][0]
        for each in (size_mm[:, None], size.as_angle(size_mm))
    )
    assert number == 0.5 and angle > 0.6
    angles = size.as_angle([1, 10, 100])
    assert angles == pytest.approx(np.array([[1, 0], [0.5**0.5, 0.5**0.5], [0, 1]]), abs=1e-12)
    assert size.as_angle([2, 2]).tolist() == [[1, 0], [1, 0]]


# The choice of k


@pytest.fixture(scope="module")
def chosen():
    made = patients_of(100, 5, signal=0.4, seed=3)
    vectors, splits = made.vectors["original"], knn.paper_splits(made.labels, range(4))
    return vectors, made.labels, splits, choice.curves(vectors, made.labels, splits, 12)


def test_curves_are_those_of_scikit_learn_at_every_k(chosen):
    vectors, labels, splits, found = chosen
    for number, split in enumerate(splits[:2]):
        for part, curves in (("validation", found.validation), ("test", found.test)):
            rows = getattr(split, part)
            scores = np.array([fitted(vectors, labels, split, k, rows) for k in range(1, 13)])
            expected = [roc_auc_score(labels[rows], each) for each in scores]
            assert curves[number] == pytest.approx(expected, abs=1e-12)
        averaged = roc_auc_score(labels[split.test], scores.mean(axis=0).round(12))
        assert found.averaged[number] == pytest.approx(averaged, abs=1e-12)


def test_the_chosen_k_is_that_of_the_knn_stage(chosen):
    vectors, labels, splits, found = chosen
    scores = knn.evaluate(vectors, labels, splits, 12).scores
    rules = choice.rules(found, [3]).set_index(["rule", "split"])
    assert found.k.tolist() == scores["k"].tolist() == rules.loc[choice.CHOSEN, "k"].tolist()
    assert rules.loc[choice.CHOSEN, "test"].tolist() == scores["test_auc"].tolist()
    assert rules.loc[choice.CHOSEN, "validation"].tolist() == scores["validation_auc"].tolist()
    assert rules.loc["k = 3", "test"].tolist() == found.test[:, 2].tolist()
    assert rules.loc[choice.ORACLE, "test"].tolist() == found.test.max(axis=1).tolist()
    assert rules.loc[choice.AVERAGED, "k"].isna().all()
    for k in (0, 13):
        with pytest.raises(workshop.WorkshopError, match=f"between 1 and 12, not {k}"):
            choice.rules(found, [k])
    with pytest.raises(workshop.WorkshopError, match="k goes up to 60, but a split has only 49"):
        choice.curves(vectors, labels, splits, 60)


def test_choosing_on_noise_is_optimistic_and_a_fixed_k_is_not():
    rng = np.random.default_rng(0)
    noise = choice.Curves(rng.normal(0.5, 0.05, (400, 20)), rng.normal(0.5, 0.05, (400, 20)), np.full(400, 0.5))
    table = choice.optimism(choice.rules(noise, [7])).set_index("rule")
    assert choice.AVERAGED not in table.index
    assert table["optimism"][choice.CHOSEN] == pytest.approx(1.87 * 0.05, abs=0.01)  # expected maximum of 20 normals
    assert abs(table["optimism"]["k = 7"]) < 0.01 and table["optimism"][choice.ORACLE] < -0.08
    flat = choice.flatness(noise)
    assert flat["over splits"] == pytest.approx(0.05, abs=0.003) and flat["over k"] < 0.01
    assert flat["gain"] == pytest.approx(1.87 * 0.05, abs=0.01)


def test_a_choice_made_again_keeps_the_classes_and_scatters(chosen):
    vectors, labels, splits, _ = chosen
    drawn = choice.choices(vectors, labels, splits[0], 12, draws=60)
    assert drawn.shape == (60,) and drawn.min() >= 1 and drawn.max() <= 12 and len(set(drawn)) > 1
    assert np.array_equal(drawn, choice.choices(vectors, labels, splits[0], 12, draws=60))
    split = splits[0]  # one sample of each class: every draw is the validation part itself
    two = [split.validation[labels[split.validation] == label][0] for label in (0, 1)]
    tiny = knn.Split(0, split.train, np.array(two), split.test)
    assert set(choice.choices(vectors, labels, tiny, 12, 20)) == {choice.curves(vectors, labels, [tiny], 12).k[0]}


def test_a_mean_of_more_splits_is_steadier():
    values = np.random.default_rng(0).normal(0.6, 0.1, 1000)
    table = choice.repeats(values, [1, 10, 100], draws=1500).set_index("splits")
    for count, row in table.iterrows():
        expected = values.std() / np.sqrt(count) * np.sqrt((1000 - count) / 999)  # without replacement
        assert row["sd"] == pytest.approx(expected, rel=0.1)
        assert row["low"] < values.mean() < row["high"]
    with pytest.raises(workshop.WorkshopError, match="at most half"):
        choice.repeats(values, [501])


def test_reported_means_are_those_of_each_set(chosen):
    vectors, labels, splits, found = chosen
    table = choice.reported(vectors, labels, [splits[:3], splits[3:]], [3], 12).set_index(["rule", "set"])["auc"]
    own = found.test[np.arange(4), found.k - 1]
    assert table[choice.CHOSEN].tolist() == pytest.approx([own[:3].mean(), own[3]], abs=1e-12)
    assert table[choice.AVERAGED].tolist() == pytest.approx([found.averaged[:3].mean(), found.averaged[3]], abs=1e-12)


# Figures


def drawn_texts(figure):
    return [text.get_text() for text in figure.findobj(lambda each: hasattr(each, "get_text"))]


def test_histograms_share_their_bins_and_count_their_samples():
    figure = figures.histograms({"benign": [1.0, 2, 3], "malignant": [9.0]}, "diameter, mm", 5.0, bins=8)
    (axis,) = figure.axes
    texts = drawn_texts(figure)
    assert "benign (3)" in texts and "malignant (1)" in texts and axis.get_xlabel() == "diameter, mm"
    assert [line.get_xdata()[0] for line in axis.lines] == [5.0]
    assert "Nothing to show: there is no size." in drawn_texts(figures.histograms({"none": []}, "size"))
    assert figures.histograms({"same": [2.0, 2.0]}, "size").axes


def test_figures_of_k_show_every_split_and_every_choice(chosen):
    found = chosen[-1]
    (axis,) = figures.k_curves(found.validation, found.k).axes
    (marks,) = [line for line in axis.lines if line.get_marker() == "v" and len(line.get_xdata())]
    assert list(marks.get_xdata()) == list(found.k)
    assert marks.get_ydata() == pytest.approx(found.validation.max(axis=1))
    panels = figures.chosen_k({"one": [1, 1, 12], "two": [3]}, 12).axes
    assert [sorted(bar.get_height() for bar in panel.patches)[-2:] for panel in panels] == [[1, 2], [0, 1]]
    assert len(panels[0].patches) == 12


def test_figures_of_leaks_and_repeats_have_their_values():
    table = pd.DataFrame({"view": ["a", "b"], "twins": [0.4, 0.1], "leak": [0.1, 0.0], "low": -0.1, "high": 0.2})
    (axis,) = figures.leak_over_twins(table).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines[:2]] == [(0.4, 0.1), (0.1, 0.0)]
    with pytest.raises(ValueError, match="no column twins"):
        figures.leak_over_twins(table.drop(columns="twins"))
    steady = {"chosen": pd.DataFrame({"splits": [1, 10], "sd": [0.05, 0.01]})}
    (axis,) = figures.repeats(steady, 0.01).axes
    assert list(axis.lines[0].get_ydata()) == [0.05, 0.01] and axis.get_xscale() == "log"
    assert [text.get_text() for text in axis.get_xticklabels()] == ["1", "10"]


def test_the_provenance_of_a_view_is_json(seen):
    assert json.loads(json.dumps(artefacts.provenance({}, seen.inputs)))["inputs"] == HASH
