"""The six models whose networks come from monai and transformers, with weights as torch draws them.

Names of tensors are written out here from the published code, not taken from the networks.
"""

import importlib
import re
from fnmatch import fnmatchcase
from functools import cache
from importlib.util import find_spec
from itertools import product

import numpy as np
import pytest
import released_pipeline
from PIL import Image

torch = pytest.importorskip("torch")
LACKING = [name for name in ("monai", "transformers") if find_spec(name) is None]  # not imported to collect
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"not installed: {LACKING}")

NAMES = ("fmcib", "ct_fm", "vista3d", "voco", "merlin", "medimageinsight")
MODULES = {name: importlib.import_module(f"tumorbench_utils.models.{name}") for name in NAMES}
MODELS = {name: module.MODEL for name, module in MODULES.items()}
SOFT, LUNG = ((-1024, 0), (2048, 1)), ((-1000, 0), (1000, 1))
AUTHORS = {  # axes, size along them, mm along x, y, z, window, clipped, dimensions
    "fmcib": ("SPL", (50, 50, 50), (1, 1, 1), SOFT, False, 4096),
    "ct_fm": ("SPL", (32, 128, 128), (1, 1, 3), SOFT, True, 512),
    "vista3d": (
        "RAS",
        (128, 128, 128),
        (1.5, 1.5, 1.5),
        ((-963.8247715525971, 0), (1053.678477684517, 1)),
        True,
        768,
    ),
    "voco": ("RAS", (64, 64, 64), (1.5, 1.5, 1.5), ((-175, 0), (250, 1)), True, 3072),
    "merlin": ("RAS", (224, 224, 160), (1.5, 1.5, 3), LUNG, True, 2048),
    "medimageinsight": ("SPL", (48, 48, 48), (1, 1, 1), LUNG, True, 1024),
}
DIMENSIONS = {"fmcib": 4096, "ct_fm": 512, "vista3d": 768, "voco": 3072, "merlin": 512, "medimageinsight": 1024}
COUNTS = {  # millions of parameters, tensors
    "fmcib": (184.478, 322),
    "ct_fm": (77.761, 161),
    "vista3d": (174.951, 83),
    "voco": (294.864, 134),
    "merlin": (118.415, 932),
    "medimageinsight": (362.734, 403),
}
PAIR = ("weight", "bias")
BATCH_NORM = (*PAIR, "running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module", params=NAMES)
def built(request):
    """One model after the other, so that two never lie in memory."""
    torch.manual_seed(0)
    return MODELS[request.param], MODELS[request.param].build().eval()


@pytest.fixture(scope="module")
def small():
    """MedImageInsight of an eighth of its width."""
    torch.manual_seed(0)
    return MODULES["medimageinsight"].build(width=32, depths=(1, 1, 2, 1)).eval()


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@cache
def shapes(name):
    """Shapes of the tensors of an encoder by name; without numbers, but for VoCo's, which computes with some."""
    with torch.device("cpu" if name == "voco" else "meta"):
        return {key: tensor.shape for key, tensor in MODELS[name].build().state_dict().items()}


def noise(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def close(some, others):
    """Whether vectors are the same but for rounding, 1e-4 of the largest number."""
    return (some - others).abs().max() <= 1e-4 * others.abs().max()


def names(*parts):
    """All names that have one of each part; a part is a name or several."""
    return [".".join(each) for each in product(*([part] if isinstance(part, str) else part for part in parts))]


def bottlenecks(depths, shortcut):
    """Names of a 3D ResNet up to the pooling; ``shortcut`` are those of the convolution of each."""
    found = ["conv1.weight", *names("bn1", BATCH_NORM)]
    for level, depth in enumerate(depths, start=1):
        for block in (f"layer{level}.{index}" for index in range(depth)):
            found += names(block, ("conv1", "conv2", "conv3"), "weight") + names(
                block, ("bn1", "bn2", "bn3"), BATCH_NORM
            )
        found += names(f"layer{level}.0.downsample.0", shortcut) + names(f"layer{level}.0.downsample.1", BATCH_NORM)
    return found


def segresnet(norm):
    """Names of a SegResNet encoder with 1, 2, 2, 4 and 4 blocks."""
    found = ["conv_init.weight"]
    for level, depth in enumerate((1, 2, 2, 4, 4)):
        for block in (f"layers.{level}.blocks.{index}" for index in range(depth)):
            found += names(block, ("conv1", "conv2"), "weight") + names(block, ("norm1", "norm2"), norm)
        found += [f"layers.{level}.downsample.weight"] if level < 4 else []
    return found


def swin():
    """Names of a Swin transformer with a convolution before each level."""
    found = names("patch_embed.proj", PAIR)
    for level in (1, 2, 3, 4):
        for block in names(f"layers{level}.0.blocks", ("0", "1")):
            found += names(block, ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.linear1", "mlp.linear2"), PAIR)
            found += names(block, "attn", ("relative_position_bias_table", "relative_position_index"))
        found += names(f"layers{level}.0.downsample", ("reduction.weight", "norm.weight", "norm.bias"))
        found += names(f"layers{level}c.0", ("layer.conv1.conv.weight", "layer.conv2.conv.weight"))
    return found


def davit():
    """Names of MedImageInsight's image tower and projection in the published file."""
    found = names("image_encoder.convs", tuple("0123"), ("proj", "norm"), PAIR)
    for level, depth in enumerate((1, 1, 9, 1)):
        for index, kind in product(range(depth), ("spatial", "channel")):
            block = f"image_encoder.blocks.{level}.{index}.{kind}_block"
            attention = f"{'window' if kind == 'spatial' else 'channel'}_attn"
            found += names(block, ("conv1.fn.dw", "conv2.fn.dw", "ffn.norm", f"{attention}.norm"), PAIR)
            found += names(block, (f"{attention}.fn.qkv", f"{attention}.fn.proj"), PAIR)
            found += names(block, ("ffn.fn.net.fc1", "ffn.fn.net.fc2"), PAIR)
    return [*found, *names("image_encoder.norms", PAIR), "image_projection"]


def davit_of_old():
    """The same in files of the first training runs, which the authors' loader takes too."""
    found = names("visual.conv_embeds", tuple("0123"), ("proj", "norm"), PAIR)
    parts = ("cpe.0.proj", "cpe.1.proj", "norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    for level, depth in enumerate((1, 1, 9, 1)):
        found += names(f"visual.main_blocks.{level}", map(str, range(depth)), ("0", "1"), parts, PAIR)
    return [*found, *names("visual.norms", PAIR), "vision_projection"]


HEAD = names("contrastive_head", PAIR)
FMCIB, MERLIN = bottlenecks((3, 4, 6, 3), PAIR), bottlenecks((3, 8, 36, 3), ["weight"]) + HEAD
TEXT = ["lang_encoder.resblocks.0.ln_1.weight", "lang_projection", "logit_scale"]
FILES = {  # container, names of the encoder's tensors in it, some names that are not the encoder's
    "fmcib": ("fmcib", "trunk_state_dict", FMCIB, []),
    "fmcib, wrapped": ("fmcib", "trunk_state_dict", names("module", FMCIB), []),
    "fmcib, in training": ("fmcib", "state_dict", names("model.trunk", FMCIB), ["model.heads.0.weight"]),
    "ct_fm feature extractor": ("ct_fm", "", segresnet(BATCH_NORM), []),
    "ct_fm with its decoder": (
        "ct_fm",
        "",
        names("encoder", segresnet(BATCH_NORM)),
        ["up_layers.0.upsample.weight", "up_layers.0.blocks.0.conv1.weight"],
    ),
    "vista3d": (
        "vista3d",
        "",
        names("image_encoder.encoder", segresnet(PAIR)),
        [
            "image_encoder.up_layers.0.upsample.weight",
            "image_encoder.up_layers_auto.0.upsample.weight",
            "class_head.class_embeddings.weight",
            "point_head.image_encoder.encoder.0.weight",
        ],
    ),
    "vista3d of the hub": (
        "vista3d",
        "",
        names("network.image_encoder.encoder", segresnet(PAIR)),
        ["network.image_encoder.up_layers.0.upsample.weight", "network.class_head.class_embeddings.weight"],
    ),
    "voco": (
        "voco",
        "",
        names("swinViT", swin()),
        ["encoder1.layer.conv1.conv.weight", "encoder10.layer.conv2.conv.weight"],
    ),
    "voco, wrapped": ("voco", "", names("module.swinViT", swin()), ["module.encoder1.layer.conv1.conv.weight"]),
    "voco, backbone": ("voco", "", names("backbone.swinViT", swin()), ["backbone.encoder1.layer.conv1.conv.weight"]),
    "voco, in training": ("voco", "state_dict", names("module.backbone.swinViT", swin()), []),
    "voco, older": ("voco", "", names("module.swin_vit", swin()), []),
    "merlin": (
        "merlin",
        "",
        names("encode_image.i3_resnet", MERLIN),
        [
            "encode_image.i3_resnet.classifier.weight",
            "encode_image.i3_resnet.classifier.bias",
            "encode_text.text_encoder.embeddings.word_embeddings.weight",
            "encode_text.linear_layer.weight",
            "logit_scale",
        ],
    ),
    "medimageinsight": ("medimageinsight", "", davit(), TEXT),
    "medimageinsight, older": ("medimageinsight", "", davit_of_old(), ["text.ln_final.weight", "text_projection"]),
}


def in_the_encoder(key, layout):
    """Name in the encoder of a key of a file, None if it is no part of it, as ``Layout`` describes it."""
    name = key.removeprefix(layout.prefix)
    if not key.startswith(layout.prefix) or any(fnmatchcase(name, pattern) for pattern in layout.drop):
        return None
    for pattern, replacement in layout.rename:
        name = re.sub(pattern, replacement, name)
    return name


# The networks


def test_parameters_and_tensors_are_those_documented(built):
    model, encoder = built
    millions, tensors = COUNTS[model.id]
    assert sum(each.numel() for each in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.001)
    assert model.parameters_encoder == millions
    assert len(encoder.state_dict()) == model.checkpoint.keys == tensors


@pytest.mark.parametrize("file", FILES)
def test_every_tensor_is_found_under_its_upstream_name(file):
    name, container, mine, others = FILES[file]
    layouts = [each for each in MODELS[name].checkpoint.layouts if each.container == container]
    layout = next(each for each in layouts if any(key.startswith(each.prefix) for key in mine))  # the first that fits
    assert len(set(mine)) == len(mine)
    assert sorted(str(in_the_encoder(key, layout)) for key in mine) == sorted(shapes(name))
    assert [in_the_encoder(key, layout) for key in others] == [None] * len(others)


def test_single_names_go_where_they_belong():
    layout = MODELS["medimageinsight"].checkpoint.layouts[0]
    block = "image_encoder.blocks.2.8"
    for upstream, own in {
        "image_encoder.convs.3.proj.bias": "image_encoder.convs.3.conv.bias",
        "image_encoder.convs.0.norm.weight": "image_encoder.convs.0.norm.weight",
        f"{block}.spatial_block.conv1.fn.dw.weight": f"{block}.spatial_block.conv1.weight",
        f"{block}.channel_block.conv2.fn.dw.weight": f"{block}.channel_block.conv2.weight",
        f"{block}.spatial_block.window_attn.norm.weight": f"{block}.spatial_block.norm1.weight",
        f"{block}.spatial_block.window_attn.fn.proj.weight": f"{block}.spatial_block.window_attn.proj.weight",
        f"{block}.channel_block.channel_attn.fn.qkv.bias": f"{block}.channel_block.channel_attn.qkv.bias",
        f"{block}.channel_block.ffn.norm.bias": f"{block}.channel_block.norm2.bias",
        f"{block}.channel_block.ffn.fn.net.fc2.bias": f"{block}.channel_block.ffn.fc2.bias",
        "visual.main_blocks.2.8.0.cpe.1.proj.weight": f"{block}.spatial_block.conv2.weight",
        "visual.main_blocks.2.0.1.mlp.fc1.weight": "image_encoder.blocks.2.0.channel_block.ffn.fc1.weight",
        "vision_projection": "image_projection",
    }.items():
        assert in_the_encoder(upstream, layout) == own


def test_vista3d_is_the_encoder_of_monai_s_own_network():
    from monai.networks.nets import vista3d132

    with torch.device("meta"):
        whole = vista3d132(48, 1).state_dict()
    layout = MODELS["vista3d"].checkpoint.layouts[0]
    found = {in_the_encoder(key, layout): tensor.shape for key, tensor in whole.items()}
    found.pop(None)
    assert found == shapes("vista3d")
    assert len(whole) == 259


def test_voco_is_the_transformer_of_monai_s_swinunetr():
    from monai.networks.nets import SwinUNETR

    whole = SwinUNETR(in_channels=1, out_channels=1, feature_size=12, use_v2=True)
    layout = MODELS["voco"].checkpoint.layouts[0]
    found = [name for key in whole.state_dict() if (name := in_the_encoder(key, layout))]
    assert sorted(found) == sorted(shapes("voco"))
    assert [key.split(".")[0] for key in whole.state_dict() if key.startswith("encoder")] == (
        ["encoder1"] * 3 + ["encoder2"] * 2 + ["encoder3"] * 2 + ["encoder4"] * 2 + ["encoder10"] * 2
    )


# The recipes


@pytest.mark.parametrize("name", NAMES)
def test_benchmark_is_what_the_released_code_did(name):
    axes, window, spacing, size = released_pipeline.RECIPES[name]
    recipe = MODELS[name].benchmark
    assert (recipe.axes, recipe.size, recipe.geometry.spacing) == (axes, (size,) * 3, spacing)
    assert recipe.window == ((window[0], 0), (window[1], 1))
    assert (recipe.clip, recipe.dim, recipe.geometry.sampling) == (True, DIMENSIONS[name], "released")


@pytest.mark.parametrize("name", NAMES)
def test_authors_is_what_the_authors_publish(name):
    recipe = MODELS[name].authors
    assert (recipe.axes, recipe.size, recipe.geometry.spacing, recipe.window, recipe.clip, recipe.dim) == AUTHORS[name]
    order = ["RL", "AP", "SI"]
    along = [next(index for index, pair in enumerate(order) if letter in pair) for letter in recipe.axes]
    assert [recipe.geometry.size[axis] for axis in along] == list(recipe.size)
    assert (recipe.geometry.sampling, recipe.geometry.id) == ("exact", f"{name}_authors")
    assert len(MODELS[name].differences) >= 2


def test_fmcib_clips_nothing_for_its_authors():
    hu = torch.tensor([-3000, -1024, 512, 2048, 3071])
    assert torch.allclose(MODELS["fmcib"].authors.scaled(hu), (hu + 1024) / 3072)
    assert MODELS["fmcib"].benchmark.scaled(hu).tolist() == [0, 0, 0.5, 1, 1]


# The embeddings


def test_embedding_of_a_patch(built, small):
    """Of real size, but for voco and medimageinsight, which take seconds a patch or slice (tests/slow has all ten)."""
    model, encoder = built
    if model.id == "medimageinsight":
        unit_vectors = MODULES[model.id].unit_vectors
        vectors = unit_vectors(encoder, noise(1, 48, 48))
        assert close(unit_vectors(small, noise(2, 48, 48)[:1]), unit_vectors(small, noise(2, 48, 48))[:1])
    else:
        size = (32, 32, 32) if model.id == "voco" else model.benchmark.size
        batch = noise(2, 1, *size)
        vectors = model.benchmark.embed(encoder, batch)
        assert close(model.benchmark.embed(encoder, batch[:1]), vectors[:1])
        assert not close(vectors[1:], vectors[:1])
    assert vectors.shape[1:] == (DIMENSIONS[model.id],)
    assert vectors.dtype == torch.float32
    assert vectors.isfinite().all()
    assert vectors.std() > 0


def test_merlin_sees_slices_rows_columns_in_three_channels():
    torch.manual_seed(0)
    merlin, seen = MODULES["merlin"], []
    encoder = merlin.build().eval()
    encoder.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    patch = noise(1, 1, 64, 48, 32)  # R, A, S
    vector, features = merlin.embed(encoder, patch), merlin.features(encoder, patch)
    assert seen[0].shape == (1, 3, 32, 64, 48)
    for channel in range(3):
        assert torch.equal(seen[0][0, channel, 5, 7, 11], patch[0, 0, 7, 11, 5])
    assert features.shape == (1, 2048)
    head = encoder.contrastive_head
    projected = features @ head.weight.flatten(1).T + head.bias
    assert close(vector, projected / projected.norm(dim=1))
    assert vector.norm().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", ["ct_fm", "vista3d", "voco"])
def test_the_last_level_is_averaged(name):
    class Levels(torch.nn.Module):
        def forward(self, batch):
            return [batch * 0, torch.stack([batch[:, 0], 2 * batch[:, 0]], dim=1)]

    batch = noise(2, 1, 4, 6, 8)
    mean = batch.mean((1, 2, 3, 4))
    assert torch.allclose(MODELS[name].benchmark.embed(Levels(), batch), torch.stack([mean, 2 * mean], dim=1))


# MedImageInsight


def with_pillow(grey):
    """Grey levels (480, 480) of a slice in [0, 1] in the steps of the released code: 8 bits, RGB, Pillow's bicubic."""
    image = Image.fromarray((grey.numpy() * 255).astype(np.uint8)).convert("RGB")
    return np.asarray(image.resize((480, 480), Image.Resampling.BICUBIC))[..., 0]


@pytest.mark.parametrize("shape", [(48, 48), (32, 40), (480, 480), (512, 600)])
def test_medimageinsight_enlarges_as_pillow_does(shape):
    recipe = MODELS["medimageinsight"].benchmark
    hu = noise(2, *shape) * 2600 - 1300  # some beyond the window
    scaled = recipe.scaled(hu.round().to(torch.int16))
    made = MODULES["medimageinsight"].pixels(scaled)
    assert made.shape == (2, 3, 480, 480)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    levels = made.double().numpy() * deviation[:, None, None] + mean[:, None, None]
    for index in range(2):
        expected = with_pillow(scaled[index]).astype(float)
        assert np.abs(levels[index] * 255 - expected).max() <= 2.01
        assert np.abs(levels[index] * 255 - expected).mean() < 0.01


def test_medimageinsight_averages_its_slices(small):
    module = MODULES["medimageinsight"]
    most = []
    small.image_encoder.convs[0].register_forward_pre_hook(lambda _, inputs: most.append(len(inputs[0])))
    batch = noise(2, 1, module.SLICES + 1, 48, 48)
    vectors = module.embed(small, batch)
    assert max(most) == module.SLICES
    assert vectors.shape == (2, 1024)
    for patch, vector in zip(batch[:, 0], vectors, strict=True):
        slices = module.unit_vectors(small, patch)
        assert torch.allclose(slices.norm(dim=1), torch.ones(len(slices)))
        assert close(vector, slices.mean(0))
    assert torch.equal(module.embed(small, batch[1:]), vectors[1:])


def test_medimageinsight_takes_slices_along_the_body_in_both_recipes(small):
    ras = noise(1, 1, 8, 10, 4)  # R, A, S
    lps, spl = ras.flip(2, 3), ras.flip(3, 2).permute(0, 1, 4, 3, 2)
    model, module = MODELS["medimageinsight"], MODULES["medimageinsight"]
    slices = [lps[0, 0, :, :, index] for index in range(4)]  # rows to the left, columns to the back
    transposed = torch.cat([module.unit_vectors(small, each[None]) for each in slices]).mean(0)
    upright = torch.cat([module.unit_vectors(small, each.T[None]) for each in slices]).mean(0)
    assert close(model.benchmark.embed(small, lps)[0], transposed)
    assert close(model.authors.embed(small, spl)[0], upright)
    assert not close(transposed, upright)


def test_medimageinsight_never_drops_at_random(small):
    module, slices = MODULES["medimageinsight"], noise(1, 48, 48)
    still = module.unit_vectors(small, slices)
    small.train()
    assert torch.equal(module.unit_vectors(small, slices), still)
    small.eval()
