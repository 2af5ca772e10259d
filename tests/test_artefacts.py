"""Files survive a kill, what is fetched is whole and the expected one, and results say what they were made of."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import platformdirs
import pyarrow.parquet as pq
import pytest

from tests.server import Answer, Server
from tumorbench_utils import artefacts
from tumorbench_utils.artefacts import ArtefactError, atomic_path, fetch_url, fetch_wheel, sha256_of

BODY = np.random.default_rng(0).bytes(400_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
CUT = 250_000  # bytes
KEPT = CUT // artefacts.CHUNK * artefacts.CHUNK  # whole chunks are what an interruption leaves

SIX = "six-1.16.0-py2.py3-none-any.whl"
SIX_SHA256 = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"

FETCH = (
    "import sys; from tumorbench_utils.artefacts import fetch_url; print('go', flush=True); fetch_url(*sys.argv[1:])"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TUMORBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server():
    with Server({"features.bin": BODY}) as running:
        yield running


def fetch(server, sha256=SHA256, **options):
    return fetch_url(server.url("features.bin"), sha256, pause=0, **options)


def start(code, *arguments):
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "nothing happened in 30 seconds"
        time.sleep(0.01)


def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


# The cache folder


def test_cache_is_where_the_variable_says(cache):
    assert artefacts.cache_dir() == cache
    assert cache.is_dir()


def test_cache_variable_may_start_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUMORBENCH_CACHE", "~/inputs")
    assert artefacts.cache_dir() == tmp_path / "inputs"


@pytest.mark.parametrize("value", [None, ""])
def test_cache_is_the_platforms_without_the_variable(tmp_path, monkeypatch, value):
    monkeypatch.delenv("TUMORBENCH_CACHE") if value is None else monkeypatch.setenv("TUMORBENCH_CACHE", value)
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: tmp_path / "platform" / name)
    assert artefacts.cache_dir() == tmp_path / "platform" / "tumorbench"


# Atomic writes


def test_atomic_path_replaces_only_when_the_block_succeeds(tmp_path):
    path = tmp_path / "new" / "folder" / "table.csv"
    for content in ("old", "new"):
        with atomic_path(path) as temporary:
            temporary.write_text(content)
            assert temporary.suffix == ".csv"
            assert not path.exists() or path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_path_leaves_the_old_file_when_the_block_raises(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path):
    path = artefacts.write_text(tmp_path / "table.csv", "old")
    with open(path) as reader:
        artefacts.write_text(path, "new")
        assert reader.read() == "old"


def test_atomic_path_leaves_the_old_file_when_nothing_was_written(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    code = (
        "import sys, time; from tumorbench_utils.artefacts import atomic_path\n"
        "with atomic_path(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half'); print('go', flush=True); time.sleep(60)"
    )
    with start(code, str(path)) as writer:
        assert writer.stdout.readline() == b"go\n"
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    leftovers = [other.name for other in tmp_path.iterdir() if other != path]
    assert len(leftovers) == 1
    assert leftovers[0].startswith(".tmp-")
    artefacts.write_text(path, "new")
    assert path.read_text() == "new"


# Fetching from a URL


def test_fetched_once_then_taken_from_the_cache(server, cache):
    path = fetch(server)
    assert path == cache / "features.bin"
    assert path.read_bytes() == BODY
    assert fetch(server) == path
    assert len(server.requests) == 1
    assert {other.name for other in cache.iterdir()} == {"features.bin", "features.bin.lock"}


def test_name_in_the_cache_is_the_given_one_or_the_urls(server, cache):
    assert fetch(server, name="released/a.bin") == cache / "released" / "a.bin"
    server.files["with%20space.bin"] = BODY
    assert fetch_url(server.url("with%20space.bin?download=1"), SHA256) == cache / "with space.bin"


def test_checksum_may_be_in_capitals(server, cache):
    cache.mkdir()
    (cache / "features.bin.part").write_bytes(BODY[:KEPT])
    assert fetch(server, SHA256.upper()).read_bytes() == BODY
    assert server.ranges == [f"bytes={KEPT}-"]  # what was there was not thrown away


def test_wrong_checksum_names_address_and_both_hashes_and_removes_the_file(server, cache):
    with pytest.raises(ArtefactError) as caught:
        fetch(server, "0" * 64)
    for part in (server.url("features.bin"), SHA256, "0" * 64):
        assert part in str(caught.value)
    assert [path.name for path in cache.iterdir()] == ["features.bin.lock"]


def test_wrong_bytes_are_not_used(server, cache):
    server.script = [Answer(body=BODY[::-1])]
    with pytest.raises(ArtefactError, match="SHA-256"):
        fetch(server)
    assert not (cache / "features.bin").exists()
    assert fetch(server).read_bytes() == BODY  # the next try starts from nothing
    assert server.ranges == [None, None]


def test_cut_transfer_goes_on_in_the_same_call(server):
    server.script = [Answer(cut=CUT), Answer(cut=0), Answer(cut=100_000)]
    assert fetch(server).read_bytes() == BODY
    further = KEPT + 100_000 // artefacts.CHUNK * artefacts.CHUNK
    assert server.ranges == [None, f"bytes={KEPT}-", f"bytes={KEPT}-", f"bytes={further}-"]


def test_cut_transfer_goes_on_in_the_next_call(server):
    server.script = [Answer(cut=CUT)]
    with pytest.raises(ArtefactError, match="goes on"):
        fetch(server, tries=1)
    assert fetch(server).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={KEPT}-"]


def test_transfer_of_a_killed_process_goes_on_in_another(server, cache):
    hold = threading.Event()
    server.script = [Answer(cut=CUT, hold=hold)]
    partial = cache / "features.bin.part"
    with start(FETCH, server.url("features.bin"), SHA256) as killed:
        wait_until(lambda: partial.exists() and partial.stat().st_size >= KEPT)
        killed.kill()
    hold.set()
    assert not (cache / "features.bin").exists()
    assert fetch(server).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={KEPT}-"]


def test_two_processes_fetch_a_file_once(server, cache):
    hold = threading.Event()
    server.script = [Answer(hold=hold, cut=CUT)]
    with start(FETCH, server.url("features.bin"), SHA256) as first:
        wait_until(lambda: server.requests)
        with start(FETCH, server.url("features.bin"), SHA256) as second:
            assert second.stdout.readline() == b"go\n"
            time.sleep(0.2)  # the second is at the lock now
            assert len(server.requests) == 1
            hold.set()
    assert (first.returncode, second.returncode) == (0, 0)
    assert (cache / "features.bin").read_bytes() == BODY
    assert server.ranges == [None, f"bytes={KEPT}-"]  # both by the first, whose transfer was cut


def test_server_without_ranges_starts_again(server):
    server.script = [Answer(cut=CUT), Answer(ranges=False)]
    assert fetch(server).read_bytes() == BODY
    assert server.ranges == [None, f"bytes={KEPT}-"]


def test_whole_partial_file_is_taken(server, cache):
    cache.mkdir()
    (cache / "features.bin.part").write_bytes(BODY)
    assert fetch(server).read_bytes() == BODY
    assert server.ranges == [f"bytes={len(BODY)}-"]  # answered 416, nothing is left to send


@pytest.mark.parametrize("length", [1000, len(BODY), len(BODY) + 1])
def test_partial_file_of_another_file_is_fetched_anew(server, cache, length):
    cache.mkdir()
    (cache / "features.bin.part").write_bytes(b"x" * length)
    assert fetch(server).read_bytes() == BODY
    assert server.ranges == [f"bytes={length}-", None]


def test_failing_server_is_tried_again(server):
    server.script = [Answer(status=500), Answer(status=503)]
    assert fetch(server).read_bytes() == BODY
    assert len(server.requests) == 3


def test_server_that_goes_on_failing_is_named(server):
    server.script = [Answer(status=503)] * 3
    with pytest.raises(ArtefactError, match="503") as caught:
        fetch(server, tries=3)
    assert server.url("features.bin") in str(caught.value)
    assert len(server.requests) == 3


def test_waits_grow_between_tries(server, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.script = [Answer(status=500)] * 3
    fetch_url(server.url("features.bin"), SHA256, pause=2.0)
    assert waits == [2.0, 4.0, 8.0]


def test_missing_file_fails_at_once(server):
    with pytest.raises(ArtefactError, match="404") as caught:
        fetch_url(server.url("elsewhere.bin"), SHA256, pause=0)
    assert server.url("elsewhere.bin") in str(caught.value)
    assert len(server.requests) == 1


def test_without_network_the_file_may_be_put_in_place_by_hand(cache):
    url = f"http://127.0.0.1:{closed_port()}/features.bin"
    with pytest.raises(ArtefactError) as caught:
        fetch_url(url, SHA256, tries=2, pause=0)
    assert url in str(caught.value)
    place = Path(str(caught.value).split()[-1])
    assert place == cache / "features.bin"
    place.write_bytes(BODY)
    assert fetch_url(url, SHA256).read_bytes() == BODY


def test_damaged_file_in_the_cache_is_not_used(server, cache):
    path = fetch(server)
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(ArtefactError, match=re.escape(str(path))):
        fetch(server)
    assert not path.exists()
    assert fetch(server).read_bytes() == BODY


# Fetching a wheel


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index of one wheel, and no other; gives the wheel's name and SHA-256."""
    wheel = tmp_path / "tiny_features-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        folder = "tiny_features-1.0.dist-info"
        archive.writestr("tiny_features/data.txt", "1 2 3")
        archive.writestr(f"{folder}/METADATA", "Metadata-Version: 2.1\nName: tiny-features\nVersion: 1.0\n")
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
    page = f'<a href="/{wheel.name}" data-requires-python="&lt;3">{wheel.name}</a>'.encode()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with Server({wheel.name: wheel.read_bytes(), "simple/tiny-features/": page}) as running:
        monkeypatch.setenv("PIP_INDEX_URL", running.url("simple/"))
        yield wheel.name, sha256_of(wheel)


def test_wheel_of_the_package_index(cache, monkeypatch):
    path = fetch_wheel("six==1.16.0", SIX, SIX_SHA256)
    assert path == cache / SIX
    assert "six.py" in zipfile.ZipFile(path).namelist()
    monkeypatch.setattr(artefacts, "_pip_download", lambda *_: pytest.fail("the cache was not used"))
    assert fetch_wheel("six==1.16.0", SIX, SIX_SHA256) == path
    assert {other.name for other in cache.iterdir()} == {SIX, f"{SIX}.lock"}


def test_wheel_is_read_whatever_python_it_is_for(index):
    name, sha256 = index  # the index says Python below 3
    with zipfile.ZipFile(fetch_wheel("tiny-features==1.0", name, sha256)) as archive:
        assert archive.read("tiny_features/data.txt") == b"1 2 3"


def test_wheel_of_other_content_is_not_used(index, cache):
    name, sha256 = index
    with pytest.raises(ArtefactError) as caught:
        fetch_wheel("tiny-features==1.0", name, "0" * 64)
    for part in ("tiny-features==1.0", name, sha256, "0" * 64):
        assert part in str(caught.value)
    assert [path.name for path in cache.iterdir()] == [f"{name}.lock"]


def test_wheel_of_another_name_is_not_used(index, cache):
    name, sha256 = index
    wanted = "tiny_features-1.0-cp311-cp311-linux_x86_64.whl"
    with pytest.raises(ArtefactError, match=f"{name}.*{wanted}"):
        fetch_wheel("tiny-features==1.0", wanted, sha256)
    assert [path.name for path in cache.iterdir()] == [f"{wanted}.lock"]


@pytest.mark.parametrize("requirement", ["no-such-features==1.0", "tiny-features==2.0"])
def test_package_that_the_index_lacks_is_named(index, requirement):
    with pytest.raises(ArtefactError, match=rf"{requirement}.*No matching distribution.*pip config list"):
        fetch_wheel(requirement, *index)


def test_damaged_wheel_in_the_cache_is_not_used(index):
    path = fetch_wheel("tiny-features==1.0", *index)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtefactError, match=re.escape(str(path))):
        fetch_wheel("tiny-features==1.0", *index)
    assert not path.exists()


# Provenance


@pytest.fixture
def frame():
    return pd.DataFrame({"sample_id": ["007", "b"], "auc": [0.1 + 0.2, None], "n": [1, 2]})


@pytest.fixture
def record(tmp_path):
    (tmp_path / "in.csv").write_text("a\n1\n")
    return artefacts.provenance({"cohort": "luna16", "draws": 10}, [tmp_path / "in.csv"])


def test_csv_has_its_provenance_beside_it(tmp_path, frame, record):
    path = artefacts.write_csv(tmp_path / "out" / "luna16.csv", frame, record)
    pd.testing.assert_frame_equal(pd.read_csv(path, dtype={"sample_id": str}), frame, check_dtype=False)
    beside = artefacts.provenance_path(path)
    assert beside == tmp_path / "out" / "luna16.provenance.json"
    assert json.loads(beside.read_text()) == record
    assert set(path.parent.iterdir()) == {path, beside}


def test_provenance_of_two_tables_of_one_cohort_does_not_collide(tmp_path):
    names = {artefacts.provenance_path(tmp_path / name).name for name in ("rider.csv", "rider.excluded.csv")}
    assert names == {"rider.provenance.json", "rider.excluded.provenance.json"}


def test_parquet_has_its_provenance_inside(tmp_path, frame, record):
    path = artefacts.write_parquet(tmp_path / "out" / "luna16.parquet", frame, record)
    pd.testing.assert_frame_equal(pd.read_parquet(path), frame)
    assert json.loads(pq.read_schema(path).metadata[artefacts.PROVENANCE]) == record
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [artefacts.write_csv, artefacts.write_parquet])
def test_the_same_table_gives_the_same_bytes(tmp_path, frame, record, write):
    first, second = (write(tmp_path / folder / "t.x", frame, dict(record)).read_bytes() for folder in "ab")
    assert first == second


def test_provenance_tells_versions_parameters_and_inputs(record):
    assert record["parameters"] == {"cohort": "luna16", "draws": 10}
    assert record["inputs"] == {"in.csv": hashlib.sha256(b"a\n1\n").hexdigest()}
    assert record["versions"]["numpy"] == np.__version__
    assert record["versions"]["tumorbench"] == artefacts.__version__
    assert record["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))


def test_provenance_takes_hashes_by_name():
    assert artefacts.provenance({}, {"wheel": "abc"})["inputs"] == {"wheel": "abc"}


def test_provenance_leaves_out_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(artefacts, "RECORDED_PACKAGES", ("numpy", "no-such-package"))
    assert set(artefacts.provenance({})["versions"]) == {"numpy", "python", "tumorbench"}


def test_provenance_is_the_same_at_another_time_and_place(tmp_path, record, monkeypatch):
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    (elsewhere / "in.csv").write_text("a\n1\n")
    os.utime(elsewhere / "in.csv", (0, 0))
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert artefacts.provenance({"cohort": "luna16", "draws": 10}, [Path("in.csv").resolve()]) == record
    text = json.dumps(record)
    assert "/" not in text
    assert str(time.gmtime().tm_year) not in re.sub(r'"[0-9a-f]{64}"', "", text)
