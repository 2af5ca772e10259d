"""An encoder that is ready: on its device, fed by its recipe, checked, and content with the memory there is."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils.models import base, encoder, loading
from tumorbench_utils.patches import BENCHMARK, Geometry

torch = pytest.importorskip("torch")

SIZE, DIM = (6, 4, 8), 5
GEOMETRY = Geometry("small", (2.0, 2.0, 2.0), (8, 8, 8))
WINDOW = ((-1000, 0), (1000, 1))


def build():
    """Two convolutions."""
    layers = torch.nn.Conv3d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv3d(8, DIM, 3)
    return torch.nn.Sequential(*layers)


def embed(network, batch):
    return network(batch).mean((2, 3, 4))


def made(embed=embed, build=build, size=SIZE, **options):
    recipe = base.Recipe(GEOMETRY, "SPL", size, WINDOW, DIM, embed)
    model = base.Model(id="small", title="Small", build=build, benchmark=recipe, authors=recipe)
    return encoder.ready(model, weights="random", device="cpu", **options)


def patches(count, seed=0):
    return np.random.default_rng(seed).integers(-1024, 2048, (count, *SIZE), dtype=np.int16)


def test_vectors_are_those_of_the_network_on_scaled_patches():
    ready, hu = made(), patches(3)
    with torch.no_grad():
        values = torch.from_numpy((hu.astype(np.float32) + 1000) / 2000).clamp(0, 1)[:, None]
        expected = ready.module(values).mean((2, 3, 4)).numpy()
    found = ready(hu)
    assert found.dtype == np.float32 and found.shape == (3, DIM)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_hu_of_any_kind_and_scaled_values_give_the_vectors_of_the_patches():
    ready, hu = made(), torch.from_numpy(patches(5))
    expected = ready(hu.numpy())
    assert_array_equal(ready.of_hu(hu.double()).numpy(), expected)
    assert_array_equal(ready.of_values(ready.recipe.scaled(hu)[:, None], batch=4).numpy(), expected)
    assert ready.usage.samples == 15


def test_gradients_flow_through_what_is_differentiable_and_the_vectors_are_the_same():
    ready, hu = made(), torch.from_numpy(patches(2))
    values = ready.recipe.scaled(hu)[:, None].requires_grad_()
    found = ready.differentiable(values)
    assert_allclose(found.detach().numpy(), ready(hu.numpy()), rtol=1e-5, atol=1e-7)
    found.sum().backward()
    assert values.grad.abs().sum() > 0


def test_spacing_is_along_the_axes_of_the_recipe():
    recipe = dataclasses.replace(made().recipe, geometry=Geometry("odd", (1.0, 2.0, 3.0), (8, 8, 8)), axes="SPL")
    model = base.Model(id="small", title="Small", build=build, benchmark=recipe)
    assert encoder.ready(model, weights="random", device="cpu").spacing == (3.0, 2.0, 1.0)


def test_embed_is_given_float32_with_one_channel_without_gradients_and_in_eval_mode():
    seen = []

    def look(network, batch):
        seen.append((batch.shape, batch.dtype, torch.is_inference_mode_enabled(), network.training))
        return embed(network, batch)

    made(look)(patches(2))
    assert seen == [((2, 1, *SIZE), torch.float32, True, False)]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 100])
def test_the_batch_changes_nothing(batch):
    ready, hu = made(), patches(7)
    found = ready(hu, batch)
    assert_allclose(found, np.concatenate([ready(each[None]) for each in hu]), rtol=1e-5, atol=1e-7)
    if batch > 1:
        assert_array_equal(found, ready(hu, 4))


def sizes_seen(embed_of=embed, limit=10**9, error=None, **options):
    """An encoder that notes its batches, and for which memory ends at ``limit`` patches."""
    seen = []

    def noting(network, batch):
        seen.append(len(batch))
        if len(batch) > limit:
            raise error
        return embed_of(network, batch)

    return made(noting, **options), seen


def test_a_lone_last_patch_takes_the_one_before_it_along():
    ready, seen = sizes_seen()
    assert len(ready(patches(9), 4)) == 9
    assert seen == [4, 4, 2]
    assert ready.usage.samples == 9


def test_the_default_batch_is_smaller_for_larger_patches():
    assert made().batch == 4
    assert [made(size=(n,) * 3).batch for n in (48, 64, 80, 96, 224)] == [4, 4, 2, 1, 1]


ALLOCATORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "numpy": MemoryError(),
}


@pytest.mark.parametrize("where", ALLOCATORS)
def test_where_memory_runs_out_the_batch_is_halved_and_stays_so(where):
    hu, (ready, seen) = patches(20), sizes_seen(limit=3, error=ALLOCATORS[where])
    assert_allclose(ready(hu, 16), made()(hu), rtol=1e-5, atol=1e-7)
    assert seen == [16, 8, 4] + [2] * 10
    seen.clear()
    ready(hu, 16)
    assert seen == [2] * 10


@pytest.mark.parametrize("where", ALLOCATORS)
def test_too_little_memory_for_one_patch_says_what_to_do(where):
    ready, seen = sizes_seen(limit=0, error=ALLOCATORS[where])
    with pytest.raises(encoder.EncoderError, match=r"small\..*untrained: one patch of \(6, 4, 8\) is too much .*bf16"):
        ready(patches(4))
    assert seen == [4, 2, 1]


def test_a_real_allocation_that_fails_is_seen_as_such():
    def greedy(network, batch):
        if len(batch) > 1:
            torch.empty(1 << 60, dtype=torch.uint8)
        return embed(network, batch)

    assert made(greedy)(patches(4)).shape == (4, DIM)


def test_other_errors_are_not_taken_for_lack_of_memory():
    ready, seen = sizes_seen(limit=0, error=RuntimeError("expected 2 channels"))
    with pytest.raises(RuntimeError, match="expected 2 channels"):
        ready(patches(4))
    assert seen == [4]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (patches(2).astype(np.float32), "float32"),
        (patches(2).transpose(0, 3, 2, 1), r"\(2, 8, 4, 6\), must be \(n, \*\(6, 4, 8\)\)"),
    ],
)
def test_patches_of_another_kind_are_refused(wrong, words):
    with pytest.raises(encoder.EncoderError, match=words):
        made()(wrong)


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(encoder.EncoderError, match=r"small\..*untrained: its embed gave \(2, 8\), .* \(2, 5\)"):
        made(lambda network, batch: network[0](batch).mean((2, 3, 4)))(patches(2))


def test_numbers_that_are_not_finite_are_an_error_of_a_call_but_not_of_vectors():
    def broken(network, batch):
        return torch.where(torch.arange(len(batch))[:, None] == 2, torch.nan, embed(network, batch))

    with pytest.raises(encoder.EncoderError, match="NaN or infinity in 1 of 4 vectors, first 2"):
        made(broken)(patches(4))
    assert np.isnan(made(broken).vectors(patches(4))).any(axis=1).tolist() == [False, False, True, False]


def test_no_patches_are_no_vectors():
    assert made()(patches(0)).shape == (0, DIM)


def test_a_batch_below_one_is_refused():
    with pytest.raises(encoder.EncoderError, match="batch is 0"):
        made()(patches(1), 0)


def settings():
    """How exact products and convolutions are, and whether they are the same every time."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    parts = cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn
    return *(part.fp32_precision for part in parts), cudnn.enabled, cudnn.deterministic, cudnn.benchmark


EXACT = (*["ieee"] * 6, True, True, False)
WAYS = {
    "as torch comes": lambda backends: None,
    "the older way": lambda backends: torch.set_float32_matmul_precision("high"),
    "products": lambda backends: setattr(backends.cuda.matmul, "fp32_precision", "tf32"),
    "convolutions": lambda backends: setattr(backends.cudnn.conv, "fp32_precision", "ieee"),
    "all of cuda": lambda backends: setattr(backends.cudnn, "fp32_precision", "tf32"),
    "everything": lambda backends: setattr(backends, "fp32_precision", "tf32"),
    "speed": lambda backends: setattr(backends.cudnn, "benchmark", True),
}


@pytest.fixture
def put_back():
    """What a test sets torch to."""
    before = [(place, name, getattr(place, name)) for place, name, _ in encoder._exact()]
    yield
    torch.set_float32_matmul_precision("highest")
    for place, name, value in before:
        setattr(place, name, value)


@pytest.mark.parametrize("way", WAYS)
def test_tf32_is_off_within_a_call_only_whichever_way_it_was_asked_for(way, put_back):
    seen = []

    def look(network, batch):
        seen.append(settings())
        return embed(network, batch)

    WAYS[way](torch.backends)
    before = settings()
    made(look)(patches(1))
    made(look).differentiable(torch.zeros(1, 1, *SIZE))
    assert seen == [EXACT, EXACT]
    assert settings() == before


def test_bf16_runs_in_bf16_and_gives_float32():
    seen = []

    def look(network, batch):
        out = network(batch)
        seen.append(out.dtype)
        return out.mean((2, 3, 4))

    found = made(look, precision="bf16")(patches(4))
    assert seen == [torch.bfloat16] and found.dtype == np.float32
    exact = made()(patches(4))
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()


def test_fp32_is_fp32_whatever_runs_around_it():
    with torch.autocast("cpu", torch.bfloat16):
        found = made()(patches(4))
    assert_array_equal(found, made()(patches(4)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp16"}, "on cpu take fp32, or bf16"),
        ({"precision": "int8"}, "must be one of fp32, bf16, fp16"),
        ({"device": "gpu"}, "device is 'gpu', must be auto, cuda"),
        ({"device": "meta"}, "device is 'meta', must be auto, cuda"),
        ({"device": "cuda:99"}, "no device 'cuda:99' here .*1 cpu.* device='auto'"),
    ],
)
def test_what_cannot_be_had_is_refused_before_weights_are_loaded(options, words, monkeypatch):
    monkeypatch.setattr(loading, "prepared", lambda *_: pytest.fail("weights were loaded"))
    recipe = base.Recipe(GEOMETRY, "RAS", SIZE, WINDOW, DIM, embed)
    model = base.Model(id="small", title="Small", build=build, benchmark=recipe)
    with pytest.raises(encoder.EncoderError, match=words):
        encoder.ready(model, weights="random", **{"device": "cpu"} | options)
    with pytest.raises(ValueError, match="no recipe 'authors'"):
        encoder.ready(model, "authors", weights="random", device="cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu"), (2, False, "cuda")]
)
def test_auto_takes_the_best_device_there_is(cuda, mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert encoder._device("auto").type == expected


def test_names_tell_recipe_and_weights(monkeypatch):
    assert made().name == "small.benchmark.untrained"
    assert made(recipe="authors").name == "small.authors.untrained"
    weights = loading.Weights("pretrained", "hub", "0", "1", 4)
    monkeypatch.setattr(loading, "prepared", lambda *_: (build(), weights))
    assert [made().name, made(recipe="authors").name] == ["small.benchmark", "small.authors"]
    by_hand = loading.Weights("file", "mine.pt", "0123456789ab", "1", 4)
    monkeypatch.setattr(loading, "prepared", lambda *_: (build(), by_hand))
    assert made().name == "small.benchmark.file-01234567"
    one = made()
    one.model = dataclasses.replace(one.model, checkpoint=base.Checkpoint("w.pt", 4, sha256="0123456789ab"))
    assert one.name == "small.benchmark"  # the published file, put there by hand


def test_the_seed_makes_the_weights():
    hu = patches(2)
    assert_array_equal(made(seed=1)(hu), made(seed=1)(hu))
    assert np.abs(made(seed=1)(hu) - made(seed=2)(hu)).max() > 1e-3


def test_use_is_added_up():
    ready = made()
    ready(patches(3))
    first = ready.usage.seconds
    ready(patches(2))
    assert ready.usage.samples == 5 and ready.usage.seconds > first > 0
    assert ready.usage.peak_bytes >= 0


PEAK = """
import sys
sys.path.insert(0, sys.argv[1])
import torch, test_encoder

def greedy(network, batch):
    torch.ones(300 << 18)  # 300 MiB
    return test_encoder.embed(network, batch)

ready = test_encoder.made(greedy)
for _ in range(3):
    ready(test_encoder.patches(1))
print(ready.usage.peak_bytes)
"""


def test_peak_memory_is_that_of_the_forward_pass_and_does_not_add_up():
    done = subprocess.run([sys.executable, "-c", PEAK, Path(__file__).parent], capture_output=True, check=True)
    assert 300 << 20 < int(done.stdout) < 600 << 20


def test_a_control_is_ready_as_it_is():
    control = base.Control(id="own", title="Own", features=len, names=lambda: ("one",))
    ready = encoder.ready(control)
    assert (ready.name, ready.control, ready.geometry) == ("own", control, BENCHMARK[0])


def test_all_recipes_of_a_model_run_on_the_same_weights(monkeypatch):
    recipe = base.Recipe(GEOMETRY, "RAS", SIZE, WINDOW, DIM, embed)
    model = base.Model(id="small", title="Small", build=build, benchmark=recipe, authors=recipe)
    both = encoder.ready_for(model, ["benchmark", "authors", "benchmark"], "random", "cpu")
    assert [each.name for each in both] == ["small.benchmark.untrained", "small.authors.untrained"]
    assert both[0].module is both[1].module
    assert both[0].usage is not both[1].usage


def test_a_model_is_ready_for_the_recipes_that_it_has_with_the_weights_that_there_are():
    recipe = base.Recipe(GEOMETRY, "RAS", SIZE, WINDOW, DIM, embed)
    model = base.Model(id="small", title="Small", build=build, benchmark=recipe)
    assert [each.name for each in encoder.ready_for(model, ["benchmark", "authors"], device="cpu")] == [
        "small.benchmark.untrained"
    ]
    for recipes in (["authors"], ["own"], ["benchmark", "own"], []):
        with pytest.raises(encoder.EncoderError, match=r"small: recipes are .*; it has benchmark"):
            encoder.ready_for(model, recipes, device="cpu")
    control = base.Control(id="own", title="Own", features=len, names=lambda: ("one",))
    assert [each.control for each in encoder.ready_for(control, ["benchmark", "authors"])] == [control]
