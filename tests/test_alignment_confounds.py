"""Permutations: their level and calibration under no relation; agreement that needs no more than size or label."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from tumorbench_utils import alignment
from tumorbench_utils.alignment import AlignmentError, chance, confounds, overlap


def normal(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def on_circle(values):
    """Vectors whose cosine similarity falls with the difference of values in (0, 1)."""
    return np.column_stack([np.cos(values * np.pi / 2), np.sin(values * np.pi / 2)])


# Permutations


def test_relabelled_neighbours_are_those_of_the_samples_moved():
    vectors = normal(40, 3)
    place = np.random.default_rng(1).permutation(40)
    moved = np.empty_like(vectors)
    moved[place] = vectors  # sample i stands in row place[i]
    assert_array_equal(chance.relabelled(alignment.nearest(vectors, 6), place), alignment.nearest(moved, 6))


def test_more_embeddings_than_bits_of_a_number_are_counted_alike(monkeypatch):
    near = {seed: alignment.nearest(normal(40, 3, seed), 4) for seed in range(5)}
    places = chance.places(40, 6)
    whole = chance.permuted(near, places)
    monkeypatch.setattr(chance, "BITS", 2)
    assert_array_equal(chance.permuted(near, places), whole)
    monkeypatch.undo()
    same = dict.fromkeys(range(33), near[0])  # all bits, and one more
    assert (chance.permuted(same, np.arange(40)[None]) == 4).all()


def test_permuted_overlap_is_that_of_moved_samples_with_the_second_of_a_pair():
    vectors = {name: normal(50, 3, seed) for seed, name in enumerate("abc")}
    near = {name: alignment.nearest(each, 5) for name, each in vectors.items()}
    places = chance.places(50, 4, seed=3)
    found = chance.permuted(near, places)
    for draw, place in zip(found, places, strict=True):
        moved = {name: np.empty_like(each) for name, each in vectors.items()}
        for name, each in vectors.items():
            moved[name][place] = each
        expected = [
            alignment.shared(near[one], alignment.nearest(moved[two], 5)).mean()
            for one, two in (("a", "b"), ("a", "c"), ("b", "c"))
        ]
        assert draw.tolist() == expected
    rows = np.random.default_rng(0).random(50) < 0.6
    part = chance.permuted(near, places, rows)
    for draw, place in zip(part, places, strict=True):
        loop = [len(set(near["a"][place[at]]) & set(place[near["c"][at]])) for at in np.flatnonzero(rows)]
        assert draw[1] == np.mean(loop)
    both = chance.totals(near, {"c": near["c"], "a": near["a"]}, places)
    assert both.shape == (4, 2, 3)
    assert_array_equal(both[:, 0, :2] / 50, found[:, 1:])


def test_permutations_are_permutations_and_stay_within_groups():
    groups = np.array([2, 0, 0, 1, 2, 2, 0, -1, 1, -1, 0, 2])
    for draws in (chance.places(12, 200), chance.places(12, 200, 0, groups)):
        assert all(sorted(row) == list(range(12)) for row in draws)
        assert len({tuple(row) for row in draws}) > 100
    assert (groups[draws] == groups).all()
    for group in (0, 1, 2):  # every member gets to every place of its group
        members = np.flatnonzero(groups == group)
        assert all(set(draws[:, at]) == set(members) for at in members)
    assert (draws[:, groups == -1] == np.flatnonzero(groups == -1)).all()  # of no group: like nobody


def test_whole_patients_change_places_with_those_of_as_many_samples():
    patients = np.array(["a", "b", "b", "c", "d", "d", "e", "f", "f", "f", "c"])
    draws = chance.patient_places(patients, 400)
    assert all(sorted(row) == list(range(11)) for row in draws)
    for row in draws:  # samples of a patient all come from one patient
        assert len(set(zip(patients, patients[row], strict=True))) == 6
    assert {"".join(patients[row[[1, 3, 4]]]) for row in draws} == {"bcd", "bdc", "cbd", "cdb", "dbc", "dcb"}
    assert (patients[draws[:, 7:10]] == "f").all() and len({tuple(row[7:10]) for row in draws}) == 6
    assert set(patients[draws[:, 0]]) == {"a", "e"} and set(draws[:, 1]) == {1, 2, 3, 4, 5, 10}


def test_the_mean_of_permutations_is_what_is_expected():
    near = {name: alignment.nearest(normal(60, 4, seed), 7) for seed, name in enumerate("ab")}
    drawn = chance.permuted(near, chance.places(60, 3000))
    assert chance.expected(60, 7) == pytest.approx(49 / 59)
    assert drawn.mean() == pytest.approx(49 / 59, abs=4 * drawn.std() / np.sqrt(3000))


def test_p_is_uniform_for_unrelated_embeddings():
    p = []
    for seed in range(300):
        near = {name: alignment.nearest(normal(24, 3, 2 * seed + at), 4) for at, name in enumerate("ab")}
        drawn = chance.permuted(near, chance.places(24, 99, seed))
        p.append(chance.p_values([alignment.shared(*near.values()).mean()], drawn)[0])
    p = np.array(p)
    assert 0.02 < np.mean(p <= 0.05) < 0.09  # 300 pairs: 15 expected, standard deviation 3.8
    # means of counts are discrete, so p may be larger than uniform, but never smaller
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert 0.45 < p.mean() < 0.58


def test_p_counts_the_observation_as_a_draw_and_equal_draws_as_reached():
    drawn = np.array([[1.0, 3], [2, 3], [3, 3]])
    assert chance.p_values([2.0, 3.5], drawn).tolist() == [3 / 4, 1 / 4]
    assert chance.enough(500, 10) == 500 and chance.enough(500, 45) == 900


# Groups


def test_groups_of_like_size_are_of_about_ten_and_in_order():
    rng = np.random.default_rng(0)
    volumes = rng.lognormal(size=107)
    volumes[[3, 50, 90]] = (np.nan, 0.0, -1.0)
    groups = chance.size_groups(volumes)
    assert (groups[[3, 50, 90]] == -1).all()
    known = groups >= 0
    sizes = np.bincount(groups[known])
    assert len(sizes) == 10 and set(sizes) <= {10, 11}
    ordered = groups[known][np.argsort(volumes[known])]
    assert (np.diff(ordered) >= 0).all()
    assert set(chance.size_groups(volumes[:9])) <= {0, -1} and set(chance.size_groups([np.nan] * 4)) == {-1}
    assert chance.label_groups([1.0, 0.0, np.nan, 1.0]).tolist() == [1, 0, -1, 1]


def test_samples_without_a_volume_take_no_part_in_what_volume_explains():
    """Two embeddings of which the samples without a volume are alike, and the others by volume alone."""
    rng, n = np.random.default_rng(5), 160
    size, volumes = rng.uniform(size=n), np.full(n, np.nan)
    volumes[:100] = np.exp(5 * size[:100])
    common = np.r_[np.zeros((100, 3)), 9 + rng.normal(size=(60, 3))]
    vectors = {name: np.column_stack([4 * size, common, rng.normal(size=(n, 2)) * 0.5, np.ones(n)]) for name in "ab"}
    found = alignment.align(vectors, range(n), None, volumes, 8, 8, 50, 200).pairs.iloc[0]
    near = {name: alignment.nearest(each, 8) for name, each in vectors.items()}
    counted = alignment.shared(*near.values())
    assert found["shared"] == counted.mean() and counted[100:].mean() > counted[:100].mean() + 1
    places = chance.places(n, 200, 0, chance.size_groups(volumes))
    drawn = chance.permuted(near, places, np.isfinite(volumes))[:, 0]
    assert found["shared_given_volume"] == pytest.approx(drawn.mean())
    assert found["p_given_volume"] == chance.p_values([counted[:100].mean()], drawn[:, None])[0]
    assert found["p_given_volume"] > 0.05 > found["p"]


# Agreement through a third thing


@pytest.fixture(scope="module")
def through_size():
    """Two embeddings that see the volume and else nothing in common, and two that share something else."""
    rng, n = np.random.default_rng(2), 240
    size = rng.uniform(size=n)
    common = rng.normal(size=(n, 3))
    see = lambda seed: np.column_stack([4 * size, normal(n, 2, seed) * 0.5, np.ones(n)])  # noqa: E731
    other = lambda seed: np.column_stack([common + 0.3 * normal(n, 3, seed)])  # noqa: E731
    vectors = {"size a": see(1), "size b": see(2), "other a": other(3), "other b": other(4)}
    labels = (size > 0.5).astype(float)
    return alignment.align(vectors, range(n), labels, np.exp(5 * size), 10, 10, 200, 200), vectors, size


def test_what_two_embeddings_share_through_size_alone_is_found_to_need_no_more(through_size):
    pairs = through_size[0].pairs.set_index(["first", "second"])
    size, other = pairs.loc[("size a", "size b")], pairs.loc[("other a", "other b")]
    for row in (size, other):  # both far above chance
        assert row["p_holm"] < 0.05 and row["shared"] > 2 * row["chance_high"]
    assert size["p_given_volume"] > 0.05
    assert size["shared_given_volume_low"] < size["shared"] < size["shared_given_volume_high"]
    assert other["p_given_volume_holm"] < 0.05
    assert other["shared_given_volume"] == pytest.approx(other["chance"], abs=0.15)
    # the label, which is size here, explains a part of it
    assert size["chance_high"] < size["shared_given_label"] < size["shared"]


def test_neighbours_of_like_volume_are_found_where_an_embedding_sees_it(through_size):
    found, vectors, size = through_size
    models = found.models.set_index("model")
    assert (models.loc[["size a", "size b"], "volume_p"] < 0.01).all()
    assert (models.loc[["other a", "other b"], "volume_p"] > 0.01).all()
    near = alignment.nearest(vectors["size a"], 10)
    by_size = [sorted(set(range(240)) - {row}, key=lambda at: abs(size[at] - size[row]))[:10] for row in range(240)]
    expected = np.mean([len(set(a) & set(b)) for a, b in zip(near, by_size, strict=True)])
    assert models.loc["size a", "volume"] == pytest.approx(expected, abs=1e-12)
    assert models["volume_chance"].tolist() == [100 / 239] * 4
    assert (models["volume_chance_low"] < 100 / 239).all() and (models["volume_chance_high"] > 100 / 239).all()


def test_the_volume_itself_finds_all_neighbours_of_like_volume():
    volumes = np.exp(normal(50, 1)[:, 0])
    angle = (np.log(volumes) + 6) / 12
    (row,) = confounds.by_volume({"volume": on_circle(angle)}, volumes, range(50), 5, 50, 50).to_dict("records")
    assert row["value"] == 5 and row["p"] == pytest.approx(1 / 51) and row["samples"] == 50


def test_samples_without_a_volume_are_asked_for_nothing_and_are_nobodys_neighbour():
    vectors, volumes = {"a": normal(60, 4)}, np.exp(normal(60, 1, 1)[:, 0])
    volumes[10:30] = np.nan
    known = np.isfinite(volumes)
    near = {"a": alignment.nearest(vectors["a"], 10)}
    found = confounds.by_volume(vectors, volumes, np.arange(60), 5, 50, 50, near=near)
    alone = confounds.by_volume({"a": vectors["a"][known]}, volumes[known], np.arange(60)[known], 5, 50, 50)
    assert found.equals(alone) and found["samples"].tolist() == [40]


# The label


def test_homophily_is_the_share_of_neighbours_of_the_same_label_against_that_of_all_others():
    rng = np.random.default_rng(4)
    labels = (rng.random(120) < 0.25).astype(float)
    vectors = {"sees": normal(120, 4) + 1.5 * labels[:, None], "blind": normal(120, 4, 9)}
    found = confounds.homophily(vectors, labels, range(120), 6, 200, 300).set_index("model")
    for name, each in vectors.items():
        near = alignment.nearest(each, 6)
        expected = np.mean([[labels[other] == labels[row] for other in near[row]] for row in range(120)])
        assert found.loc[name, "value"] == pytest.approx(expected, abs=1e-12)
    others = [np.mean(np.delete(labels, row) == labels[row]) for row in range(120)]
    assert_allclose(found["chance"], np.mean(others), atol=1e-12)
    assert ((found["chance_low"] < found["chance"]) & (found["chance"] < found["chance_high"])).all()
    assert found.loc["sees", "p"] < 0.01 < 0.05 < found.loc["blind", "p"]
    assert (found["low"] < found["value"]).all() and (found["value"] < found["high"]).all()


def test_homophily_asks_other_patients_only_and_permutes_whole_ones():
    """Cohorts of nothing: samples of a patient are alike and have one label, and there is no more to find."""
    people, p, value = np.repeat(np.arange(50), 2), [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        vectors = rng.normal(size=(50, 3))[people] + 0.1 * rng.normal(size=(100, 3))
        labels = (rng.permutation(50) < 20).astype(float)[people]
        row = confounds.homophily({"a": vectors}, labels, people, 5, 0, 99, seed).iloc[0]
        p.append(row["p"])
        value.append(row["value"] - row["chance"])
    assert 0.015 < np.mean(np.array(p) <= 0.05) < 0.095  # 200 cohorts: 10 expected, standard deviation 3.1
    assert abs(np.mean(value)) < 4 * np.std(value) / np.sqrt(200)
    near = alignment.nearest(vectors, 20)
    expected = [[labels[at] == labels[row] for at in near[row] if people[at] != people[row]][:5] for row in range(100)]
    assert row["value"] == pytest.approx(np.mean(expected), abs=1e-12)
    known = confounds.homophily({"a": vectors}, labels, people, 5, 0, 99, seed, near={"a": near}).iloc[0]
    few = confounds.homophily({"a": vectors}, labels, people, 5, 0, 99, seed, near={"a": near[:, :5]}).iloc[0]
    assert known.equals(row) and few.equals(row)  # of neighbours known already too few may be of others
    sees = confounds.homophily({"a": vectors + 3 * labels[:, None]}, labels, people, 5, 0, 99).iloc[0]
    assert sees["p"] == 0.01


def test_permuted_labels_are_counted_in_rounds_alike(monkeypatch):
    labels = np.tile([0, 1, 1], 20)
    near, places = alignment.nearest(normal(60, 3), 4), chance.places(60, 30)
    whole = confounds._same(labels[places], near)
    assert whole[0] == np.mean([labels[places[0]][near[row]] == labels[places[0]][row] for row in range(60)])
    monkeypatch.setattr(confounds, "CELLS", 1)
    assert_array_equal(confounds._same(labels[places], near), whole)


def test_samples_without_a_label_are_left_out():
    labels = np.r_[np.tile([0.0, 1.0], 20), [np.nan] * 8]
    vectors = {"a": normal(48, 3)}
    found = confounds.homophily(vectors, labels, np.arange(48), 5, 50, 50)
    alone = confounds.homophily({"a": vectors["a"][:40]}, labels[:40], np.arange(40), 5, 50, 50)
    assert found.equals(alone) and found["samples"].tolist() == [40]


def test_bad_input_is_named():
    vectors = {"a": normal(30, 3)}
    with pytest.raises(AlignmentError, match="6 of 30 samples have a volume; 5 neighbours take 7"):
        confounds.by_volume(vectors, np.r_[np.ones(6), np.zeros(24)], range(30), 5)
    with pytest.raises(AlignmentError, match="30 samples have a label, of 1 kinds"):
        confounds.homophily(vectors, np.ones(30), range(30), 5)
    with pytest.raises(AlignmentError, match="30 samples have a label, of 2 kinds; 5 neighbours take 31"):
        confounds.homophily(vectors, np.tile([0, 1], 15), np.minimum(range(30), 5), 5)
    with pytest.raises(AlignmentError, match="not the same samples"):
        confounds.homophily(vectors, np.ones(29), range(30), 5)
    with pytest.raises(AlignmentError, match="30 samples but 29 patients"):
        confounds.homophily(vectors, np.tile([0, 1], 15), range(29), 5)
    with pytest.raises(AlignmentError, match="k must be from 1 to n - 1"):
        chance.expected(5, 5)
    with pytest.raises(AlignmentError, match=r"permutations are \(draws, 30\)"):
        chance.permuted({"a": alignment.nearest(vectors["a"], 3)}, chance.places(29, 2))
    assert overlap.QUANTILES == (0.025, 0.975)
