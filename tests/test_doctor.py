"""The doctor tells what is there and what is not, with a fix for each lack, and never hangs."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests

from tests.server import Server
from tumorbench_utils import artefacts, buckets, doctor, sources
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.doctor import Row
from tumorbench_utils.models import MODELS, Model
from tumorbench_utils.models.base import Checkpoint
from tumorbench_utils.registry import Registry

BASE = next(model for model in MODELS if isinstance(model, Model) and model.checkpoint)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TUMORBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor, "cached", lambda checkpoint, model_id: None)  # whatever this machine has
    return tmp_path


class Headed(Server):
    """Answers HEAD requests with the ``statuses`` of their paths, 404 if there is none; notes their tokens."""

    def __init__(self, statuses):
        super().__init__({})
        self.statuses = statuses
        self.tokens = {}

    def _handler(server):
        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                path = self.path.lstrip("/")
                server.tokens[path] = self.headers.get("Authorization")
                self.send_response(server.statuses.get(path, 404))
                self.end_headers()

            def log_message(self, *_):
                pass

        return Handler


def models(monkeypatch, **checkpoints):
    """A registry of models with these checkpoints and no others."""
    entries = (replace(BASE, id=name, checkpoint=checkpoint) for name, checkpoint in checkpoints.items())
    monkeypatch.setattr(doctor, "MODELS", Registry("model", tuple(entries)))


def hub(repo, **more):
    return Checkpoint(file="w.pt", keys=1, repo=repo, **more)


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Packages


@pytest.fixture
def project(monkeypatch, tmp_path):
    """The package as if it asked for these; what is installed is as it is."""
    lines = ["numpy>=2.0", "no-such-core>=1", "pandas>=999; extra == 'imaging'", "no-such-tool>=3; extra == 'dev'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    monkeypatch.setattr(doctor, "PINS", tmp_path / "constraints.txt")
    doctor.PINS.write_text("# tested\nNo_Such.Core==1.5\nnumpy==0.1\n")
    return {row.name: row for row in doctor.packages()}


def test_missing_package_says_which_extra_brings_it_and_how_to_install_it(project):
    core, tool = project["no-such-core"], project["no-such-tool"]
    assert (core.ok, core.needed, core.fix) == (False, True, 'pip install "no-such-core==1.5"')
    assert core.detail == "not installed; tumorbench brings it"
    assert (tool.ok, tool.needed, tool.fix) == (False, False, 'pip install "no-such-tool>=3"')
    assert tool.detail == "not installed; tumorbench[dev] brings it"


def test_package_beyond_its_bounds_is_a_lack_and_an_untested_one_is_not(project):
    pandas, numpy = project["pandas"], project["numpy"]
    assert not pandas.ok
    assert pandas.needed
    assert pandas.detail.endswith("must be >=999")
    assert numpy.ok
    assert numpy.detail.endswith("tested with 0.1")


def test_package_itself_not_installed(monkeypatch):
    def missing(name):
        raise doctor.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "requires", missing)
    monkeypatch.setattr(doctor.metadata, "metadata", missing)
    (row,) = doctor.packages()
    assert not row.ok
    assert row.needed
    assert "pip install" in row.fix
    assert doctor.python().ok  # nothing is asked of it


def test_python_that_is_too_old(monkeypatch):
    monkeypatch.setattr(doctor.metadata, "metadata", lambda name: {"Requires-Python": ">=3.11,<3.14"})
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.10.4")
    row = doctor.python()
    assert (row.ok, row.needed, row.detail) == (False, True, "3.10.4 (>=3.11,<3.14)")
    monkeypatch.setattr(doctor.platform, "python_version", lambda: "3.13.1")
    assert doctor.python().ok


# Device and disk


def test_device_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    processor, torch = doctor.device()
    assert processor.detail.startswith(f"{os.cpu_count()} cores")
    assert not torch.ok


def test_devices_that_torch_finds(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert [row.name for row in doctor.device()] == ["processor", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (20e9, 24e9))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Card")
    assert [(row.name, row.detail) for row in doctor.device()[1:]] == [("cuda:0", "Card, 20.0 of 24.0 GB free")]


def test_disk_tells_free_space_and_what_the_caches_hold(surroundings, monkeypatch):
    folder = artefacts.cache_dir() / "weights"
    folder.mkdir()
    (folder / "w.pt").write_bytes(bytes(30_000_000))
    (folder / "link.pt").symlink_to(folder / "w.pt")  # as the hub's cache has them: counted once
    usage = doctor.shutil.disk_usage(surroundings)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=1_500_000_000))
    rows = {row.name: row for row in doctor.disk()}
    assert rows["cache"].ok
    assert rows["cache"].detail == f"{artefacts.cache_dir()}: 1.5 GB free, 0.03 GB in it"
    assert not rows["working folder"].ok
    assert rows["working folder"].needed
    assert "2 GB are needed" in rows["working folder"].detail


# Weights and cohorts


def test_weights_reachable_gated_gone_and_elsewhere(monkeypatch):
    statuses = {
        "org/open/resolve/main/w.pt": 302,
        "datasets/org/gated/resolve/v2/w.pt": 401,
        "org/gone/resolve/main/w.pt": 404,
        "files/w.pt": 200,
    }
    with Headed(statuses) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url().rstrip("/"))
        models(
            monkeypatch,
            open=hub("org/open", size=311_000_000),
            gated=hub("org/gated", repo_type="dataset", revision="v2", gated=True),
            gone=hub("org/gone"),
            plain=Checkpoint(file="w.pt", keys=1, url=server.url("files/w.pt")),
            carried=Checkpoint(file="w.pt", keys=1, package="no-such-weights[big]", revision="1.0"),
        )
        rows = {row.name: row for row in doctor.weights()}
        address = server.url()
    assert {name: row.ok for name, row in rows.items()} == {
        "open": True,
        "gated": False,
        "gone": False,
        "plain": True,
        "carried": False,
    }
    assert rows["open"].detail == f"org/open, 0.31 GB, weights {BASE.weights_licence}; reachable"
    assert "gated; closed without a token" in rows["gated"].detail
    assert f"accept the terms at {address}datasets/org/gated and set HF_TOKEN" in rows["gated"].fix
    assert "not reachable (404)" in rows["gone"].detail
    assert f"look at {address}org/gone" in rows["gone"].fix
    assert rows["carried"].fix == 'pip install "no-such-weights[big]==1.0"'
    assert not any(row.needed for row in rows.values())


def test_weights_in_the_cache_are_not_asked_for(monkeypatch, tmp_path):
    (tmp_path / "w.pt").write_bytes(bytes(20_000_000))
    models(monkeypatch, here=hub("org/here"), absent=hub("org/absent"))
    monkeypatch.setattr(doctor, "cached", lambda checkpoint, name: tmp_path / "w.pt" if name == "here" else None)
    monkeypatch.setattr(doctor, "ask", lambda *_: pytest.fail("an address was asked"))
    here, absent = doctor.weights(offline=True)
    assert here.ok
    assert here.detail.endswith("in the cache, 0.02 GB")
    assert not absent.ok
    assert "go online" in absent.fix
    assert "weights='<path>'" in absent.fix


def test_token_goes_to_the_hub_alone(monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with Headed({}) as own, Headed({}) as other:
        monkeypatch.setenv("HF_ENDPOINT", own.url().rstrip("/"))
        assert doctor.ask([own.url("a"), other.url("b")]) == {own.url("a"): "404", other.url("b"): "404"}
    assert own.tokens == {"a": "Bearer hf_secret"}
    assert other.tokens == {"b": None}


def test_cohorts_tell_source_licence_and_whether_they_can_be_reached(monkeypatch):
    record = COHORTS.get("dlcs").images.record
    with Headed({doctor.BUCKET: 200, f"records/{record}": 404}) as server:
        monkeypatch.setattr(buckets, "AWS", server.url().rstrip("/"))
        monkeypatch.setattr(sources, "ZENODO", server.url().rstrip("/"))
        rows = {row.name: row for row in doctor.cohorts()}
    assert list(rows) == [cohort.id for cohort in COHORTS]
    assert rows["rider"].ok
    assert rows["rider"].detail == f"{COHORTS.get('rider').source}, {COHORTS.get('rider').licence}; reachable"
    assert not rows["dlcs"].ok
    assert f"records/{record}" in rows["dlcs"].fix
    assert rows["phantom"].ok
    assert "reachable" not in rows["phantom"].detail
    asleep = {row.name: row for row in doctor.cohorts(offline=True)}
    assert asleep["phantom"].ok and not asleep["rider"].ok and asleep["rider"].detail.endswith("; not asked")


def test_a_torch_that_cannot_be_imported_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (row,) = [row for row in doctor.device() if row.name == "torch"]
    assert row.needed and not row.ok and "pip install" in row.fix


# Without a network


def test_refused_connections_are_told_at_once(monkeypatch):
    url = f"http://127.0.0.1:{closed_port()}"
    monkeypatch.setenv("HF_ENDPOINT", url)
    models(monkeypatch, gone=hub("org/gone"))
    (row,) = doctor.weights()
    assert not row.ok
    assert "not reachable (ConnectionError)" in row.detail
    assert "check network and proxy" in row.fix


def test_addresses_that_never_answer_are_given_up_together(monkeypatch):
    monkeypatch.setattr(requests, "head", lambda *_, **__: threading.Event().wait())  # as the look-up of a name
    start = time.monotonic()
    answers = doctor.ask([f"http://{number}.invalid/" for number in range(20)], deadline=0.3)
    assert time.monotonic() - start < 2
    assert set(answers.values()) == {"no answer"}
    assert len(answers) == 20


def test_both_rounds_of_questions_take_less_than_a_quarter_of_a_minute():
    assert doctor.TIMEOUT < doctor.DEADLINE
    assert 2 * doctor.DEADLINE < 15


# Report and command


ROWS = [
    Row("packages", "torch", False, "not installed", "pip install torch", True),
    Row("packages", "ruff", False, "not installed", "pip install ruff"),
    Row("weights", "suprem", True, "reachable", "do nothing"),
]


def test_table_has_a_fix_only_for_what_is_lacking():
    frame = doctor.table(ROWS)
    assert list(frame["name"]) == ["torch", "ruff", "suprem"]
    assert list(frame["fix"]) == ["pip install torch", "pip install ruff", ""]
    assert list(doctor.table([]).columns) == list(frame.columns)


def test_report_is_aligned_with_each_fix_below_its_failure():
    lines = doctor.report([*ROWS, Row("weights", "long", True, "word " * 50)]).splitlines()
    assert lines[0] == "packages"
    assert lines[1].split() == ["LACKS", "torch", "not", "installed"]
    assert lines[2].strip() == "fix: pip install torch"
    assert lines[3].split()[0] == "--"
    assert "do nothing" not in "".join(lines)
    assert max(map(len, lines)) <= doctor.WIDTH
    assert {line.index("not installed") for line in lines if "not installed" in line} == {36}


@pytest.mark.parametrize(("rows", "code", "words"), [(ROWS, 1, "lacks torch"), (ROWS[1:], 0, "has what it needs")])
def test_exit_code_is_of_what_the_quick_profile_needs(monkeypatch, capsys, rows, code, words):
    monkeypatch.setattr(doctor, "examine", lambda offline: rows)
    assert doctor.main([]) == code
    assert words in capsys.readouterr().out


def test_weights_alone(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "weights", lambda offline: [Row("weights", "suprem", True, f"offline {offline}")])
    monkeypatch.setattr(doctor, "examine", lambda offline: pytest.fail("all was examined"))
    assert doctor.main(["--weights", "--offline"]) == 0
    assert "offline True" in capsys.readouterr().out


OFFLINE = """
import json, sys
touched = []
sys.addaudithook(lambda event, _: touched.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
from tumorbench_utils import doctor
rows = doctor.examine(offline=True)
print(json.dumps({"touched": touched, "rows": [[row.area, row.name, row.ok, row.fix] for row in rows]}))
"""


def test_whole_examination_offline_touches_no_network_and_has_a_fix_for_every_lack(tmp_path):
    environment = os.environ | {"TUMORBENCH_CACHE": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    ran = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=environment, cwd=Path(__file__).parents[1], check=True, capture_output=True
    )
    seen = json.loads(ran.stdout)
    assert seen["touched"] == []
    areas = list(dict.fromkeys(area for area, *_ in seen["rows"]))
    assert areas == ["packages", "device", "disk", "weights", "cohorts"]
    with_weights = [model.id for model in MODELS if isinstance(model, Model) and model.checkpoint]
    assert [name for area, name, *_ in seen["rows"] if area == "weights"] == with_weights
    assert [name for _, name, ok, fix in seen["rows"] if not ok and not fix] == []
