"""The encoders written anew against a second writing of each: numbers, names, counts, and what they refuse.

The second writings are plain functions of the tensors by their published names: CT-ViT in numpy, token by token and
head by head; the two convolutional ones in torch's functional calls, with the batch normalisation that the published
U-Net has.
"""

from itertools import product

import numpy as np
import pytest
from scipy.special import erf

torch = pytest.importorskip("torch")
F = torch.nn.functional


def drawn(network, seed=0):
    """The network in evaluation with every tensor drawn anew, those too that start as ones or zeros."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1 and "embed" not in name:
            noise *= 1 / max(tensor[0].numel(), 1) ** 0.5
        elif name.endswith(("gamma", "scale", "norm.weight", "bn1.weight")):
            noise = 1 + 0.3 * noise
        tensor.copy_(noise)
    return network.eval().requires_grad_(False)


def volumes(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def names(network):
    return set(network.state_dict())


def millions(network):
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6


def assert_alone_as_together(embed, batch):
    """Vectors of a batch are those of its patches one by one, to 1e-4 of the largest number, and again the same."""
    together = embed(batch)
    alone = torch.cat([embed(patch[None]) for patch in batch])
    assert (together - alone).abs().max() <= 1e-4 * together.abs().max()
    assert torch.equal(together, embed(batch))


# CT-ViT ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ct_vit():
    from tumorbench_utils.networks.ct_vit import CTViT

    return drawn(CTViT())


@pytest.fixture(scope="module")
def tensors(ct_vit):
    return {name: tensor.double().numpy() for name, tensor in ct_vit.state_dict().items()}


def normed(x, gain, offset):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * gain + offset


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def first_tokens(tensors, volume):
    key = "to_patch_emb."
    tokens = np.empty((volume.shape[0] // 10, volume.shape[1] // 20, volume.shape[2] // 20, 512))
    for a, b, c in np.ndindex(tokens.shape[:3]):
        block = volume[10 * a : 10 * a + 10, 20 * b : 20 * b + 20, 20 * c : 20 * c + 20].ravel()
        block = normed(block, tensors[key + "1.weight"], tensors[key + "1.bias"])
        token = tensors[key + "2.weight"] @ block + tensors[key + "2.bias"]
        tokens[a, b, c] = normed(token, tensors[key + "3.weight"], tensors[key + "3.bias"])
    return tokens


def position_bias(tensors, h, w):
    places = list(product(range(h), range(w)))
    bias = np.empty((8, len(places), len(places)))
    for (i, one), (j, other) in product(enumerate(places), enumerate(places)):
        x = np.array([np.sign(p - q) * np.log1p(abs(p - q)) for p, q in zip(one, other, strict=True)])
        for layer in ("0.0", "1.0"):
            key = f"spatial_rel_pos_bias.net.{layer}."
            x = tensors[key + "weight"] @ x + tensors[key + "bias"]
            x = np.where(x > 0, x, 0.1 * x)
        bias[:, i, j] = tensors["spatial_rel_pos_bias.net.2.weight"] @ x + tensors["spatial_rel_pos_bias.net.2.bias"]
    return bias


def neighbours(tensors, key, tokens):
    """The depthwise convolution of (t, h, w, 512): one token around in h and w, the two before in t."""
    t, h, w, _ = tokens.shape
    out = np.tile(tensors[key + "dsconv.bias"], (t, h, w, 1))
    for a, b, c in np.ndindex(t, h, w):
        for i, j, k in product(range(3), repeat=3):
            at = (a + i - 2, b + j - 1, c + k - 1)
            if all(0 <= place < side for place, side in zip(at, (t, h, w), strict=True)):
                out[a, b, c] += tensors[key + "dsconv.weight"][:, 0, i, j, k] * tokens[at]
    return out


def attended(tensors, key, x, bias):
    """Attention among the tokens (length, 512) of one sequence."""
    rows = normed(x, tensors[key + "norm.gamma"], tensors[key + "norm.beta"]) @ tensors[key + "to_q.weight"].T
    keys, values = np.split(x @ tensors[key + "to_kv.weight"].T, 2, axis=1)
    seen = np.empty_like(rows)
    for head in range(8):
        at = slice(32 * head, 32 * head + 32)
        q, k = unit(rows[:, at]) * tensors[key + "q_scale"], unit(keys[:, at]) * tensors[key + "k_scale"]
        seen[:, at] = softmax(8 * q @ k.T + bias[head]) @ values[:, at]
    return seen @ tensors[key + "to_out.weight"].T


def fed_forward(tensors, key, x):
    inner = normed(x, tensors[key + "0.weight"], tensors[key + "0.bias"]) @ tensors[key + "1.weight"].T
    value, gate = inner[..., :1365], inner[..., 1365:]
    return (value * gate * (1 + erf(gate / np.sqrt(2))) / 2) @ tensors[key + "4.weight"].T


def transformed(tensors, key, x, shape, bias, order):
    """Four layers on sequences (sequences, length, 512); ``order`` is the place (t, h, w) that the convolution takes
    each token to have, in the order of the sequences."""
    for layer in range(4):
        part = f"{key}.layers.{layer}."
        grid = np.empty((*shape, 512))
        for place, token in zip(order, x.reshape(-1, 512), strict=True):
            grid[place] = token
        mixed = neighbours(tensors, part + "0.", grid)
        x = x + np.array([mixed[place] for place in order]).reshape(x.shape)
        x = x + np.array([attended(tensors, part + "1.", sequence, bias) for sequence in x])
        x = x + fed_forward(tensors, part + "3.", x)
    return normed(x, tensors[key + ".norm_out.gamma"], tensors[key + ".norm_out.beta"])


def ct_vit_tokens(tensors, volume, true_places=False):
    """Tokens (t, h, w, 512) of one volume (T, H, W). ``true_places`` is what the published network does not do."""
    x = first_tokens(tensors, volume)
    t, h, w, _ = x.shape
    slabs = x.reshape(t, h * w, 512)
    in_order = list(np.ndindex(t, h, w))
    slabs = transformed(tensors, "enc_spatial_transformer", slabs, (t, h, w), position_bias(tensors, h, w), in_order)
    lines = slabs.swapaxes(0, 1)  # (h w, t, 512): a sequence along T for every place
    places = [(a, b, c) for b, c, a in np.ndindex(h, w, t)] if true_places else in_order
    lines = transformed(tensors, "enc_temporal_transformer", lines, (t, h, w), np.zeros((8, t, t)), places)
    return lines.swapaxes(0, 1).reshape(t, h, w, 512)


@pytest.mark.parametrize("size", [(20, 40, 60), (60, 60, 60)], ids=str)
def test_ct_vit_gives_the_tokens_of_the_description(ct_vit, tensors, size):
    batch = volumes(2, 1, *size) * 2 - 1
    expected = np.array([ct_vit_tokens(tensors, volume[0]) for volume in batch.double().numpy()])
    np.testing.assert_allclose(ct_vit.tokens(batch).numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    if size == (20, 40, 60):
        ct_vit.double()
        np.testing.assert_allclose(ct_vit.tokens(batch.double()).numpy(), expected, rtol=0, atol=1e-10)
        ct_vit.float()


def test_ct_vit_mixes_tokens_by_their_order_in_memory(tensors):
    volume = volumes(20, 40, 60).double().numpy()
    published, other = (ct_vit_tokens(tensors, volume, true_places=each) for each in (False, True))
    assert np.abs(published - other).max() > 1e-2


def test_a_token_becomes_the_nearest_code_in_the_length_of_the_book(ct_vit, tensors):
    batch = volumes(2, 1, 20, 40, 60)
    book = tensors["vq._codebook.embed"][0]
    assert np.ptp(np.linalg.norm(book, axis=1)) > 1  # of different lengths, so that cosine and distance differ
    for token, code in zip(
        ct_vit.tokens(batch).double().reshape(-1, 512).numpy(), ct_vit(batch).reshape(-1, 512), strict=True
    ):
        np.testing.assert_array_equal(code.numpy(), book[np.argmax(unit(book) @ unit(token))].astype(np.float32))


def test_the_codebook_is_never_updated(ct_vit):
    batch, before = volumes(1, 1, 20, 40, 40), ct_vit.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    codes = ct_vit(batch)
    assert torch.equal(ct_vit.train()(batch), codes)
    ct_vit.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in ct_vit.state_dict().items())


def test_ct_vit_has_the_published_names_and_count(ct_vit):
    norm, linear = ("gamma", "beta"), ("weight", "bias")
    attention = ["null_kv", "q_scale", "k_scale", "to_q.weight", "to_kv.weight", "to_out.weight"]
    attention += [f"{part}.{each}" for part in ("norm", "context_norm") for each in norm]
    layer = [f"0.dsconv.{each}" for each in linear] + [f"1.{each}" for each in attention]
    layer += ["3.0.weight", "3.0.bias", "3.1.weight", "3.4.weight"]
    expected = {f"to_patch_emb.{i}.{each}" for i in (1, 2, 3) for each in linear} | {"vq._codebook.embed"}
    expected |= {f"spatial_rel_pos_bias.net.{i}.{each}" for i in ("0.0", "1.0", "2") for each in linear}
    for stack in ("enc_spatial_transformer", "enc_temporal_transformer"):
        expected |= {f"{stack}.layers.{i}.{each}" for i in range(4) for each in layer}
        expected |= {f"{stack}.norm_out.{each}" for each in norm}
    assert names(ct_vit) == expected
    assert len(expected) == 145
    assert millions(ct_vit) == pytest.approx(23.426, abs=0.001)
    shapes = {name: tuple(tensor.shape) for name, tensor in ct_vit.state_dict().items()}
    assert shapes["vq._codebook.embed"] == (1, 8192, 512)
    assert shapes["enc_temporal_transformer.layers.3.1.null_kv"] == (8, 0, 32)
    assert shapes["enc_spatial_transformer.layers.0.0.dsconv.weight"] == (512, 1, 3, 3, 3)


def test_ct_vit_gives_a_patch_the_same_tokens_in_any_batch(ct_vit):
    assert_alone_as_together(ct_vit.tokens, volumes(3, 1, 60, 60, 60))
    assert_alone_as_together(lambda batch: ct_vit(batch).mean(dim=(1, 2, 3)), volumes(3, 1, 60, 60, 60))


@pytest.mark.parametrize("shape", [(1, 60, 60, 48), (1, 48, 60, 60), (1, 60, 50, 60), (3, 60, 60, 60), (1, 0, 60, 60)])
def test_ct_vit_refuses_what_cannot_be_cut_into_blocks(ct_vit, shape):
    with pytest.raises(ValueError, match="multiples of 10, 20, 20 voxels, not " + " x ".join(map(str, shape))):
        ct_vit(torch.zeros(1, *shape))


# The U-Net of Models Genesis and SuPreM ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unet3d():
    from tumorbench_utils.networks.unet3d import UNet3DEncoder

    return drawn(UNet3DEncoder())


def batch_normalised_unet(state, x):
    """As published: statistics are those of the batch at hand."""
    for level in (64, 128, 256, 512):
        x = x if level == 64 else F.max_pool3d(x, 2)
        for i in (0, 1):
            key = f"down_tr{level}.ops.{i}."
            x = F.conv3d(x, state[key + "conv1.weight"], state[key + "conv1.bias"], padding=1)
            x = F.batch_norm(x, None, None, state[key + "bn1.weight"], state[key + "bn1.bias"], training=True)
            x = x.relu()
    return x


@pytest.mark.parametrize("size", [(48, 48, 48), (32, 32, 16), (17, 9, 24)], ids=str)
def test_unet3d_gives_what_the_published_one_gives_one_patch_at_a_time(unet3d, size):
    batch = volumes(2, 1, *size)
    expected = torch.cat([batch_normalised_unet(unet3d.state_dict(), patch[None]) for patch in batch])
    assert expected.shape == (2, 512, *(side // 8 for side in size))
    torch.testing.assert_close(unet3d(batch), expected, rtol=0, atol=1e-4)


def test_unet3d_gives_a_patch_the_same_features_in_any_batch_where_the_published_one_does_not(unet3d):
    batch = volumes(3, 1, 32, 32, 32) * torch.tensor([0.2, 1.0, 3.0])[:, None, None, None, None]
    assert_alone_as_together(lambda each: unet3d(each).mean(dim=(2, 3, 4)), batch)
    state = unet3d.state_dict()
    together = batch_normalised_unet(state, batch)[:1].mean(dim=(2, 3, 4))
    alone = batch_normalised_unet(state, batch[:1]).mean(dim=(2, 3, 4))
    assert (together - alone).abs().max() > 0.1 * alone.abs().max()


def test_unet3d_has_the_published_names_and_count(unet3d):
    parts = product((64, 128, 256, 512), (0, 1), ("conv1", "bn1"), ("weight", "bias"))
    assert names(unet3d) == {f"down_tr{level}.ops.{i}.{part}.{each}" for level, i, part, each in parts}
    assert len(names(unet3d)) == 32
    assert millions(unet3d) == pytest.approx(7.028, abs=0.001)
    widths = [(1, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512)]
    weights = [tensor for name, tensor in unet3d.state_dict().items() if name.endswith("conv1.weight")]
    assert [tuple(tensor.shape) for tensor in weights] == [(after, before, 3, 3, 3) for before, after in widths]


def test_unet3d_runs_in_training_mode_as_in_evaluation(unet3d):
    batch = volumes(1, 1, 16, 16, 16)
    expected = unet3d(batch)
    assert torch.equal(unet3d.train()(batch), expected)
    unet3d.eval()


@pytest.mark.parametrize("size", [(8, 8, 8), (15, 15, 15), (48, 48, 7)], ids=str)
def test_unet3d_refuses_patches_without_a_map(unet3d, size):
    with pytest.raises(ValueError, match=r"at least 8 voxels and one of 16 or more, not \(\d+, \d+, \d+\)"):
        unet3d(torch.zeros(1, 1, *size))


# The plain convolutional encoder of PASTA ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_conv():
    from tumorbench_utils.networks.plain_conv import PlainConvEncoder

    return drawn(PlainConvEncoder())


UNITS = [(f"conv_blocks_context.{i}.blocks.{j}", i) for i in range(5) for j in (0, 1)]
UNITS += [(f"conv_blocks_context.5.{i}.blocks.0", 5) for i in (0, 1)]  # the bottleneck


def plain_chain(state, x, stages):
    seen = set()
    for key, stage in UNITS:
        if stage == stages:
            break
        stride = 2 if stage and stage not in seen else 1
        seen.add(stage)
        x = F.conv3d(x, state[f"{key}.conv.weight"], state[f"{key}.conv.bias"], stride, padding=1)
        gain, offset = (state[f"{key}.instnorm.{each}"][:, None, None, None] for each in ("weight", "bias"))
        mean, variance = x.mean((2, 3, 4), keepdim=True), x.var((2, 3, 4), unbiased=False, keepdim=True)
        x = (x - mean) / (variance + 1e-5).sqrt() * gain + offset
        x = torch.where(x > 0, x, 0.01 * x)
    return x


@pytest.mark.parametrize(
    ("size", "stages", "sides"),
    [((48, 48, 48), 6, (2, 2, 2)), ((48, 48, 48), 5, (3, 3, 3)), ((65, 33, 40), 6, (3, 2, 2))],
    ids=str,
)
def test_plain_conv_gives_the_map_of_the_description(plain_conv, size, stages, sides):
    batch = volumes(1, 1, *size)
    expected = plain_chain(plain_conv.state_dict(), batch, stages)
    assert expected.shape == (1, 1024, *sides)
    torch.testing.assert_close(plain_conv(batch, stages=stages), expected, rtol=0, atol=1e-4)


def test_plain_conv_stops_at_the_bottleneck_unless_told(plain_conv):
    batch = volumes(1, 1, 33, 20, 17)
    assert torch.equal(plain_conv(batch), plain_conv(batch, stages=6))


def test_plain_conv_gives_a_patch_the_same_features_in_any_batch(plain_conv):
    assert_alone_as_together(lambda batch: plain_conv(batch).mean(dim=(2, 3, 4)), volumes(3, 1, 40, 40, 40))


def test_plain_conv_has_the_published_names_and_counts(plain_conv):
    parts = product((key for key, _ in UNITS), ("conv", "instnorm"), ("weight", "bias"))
    assert names(plain_conv) == {f"{key}.{part}.{each}" for key, part, each in parts}
    assert len(names(plain_conv)) == 48
    assert millions(plain_conv) == pytest.approx(113.155, abs=0.001)
    assert millions(plain_conv.conv_blocks_context[:5]) == pytest.approx(56.526, abs=0.001)


@pytest.mark.parametrize(("side", "stages"), [(32, 6), (8, 6), (16, 5)])
def test_plain_conv_refuses_patches_that_end_as_one_voxel(plain_conv, side, stages):
    with pytest.raises(ValueError, match=f"{stages} stages leave one voxel .* larger than {2 ** (stages - 1)} voxels"):
        plain_conv(torch.zeros(1, 1, side, side, side), stages=stages)
