"""The ten models whole: checkpoints as their authors lay them out go in, embeddings of the two real tumours come out.

The weights are random: what is tested is how they are loaded and fed. It takes minutes and 4 GB of memory, so it runs
by itself; the times and peaks of memory that it measured are printed at its end.
"""

import gc
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.checkpoints import upstream, write
from tumorbench_utils import embeddings, extraction, models, provision
from tumorbench_utils.models import TEN, CheckpointError, Encoder, Layout, Model
from tumorbench_utils.models.base import RECIPES
from tumorbench_utils.models.loading import load, prepared, state_sha256

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("transformers")

FILES = {  # name, container, prefix; half of them in bf16
    "fmcib": ("model_weights.torch", "trunk_state_dict", "", torch.float32),
    "ct_fm": ("model.safetensors", "", "", torch.bfloat16),
    "ct_clip": ("CT-CLIP_v2.pt", "", "visual_transformer.", torch.float32),
    "pasta": ("PASTA final.pth", "", "", torch.bfloat16),
    "vista3d": ("model_vista3d.pt", "", "image_encoder.encoder.", torch.float32),
    "voco": ("VoCo_H_SSL_head.pt", "", "swinViT.", torch.bfloat16),
    "suprem": ("supervised_suprem_unet_2100.pth", "net", "module.backbone.", torch.float32),
    "merlin": ("i3_resnet_clinical_longformer_best_clip.pt", "", "encode_image.i3_resnet.", torch.bfloat16),
    "medimageinsight": ("medimageinsigt-v1.0.0.pt", "", "", torch.float32),
    "models_genesis": ("Genesis_Chest_CT.pt", "state_dict", "module.", torch.bfloat16),
}
DIMENSIONS = {  # benchmark, authors
    "fmcib": (4096, 4096),
    "ct_fm": (512, 512),
    "ct_clip": (512, 512),
    "pasta": (1024, 1024),
    "vista3d": (768, 768),
    "voco": (3072, 3072),
    "suprem": (512, 512),
    "merlin": (512, 2048),
    "medimageinsight": (1024, 1024),
    "models_genesis": (4096, 512),
}
SLOWEST = {("medimageinsight", "authors"): "minutes a tumour without a GPU, by the code of its benchmark recipe"}
COMPUTED = "relative_position_index"  # of VoCo: the same in every encoder of its size


@dataclass
class Loaded:
    """Encoders of a model by recipe, and what is known of the file that they were filled from."""

    model: Model
    encoders: dict[str, Encoder]
    file: str
    sha256: str
    state_sha256: str
    beside: int  # tensors of the file that are not the encoder's
    seconds: float
    peak_gb: float


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with the banks of both tumours that all recipes need."""
    folder = tmp_path_factory.mktemp("run")
    recipes = [model.recipe(name) for model in TEN for name in RECIPES]
    provision.ensure(folder, "lung_ct", list(dict.fromkeys(each.geometry for each in recipes)), workers=1)
    return folder


@pytest.fixture(scope="module", params=TEN, ids=lambda model: model.id)
def loaded(request, tmp_path_factory):
    """One model after the other, so that two never lie in memory, nor their files on the disk."""
    model = request.param
    file, container, prefix, dtype = FILES[model.id]
    path = tmp_path_factory.mktemp(model.id) / file
    try:
        state, beside = publish(path, model, Layout(container, prefix), dtype)
        gc.collect()
        forget_peak()
        begun = time.perf_counter()
        encoders = models.ready_for(model, RECIPES, weights=str(path), device="cpu")
        seconds = time.perf_counter() - begun
        with open(path, "rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    finally:
        path.unlink(missing_ok=True)
    by_recipe = {each.recipe_name: each for each in encoders}
    yield Loaded(model, by_recipe, file, sha256, state, beside, seconds, peak_gb())
    by_recipe.clear()
    encoders.clear()
    gc.collect()


def publish(path: Path, model: Model, layout: Layout, dtype: torch.dtype) -> tuple[str, int]:
    """Write a checkpoint of an encoder none of whose tensors is a fresh one's; its hash, and how many lie beside it."""
    source = trained(model, dtype)
    content = upstream(model, layout, source, dtype)
    write(path, content)
    entries = content[layout.container] if layout.container else content
    return state_sha256(source), len(entries) - len(source.state_dict())


def trained(model: Model, dtype: torch.dtype) -> torch.nn.Module:
    """An encoder with numbers that ``dtype`` can hold; what torch begins with ones and zeros is moved off them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        source = model.build()
        for name, tensor in source.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape) * 0.01 if tensor.ndim < 2 else 0
                tensor.copy_((tensor + noise).to(dtype))
            elif COMPUTED not in name:
                tensor.fill_(100)  # batches that a norm has seen
    return source


def forget_peak() -> None:
    """Let the peak memory of this process begin anew, where the system allows it."""
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_gb() -> float:
    """Peak memory of this process, as the system tells it; nan where it does not."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM")), float("nan"))


def test_the_file_of_the_authors_fills_every_tensor(loaded):
    (weights,) = {id(each.weights): each.weights for each in loaded.encoders.values()}.values()  # one for all recipes
    assert (weights.kind, weights.source, weights.sha256) == ("file", loaded.file, loaded.sha256)
    assert weights.state_sha256 == loaded.state_sha256 == state_sha256(loaded.encoders["benchmark"].module)
    assert weights.loaded == loaded.model.checkpoint.keys
    assert weights.dropped + weights.other == loaded.beside
    own = loaded.encoders["benchmark"].module.state_dict()
    fresh = prepared(loaded.model, "random")[0].state_dict()
    same = [name for name, tensor in own.items() if tensor.numel() and torch.equal(tensor, fresh[name])]
    assert [name for name in same if COMPUTED not in name] == []


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_two_real_tumours_get_finite_embeddings_of_the_documented_size(loaded, recipe, run, record_property):
    if (loaded.model.id, recipe) in SLOWEST:
        pytest.skip(SLOWEST[loaded.model.id, recipe])
    encoder = loaded.encoders[recipe]
    gc.collect()
    forget_peak()
    made = extraction.extract(run, "lung_ct", [encoder], progress=False)
    (timing,) = made.timings.itertuples()
    numbers = (timing.seconds / timing.images, peak_gb(), loaded.seconds, loaded.peak_gb)
    record_property("measured", (loaded.model.id, recipe, *(f"{number:.2f}" for number in numbers)))
    assert list(made.paths) == [f"{loaded.model.id}.{recipe}.file-{loaded.sha256[:8]}"]
    table = embeddings.read(made.paths[encoder.name])
    assert table.sample_id.tolist() == ["lung1", "lung2"]
    assert table.trial.tolist() == [0, 0]
    assert made.excluded.empty
    assert table.vectors.shape == (2, DIMENSIONS[loaded.model.id][RECIPES.index(recipe)])
    assert np.isfinite(table.vectors).all()
    first, second = table.vectors.astype(float)
    assert np.linalg.norm(first - second) > 1e-4 * np.linalg.norm(first)  # more than what rounding makes
    record = table.provenance
    assert (record["parameters"]["recipe"], record["parameters"]["untrained"]) == (recipe, False)
    assert record["inputs"]["weights"] == loaded.sha256
    assert record["parameters"]["weights"] == {
        "kind": "file",
        "source": loaded.file,
        "sha256": loaded.sha256,
        "state_sha256": loaded.state_sha256,
    }


@pytest.mark.parametrize("model", TEN, ids=lambda model: model.id)
def test_a_file_that_lacks_a_tensor_or_has_one_of_another_shape_is_refused(model, tmp_path):
    file, container, prefix, dtype = FILES[model.id]
    path, module = tmp_path / file, model.build()
    before, own = state_sha256(module), module.state_dict()
    content = upstream(model, Layout(container, prefix), module, dtype)
    entries = content[container] if container else content
    for key, tensor in entries.items():  # of true shape, but in the file a single number
        entries[key] = tensor.new_ones(()).expand(tensor.shape)
    pairs = list(zip(own, entries, strict=False))  # the encoder's come first, in its order
    name, key = next(pair for pair in pairs[len(pairs) // 2 :] if own[pair[0]].ndim)
    shape, right = (own[name].shape[0] + 1, *own[name].shape[1:]), entries.pop(key)
    assert refused(write(path, content), model, module) == f"1 missing: {name}"
    entries[key] = right.new_ones(shape)
    words = f"1 of another shape: {name} {shape} instead of {tuple(own[name].shape)}"
    assert refused(write(path, content), model, module) == words
    entries[key] = right
    assert load(module, replace(model.checkpoint, sha256=""), write(path, content)).state_sha256 != before
    path.unlink()


def refused(path: Path, model: Model, module: torch.nn.Module) -> str:
    """What is said to be wrong with a file; the encoder stays as it was."""
    before = state_sha256(module)
    with pytest.raises(CheckpointError) as caught:
        load(module, replace(model.checkpoint, sha256=""), path)
    assert state_sha256(module) == before
    return str(caught.value).removeprefix(f"{path} does not fill the encoder; nothing was loaded:\n  ")
