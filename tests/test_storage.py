"""Object storage: the same to the byte there and back, only what differs is moved, and what is broken is named."""

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from numpy.testing import assert_array_equal
from s3 import KEY, Between, Service

from tumorbench_utils import bank, embeddings, storage
from tumorbench_utils.patches import Geometry
from tumorbench_utils.storage import StorageError
from tumorbench_utils.storage.__main__ import main

GRID = Geometry("grid", (2.0, 2.0, 2.0), (8, 8, 8))
SIZE = GRID.size
BANK = "patches/mine/grid.zarr"
VECTORS = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)


def made(run):
    """A run of two cohorts: a real bank with jittered seeds, an embedding table, annotation tables, and scrap."""
    noise = np.random.default_rng(1).integers(-1000, 1000, (20, 40, 30)).astype(np.int16)
    for name in ("one", "two", "three"):
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(run / f"{name}.nrrd"))
    table = pd.DataFrame({"sample_id": ["a", "b", "c"], "image": ["one.nrrd", "two.nrrd", "three.nrrd"]})
    seeds = bank.seed_points(table.assign(x=15.0, y=20.0, z=10.0), 2, 4.0)
    bank.build(run, "mine", seeds, [GRID], root=run, workers=1)
    embeddings.write(embeddings.path_of(run, "mine", "model"), ["a", "b", "c"], VECTORS, {"parameters": {}})
    for name in ("mine.csv", "mine.excluded.csv", "other.csv"):
        (run / "annotations").mkdir(exist_ok=True)
        (run / "annotations" / name).write_text(f"{name}\n")
    (run / "embeddings" / "mine" / ".building-next").mkdir()
    (run / "embeddings" / "mine" / ".building-next" / "0.npz").write_text("unfinished")
    return run


def files(run):
    """Bytes by name of all that belongs on object storage."""
    paths = [path for kind in storage.KINDS for path in (run / kind).rglob("*") if path.is_file()]
    names = {path.relative_to(run).as_posix(): path.read_bytes() for path in paths}
    return {name: content for name, content in names.items() if "/." not in name}


@pytest.fixture(scope="module")
def service():
    with Service() as service:
        yield service


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return made(tmp_path_factory.mktemp("original"))


@pytest.fixture
def run(original, tmp_path):
    """A copy of the run that a test may change."""
    for name, content in files(original).items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_bytes(content)
    return tmp_path / "run"


@pytest.fixture
def url(service, monkeypatch):
    """A place in a new bucket."""
    for name, value in KEY.items():
        monkeypatch.setenv({"region_name": "AWS_DEFAULT_REGION"}.get(name, name.upper()), value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", service.endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    service.put({})
    return f"s3://{service.bucket}/runs/mine"


def keys(service):
    listed = service.client.list_objects_v2(Bucket=service.bucket).get("Contents", [])
    return {each["Key"].removeprefix("runs/mine/") for each in listed}


def listed(service, unit):
    key = f"runs/mine/{unit}.manifest.json"
    return json.loads(service.client.get_object(Bucket=service.bucket, Key=key)["Body"].read())["files"]


def test_a_run_goes_there_and_back_to_the_byte(service, original, url, tmp_path):
    pushed = storage.push(original, url)
    units = {"annotations/mine", "annotations/other", "patches/mine", "embeddings/mine"}
    assert keys(service) == {*files(original), *(f"{unit}.manifest.json" for unit in units)}  # no scrap
    assert {name for unit in units for name in listed(service, unit)} == set(files(original))
    pulled = storage.pull(url, tmp_path / "copy")
    assert files(tmp_path / "copy") == files(original)
    assert pushed == pulled == storage.Report(0, len(files(original)), sum(map(len, files(original).values())))


def test_what_is_there_is_not_moved_again(service, run, url, tmp_path):
    storage.push(run, url)
    storage.pull(url, tmp_path / "copy")
    everything = len(files(run))
    with Between(service) as between:
        assert storage.push(run, url, endpoint=between.endpoint) == storage.Report(everything, 0, 0)
        assert storage.pull(url, tmp_path / "copy", endpoint=between.endpoint) == storage.Report(everything, 0, 0)
        assert {method for method, _ in between.requests} <= {"GET", "HEAD"}
    (run / "annotations" / "mine.csv").write_text("another\n")  # as long as before
    (tmp_path / "copy" / "annotations" / "other.csv").write_text("edited\n!")
    assert storage.push(run, url) == storage.Report(everything - 1, 1, 8)
    assert storage.pull(url, tmp_path / "copy").moved == 2
    assert files(tmp_path / "copy") == files(run)


def test_cohorts_and_kinds_may_be_chosen(original, url, tmp_path):
    storage.push(original, url, ["mine"])
    with pytest.raises(StorageError, match=r"nothing of other. There is: mine"):
        storage.pull(url, tmp_path / "copy", ["other"])
    storage.pull(url, tmp_path / "copy", ["mine"], ["embeddings", "annotations"])
    assert {name.split("/")[0] for name in files(tmp_path / "copy")} == {"embeddings", "annotations"}
    with pytest.raises(StorageError, match=r"nothing of thine. There is: mine, other"):
        storage.push(original, url, ["thine"])


def test_patches_and_vectors_read_at_the_url_are_those_on_disk(original, url):
    storage.push(original, url, ["mine"])
    there, here = (bank.Bank(bank.path_of(place, "mine", "grid")) for place in (url, original))
    pd.testing.assert_frame_equal(there.rows, here.rows)
    assert there.spacing == here.spacing and len(here.rows) == 9
    for far, near in zip(there.patches(SIZE, "SPL"), here.patches(SIZE, "SPL"), strict=True):
        assert far[0] == near[0]
        assert_array_equal(far[1], near[1])
    annotated = pd.DataFrame({"sample_id": ["c", "a", "b"]})
    far, near = (embeddings.load(place, "mine", ["model"], annotated)[0] for place in (url, original))
    assert_array_equal(far.vectors["model"], near.vectors["model"])
    with pytest.raises(embeddings.EmbeddingError, match=r"no embeddings of absent in s3://.* There are: model"):
        embeddings.load(url, "mine", ["absent"], annotated)
    with pytest.raises(bank.BankError, match=r"fine.zarr: no patch bank"):
        bank.Bank(bank.path_of(url, "mine", "fine"))


def test_only_the_regions_that_are_read_are_fetched(service, original, url):
    storage.push(original, url, ["mine"])
    with Between(service) as between:
        found = bank.Bank(storage.place(f"{url}/{BANK}", between.endpoint))
        before = len(between.requests)
        for row in found.rows[found.rows["sample_id"] == "b"].itertuples():
            found.patch(row, SIZE)
        assert [path.rsplit("/", 1)[1] for _, path in between.requests[before:]] == ["c.1.0.0.0"]


def test_an_object_that_is_cut_off_or_gone_is_named(service, original, url, tmp_path):
    storage.push(original, url, ["mine"])
    key = f"{BANK}/regions/c.1.0.0.0"
    whole = files(original)[key]
    service.client.put_object(Bucket=service.bucket, Key=f"runs/mine/{key}", Body=whole[:-10])
    message = f"{key}: has {len(whole) - 10} bytes"
    with pytest.raises(StorageError, match=f"{message}, its manifest says {len(whole)}; push it again"):
        bank.Bank(f"{url}/{BANK}")
    with pytest.raises(StorageError, match=f"{message} of {len(whole)} than its manifest says"):
        storage.pull(url, tmp_path / "copy")
    assert key not in files(tmp_path / "copy") and f"{BANK}/rows.parquet" not in files(tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob(".tmp-*"))
    service.client.put_object(Bucket=service.bucket, Key=f"runs/mine/{key}", Body=whole[:-1] + b"?")
    with pytest.raises(StorageError, match=f"{key}: other bytes than its manifest says"):
        storage.pull(url, tmp_path / "copy")
    service.client.delete_object(Bucket=service.bucket, Key=f"runs/mine/{key}")
    with pytest.raises(StorageError, match=f"{key}: is missing, its manifest says"):  # Zarr would read air
        bank.Bank(f"{url}/{BANK}")
    with pytest.raises(StorageError, match=f"{key}: there is no such bucket or object"):
        storage.pull(url, tmp_path / "copy")


def test_a_push_that_loses_the_network_lists_nothing_and_goes_on(service, run, url):
    chunks = [name for name in files(run) if "/regions/c." in name]
    message = r"c\.1\.0\.0\.0: the storage gave no answer.* the same call goes on"
    with (
        Between(service, lambda method, path: "closed" if method == "PUT" and "/c.1." in path else None) as between,
        pytest.raises(StorageError, match=message),
    ):
        storage.push(run, url, what=["patches"], endpoint=between.endpoint, workers=1)
    assert len(chunks) == 3 and chunks[1] not in listed(service, "patches/mine")
    assert f"{BANK}/rows.parquet" not in keys(service)  # nobody would take the bank for whole
    assert storage.push(run, url, what=["patches"]).moved > 0
    assert keys(service) == {name for name in files(run) if name.startswith("patches")} | {"patches/mine.manifest.json"}


def test_a_pull_that_loses_the_network_keeps_what_came_and_goes_on(service, original, url, tmp_path):
    storage.push(original, url)
    copy, seen = tmp_path / "copy", []

    def lost(method, path):
        seen.extend([path] if "/regions/c." in path else [])
        return "closed" if len(seen) > 1 else None

    message = "the storage gave no answer, or a broken one"
    with Between(service, lost) as between, pytest.raises(StorageError, match=message):
        storage.pull(url, copy, endpoint=between.endpoint, workers=1)
    came = files(copy)
    assert came and all(files(original)[name] == content for name, content in came.items())
    assert f"{BANK}/rows.parquet" not in came
    report = storage.pull(url, copy)
    assert (report.kept, files(copy)) == (len(came), files(original))


def test_a_bank_made_anew_takes_the_place_of_the_old_one(service, run, url, tmp_path):
    storage.push(run, url)
    storage.pull(url, tmp_path / "copy")
    (run / BANK / "regions" / "c.2.0.0.0").unlink()  # of fewer entries
    (run / BANK / "excluded.csv").write_text("sample_id,trial,reason\nc,0,lost\n")
    storage.push(run, url)
    assert f"{BANK}/regions/c.2.0.0.0" not in keys(service) | set(listed(service, "patches/mine"))
    storage.pull(url, tmp_path / "copy")
    assert files(tmp_path / "copy") == files(run)


def test_a_manifest_cannot_write_outside_the_run(service, original, url, tmp_path):
    storage.push(original, url, what=["annotations"])
    content = {"files": {"annotations/mine.csv/../../../out": {"size": 1, "sha256": "0"}}}
    key = "runs/mine/annotations/mine.manifest.json"
    service.client.put_object(Bucket=service.bucket, Key=key, Body=json.dumps(content).encode())
    with pytest.raises(StorageError, match="which is no file of annotations/mine; nothing was read"):
        storage.pull(url, tmp_path / "copy")
    service.client.put_object(Bucket=service.bucket, Key=key, Body=b"{}")
    with pytest.raises(StorageError, match=r"mine\.manifest\.json: not a manifest"):
        storage.pull(url, tmp_path / "copy")


def test_a_bucket_that_is_not_there_or_refuses_is_said(service, original, url, tmp_path):
    nowhere = "s3://nowhere-at-all/mine"
    with pytest.raises(StorageError, match="no such bucket"):
        storage.push(original, nowhere)
    with pytest.raises(StorageError, match="s3://nowhere-at-all/mine: no manifest; there is no such bucket"):
        storage.pull(nowhere, tmp_path / "copy")
    with pytest.raises(StorageError, match="no such bucket"):
        bank.Bank(f"{nowhere}/{BANK}")
    with pytest.raises(StorageError, match="or nothing was pushed there"):
        storage.pull(url, tmp_path / "copy")
    with Between(service, lambda *_: "denied") as between:
        with pytest.raises(StorageError, match=r"access denied .* AWS_ACCESS_KEY_ID"):
            storage.push(original, url, endpoint=between.endpoint)
        with pytest.raises(StorageError, match="access denied"):
            storage.pull(url, tmp_path / "copy", endpoint=between.endpoint)
        with pytest.raises(StorageError, match="access denied"):
            embeddings.read(embeddings.path_of(storage.place(url, between.endpoint), "mine", "model"))


def test_without_the_libraries_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StorageError, match=r'upath and s3fs not installed: pip install "tumorbench\[cloud\]"'):
        bank.Bank("s3://bucket/patches/mine/grid.zarr")


def test_from_the_command_line(service, original, url, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    where = ["--endpoint-url", service.endpoint, "--cohort"]
    monkeypatch.setattr("sys.argv", ["storage", "push", str(original), url, *where, "other"])
    main()
    assert capsys.readouterr().out == "1 files moved (0.0 MB), 0 were there\n"
    monkeypatch.setattr("sys.argv", ["storage", "pull", url, str(tmp_path), *where, "mine"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {url}: nothing of mine. There is: other"
