"""Checkpoints fill every tensor of an encoder or are refused; what is fetched is whole, known and never run."""

import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.checkpoints import beside, upstream, wrapped, write
from tests.server import Answer, Server
from tumorbench_utils import artefacts
from tumorbench_utils.artefacts import sha256_of
from tumorbench_utils.models import convert, loading, locating
from tumorbench_utils.models.base import Checkpoint, Layout, Model, Recipe
from tumorbench_utils.models.loading import CheckpointError, load, locate, prepared, read, state_sha256
from tumorbench_utils.patches import BENCHMARK

torch = pytest.importorskip("torch")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BODY = os.urandom(3_000_000)
DROP = ("head.*", "*.unused")


def build():
    """Eight tensors, one of which is of whole numbers."""
    return torch.nn.Sequential(torch.nn.Conv3d(1, 3, 2), torch.nn.BatchNorm3d(3), torch.nn.Conv3d(3, 2, 1, bias=False))


LAYOUT = Layout(container="net", prefix="module.", drop=DROP)
TINY = Model(
    id="tiny",
    title="Tiny",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (4, 4, 4), ((-1000, 0), (1000, 1)), 2, lambda encoder, batch: batch),
    checkpoint=Checkpoint(file="tiny.pt", keys=8, layouts=(LAYOUT, Layout(prefix="encoder."))),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TUMORBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def trained():
    """An encoder whose every tensor differs from a fresh one's."""
    torch.manual_seed(1)
    module = build()
    for tensor in module.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) * 4)
    return module


def content(module, **changes):
    """What the file of ``module`` holds, with some tensors replaced, added, or (None) left out."""
    entries = upstream(TINY, LAYOUT, module)["net"] | {
        "module.head.weight": torch.ones(2),
        "text.weight": torch.ones(3),
    }
    entries |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return wrapped("tiny", "net", {name: tensor for name, tensor in entries.items() if tensor is not None})


def same(module, other):
    pairs = zip(module.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == their and torch.equal(tensor, its) for (name, tensor), (their, its) in pairs)


def refused(path, module=None, checkpoint=TINY.checkpoint):
    """The message with which a file is refused; the encoder stays as it was."""
    module = module or build()
    before = state_sha256(module)
    with pytest.raises(CheckpointError) as caught:
        load(module, checkpoint, path)
    assert state_sha256(module) == before
    return str(caught.value)


# Strict loading


@pytest.mark.parametrize("legacy", [False, True])
def test_every_tensor_comes_from_the_file_bit_by_bit(tmp_path, trained, legacy):
    path, module = write(tmp_path / "tiny.pt", content(trained), legacy=legacy), build()
    weights = load(module, TINY.checkpoint, path)
    assert same(module, trained)
    assert (weights.kind, weights.loaded, weights.dropped, weights.other) == ("pretrained", 8, 1, 1)
    assert weights.sha256 == sha256_of(path)
    assert weights.state_sha256 == state_sha256(trained)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
def test_safetensors_are_known_by_name_or_by_content(tmp_path, trained, name):
    flat = {f"encoder.{key}": tensor for key, tensor in trained.state_dict().items()}
    path = write(tmp_path / name, flat | {"decoder.weight": torch.ones(2)}, safetensors=True)
    module = build()
    assert load(module, TINY.checkpoint, path).other == 1
    assert same(module, trained)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_become_float32(tmp_path, trained, dtype):
    module = build()
    load(module, TINY.checkpoint, write(tmp_path / "tiny.pt", upstream(TINY, LAYOUT, trained, dtype)))
    for name, tensor in module.state_dict().items():
        wanted = trained.state_dict()[name]
        assert tensor.dtype == wanted.dtype
        assert torch.equal(tensor, wanted.to(dtype).float() if wanted.is_floating_point() else wanted)


def test_layout_is_the_first_that_fits(tmp_path, trained):
    layouts = (Layout(drop=("a*",)), Layout(container="net", prefix="elsewhere."), *TINY.checkpoint.layouts)
    module = build()
    load(module, replace(TINY.checkpoint, layouts=layouts), write(tmp_path / "tiny.pt", content(trained)))
    assert same(module, trained)


def test_renames_are_applied_in_turn(tmp_path, trained):
    entries = {f"visual.{name.replace('0.', 'stem.')}": each for name, each in trained.state_dict().items()}
    rename = ((r"^visual\.", ""), (r"^stem\.", "0."))
    checkpoint = Checkpoint(file="x", keys=8, layouts=(Layout(rename=rename),))
    module = build()
    load(module, checkpoint, write(tmp_path / "x.pt", entries))
    assert same(module, trained)
    twice = write(tmp_path / "y.pt", entries | {"0.bias": torch.ones(3)})
    assert "two tensors for 0.bias" in refused(twice, checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"module__0__bias": None}, ("1 missing: 0.bias",)),
        ({"module__0__bias": torch.ones(4)}, ("1 of another shape: 0.bias (4,) instead of (3,)",)),
        ({"module__3__bias": torch.ones(3)}, ("1 unexpected: 3.bias",)),
        ({"module__0__bias": torch.tensor([1, float("nan"), 2])}, ("1 not finite: 0.bias",)),
        ({"module__0__bias": torch.tensor([1, -float("inf"), 2])}, ("1 not finite: 0.bias",)),
        ({"module__1__num_batches_tracked": torch.tensor(1.0)}, ("1 of another type: 1.num_batches_tracked",)),
        ({"module__0__bias": torch.ones(3).int()}, ("1 of another type: 0.bias torch.int32 instead of torch.float32",)),
        (
            {"module__0__bias": None, "module__1__weight": None, "module__x": torch.ones(1)},
            ("2 missing: 0.bias, 1.weight", "1 unexpected: x"),
        ),
    ],
)
def test_file_that_does_not_fill_the_encoder_is_refused(tmp_path, trained, changes, words):
    path = write(tmp_path / "tiny.pt", content(trained, **changes))
    message = refused(path)
    assert str(path) in message
    assert all(each in message for each in words)


def test_many_missing_tensors_are_counted(tmp_path, trained):
    module = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(8)))
    path = write(tmp_path / "x.pt", {"0.weight": torch.ones(1, 1)})
    message = refused(path, module, Checkpoint(file="x", keys=16))
    assert "15 missing: 0.bias, 1.weight" in message
    assert "5.weight and 5 more" in message


def test_another_number_of_tensors_than_is_known_is_refused(tmp_path, trained):
    path = write(tmp_path / "tiny.pt", content(trained))
    assert "8 tensors, but this checkpoint is known to hold 9" in refused(
        path, checkpoint=replace(TINY.checkpoint, keys=9)
    )


def test_file_of_no_known_layout_lists_the_tried_ones_and_its_keys(tmp_path):
    message = refused(write(tmp_path / "x.pt", {"student": {"a.weight": torch.ones(2)}, "epoch": 3}))
    for part in ("container 'net', prefix 'module.'", "container '', prefix 'encoder.'", "student, epoch"):
        assert part in message


def test_hash_that_is_known_must_be_the_files(tmp_path, trained):
    path = write(tmp_path / "tiny.pt", content(trained))
    load(build(), replace(TINY.checkpoint, sha256=sha256_of(path)), path)
    assert "0" * 64 in refused(path, checkpoint=replace(TINY.checkpoint, sha256="0" * 64))


def test_state_hash_is_of_names_types_shapes_and_values(trained):
    def one(name="a", value=None):
        module = torch.nn.Module()
        module.register_buffer(name, torch.tensor([[1.0, 2.0]]) if value is None else value)
        return state_sha256(module)

    others = [torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0, 2.0]]).bfloat16()]
    assert len({one(), one("b"), *(one(value=value) for value in others)}) == 5
    text = b"a torch.float32 (1, 2)\n" + b"\x00\x00\x80\x3f\x00\x00\x00\x40"
    assert one() == hashlib.sha256(text).hexdigest()


# What is in a file


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_file_is_refused_without_being_run(tmp_path, trained, legacy):
    mark = tmp_path / "mark"
    path = write(tmp_path / "tiny.pt", content(trained) | {"x": Hostile(mark)}, legacy=legacy)
    message = refused(path)
    for part in ("system", str(path), "tumorbench_utils.models.convert", "--i-trust-this-file"):
        assert part in message
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have run


def test_object_that_is_not_a_tensor_is_named(tmp_path, trained):
    path = write(tmp_path / "tiny.pt", content(trained) | {"args": Path("x")})
    assert "pathlib" in refused(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.95])
def test_truncated_file_is_told_as_such(tmp_path, trained, legacy, kept):
    path = write(tmp_path / "tiny.pt", content(trained), legacy=legacy)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "truncated" in refused(path)


def test_truncated_safetensors_are_told_as_such(tmp_path):
    path = write(tmp_path / "x.safetensors", {"encoder.a": torch.ones(500)})
    path.write_bytes(path.read_bytes()[:-8])
    assert "truncated" in refused(path)


NO_CHECKPOINT = [b"", b"<!DOCTYPE html><html>Sign in</html>", b"PK\x03\x04" + bytes(100), BODY[:99]]


@pytest.mark.parametrize("body", NO_CHECKPOINT, ids=["empty", "page", "broken zip", "noise"])
def test_what_is_no_checkpoint_is_told_as_such(tmp_path, body):
    path = tmp_path / "tiny.pt"
    path.write_bytes(body)
    assert "no checkpoint" in refused(path)


def test_file_of_a_bare_tensor_is_refused(tmp_path):
    torch.save(torch.ones(2), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="a Tensor, not a dictionary"):
        read(tmp_path / "x.pt")


# Ready for use


def test_prepared_from_a_file(tmp_path, trained):
    path = write(tmp_path / "mine.pt", content(trained))
    known = replace(TINY, checkpoint=replace(TINY.checkpoint, sha256="0" * 64))  # of the published file, not of this
    for weights in (path, str(path)):
        module, used = prepared(known, weights)
        assert same(module, trained)
        assert (used.kind, used.source, used.sha256) == ("file", "mine.pt", sha256_of(path))
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_file_for_a_model_without_a_published_one(tmp_path, trained):
    model = replace(TINY, checkpoint=None)
    path = write(tmp_path / "mine.safetensors", trained.state_dict())
    module, used = prepared(model, path)
    assert same(module, trained)
    assert used.loaded == 8
    with pytest.raises(CheckpointError, match="tiny: no published weights are known"):
        prepared(model)
    with pytest.raises(CheckpointError, match="'pretrianed', neither"):
        prepared(model, "pretrianed")


def test_random_weights_follow_the_seed_and_leave_the_global_state(trained):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, other, again = prepared(TINY, "random", 3), prepared(TINY, "random", 4), prepared(TINY, "random", 3)
    assert torch.equal(torch.rand(3), expected)
    assert same(first[0], again[0])
    assert first[1] == again[1]
    assert first[1].state_sha256 != other[1].state_sha256
    assert (first[1].kind, first[1].source, first[1].sha256) == ("random", "untrained, seed 3", "")
    assert not first[0].training


# True layouts of the published files


def published(model_id, **sizes):
    """A registered model and its encoder."""
    module = pytest.importorskip(f"tumorbench_utils.models.{model_id}")
    return module.MODEL, module.build(**sizes)


@pytest.mark.parametrize("model_id", ["suprem", "models_genesis"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_file_as_the_authors_publish_it(tmp_path, model_id, dtype):
    model, encoder = published(model_id)
    for layout in model.checkpoint.layouts:
        path = write(tmp_path / model.checkpoint.file, upstream(model, layout, encoder, dtype))
        module, used = prepared(model, path, seed=9)
        assert used.loaded == model.checkpoint.keys == len(encoder.state_dict())
        assert used.dropped + used.other == len(beside(model, layout, encoder))
        assert used.dropped == 8 * 3 + 3  # running statistics of eight norms, and the decoder
        assert dtype or same(module, encoder)


def test_medimageinsight_takes_the_authors_names(tmp_path):
    model, encoder = published("medimageinsight", width=32, depths=(1, 1, 2, 1))
    content = upstream(model, model.checkpoint.layouts[0], encoder)
    for name in (
        "image_encoder.convs.0.proj.weight",
        "image_encoder.blocks.2.1.spatial_block.conv1.fn.dw.bias",
        "image_encoder.blocks.0.0.channel_block.channel_attn.fn.qkv.weight",
        "image_encoder.blocks.0.0.spatial_block.window_attn.norm.weight",
        "image_encoder.blocks.3.0.channel_block.ffn.fn.net.fc2.weight",
        "image_encoder.norms.weight",
        "image_projection",
    ):
        assert name in content
    path = write(tmp_path / "x.pt", content)
    torch.manual_seed(1)
    _, fresh = published("medimageinsight", width=32, depths=(1, 1, 2, 1))
    load(fresh, replace(model.checkpoint, keys=len(encoder.state_dict())), path)
    assert same(fresh, encoder)


# From a hub


class Hub(Server):
    """A Hugging Face hub of these files (bytes by repository/resolve/revision/file); ``refusals`` are answers by path,
    (status, the hub's error code)."""

    def __init__(self, files, refusals=None):
        super().__init__(files)
        self.refusals = refusals or {}

    def next_answer(self, path, requested):
        return super().next_answer(path, requested) if path in self.files else Answer()  # not of the hub's API

    def _handler(server):
        class Handler(super()._handler()):
            def do_HEAD(self):
                path = self.path.lstrip("/").partition("?")[0]
                status, code = server.refusals.get(path, (200, "") if path in server.files else (404, "EntryNotFound"))
                body = server.files.get(path, b"")
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if status == 200 else 0))
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Accept-Ranges", "bytes")
                for name in ("ETag", "X-Linked-Etag"):
                    self.send_header(name, f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Linked-Size", str(len(body)))
                if code:
                    self.send_header("X-Error-Code", code)
                self.end_headers()

        return Handler


CODE = """
import json, sys, time
time.sleep = lambda seconds: None  # no waits between tries
from tumorbench_utils.models.base import Checkpoint
from tumorbench_utils.models.loading import CheckpointError, locate
from tumorbench_utils.models.locating import cached, source_of
checkpoint = Checkpoint(**json.loads(sys.argv[1]))
try:
    path = locate(checkpoint, "tiny")
    assert cached(checkpoint, "tiny") == path
    print(json.dumps({"path": str(path), "source": source_of(checkpoint, path)}))
except CheckpointError as error:
    print(json.dumps({"error": str(error)}))
"""
FILE = "org/tiny/resolve/main/weights/tiny.pt"


def environment(home, endpoint, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return kept | {
        "HF_HOME": str(home),
        "HF_ENDPOINT": endpoint.rstrip("/"),
        "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
        **more,
    }


def command(**checkpoint):
    given = {"file": "weights/tiny.pt", "keys": 8, "repo": "org/tiny"} | checkpoint
    return [sys.executable, "-c", CODE, json.dumps(given)]


@pytest.fixture
def located(tmp_path):
    """What :func:`locate` gives in a process of its own, with a hub's cache in this test's folder."""

    def run(server, checkpoint=(), **more):
        endpoint = server if isinstance(server, str) else server.url()
        ran = subprocess.run(
            command(**dict(checkpoint)),
            env=environment(tmp_path / "hub", endpoint, **more),
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return run


def test_hub_file_is_fetched_once_and_known_by_its_commit(located):
    pytest.importorskip("huggingface_hub")
    with Hub({FILE: BODY}) as hub:
        found = located(hub)
        assert Path(found["path"]).read_bytes() == BODY
        assert found["source"] == f"org/tiny@{COMMIT}/weights/tiny.pt"
        assert located(hub) == found
        assert hub.requests == [(FILE, None)]
        address = hub.url()
    assert located(address, HF_HUB_OFFLINE="1") == found  # the server has ended


def test_hub_dataset_and_revision(located):
    pytest.importorskip("huggingface_hub")
    with Hub({"datasets/org/tiny/resolve/v2/weights/tiny.pt": BODY}) as hub:
        found = located(hub, {"repo_type": "dataset", "revision": "v2"})
    assert Path(found["path"]).read_bytes() == BODY


def test_cut_transfer_from_a_hub_goes_on(located):
    pytest.importorskip("huggingface_hub")
    body, cut = BODY * 8, 23_000_000  # the hub's client keeps whole chunks of 10 MiB
    with Hub({FILE: body}) as hub:
        hub.script = [Answer(cut=cut)]
        found = located(hub)
    assert Path(found["path"]).read_bytes() == body
    first, second = hub.ranges
    assert first is None
    assert 10_000_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= cut


def test_killed_transfer_from_a_hub_leaves_nothing_that_would_be_used(located, tmp_path):
    pytest.importorskip("huggingface_hub")
    hold = threading.Event()
    with Hub({FILE: BODY}) as hub:
        hub.script = [Answer(cut=2_000_000, hold=hold)]
        given = environment(tmp_path / "hub", hub.url())
        with subprocess.Popen(command(), env=given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
            while not list((tmp_path / "hub").rglob("*.incomplete")):
                assert killed.poll() is None
                time.sleep(0.02)
            killed.kill()
        hold.set()
        address = hub.url()
        assert "is not in" in located(address, HF_HUB_OFFLINE="1")["error"]
        assert Path(located(hub)["path"]).read_bytes() == BODY


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "GatedRepo", ("gated", "{url}/org/tiny", "HF_TOKEN", "weights='<path>'")),
        (403, "GatedRepo", ("gated", "Accept its terms")),
        (401, "RepoNotFound", ("not there, or private", "{url}/org/tiny", "HF_TOKEN")),
        (404, "EntryNotFound", ("org/tiny (revision main) has no file weights/tiny.pt", "{url}/org/tiny")),
        (404, "RevisionNotFound", ("no such revision", "revision main", "{url}/org/tiny")),
    ],
)
def test_refusal_of_a_hub_says_what_to_do(located, status, code, words):
    pytest.importorskip("huggingface_hub")
    with Hub({FILE: BODY}, {FILE: (status, code)}) as hub:
        message = located(hub)["error"]
        assert "tiny: " in message
        assert [word for word in words if word.format(url=hub.url().rstrip("/")) not in message] == []


def test_offline_or_without_a_network_the_message_says_where_a_file_may_be_put(located, tmp_path):
    pytest.importorskip("huggingface_hub")
    with Hub({}) as hub:
        closed = hub.url()
    for more in ({"HF_HUB_OFFLINE": "1"}, {}):
        message = located(closed, **more)["error"]
        for part in ("weights/tiny.pt", str(tmp_path / "hub"), "cannot be reached", "weights='<path>'"):
            assert part in message


def test_full_disk_says_how_much_is_needed_where_and_what_moves_the_folder(monkeypatch):
    huggingface_hub = pytest.importorskip("huggingface_hub")

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", full)
    monkeypatch.setattr(artefacts, "_transfer", full)
    size = 3_400_000_000
    with pytest.raises(CheckpointError, match=r"tiny: the disk is full: 3\.40 GB .*HF_HOME") as caught:
        locate(Checkpoint(file="x.pt", keys=1, repo="org/tiny", size=size), "tiny")
    assert str(locating.hub_cache()) in str(caught.value)
    with pytest.raises(CheckpointError, match=r"tiny: the disk is full: 3\.40 GB .*TUMORBENCH_CACHE") as caught:
        locate(Checkpoint(file="x.pt", keys=1, url="http://127.0.0.1:9/x.pt", size=size), "tiny")
    assert str(artefacts.cache_dir()) in str(caught.value)


def test_hub_needs_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match="pip install"):
        locate(Checkpoint(file="x.pt", keys=1, repo="org/tiny"), "tiny")


# From an address


def test_address_with_a_known_hash(cache):
    with Server({"tiny.pt": BODY}) as server:
        checkpoint = Checkpoint("tiny.pt", 8, url=server.url("tiny.pt"), sha256=hashlib.sha256(BODY).hexdigest())
        assert locate(checkpoint, "tiny") == cache / "weights" / "tiny" / "tiny.pt"
        with pytest.raises(CheckpointError, match=r"tiny: .*SHA-256 .*weights='<path>'"):
            locate(replace(checkpoint, sha256="0" * 64), "tiny")


def test_unknown_hash_is_recorded_and_another_file_then_refused(cache):
    with Server({"tiny.pt": BODY}) as server:
        server.script = [Answer(cut=2_000_000)]
        checkpoint = Checkpoint("tiny.pt", 8, url=server.url("tiny.pt"))
        path = locate(checkpoint, "tiny")
        assert path.read_bytes() == BODY
        assert len(server.requests) == 2  # the first was cut, the second went on
        assert server.ranges[1].startswith("bytes=")
        recorded = path.with_name("tiny.pt.sha256").read_text()
        assert recorded.split() == [hashlib.sha256(BODY).hexdigest(), "tiny.pt"]
        assert locate(checkpoint, "tiny") == path
        assert len(server.requests) == 2
        path.unlink()
        server.files["tiny.pt"] = BODY[::-1]
        with pytest.raises(CheckpointError, match="source has changed"):
            locate(checkpoint, "tiny")
        assert not path.exists()
        server.files["tiny.pt"] = BODY
        assert locate(checkpoint, "tiny").read_bytes() == BODY


def test_file_without_a_known_hash_is_not_put_together_from_two_transfers(cache):
    with Server({"tiny.pt": BODY}) as server:
        checkpoint = Checkpoint("tiny.pt", 8, url=server.url("tiny.pt"))
        (cache / "weights" / "tiny").mkdir(parents=True)
        (cache / "weights" / "tiny" / "tiny.pt.part").write_bytes(b"x" * 1000)
        assert locate(checkpoint, "tiny").read_bytes() == BODY


def test_file_put_in_place_by_hand_is_taken(cache):
    (cache / "weights" / "tiny").mkdir(parents=True)
    (cache / "weights" / "tiny" / "tiny.pt").write_bytes(BODY)
    checkpoint = Checkpoint("tiny.pt", 8, url="http://127.0.0.1:9/tiny.pt")
    assert locate(checkpoint, "tiny").read_bytes() == BODY
    assert locating.cached(checkpoint, "tiny") == cache / "weights" / "tiny" / "tiny.pt"


# From an installed package


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution whose extra asks for three others, each with a shard of BODY; importing one is an error."""
    site = tmp_path / "site"
    parts = {f"tiny-weights-big-p{k}": BODY[k * 1_000_000 : (k + 1) * 1_000_000] for k in range(3)}
    needs = [f"Requires-Dist: {name}==1.0; extra == 'big'" for name in parts]
    needs += ["Requires-Dist: tiny-weights-small-p1==1.0; extra == 'small'", "Provides-Extra: big"]
    for name, shard in {"tiny-weights": b"", **parts}.items():
        module = name.replace("-", "_")
        (site / module).mkdir(parents=True)
        (site / module / "__init__.py").write_text("raise RuntimeError('imported')")
        (site / module / "part.bin").write_bytes(shard)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *(needs if not shard else [])]) + "\n"
        )
        info.joinpath("RECORD").write_text(f"{module}/__init__.py,,\n{module}/part.bin,,\n")
    monkeypatch.syspath_prepend(site)
    return site


PACKAGED = Checkpoint(
    "tiny.pt", 8, package="tiny-weights[big]", revision="1.0", sha256=hashlib.sha256(BODY).hexdigest()
)


def test_shards_of_a_package_are_joined_and_checked(installed, cache):
    path = locate(PACKAGED, "tiny")
    assert path == cache / "weights" / "tiny" / "tiny.pt"
    assert path.read_bytes() == BODY
    (installed / "tiny_weights_big_p0" / "part.bin").unlink()
    assert locate(PACKAGED, "tiny") == path  # joined once
    path.write_bytes(BODY[:-1])
    with pytest.raises(CheckpointError, match=r'2 of 3 shards: pip install .*"tiny-weights\[big\]==1\.0"'):
        locate(PACKAGED, "tiny")


def test_shards_of_other_content_are_not_used(installed, cache):
    (installed / "tiny_weights_big_p1" / "part.bin").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="SHA-256"):
        locate(PACKAGED, "tiny")
    assert [path.name for path in (cache / "weights" / "tiny").iterdir()] == ["tiny.pt.lock"]


def test_package_that_is_missing_is_named(installed):
    with pytest.raises(CheckpointError, match=r'no-such-weights is not installed: pip install .*"no-such-weights'):
        locate(replace(PACKAGED, package="no-such-weights[big]"), "tiny")
    with pytest.raises(CheckpointError, match="tiny-weights-small-p1 is not installed"):
        locate(replace(PACKAGED, package="tiny-weights[small]"), "tiny")
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("tiny-weights-small-p1")


# Conversion by hand


def test_conversion_needs_trust_and_its_result_fits_the_layouts(tmp_path, trained, capsys):
    mark, out = tmp_path / "mark", tmp_path / "out.safetensors"
    path = write(tmp_path / "tiny.pt", content(trained) | {"x": Hostile(mark)})
    assert convert.main([str(path), str(out)]) == 1
    assert "--i-trust-this-file" in capsys.readouterr().err
    assert not mark.exists()
    assert not out.exists()
    assert convert.main([str(path), str(out), "--i-trust-this-file"]) == 0
    printed = capsys.readouterr().out
    assert mark.exists()
    assert f"13 tensors, SHA-256 {sha256_of(out)}" in printed  # 8, head, text, three of the optimiser
    assert "epoch" in printed
    module = build()
    weights = load(module, TINY.checkpoint, out)
    assert same(module, trained)
    assert (weights.loaded, weights.dropped, weights.other) == (8, 1, 1)


def test_conversion_of_a_pickled_module_and_of_shared_tensors(tmp_path, trained):
    trained[1].bias = trained[1].weight
    torch.save({"model": trained}, tmp_path / "x.pt")
    assert convert.convert(tmp_path / "x.pt", tmp_path / "x.safetensors", trusted=True) == (8, [])
    module = build()
    checkpoint = Checkpoint("x", 8, layouts=(Layout(container="model"),))
    load(module, checkpoint, tmp_path / "x.safetensors")
    assert same(module, trained)


def test_conversion_refuses_what_it_cannot_do(tmp_path, trained):
    torch.save({"epoch": 1}, tmp_path / "empty.pt")
    with pytest.raises(CheckpointError, match="no tensor"):
        convert.convert(tmp_path / "empty.pt", tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"\.safetensors"):
        convert.convert(tmp_path / "empty.pt", tmp_path / "x.pt")
    torch.save({"a.b": torch.ones(1), "a": {"b": torch.ones(1)}}, tmp_path / "twice.pt")
    with pytest.raises(CheckpointError, match=r"two tensors are called a\.b"):
        convert.convert(tmp_path / "twice.pt", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_the_public_names_are_here():
    assert loading.locate is locating.locate
    assert loading.CheckpointError is locating.CheckpointError
