"""What is said of embeddings against scipy, scikit-learn and loops that follow the definitions."""

import time

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from scipy.linalg import svdvals
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from tumorbench_utils import diagnostics

RNG = np.random.default_rng(0)
SHAPES = [(40, 7), (7, 40), (30, 30), (3, 5), (2, 9), (5, 1)]


def embedding(n, d, rank=5, mean=1.0):
    latent = RNG.normal(size=(n, rank)) * np.geomspace(3, 0.3, rank)
    return (latent @ RNG.normal(size=(rank, d)) + 0.2 * RNG.normal(size=(n, d)) + mean).astype(np.float32)


def names(n):
    return [f"S{number}" for number in range(n)]


def diagnosed(vectors, volume=None, **options):
    return diagnostics.diagnose(vectors, names(len(vectors)), volume, **options)


# Spectrum


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_spectrum_is_that_of_a_singular_value_decomposition(shape, mean):
    vectors = embedding(*shape, mean=mean).astype(float)
    found = diagnostics.spectrum(vectors)
    wanted = svdvals(vectors - vectors.mean(axis=0))
    limit = min(shape[0] - 1, shape[1])
    assert found.limit == limit
    assert_allclose(found.singular[:limit], wanted[:limit], rtol=1e-6)
    assert (found.singular[limit:] == 0).all() and len(found.singular) == min(shape)
    shares = wanted[:limit] / wanted[:limit].sum()
    assert found.effective_rank == pytest.approx(np.exp(stats.entropy(shares)), rel=1e-6)
    variances = wanted[:limit] ** 2
    assert found.participation_ratio == pytest.approx(variances.sum() ** 2 / (variances**2).sum(), rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_components_and_shares_are_those_of_scikit_learn_up_to_sign(shape):
    vectors = embedding(*shape)
    found, count = diagnostics.spectrum(vectors), min(shape[0] - 1, shape[1], 2)
    pca = PCA(count, svd_solver="full").fit(vectors.astype(float))
    wanted = pca.transform(vectors.astype(float))
    assert_allclose(np.abs(found.points[:, :count]), np.abs(wanted), atol=1e-4)
    assert_allclose(found.shares[:count], pca.explained_variance_ratio_, rtol=1e-4)
    assert found.points.shape == (shape[0], 2) and (found.points[:, count:] == 0).all()


def test_of_each_component_the_value_farthest_from_zero_is_positive():
    vectors = embedding(20, 8)
    found = diagnostics.spectrum(vectors).components
    assert found.shape == (20, 5)
    for column in found.T:
        assert column[np.abs(column).argmax()] > 0
    assert_allclose(found, diagnostics.spectrum(vectors).components, rtol=0)


def test_rank_of_known_matrices():
    axes = np.vstack([np.eye(4), -np.eye(4)])
    found = diagnostics.spectrum(axes)
    assert found.effective_rank == pytest.approx(4) and found.participation_ratio == pytest.approx(4)
    line = np.outer(np.arange(1, 9), np.ones(4))
    found = diagnostics.spectrum(line)
    assert found.effective_rank == pytest.approx(1) and (found.singular[1:] == 0).all()
    assert diagnostics.effective_rank(np.array([3.0, 1.0])) == pytest.approx(
        np.exp(-0.75 * np.log(0.75) + 0.25 * np.log(4))
    )


def test_equal_vectors_have_no_rank():
    found = diagnosed(np.full((6, 5), 0.1, np.float32) * np.arange(1, 6, dtype=np.float32))
    assert np.isnan(found.spectrum.effective_rank) and np.isnan(found.spectrum.participation_ratio)
    assert (found.spectrum.points == 0).all() and not found.spectrum.shares.any()
    assert found.lacking == ("rank and principal components: all vectors are equal",)
    assert found.twins == 15 and found.duplicates["identical"].all() and len(found.dead.constant) == 5


# Dimensions, norms, similarities


def test_dead_dimensions_are_named():
    vectors = embedding(50, 12).astype(float)
    vectors[:, 3] = 7.25
    vectors[:, [5, 8]] = 1 + 1e-6 * RNG.normal(size=(50, 2))
    found = diagnostics.dead(vectors)
    assert found.constant.tolist() == [3] and found.faint.tolist() == [5, 8]
    assert len(diagnostics.dead(vectors[:1]).constant) == 0
    # constant ones do not count as the usual spread
    mostly = np.ones((50, 9))
    mostly[:, :2] = RNG.normal(size=(50, 2))
    assert diagnostics.dead(mostly).faint.tolist() == [] and len(diagnostics.dead(mostly).constant) == 7


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (2, 3)])
def test_cosines_and_norms_are_those_of_scipy(shape):
    vectors = embedding(*shape)
    found = diagnosed(vectors)
    assert_allclose(found.cosines, 1 - pdist(vectors.astype(float), "cosine"), atol=1e-12)
    assert_allclose(found.norms, [np.sqrt((row.astype(float) ** 2).sum()) for row in vectors])


def test_duplicates_are_named_with_those_that_are_identical_first():
    vectors = embedding(6, 30)
    vectors[4] = vectors[1] * 2  # the same direction
    vectors[5] = vectors[2]
    pairs, count = diagnostics.duplicates(vectors, names(6))
    assert pairs[["sample_a", "sample_b", "identical"]].to_numpy().tolist() == [["S2", "S5", True], ["S1", "S4", False]]
    assert count == 2
    vectors[4] = vectors[1]
    vectors[4, 0] += 1e-2 * np.linalg.norm(vectors[1])  # a cosine of about 1 - 5e-5
    assert diagnostics.duplicates(vectors, names(6))[1] == 1


def test_many_duplicates_are_counted_and_the_first_hundred_listed():
    pairs, count = diagnostics.duplicates(np.ones((30, 4)), names(30))
    assert count == 30 * 29 // 2 and len(pairs) == 100 and pairs["identical"].all()


# Volume


def test_volume_is_correlated_with_the_components_of_those_that_have_one():
    vectors, volume = embedding(30, 8), RNG.lognormal(size=30)
    volume[[2, 7]] = np.nan, 0
    found = diagnosed(vectors, volume)
    known = volume > 0
    for row in found.size.itertuples():
        wanted = stats.spearmanr(found.spectrum.components[known, row.component - 1], volume[known]).statistic
        assert row.spearman == pytest.approx(wanted) and row.samples == 28
    assert found.size["component"].tolist() == [1, 2, 3, 4, 5] and found.lacking == ()


def test_an_embedding_of_the_volume_alone_correlates_fully():
    volume = RNG.lognormal(size=20)
    found = diagnosed(np.stack([np.log(volume), np.ones(20)], axis=1), volume)
    assert abs(found.size["spearman"].iloc[0]) == pytest.approx(1)


@pytest.mark.parametrize("volume", [[1, 2, 3, 4] + [np.nan] * 6, [2.0] * 10, [np.nan] * 10])
def test_too_few_volumes_are_no_correlation(volume):
    found = diagnosed(embedding(10, 4), volume)
    assert found.size.empty and "fewer than 5 samples" in found.lacking[0]


# The whole


def test_table_of_a_diagnosis_has_its_figures():
    vectors, volume = embedding(30, 8), RNG.lognormal(size=30)
    found = diagnosed(vectors, volume)
    table = found.table().set_index("quantity")["value"]
    assert table["samples"] == 30 and table["dimensions"] == 8 and table["duplicate pairs"] == 0
    assert table["norm, median"] == pytest.approx(np.median(np.linalg.norm(vectors.astype(float), axis=1)))
    assert table["cosine similarity, quantile 0.95"] == pytest.approx(np.quantile(found.cosines, 0.95))
    assert table["effective rank"] == found.spectrum.effective_rank and table["highest possible rank"] == 8
    assert table["Spearman of component 2 and volume"] == found.size["spearman"][1]
    assert table.index.is_unique


def test_two_samples_are_told_what_they_cannot_tell():
    found = diagnosed(embedding(2, 512), [1.0, 2.0])
    assert found.spectrum.effective_rank == pytest.approx(1) and found.spectrum.limit == 1 and len(found.cosines) == 1
    assert len(found.lacking) == 2 and "two samples" in found.lacking[0] and "volume" in found.lacking[1]
    assert np.isfinite(found.table()["value"]).all()


def test_one_sample_has_a_norm_only():
    found = diagnosed(embedding(1, 512), [1.0])
    assert len(found.norms) == 1 and len(found.cosines) == 0 and found.twins == 0 and found.spectrum.limit == 0
    assert found.lacking == ("spread, rank and similarities: there is one sample",)
    assert "cosine similarity, quantile 0.5" not in found.table()["quantity"].tolist()


def test_of_many_samples_as_many_as_wanted_are_taken_evenly():
    vectors = embedding(50, 8)
    found = diagnosed(vectors, np.arange(50) + 1.0, most=10)
    assert (found.samples, found.of) == (10, 50) and found.used[0] == 0 and found.used[-1] == 49
    assert set(np.diff(found.used)) <= {5, 6}
    assert_allclose(found.norms, np.linalg.norm(vectors.astype(float), axis=1)[found.used])
    assert found.size["samples"].tolist() == [10] * 5
    compared = diagnostics.compare(vectors, vectors, most=10)
    assert (compared.samples, compared.of) == (10, 50)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones(4), r"\(samples, dimensions\)"),
        (np.ones((0, 4)), r"\(samples, dimensions\)"),
        (np.array([[1.0, 2], [0, 0]]), "1 vectors are zero throughout or not finite, the first in row 1"),
        (np.array([[np.nan, 2], [0, 1]]), "first in row 0"),
    ],
)
def test_what_is_no_embedding_is_refused(vectors, message):
    with pytest.raises(ValueError, match=message):
        diagnosed(vectors)
    with pytest.raises(ValueError, match=message):
        diagnostics.compare(vectors, vectors)


def test_lists_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="3 vectors but 2 sample_id"):
        diagnostics.diagnose(np.ones((3, 2)), names(2))
    with pytest.raises(ValueError, match="3 vectors but 4 volumes"):
        diagnosed(np.ones((3, 2)), [1.0] * 4)
    with pytest.raises(ValueError, match="3 and 4 samples"):
        diagnostics.compare(np.ones((3, 2)), np.ones((4, 2)))


# Two embeddings


def kornblith(first, second):
    """Linear CKA from features, not from Gram matrices (Kornblith et al. 2019)."""
    x, y = first - first.mean(axis=0), second - second.mean(axis=0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def u_statistic(one, two):
    """HSIC by the definition: the mean over all quadruples of different samples (Song et al. 2012, equation 4)."""
    n, total, count = len(one), 0.0, 0
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += one[i, j] * (two[i, j] + two[q, r] - 2 * two[i, q])
                        count += 1
    return total / count


def test_cka_is_that_of_its_authors():
    first, second = embedding(25, 9).astype(float), embedding(25, 4).astype(float)
    assert diagnostics.cka(first, second) == pytest.approx(kornblith(first, second))
    assert diagnostics.cka(first, first @ np.linalg.qr(RNG.normal(size=(9, 9)))[0] * 3 + 1) == pytest.approx(1)


def test_cka_without_bias_is_a_mean_over_quadruples():
    first, second = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 5))
    one, two = (each - each.mean(axis=0) for each in (first, second))
    one, two = one @ one.T, two @ two.T
    wanted = u_statistic(one, two) / np.sqrt(u_statistic(one, one) * u_statistic(two, two))
    assert diagnostics.cka(first, second, debiased=True) == pytest.approx(wanted)


def test_unrelated_embeddings_of_few_samples_look_alike_to_plain_cka_only():
    plain, debiased = [], []
    for _ in range(40):
        first, second = RNG.normal(size=(12, 2000)), RNG.normal(size=(12, 2000))
        plain.append(diagnostics.cka(first, second))
        debiased.append(diagnostics.cka(first, second, debiased=True))
    assert np.mean(plain) > 0.9 and abs(np.mean(debiased)) < 0.15


def test_neighbours_in_common_are_those_of_scikit_learn():
    first, second = embedding(60, 9), embedding(60, 4) + 0.3 * embedding(60, 9)[:, :4]
    compared = diagnostics.compare(first, second)
    near = [
        NearestNeighbors(n_neighbors=10, metric="cosine", algorithm="brute").fit(each).kneighbors(return_distance=False)
        for each in (first.astype(float), second.astype(float))
    ]
    wanted = [len(set(a) & set(b)) / 10 for a, b in zip(*near, strict=True)]
    assert_allclose(compared.shared, wanted)
    assert compared.overlap == pytest.approx(np.mean(wanted)) and compared.chance == pytest.approx(10 / 59)


def test_unrelated_embeddings_share_neighbours_by_chance():
    overlaps = [diagnostics.compare(RNG.normal(size=(40, 6)), RNG.normal(size=(40, 6))).overlap for _ in range(30)]
    assert np.mean(overlaps) == pytest.approx(10 / 39, abs=0.02)


def test_distances_are_correlated():
    first = embedding(30, 9)
    second = first + 0.5 * embedding(30, 9)
    compared = diagnostics.compare(first, second)
    apart = [pdist(each.astype(float), "cosine") for each in (first, second)]
    assert_allclose(compared.distances.to_numpy(), np.transpose(apart), atol=1e-12)
    assert compared.spearman == pytest.approx(stats.spearmanr(*apart).statistic)
    assert compared.pearson == pytest.approx(np.corrcoef(*apart)[0, 1])


def test_an_embedding_agrees_with_itself_whatever_its_scale():
    first = embedding(30, 9)
    compared = diagnostics.compare(first, 4 * first)
    assert compared.overlap == 1 and compared.spearman == pytest.approx(1)
    assert compared.cka == pytest.approx(1) and compared.cka_debiased == pytest.approx(1)
    table = compared.table().set_index("quantity")["value"]
    assert table["k"] == 10 and table["overlap"] == 1 and table["chance"] == pytest.approx(10 / 29)


@pytest.mark.parametrize(("n", "k", "reasons"), [(1, 0, 3), (2, 0, 3), (3, 1, 1), (4, 1, 0), (12, 5, 0), (21, 10, 0)])
def test_small_samples_take_fewer_neighbours_and_say_what_is_lacking(n, k, reasons):
    compared = diagnostics.compare(embedding(n, 20), embedding(n, 20))
    assert compared.k == k and len(compared.lacking) == reasons
    assert np.isfinite(compared.overlap) == (k > 0)
    if k:
        assert compared.chance == k / (n - 1) < 1


def test_equal_vectors_are_compared_without_a_warning(recwarn):
    compared = diagnostics.compare(np.ones((8, 3)), embedding(8, 3))
    assert np.isnan(compared.cka) and np.isnan(compared.spearman) and len(compared.lacking) == 2
    assert not recwarn.list


# Speed


def test_a_large_embedding_takes_seconds():
    vectors = RNG.normal(size=(1000, 2048)).astype(np.float32) + 1
    start = time.perf_counter()
    diagnosed(vectors, RNG.lognormal(size=1000))
    diagnostics.compare(vectors, vectors[:, ::2])
    assert time.perf_counter() - start < 15  # 1.5 on one quiet core


def test_results_do_not_hang_on_the_order_of_samples():
    vectors = embedding(25, 40)
    order = RNG.permutation(25)
    first, second = diagnosed(vectors), diagnosed(vectors[order])
    assert_allclose(first.spectrum.singular, second.spectrum.singular, rtol=1e-6, atol=1e-6)
    assert_allclose(first.spectrum.points[order], second.spectrum.points, atol=1e-6)
    assert_array_equal(np.sort(first.norms), np.sort(second.norms))
    assert isinstance(first.table(), pd.DataFrame)
