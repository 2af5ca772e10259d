"""CT-CLIP, PASTA, SuPreM and Models Genesis, whose encoders are written anew: recipes, and what they take of a file."""

from fnmatch import fnmatchcase
from itertools import pairwise, product

import pytest
import released_pipeline

torch = pytest.importorskip("torch")

from tumorbench_utils.models import ct_clip, models_genesis, pasta, suprem  # noqa: E402
from tumorbench_utils.patches import AXES, BENCHMARK  # noqa: E402

MODELS = {module.MODEL.id: module.MODEL for module in (ct_clip, pasta, suprem, models_genesis)}
BY_ID = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
AUTHORS = {  # axes; mm and voxels along them; window; length: as their papers and code have them
    "ct_clip": ("SLP", (1.5, 0.75, 0.75), (60, 60, 60), ((-1000, -1), (1000, 1)), 512),
    "pasta": ("SAL", (1, 1, 1), (128, 128, 128), ((-1000, 0), (-200, 0.2), (200, 0.9), (1000, 1)), 1024),
    "suprem": ("RAS", (1.5, 1.5, 1.5), (96, 96, 96), ((-175, 0), (250, 1)), 512),
    "models_genesis": ("LPS", (0.703125, 0.703125, 1.25), (64, 64, 32), ((-1000, 0), (1000, 1)), 512),
}
RUNNING = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(scope="module")
def encoders():
    """Each network once, untrained."""
    torch.manual_seed(0)
    return {id: model.build().eval().requires_grad_(False) for id, model in MODELS.items()}


def unet_keys(prefix):
    """Names of a published file: encoder with running statistics, decoder, head."""
    encoder = [f"down_tr{level}.ops.{i}" for level in (64, 128, 256, 512) for i in (0, 1)]
    decoder = [f"up_tr{level}.ops.{i}" for level in (256, 128, 64) for i in (0, 1)]
    parts = ["conv1.weight", "conv1.bias", "bn1.weight", "bn1.bias", *(f"bn1.{each}" for each in RUNNING)]
    keys = [f"{unit}.{part}" for unit in encoder + decoder for part in parts]
    keys += [f"up_tr{level}.up_conv.{each}" for level in (256, 128, 64) for each in ("weight", "bias")]
    return [prefix + key for key in [*keys, "out_tr.final_conv.weight", "out_tr.final_conv.bias"]]


def published(id, network):
    """Names of the tensors in the published file, those of other parts among them."""
    if id == "suprem":
        return [*unet_keys("module.backbone."), "module.organ_embedding", "module.controller.weight"]
    if id == "models_genesis":
        return unet_keys("module.")
    if id == "ct_clip":
        parts = ("to_pixels.0", "to_pixels_first_frame.0", *(f"to_patch_emb_first_frame.{i}" for i in (1, 2, 3)))
        unused = [f"{part}.{each}" for part, each in product(parts, ("weight", "bias"))]
        unused += ["vq._codebook.initted", "vq._codebook.cluster_size"]
        tower = [f"visual_transformer.{key}" for key in [*network.state_dict(), *unused]]
        return [*tower, "temperature", "to_visual_latent.weight", "text_transformer.embeddings.position_ids"]
    rest = ["tu.0.weight", "conv_blocks_localization.0.0.blocks.0.conv.weight", "seg_outputs.0.weight", "head.bias"]
    return [*network.state_dict(), *rest]


def taken(layout, keys):
    """What is left of a file's names by a layout."""
    keys = [key.removeprefix(layout.prefix) for key in keys if key.startswith(layout.prefix)]
    return [key for key in keys if not any(fnmatchcase(key, pattern) for pattern in layout.drop)]


@BY_ID
def test_the_encoder_takes_all_that_the_layout_leaves_of_the_published_names(model, encoders):
    network = encoders[model.id]
    for layout in model.checkpoint.layouts:
        assert sorted(taken(layout, published(model.id, network))) == sorted(network.state_dict())
    assert len(network.state_dict()) == model.checkpoint.keys


@pytest.mark.parametrize(
    ("id", "start", "count"),
    [
        ("ct_clip", "visual_transformer.", 157),
        ("suprem", "module.backbone.down_tr", 56),
        ("models_genesis", "module.down_tr", 56),
    ],
)
def test_the_names_written_here_are_as_many_as_published(id, start, count, encoders):
    assert sum(key.startswith(start) for key in published(id, encoders[id])) == count


def test_both_published_layouts_of_pasta_are_known():
    assert [layout.container for layout in MODELS["pasta"].checkpoint.layouts] == ["network_weights", ""]


def test_checkpoints_lie_where_the_facts_say():
    places = {id: (m.checkpoint.repo, m.checkpoint.file, m.checkpoint.repo_type) for id, m in MODELS.items()}
    assert places == {
        "ct_clip": ("ibrahimhamamci/CT-RATE", "models/CT-CLIP-Related/CT-CLIP_v2.pt", "dataset"),
        "pasta": ("surajpaib/PASTA-Model", "PASTA final.pth", "model"),
        "suprem": ("MrGiovanni/SuPreM", "supervised_suprem_unet_2100.pth", "model"),
        "models_genesis": ("MrGiovanni/ModelsGenesis", "Genesis_Chest_CT.pt", "model"),
    }
    assert [id for id, model in MODELS.items() if model.checkpoint.gated] == ["ct_clip"]
    assert [model.checkpoint.layouts[0].container for model in MODELS.values()] == [
        "",
        "network_weights",
        "net",
        "state_dict",
    ]


@BY_ID
def test_the_encoder_has_the_parameters_it_is_said_to_have(model, encoders):
    count = sum(parameter.numel() for parameter in encoders[model.id].parameters()) / 1e6
    assert count == pytest.approx(model.parameters_encoder, abs=0.001)


@BY_ID
def test_the_benchmark_recipe_is_the_released_one(model):
    recipe = model.benchmark
    axes, (low, high), spacing, side = released_pipeline.RECIPES[model.id]
    assert recipe.geometry in BENCHMARK
    assert (recipe.axes, recipe.geometry.spacing, recipe.size) == (axes, spacing, (side,) * 3)
    assert recipe.window == ((low, -1 if model.id == "ct_clip" else 0), (high, 1))
    assert recipe.clip
    # the released code pads with 0 after scaling
    assert recipe.scaled(torch.tensor(recipe.pad)) == 0


@BY_ID
def test_the_authors_recipe_is_theirs(model):
    recipe = model.authors
    axes, spacing, size, window, dim = AUTHORS[model.id]
    assert recipe.geometry.sampling == "exact"
    assert (recipe.axes, recipe.size, recipe.window, recipe.dim) == (axes, size, window, dim)
    assert tuple(recipe.geometry.spacing[AXES[letter][0]] for letter in axes) == spacing
    assert tuple(recipe.geometry.size[AXES[letter][0]] for letter in axes) == size
    assert recipe.scaled(torch.tensor(recipe.pad)) == window[0][1]  # beyond the image is air
    assert model.differences


@BY_ID
@pytest.mark.parametrize("name", ["benchmark", "authors"])
def test_windows_go_through_their_points_and_end_there(model, name):
    recipe = model.recipe(name)
    hu, values = map(list, zip(*recipe.window, strict=True))
    between = [(low + high) / 2 for low, high in pairwise(hu)]
    expected = [(low + high) / 2 for low, high in pairwise(values)]
    scaled = recipe.scaled(torch.tensor([-32768, *hu, *between, 32767]))
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled, torch.tensor([values[0], *values, *expected, values[-1]], dtype=torch.float32))


def test_soft_tissue_keeps_its_contrast_in_the_authors_pasta_and_loses_it_as_released():
    tissue = torch.tensor([0, 100], dtype=torch.int16)
    torch.testing.assert_close(MODELS["pasta"].authors.scaled(tissue), torch.tensor([0.55, 0.725]))
    torch.testing.assert_close(MODELS["pasta"].benchmark.scaled(tissue), torch.tensor([1024 / 3072, 1124 / 3072]))


@BY_ID
@pytest.mark.parametrize("name", ["benchmark", "authors"])
def test_embeddings_are_finite_of_the_stated_length_and_each_patch_s_own(model, name, encoders):
    recipe = model.recipe(name)
    size = recipe.size if max(recipe.size) <= 64 else (48, 48, 48)  # an average takes any, and these are faster
    hu = torch.randint(-1024, 2048, (2, 1, *size), dtype=torch.int16, generator=torch.Generator().manual_seed(0))
    hu[1] //= 4
    batch = recipe.scaled(hu)
    together = recipe.embed(encoders[model.id], batch)
    assert together.shape == (2, recipe.dim)
    assert together.dtype == torch.float32
    assert together.isfinite().all()
    assert (together[0] - together[1]).abs().max() > 0
    alone = recipe.embed(encoders[model.id], batch[1:])
    assert (together[1:] - alone).abs().max() <= 1e-4 * alone.abs().max()


def test_models_genesis_keeps_places_as_released_and_none_as_the_authors(encoders):
    recipes, network = MODELS["models_genesis"], encoders["models_genesis"]
    patch = torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    lowest = network(patch)
    first = recipes.benchmark.embed(network, patch)[0].reshape(512, 2, 2, 2)
    torch.testing.assert_close(first[:, 1, 0, 1], lowest[0, :, 2:5, 0:3, 2:5].mean(dim=(1, 2, 3)))
    torch.testing.assert_close(recipes.authors.embed(network, patch)[0], lowest[0].mean(dim=(1, 2, 3)))


def test_pasta_is_read_at_the_bottleneck_as_released_and_before_it_by_the_authors(encoders):
    network, patch = encoders["pasta"], torch.rand(1, 1, 48, 48, 48, generator=torch.Generator().manual_seed(0))
    fifth = network(patch, stages=5)
    bottleneck = network.conv_blocks_context[5](fifth)
    torch.testing.assert_close(MODELS["pasta"].authors.embed(network, patch), fifth.mean(dim=(2, 3, 4)))
    torch.testing.assert_close(MODELS["pasta"].benchmark.embed(network, patch), bottleneck.mean(dim=(2, 3, 4)))
