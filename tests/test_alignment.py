"""Neighbours and overlap against scikit-learn, loops of sets and a case by hand; blocks, devices, twins, CKA, input."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors

from tumorbench_utils import alignment, diagnostics, statistics
from tumorbench_utils.alignment import AlignmentError, neighbours, overlap, tables

RNG = np.random.default_rng(0)
# five samples on a circle, by angle in degrees: neighbours can be read off
FIRST, SECOND = (0, 10, 30, 70, 95), (0, 50, 12, 70, 62)
NEAR = [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2]]
OTHER = [[2, 1], [4, 3], [0, 1], [4, 1], [3, 1]]


def circle(degrees):
    return np.column_stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]) * 7


def normal(n=200, d=8, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def as_released(vectors, k):
    """Neighbours as the released code finds them."""
    vectors = np.asarray(vectors, float)
    search = NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(vectors)
    return search.kneighbors(vectors, return_distance=False)[:, 1:]


def in_common(one, two):
    return [len(set(a) & set(b)) for a, b in zip(one, two, strict=True)]


def by_sorting(vectors, k):
    """Neighbours by ordering all pairs, computed one by one; equal ones by number."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = []
    for row in range(len(unit)):
        similar = [(-(unit[row] * other).sum(), at) for at, other in enumerate(unit) if at != row]
        found.append([at for _, at in sorted(similar)[:k]])
    return found


# Neighbours


def test_a_case_by_hand():
    first, second = alignment.nearest(circle(FIRST), 2), alignment.nearest(circle(SECOND), 2)
    assert first.tolist() == NEAR and second.tolist() == OTHER
    assert alignment.shared(first, second).tolist() == [2, 0, 2, 1, 1]
    assert alignment.curve(first, second).tolist() == [2 / 5, 6 / 10]


@pytest.mark.parametrize(("n", "d", "k"), [(1200, 5, 10), (700, 64, 10), (90, 16, 50), (60, 3, 58), (400, 8, 1)])
def test_neighbours_and_their_order_are_those_of_scikit_learn(n, d, k):
    vectors = normal(n, d) + 0.3
    assert_array_equal(alignment.nearest(vectors, k), as_released(vectors, k))


def test_the_matrix_is_that_of_the_released_code_to_the_last_digit():
    base = normal(421, 6)
    tables = {name: (base @ normal(6, 256, at) + 2 * normal(421, 256, at + 9) + 1).astype(np.float32)
              for at, name in enumerate("abc")}  # fmt: skip
    near = {name: alignment.nearest(each) for name, each in tables.items()}
    theirs = {name: as_released(each, 10) for name, each in tables.items()}
    pairs, counts = overlap.counts(near)
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    for (one, two), found in zip(pairs, counts, strict=True):
        assert_array_equal(found, in_common(theirs[one], theirs[two]))
        assert found.mean() == np.mean(in_common(theirs[one], theirs[two]))
    assert 1 < counts.mean() < 9


@pytest.mark.parametrize("block", [1, 8 * 300 * 7, 8 * 300 * 299])
def test_blocks_of_rows_do_not_change_a_neighbour(block):
    vectors = np.round(normal(300, 3), 1) + 0.05  # of few values: many ties
    vectors[17] = vectors[203]
    assert_array_equal(alignment.nearest(vectors, 12, block=block), alignment.nearest(vectors, 12))


@pytest.mark.parametrize("scale", [1, 1e-6, 1e6])
def test_equally_near_samples_are_ordered_by_their_number(scale):
    vectors = np.repeat(np.eye(3), 4, axis=0)[RNG.permutation(12)] * scale
    assert alignment.nearest(vectors, 7).tolist() == by_sorting(vectors, 7)
    line = np.where(RNG.random(150) < 0.5, 1.0, -1.0)[:, None] * RNG.uniform(1, 2, (150, 1)) * scale
    assert alignment.nearest(line, 3).tolist() == by_sorting(line, 3)


def test_twins_find_each_other_and_never_themselves():
    vectors = normal(200, 6)
    vectors[100:103] = vectors[7]
    near = alignment.nearest(vectors, 5)
    assert near[7, :3].tolist() == [100, 101, 102] and near[101, :3].tolist() == [7, 100, 102]
    assert not (near == np.arange(200)[:, None]).any()
    assert all(len(set(row)) == 5 for row in near)
    rest = np.setdiff1d(np.arange(200), [7, 100, 101, 102])
    assert_array_equal(near[rest], np.array(by_sorting(vectors, 5))[rest])


def test_samples_of_which_the_released_way_may_find_others_are_told():
    vectors = normal(60, 6)
    assert not alignment.tied(vectors, 5).any()
    vectors[40] = 3 * vectors[2]
    tied = alignment.tied(vectors, 5)
    assert tied[[2, 40]].all() and tied.sum() < 30
    # the two twins are a sample's 5th and 6th neighbour: it is free which of them is taken
    for row in set(np.flatnonzero(tied)) - {2, 40}:
        assert set(alignment.nearest(vectors, 6)[row, 4:]) == {2, 40}


@pytest.mark.parametrize("single", [False, True])
def test_a_device_finds_the_same_neighbours_in_double_and_in_single_precision(monkeypatch, single):
    torch = pytest.importorskip("torch")
    vectors = np.concatenate([normal(150, 40), np.round(normal(150, 40, 1)) + 0.5])
    vectors[211] = vectors[3]
    vectors[250] = vectors[4] + 1e-9
    if not single:
        found = alignment.nearest(vectors, 10, device="cpu:0", block=8 * 300 * 77)
    else:  # a device without float64, played by the CPU
        to = torch.Tensor.to
        monkeypatch.setattr(torch.Tensor, "to", lambda self, where: self if where == "mps" else to(self, where))
        found = alignment.nearest(vectors, 10, device="mps")
    assert_array_equal(found, alignment.nearest(vectors, 10))


def test_of_numbers_the_nearest_are_found():
    values = np.array([1.0, 1.5, 3.0, 3.0, 9.0, 2.25])
    assert alignment.nearest_values(values, 2).tolist() == [[1, 5], [0, 5], [3, 5], [2, 5], [2, 3], [1, 2]]
    many = RNG.normal(size=700)
    expected = [sorted(set(range(700)) - {row}, key=lambda at: abs(many[at] - many[row]))[:10] for row in range(700)]
    assert alignment.nearest_values(many, 10).tolist() == expected
    assert_array_equal(alignment.nearest_values(many, 10, block=1), expected)


def test_similarities_are_held_in_blocks_of_the_size_that_is_asked_for(monkeypatch):
    held, candidates = [], neighbours._candidates
    monkeypatch.setattr(
        neighbours, "_candidates", lambda similar, *rest: held.append(similar.nbytes) or candidates(similar, *rest)
    )
    alignment.nearest(normal(500, 4), 10, block=100_000)
    assert max(held) <= 100_000 and sum(held) == 8 * 500**2


# Overlap


def test_shared_and_curve_are_those_of_sets_at_every_k(monkeypatch):
    one, two = (alignment.nearest(normal(150, 4, seed) + 0.4, 30) for seed in (1, 2))
    two[:40] = one[:40][:, ::-1]
    expected = [np.mean(in_common(one[:, :k], two[:, :k])) / k for k in range(1, 31)]
    assert_allclose(alignment.curve(one, two), expected, rtol=1e-12)
    assert_array_equal(alignment.shared(one, two), in_common(one, two))
    for step in (1, 30 * 30 * 7):
        monkeypatch.setattr(overlap, "ROUND", step)
        assert_array_equal(alignment.shared(one, two), in_common(one, two))
        assert overlap.total(overlap.columns(one), overlap.columns(two)) == sum(in_common(one, two))


def test_matrix_and_average_have_nothing_of_the_diagonal():
    matrix = alignment.matrix([("a", "b"), ("a", "c"), ("b", "c")], [1.0, 2.0, 6.0])
    assert matrix.to_numpy().tolist() == [[0, 1, 2], [1, 0, 6], [2, 6, 0]]
    for diagonal in (0.0, 10.0):
        filled = alignment.matrix([("a", "b"), ("a", "c"), ("b", "c")], [1.0, 2.0, 6.0], diagonal)
        assert alignment.average(filled).to_dict() == {"a": 1.5, "b": 3.5, "c": 4.0}


def test_intervals_draw_patients_with_all_their_samples(monkeypatch):
    patients = np.repeat(np.arange(30), RNG.integers(1, 9, 30))
    values = RNG.normal(size=30)[patients] + RNG.normal(size=(2, len(patients))) / 9
    found = overlap.intervals(values, patients, 3000, seed=1)
    rng, drawn = np.random.default_rng(5), []
    for _ in range(3000):
        rows = np.concatenate([np.flatnonzero(patients == person) for person in rng.integers(0, 30, 30)])
        drawn.append(values[:, rows].mean(axis=1))
    assert_allclose(found, np.quantile(drawn, (0.025, 0.975), axis=0).T, atol=0.04)
    alone = overlap.intervals(values, np.arange(len(patients)), 3000)
    assert (np.ptp(found, axis=1) > 1.3 * np.ptp(alone, axis=1)).all()
    monkeypatch.setattr(overlap, "NUMBERS", 30 * 700)
    assert_allclose(overlap.intervals(values, patients, 3000, seed=1), found, atol=1e-12)
    assert np.isnan(overlap.intervals(values, np.zeros(len(patients)), 10)).all()


# CKA


def test_cka_of_all_pairs_is_that_of_diagnostics():
    base = normal(60, 5)
    vectors = {"a": base, "b": base @ normal(5, 40, 1), "c": normal(60, 7, 2) + 3, "d": np.ones((60, 2))}
    table, used = alignment.cka(vectors)
    assert used == 60
    for one in vectors:
        for two in vectors:
            expected = diagnostics.cka(vectors[one], vectors[two], debiased=True)
            assert table.loc[one, two] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert table.loc["a", "b"] > 0.5 > abs(table.loc["a", "c"]) and np.isnan(table.loc["a", "d"])
    for block in (1, 8 * 60 * 4 * 7, 8 * 60 * 4 * 59):
        assert_allclose(alignment.cka(vectors, block=block)[0], table, atol=1e-12)


def test_cka_holds_blocks_of_gram_matrices_and_not_all_of_them():
    vectors = {name: normal(1000, 4, seed).astype(np.float32) for seed, name in enumerate("abcdefgh")}
    tracemalloc.start()
    alignment.cka(vectors, block=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20  # all would be 8 x 4 MB


def test_cka_of_many_samples_is_that_of_evenly_spaced_ones():
    one, two = normal(100, 5), normal(100, 5, 1)
    table, used = alignment.cka({"a": one, "b": two}, most=34)
    assert used == 34
    rows = np.arange(0, 100, 3)
    assert table.loc["a", "b"] == pytest.approx(diagnostics.cka(one[rows], two[rows], debiased=True), abs=1e-12)
    assert np.isnan(alignment.cka({"a": one[:3], "b": two[:3]})[0].loc["a", "b"])


# Tables


@pytest.fixture(scope="module")
def aligned():
    base = normal(80, 4)
    vectors = {"a": base, "b": base + 0.3 * normal(80, 4, 1), "c": normal(80, 4, 2)}
    labels = np.where(base[:, 0] > 0, 1.0, 0.0)
    volumes = np.exp(base[:, 1])
    return alignment.align(vectors, np.arange(80) // 2, labels, volumes, 5, 20, 300, 200), vectors


def test_the_table_of_pairs_has_what_its_parts_say(aligned):
    found, vectors = aligned
    pairs = found.pairs.set_index(["first", "second"])
    assert list(pairs.index) == [("a", "b"), ("a", "c"), ("b", "c")]
    near = {name: alignment.nearest(each, 5) for name, each in vectors.items()}
    for (one, two), row in pairs.iterrows():
        assert row["shared"] == np.mean(in_common(near[one], near[two])) == found.matrix.loc[two, one]
        assert row["low"] < row["shared"] < row["high"]
        assert row["chance"] == pytest.approx(25 / 79) and row["chance_low"] < 25 / 79 < row["chance_high"]
        assert row["cka"] == pytest.approx(diagnostics.cka(vectors[one], vectors[two], debiased=True))
    assert (pairs["k"] == 5).all() and found.n == 80
    assert_allclose(pairs["p_holm"], statistics.holm(pairs["p"]))
    assert pairs["p_holm"].iloc[0] < 0.05 < pairs["p_holm"].iloc[1:].min()
    assert_allclose(pairs["p_given_volume_holm"], statistics.holm(pairs["p_given_volume"]))
    assert (found.of("cka", 1.0).to_numpy()[np.eye(3, dtype=bool)] == 1).all()


def test_the_table_of_models_has_averages_over_the_others(aligned):
    found, _ = aligned
    shared = found.pairs.set_index(["first", "second"])["shared"]
    models = found.models.set_index("model")
    assert models.loc["b", "average"] == pytest.approx((shared["a", "b"] + shared["b", "c"]) / 2)
    assert models.loc["a", "closest"] == "b" and models.loc["a", "closest_shared"] == shared["a", "b"]
    assert ((models["low"] < models["average"]) & (models["average"] < models["high"])).all()


def test_curves_go_through_the_table_of_pairs(aligned):
    found, _ = aligned
    for row in found.pairs.itertuples():
        curve = found.curves.query("first == @row.first and second == @row.second").set_index("k")
        assert list(curve.index) == list(range(1, 21))
        assert curve.loc[5, "share"] == pytest.approx(row.shared / 5)
        assert curve.loc[5, "chance"] == pytest.approx(5 / 79)


def test_what_is_not_known_is_said_and_not_a_number():
    vectors = {"a": normal(15, 3), "b": normal(15, 3, 1)}
    found = alignment.align(vectors, range(15), np.r_[0.0, 1.0, [np.nan] * 13], None, 5, 50, 20, 20)
    assert found.pairs.filter(like="given").isna().all(axis=None)
    assert found.models[["volume", "label"]].isna().all(axis=None)
    told = " | ".join(found.lacking)
    assert "volume, since these samples have none" in told and "label: 2 of 15 samples have a label" in told
    assert found.curves["k"].max() == 13


def test_many_pairs_get_enough_permutations_to_be_found():
    base = normal(24, 4)
    found = alignment.align({str(at): base + 0.01 * normal(24, 4, at) for at in range(8)}, range(24), draws=20,
                            permutations=20, k=3, k_max=3)  # fmt: skip
    assert found.permutations == 28 * 20 and (found.pairs["p_holm"] < 0.05).all()


# Bad input


def test_bad_input_is_named():
    good = normal(30, 3)
    with pytest.raises(AlignmentError, match="11 samples, but 10 neighbours of each take at least 12"):
        alignment.nearest(good[:11], 10)
    assert alignment.nearest(good[:12], 10).shape == (12, 10)
    for value in (np.nan, np.inf, 0.0):
        broken = good.copy()
        broken[4] = value
        with pytest.raises(AlignmentError, match="1 vectors are zero or not finite, the first in row 4"):
            alignment.nearest(broken, 5)
        with pytest.raises(AlignmentError, match=r"^b: 1 vectors"):
            alignment.align({"a": good, "b": broken}, range(30), k=5)
    with pytest.raises(AlignmentError, match="not the same samples: a 30, b 29"):
        alignment.align({"a": good, "b": good[:29]}, range(30), k=5)
    with pytest.raises(AlignmentError, match="patients, labels or volumes 29"):
        alignment.align({"a": good, "b": good}, range(30), np.zeros(29), k=5)
    with pytest.raises(AlignmentError, match="1 embeddings: alignment takes at least two"):
        alignment.align({"a": good}, range(30))
    with pytest.raises(AlignmentError, match=r"vectors are \(samples, dimensions\), these are \(30,\)"):
        alignment.nearest(good[:, 0], 5)
    with pytest.raises(AlignmentError, match="k must be at least 1"):
        alignment.nearest(good, 0)
    with pytest.raises(AlignmentError, match="neighbours are"):
        alignment.shared(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(AlignmentError, match="finite"):
        alignment.nearest_values(np.r_[np.nan, np.arange(20)], 3)
    with pytest.raises(AlignmentError, match="no embeddings"):
        tables.same_samples({})
    with pytest.raises(AlignmentError, match="30 samples"):
        overlap.intervals(np.zeros((2, 29)), range(30))


def test_tables_are_tidy_frames(aligned):
    found, _ = aligned
    assert isinstance(found.pairs, pd.DataFrame) and not found.pairs.isna().any(axis=None)
    assert not found.models.isna().any(axis=None)
