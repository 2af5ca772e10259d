"""Maps against plain loops, MONAI's and Captum's own classes; what is embedded as nothing; deletion and likeness."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from tumorbench_utils import saliency
from tumorbench_utils.models.base import monai_alone
from tumorbench_utils.saliency import SaliencyError
from tumorbench_utils.saliency import occlusion as rules  # the module

SIZES = [((10, 10, 10), 5), ((13, 10, 17), (5, 4, 7)), ((9, 9, 9), 9), ((11, 8, 8), (1, 8, 3))]
RIVALS = {"gaussian": "gaussian", "mean": "mean_img", "local": "mean_patch", -0.7: -0.7}


@pytest.fixture(autouse=True)
def one_thread():
    """Nets this small only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def monai_class():
    """Not imported to collect the tests."""
    with monai_alone():
        from monai.visualize import OcclusionSensitivity
    return OcclusionSensitivity


def image_of(shape=(16, 16, 16), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 1, *shape), generator=generator) * 3 - 1.5


def network(seed=0, dim=12):
    """A small convolutional net; its embedding is smooth in the image."""
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Conv3d(1, 6, 3, padding=1, bias=False),
        torch.nn.GELU(),
        torch.nn.Conv3d(6, 3, 3, stride=2, bias=False),
        torch.nn.Tanh(),
        torch.nn.AdaptiveAvgPool3d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(24, dim, bias=False),
    ).eval()


def corner(images):
    """Sees only the first four voxels along each axis."""
    seen = images[:, 0, :4, :4, :4].flatten(1)
    return torch.cat([seen, torch.ones(len(seen), 1)], 1)


def constant(images):
    return torch.ones(len(images), 5) + 0 * images.mean()


def rooted(images):
    """Finite, but a root has no gradient at zero."""
    values = images.flatten(1)
    return torch.cat([values[:, :2], (values * 0).sqrt()], 1)


def distance(one, other):
    return 1 - one @ other / np.linalg.norm(one) / np.linalg.norm(other)


def starts(length, width, overlap):
    step = max(1, int(width * (1 - overlap)))
    return sorted({min(start, length - width) for start in range(0, length - width + step, step)})


def looped(embed, image, size, overlap, fill):
    """The definition, voxel by voxel: average the embeddings of the windows over it, then the cosine distance."""
    shape = image.shape[2:]
    size = (size,) * 3 if isinstance(size, int) else size
    weights = np.ones(size)
    if fill == "gaussian":
        axes = [np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * (n / 8) ** 2)) for n in size]
        weights = np.einsum("i,j,k->ijk", *axes)
        weights = np.maximum(weights, max(weights.min(), 1e-3))
        factor = monai_class().gaussian_occlusion(image, size)[0][0, 0]
    total, count = np.zeros((*shape, embed(image).shape[1])), np.zeros(shape)
    own, first = [], []
    for x in starts(shape[0], size[0], overlap):
        for y in starts(shape[1], size[1], overlap):
            for z in starts(shape[2], size[2], overlap):
                box = (slice(x, x + size[0]), slice(y, y + size[1]), slice(z, z + size[2]))
                hidden = image.clone()
                window = hidden[0, 0][box]
                new = {"gaussian": lambda w: w * factor, "mean": lambda w: image.mean(), "local": lambda w: w.mean()}
                hidden[0, 0][box] = new[fill](window) if fill in new else fill
                vector = embed(hidden)[0].detach().numpy().astype(float)
                total[box] += weights[..., None] * vector
                count[box] += weights
                own.append(vector)
                first.append((x, y, z))
    whole = embed(image)[0].detach().numpy().astype(float)
    found = np.array([distance(v, whole) for v in (total / count[..., None]).reshape(-1, len(whole))])
    return found.reshape(shape), np.array(first), np.array([distance(vector, whole) for vector in own])


@pytest.mark.parametrize("fill", RIVALS)
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_map_is_that_of_a_loop_over_voxels(shape, size, fill):
    embed, image = network(), image_of(shape)
    overlap = 0.5 if size == 5 else 0.25  # at 0.5 up to three windows lie over a voxel along each axis
    found = saliency.occlude(embed, image, size, overlap, fill)
    expected, first, own = looped(embed, image, size, overlap, fill)
    np.testing.assert_array_equal(found.windows, first)
    np.testing.assert_allclose(found.map, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(found.distances, own, rtol=1e-4, atol=1e-7)
    assert expected.max() > 1e-3 and found.map.dtype == np.float32
    assert found.forwards == len(first) + 1 and found.baseline.shape == (12,)


@pytest.mark.parametrize("fill", RIVALS)
@pytest.mark.parametrize(("shape", "size"), [((16, 16, 16), 6), *SIZES[1:3]])
def test_map_is_that_of_monai_as_the_released_code_calls_it(shape, size, fill, monkeypatch):
    if fill == "local":  # MONAI 1.6.1 unpacks the pair the wrong way round there: it multiplies by the mean
        monkeypatch.setattr(monai_class(), "constant_occlusion", lambda x, value, size: (value, 0))
    embed, image = network(), image_of(shape)
    theirs = monai_class()(
        embed, mask_size=size, n_batch=12, overlap=0.25, activate=False, verbose=False, mode=RIVALS[fill]
    )
    with torch.no_grad():
        vectors = theirs(image)[0][0].double()  # (dim, *size)
        whole = embed(image)[0].double()
    expected = 1 - torch.nn.functional.cosine_similarity(vectors, whole[:, None, None, None], dim=0)
    found = saliency.occlude(embed, image, size, 0.25, fill).map
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert expected.max() > 1e-3


def test_default_is_the_study():
    embed, image = network(), image_of((24, 24, 24))
    study = saliency.occlude(embed, image, size=12, overlap=0.25, fill="gaussian")
    np.testing.assert_array_equal(saliency.occlude(embed, image).map, study.map)
    assert study.size == (12, 12, 12) and set(study.windows[:, 0]) == {0, 9, 12}


@pytest.mark.parametrize("batch", [1, 3, 7, 1000])
def test_batch_changes_nothing_and_is_never_exceeded(batch):
    embed, image, seen = network(), image_of(), []

    def counting(images):
        seen.append(len(images))
        return embed(images)

    found = saliency.occlude(counting, image, 6, batch=batch)
    np.testing.assert_allclose(found.map, saliency.occlude(embed, image, 6).map, atol=1e-6)
    assert sum(seen) == found.forwards and max(seen) <= batch and max(seen) - min(seen) <= 1


def test_the_image_stays_as_it_is():
    image = image_of()
    before = image.clone()
    saliency.occlude(network(), image, 6)
    saliency.deletion(network(), image, np.random.default_rng(0).random((16, 16, 16)))
    saliency.integrated(network(), image)
    assert torch.equal(image, before) and not image.requires_grad


def test_an_encoder_that_sees_one_corner_has_its_map_there():
    found = saliency.occlude(corner, image_of(), 4, 0.0, "mean").map
    inside = np.zeros(found.shape, bool)
    inside[:4, :4, :4] = True
    assert (found[inside] > 0).all() and (found[~inside] == 0).all()


def test_a_constant_embedding_gives_a_map_of_zeros_not_of_noise():
    vector = torch.randn(1, 700, generator=torch.Generator().manual_seed(1))
    found = saliency.occlude(lambda images: vector.repeat(len(images), 1), image_of(), 5)
    assert not found.map.any() and not found.distances.any()


def test_memory_does_not_grow_with_dimensions_times_voxels():
    import tracemalloc  # numpy tells it of its arrays

    rng = np.random.default_rng(0)
    windows = rules._positions((48, 48, 48), (12, 12, 12), 0.25)
    vectors = rng.normal(size=(len(windows), 2048)) + 3
    weights = rules._weights("gaussian", (12, 12, 12))
    tracemalloc.start()
    rules._combined(vectors, vectors.mean(axis=0), windows, weights, (48, 48, 48))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2048 * 48**3 * 4 / 200


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_unusable_embeddings_are_counted_and_the_first_window_named(value):
    image = image_of((8, 8, 8)).abs() + 0.1

    def broken(images):
        vectors = images.flatten(2).mean(2) + torch.zeros(len(images), 3)
        touched = (images[:, 0, 7, 7, 0] == 0) | (images[:, 0, 0, 7, 7] == 0)
        vectors[touched] = value
        return vectors

    with pytest.raises(SaliencyError, match=r"2 of 8 embeddings .* first with the window at voxel \(0, 4, 4\) hidden"):
        saliency.occlude(broken, image, 4, 0.0, 0.0)
    with pytest.raises(SaliencyError, match="the embedding of the whole image"):
        saliency.occlude(lambda images: torch.full((len(images), 3), value), image, 4)


def test_embeddings_that_cancel_out_are_an_error():
    def opposed(images):
        return torch.where((images[:, 0, 0, 0] == 5).any(1, keepdim=True), -1.0, 1.0) * torch.ones(1, 2)

    with pytest.raises(SaliencyError, match="over 32 of 96 voxels cancel out"):
        saliency.occlude(opposed, image_of((6, 4, 4)), 4, 0.25, 5.0)  # windows at x = 0 and 2 share two planes


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"size": 17}, r"window of \(17, 17, 17\) voxels is larger than the image of \(16, 16, 16\)"),
        ({"size": (6, 6)}, r"window is \(6, 6\), must be"),
        ({"size": 0}, "whole number of voxels"),
        ({"size": 2.5}, "whole number of voxels"),
        ({"overlap": 1.0}, "overlap is 1.0"),
        ({"fill": "air"}, "fill is 'air', must be a number or one of gaussian, mean, local"),
        ({"fill": float("nan")}, "must be finite"),
        ({"batch": 0}, "batch is 0"),
        ({"image": torch.zeros(1, 2, 8, 8, 8)}, r"the image is \(1, 2, 8, 8, 8\)"),
        ({"image": torch.zeros(1, 1, 8, 8, 8, dtype=torch.int16)}, "of floats"),
        ({"image": torch.full((1, 1, 8, 8, 8), torch.nan)}, "NaN or infinity in 512 of 512 voxels"),
        ({"embed": lambda images: images.mean()}, r"embed gave \(\) for"),
    ],
)
def test_bad_input_is_named(changed, message):
    given = {"embed": network(), "image": image_of(), "size": 6} | changed
    with pytest.raises(SaliencyError, match=message):
        saliency.occlude(**given)


def likeness_gradient(embed, point, whole):
    point = point.clone().requires_grad_()
    torch.nn.functional.cosine_similarity(embed(point), whole).sum().backward()
    return point.grad[0, 0].numpy().astype(float)


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_middle"])
def test_integrated_gradients_are_those_of_a_loop(method):
    embed, image = network(), image_of((8, 9, 10))
    whole = embed(image).detach()
    if method == "gausslegendre":
        points, weights = np.polynomial.legendre.leggauss(16)
        points, weights = (points + 1) / 2, weights / 2
    else:
        points, weights = (np.arange(16) + 0.5) / 16, np.full(16, 1 / 16)
    start = torch.full_like(image, -0.3)
    total = sum(
        weight * likeness_gradient(embed, start + float(at) * (image - start), whole)
        for at, weight in zip(points, weights, strict=True)
    )
    expected = total * (image - start)[0, 0].numpy()
    found = saliency.integrated(embed, image, -0.3, 16, method)
    np.testing.assert_allclose(found.map, expected, atol=1e-4 * np.abs(expected).max())
    gain = 1 - torch.nn.functional.cosine_similarity(embed(start).double(), whole.double()).item()
    assert found.gain == pytest.approx(gain, rel=1e-4)
    assert found.completeness == pytest.approx(abs(expected.sum() - gain) / gain, abs=1e-3)


def test_gradients_are_as_exact_as_embeddings():
    model, cudnn, seen = network(), torch.backends.cudnn, []

    def watched(images):
        if images.requires_grad:  # its hook is called when its gradient is there
            images.register_hook(lambda _: seen.append((cudnn.conv.fp32_precision, cudnn.deterministic)))
        return model(images)

    before = cudnn.conv.fp32_precision, cudnn.deterministic
    saliency.integrated(watched, image_of(), steps=2)
    assert set(seen) == {("ieee", True)}
    assert (cudnn.conv.fp32_precision, cudnn.deterministic) == before


def test_integrated_gradients_are_complete_and_memory_is_bounded():
    embed, image, seen = network(), image_of() * 2, []

    def counting(images):
        seen.append(len(images))
        return embed(images)

    found = saliency.integrated(counting, image, "mean", internal_batch_size=3)
    assert found.completeness < 0.01 and max(seen) <= 3
    assert found.map.sum() == pytest.approx(found.gain, rel=0.01)
    np.testing.assert_allclose(found.map, saliency.integrated(embed, image).map, atol=1e-6)
    assert found.map.shape == (16, 16, 16) and found.map.dtype == np.float32


def test_gradients_without_anything_to_explain_are_named():
    image = image_of()
    with pytest.raises(SaliencyError, match="nothing to explain"):
        saliency.integrated(constant, image)
    with pytest.raises(SaliencyError, match="lets no gradients through"):
        saliency.integrated(lambda images: network()(images).detach(), image)
    with pytest.raises(SaliencyError, match="embedding of the blank image"):
        saliency.integrated(lambda images: images.flatten(1), image, 0.0)
    with pytest.raises(SaliencyError, match="value is 'air'"):
        saliency.integrated(network(), image, "air")
    with pytest.raises(SaliencyError, match="steps is 0"):
        saliency.integrated(network(), image, steps=0)
    with pytest.raises(SaliencyError, match="NaN or infinite in 4096 of 4096 voxels"):
        saliency.integrated(rooted, image)


def test_deletion_is_that_of_a_loop():
    embed, image = network(), image_of((7, 6, 5))
    scores = np.random.default_rng(3).random((7, 6, 5))
    found = saliency.deletion(embed, image, scores, steps=4, fill="mean", batch=3)
    order, expected = np.argsort(-scores.ravel()), []
    whole = embed(image)[0].detach().numpy().astype(float)
    for count in (0, 52, 105, 158, 210):  # of 210 voxels: 52.5 and 157.5 go to the even number
        changed = image.clone()
        changed.view(-1)[torch.from_numpy(order[:count])] = image.mean()
        expected.append(distance(embed(changed)[0].detach().numpy().astype(float), whole))
    assert found.share == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert found.distance == pytest.approx(expected, rel=1e-3, abs=1e-8)
    area = sum((a + b) / 2 / 4 for a, b in itertools.pairwise(expected)) / expected[-1]
    assert found.area == pytest.approx(area, rel=1e-3)
    assert found.displaced_distance[:, 0] == pytest.approx(0) and found.displaced_distance.shape == (3, 5)
    assert found.displaced_distance[:, -1] == pytest.approx(expected[-1], rel=1e-3)


def test_a_map_of_what_is_seen_deletes_faster_than_the_same_map_displaced_and_its_reverse_slower():
    seen = np.zeros((16, 16, 16))
    seen[:4, :4, :4] = 1
    right = saliency.deletion(corner, image_of(), seen, steps=10, fill=-3.0)
    wrong = saliency.deletion(corner, image_of(), -seen, steps=10, fill=-3.0)
    assert right.area == pytest.approx(0.95, abs=0.01)  # all is gone at the first of ten steps
    assert right.counts and not wrong.counts
    assert wrong.area < 0.06 < right.displaced_area.min() <= right.displaced_area.max() < right.area


def watched(image, scores, **options):
    """A deletion, and which voxels were replaced in each image that was embedded."""
    replaced = []

    def watching(images):
        replaced.extend((images[:, 0] == 9).numpy())
        return images.flatten(1)

    return saliency.deletion(watching, image, scores, fill=9.0, **options), np.array(replaced)


def test_the_control_is_the_same_map_displaced_by_half_the_patch_along_each_axis():
    scores = np.random.default_rng(0).random((8, 6, 5))
    found, replaced = watched(image_of((8, 6, 5)), scores, steps=4)
    assert len(replaced) == 5 + 3 * 3  # both ends are in common
    for axis in range(3):
        moved = np.roll(scores, (4, 3, 2)[axis], axis)
        own, expected = watched(image_of((8, 6, 5)), moved, steps=4)
        np.testing.assert_array_equal(replaced[5 + 3 * axis : 8 + 3 * axis], expected[1:4])
        np.testing.assert_allclose(found.displaced_distance[axis], own.distance, rtol=1e-6)
        assert found.displaced_area[axis] == pytest.approx(own.area)
    assert found.counts == (found.area > max(found.displaced_area))


def test_a_map_counts_only_if_it_beats_all_three():
    curve = np.zeros(2)
    for areas, counts in (([0.1, 0.2, 0.3], True), ([0.1, 0.2, 0.5], False), ([0.1, 0.9, 0.3], False)):
        assert saliency.Deletion(curve, curve, 0.5, curve, np.array(areas)).counts is counts


def test_maps_of_noise_do_not_count_more_often_than_once_in_four():
    embed, image, rng = network(), image_of((10, 10, 10)), np.random.default_rng(0)
    counts = [saliency.deletion(embed, image, rng.random((10, 10, 10)), steps=4).counts for _ in range(80)]
    assert 8 < sum(counts) < 33  # 20 are due; 3.4 standard deviations either way


def test_equally_salient_voxels_go_in_no_order_of_space():
    scores = np.zeros((8, 8, 8))
    scores[0, 0, 0] = 1
    _, replaced = watched(image_of((8, 8, 8)), scores, steps=2)
    assert replaced[1].sum() == 256 and replaced[1][0, 0, 0]
    assert 90 < replaced[1][:4].sum() < 166  # in the order of the array all 256 would lie in this half


def test_deletion_names_what_it_cannot_do():
    image, scores = image_of((6, 6, 6)), np.random.default_rng(0).random((6, 6, 6))
    with pytest.raises(SaliencyError, match="does not move when every voxel is replaced"):
        saliency.deletion(constant, image, scores)
    with pytest.raises(SaliencyError, match="points nowhere"):
        saliency.deletion(network(), image, np.ones((6, 6, 6)))
    with pytest.raises(SaliencyError, match=r"map is \(5, 6, 6\), the image \(6, 6, 6\)"):
        saliency.deletion(network(), image, scores[1:])
    with pytest.raises(SaliencyError, match=r"1 of 30 embeddings .* with 216 of 216 voxels replaced"):
        saliency.deletion(lambda images: images.flatten(1), image, scores, fill=0.0)
    with pytest.raises(SaliencyError, match="steps is 1"):
        saliency.deletion(network(), image, scores, steps=1)
    with pytest.raises(SaliencyError, match=r"the map \(6, 1, 6\)"):
        saliency.deletion(network(), image[:, :, :, :1], scores[:, :1])


def test_likeness_of_maps_is_that_of_scipy():
    rng = np.random.default_rng(0)
    one = rng.random((10, 9, 8))
    other = one + rng.random((10, 9, 8)).round(1)
    found = saliency.alike(one, other)
    assert found["spearman"] == pytest.approx(stats.spearmanr(one.ravel(), other.ravel()).statistic)
    assert found["pearson"] == pytest.approx(stats.pearsonr(one.ravel(), other.ravel()).statistic)
    first, second = (set(np.argsort(each.ravel())[-72:]) for each in (one, other))
    assert found["top_overlap"] == pytest.approx(len(first & second) / 72)


def test_likeness_of_equal_unrelated_and_reversed_maps():
    rng = np.random.default_rng(1)
    one, other = rng.random((2, 30, 30, 30))
    assert saliency.alike(one, one) == pytest.approx({"spearman": 1, "pearson": 1, "top_overlap": 1})
    stepped = one.round(1)  # many voxels are equal at the edge of the top tenth
    assert saliency.alike(stepped, 5 * stepped)["top_overlap"] == pytest.approx(1)
    unrelated = saliency.alike(one, other)
    assert unrelated["top_overlap"] == pytest.approx(0.1, abs=0.03) and abs(unrelated["spearman"]) < 0.03
    assert saliency.alike(one, -one)["top_overlap"] == 0


def test_ties_at_the_edge_of_the_top_are_shared_out():
    one = np.array([0.0] * 16 + [1, 1, 1, 1])  # two of twenty belong to the tenth: each of the four by half
    other = np.arange(20.0)
    assert saliency.alike(one, other)["top_overlap"] == pytest.approx((0.5 + 0.5) / 2)


def test_maps_that_cannot_be_compared_are_named():
    with pytest.raises(SaliencyError, match="same patch"):
        saliency.alike(np.arange(8.0), np.arange(9.0))
    with pytest.raises(SaliencyError, match="the map is 2 in all 8 voxels"):
        saliency.alike(np.arange(8.0), np.full(8, 2.0))
    with pytest.raises(SaliencyError, match="NaN or infinity in 1 of 3"):
        saliency.alike(np.array([0, 1, np.nan]), np.arange(3.0))
