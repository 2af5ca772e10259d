"""The status page says what the run left, and of what it did not leave that it is not recorded."""

import hashlib
import json
import re
import shutil
import subprocess
from base64 import urlsafe_b64encode
from pathlib import Path

import book_status
import code_hash
import nbformat
import numpy as np
import pandas as pd
import pytest
from book_pages import Page, heading

from tumorbench_utils import artefacts, embeddings

ROOT = Path(__file__).parents[2]
STAGE = "3_knn_evaluation"
VERSIONS = {"numpy": "2.0.0", "python": "3.11.7"}
TABLE = pd.DataFrame({"model": ["astra.benchmark"], "auc": [0.5]})


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Notebooks as they are, Snakemake's records and a cache of this test's own."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setattr(book_status, "ROOT", root)
    monkeypatch.setenv("TUMORBENCH_CACHE", str(tmp_path / "cache"))


def page(name, stage=STAGE, **given):
    title = heading(ROOT / "notebooks" / f"{stage}.ipynb")
    return Page(stage, name, {"cohort": name, **given}, title, f"Subject {name}", "Do neighbours know?")


def executed(run, name, stage=STAGE, start="2026-03-01T23:59:30.5+00:00", seconds=95.4, change=""):
    """A notebook as papermill leaves it, of today's code or with a ``change`` in it."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{stage}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[-1].source += change
    end = None if start is None else "2026-03-02T01:01:05+01:00"
    notebook.metadata["papermill"] = {"start_time": start, "end_time": end, "duration": seconds}
    (run / "notebooks" / stage).mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, run / "notebooks" / stage / f"{name}.ipynb")


def results(run, name, stage=STAGE, versions=VERSIONS, **parameters):
    record = {**artefacts.provenance(parameters), "versions": versions}
    return artefacts.write_csv(run / "results" / stage / f"{name}.csv", TABLE, record)


def snakemake_says(path, params):
    """Snakemake's record of a file, named and filled as version 9 does it."""
    folder = book_status.ROOT / ".snakemake" / "metadata"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"rule": "any", "params": params, "incomplete": False})
    (folder / urlsafe_b64encode(str(path).encode()).decode()).write_text(text)


def rows(text):
    """Cells of all rows of all tables, by the text of the first."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line[:1] == "|"]
    return {re.sub(r"\[([^]]*)].*", r"\1", each[0]).strip("` "): [cell.strip("` ") for cell in each] for each in cells}


def test_a_page_shows_when_it_ran_how_long_and_what_it_wrote(tmp_path):
    executed(tmp_path, "a")
    path = results(tmp_path, "a")
    text = book_status.status(tmp_path, [page("a")])
    assert f"[Subject a](notebooks/{STAGE}/a.ipynb)" in text
    took, ran, current, code, digest, mark = rows(text)["Subject a"][1:]
    assert (took, ran, current, code, mark) == ("1 min 35 s", "2026-03-01 23:59", "not recorded", "not recorded", "")
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(digest) == 8 and whole.startswith(digest)
    assert rows(text)["last end"][1] == "2026-03-02 00:01"  # in UTC, whatever the clock of the machine


def test_the_listed_hashes_are_those_that_sha256sum_finds(tmp_path):
    executed(tmp_path, "a")
    results(tmp_path, "a")
    artefacts.write_csv(tmp_path / "results" / STAGE / "a.differences.csv", TABLE, {})
    listed = re.search(r"```\{code-block} text\n(.*?)```", book_status.status(tmp_path, [page("a")]), re.DOTALL)[1]
    assert [line.split("  ")[1] for line in listed.splitlines()] == [
        f"results/{STAGE}/a.csv",
        f"results/{STAGE}/a.differences.csv",
    ]
    check = ["sha256sum", "--check", "--strict"] if shutil.which("sha256sum") else ["shasum", "-a", "256", "--check"]
    assert subprocess.run(check, input=listed, text=True, cwd=tmp_path, capture_output=True).returncode == 0


def test_code_is_current_if_the_hash_it_ran_with_is_that_of_today(tmp_path):
    executed(tmp_path, "a")
    path = results(tmp_path, "a")
    today = code_hash.of_notebook(ROOT / "notebooks" / f"{STAGE}.ipynb")
    for code, current, total in (
        (today, "yes", "1 of 1 pages"),
        ("0123456789abcdef", "**no**", "0 of 1 pages, 1 older"),
    ):
        snakemake_says(path, ['\'{"run": "runs/quick", "draws": 0}\'', f"'{code}'"])
        found = rows(book_status.status(tmp_path, [page("a")]))
        assert found["Subject a"][3:5] == [current, code[:8]]
        assert found["current"][1] == total


def test_without_a_hash_only_a_changed_notebook_tells_that_code_is_older(tmp_path):
    executed(tmp_path, "a")
    executed(tmp_path, "b", change="\nprint()")
    found = rows(book_status.status(tmp_path, [page("a"), page("b")]))
    assert (found["Subject a"][3], found["Subject b"][3]) == ("not recorded", "**no**")
    assert found["current"][1] == "0 of 2 pages, 1 older, 1 not recorded"


def test_a_record_of_another_shape_is_no_record(tmp_path):
    path = results(tmp_path, "a")
    for params in (None, [], ["'short'"], [3, "'ABCDEFABCDEFABCD'"]):
        snakemake_says(path, params)
        assert book_status.recorded_code(path) == ""
    record = next((book_status.ROOT / ".snakemake" / "metadata").iterdir())
    record.write_text('{"params": ')
    assert book_status.recorded_code(path) == ""


def test_what_is_lacking_is_not_recorded_and_stops_nothing(tmp_path):
    found = rows(book_status.status(tmp_path, [page("a")]))
    assert found["Subject a"][1:] == ["not recorded"] * 4 + ["none", ""]
    assert found["first start"][1] == found["last end"][1] == found["run times added up"][1] == "not recorded"
    executed(tmp_path, "a", start=None, seconds=None)
    executed(tmp_path, "b", seconds=3700)
    (tmp_path / "results" / STAGE).mkdir(parents=True)
    (tmp_path / "results" / STAGE / "a.provenance.json").write_text("{")
    (tmp_path / "embeddings" / "phantom").mkdir(parents=True)
    (tmp_path / "embeddings" / "phantom" / "cut.parquet").write_bytes(b"PAR1")
    text = book_status.status(tmp_path, [page("a"), page("b")])
    assert rows(text)["run times added up"][1] == "1 h 01 min (1 not recorded)"
    assert "Versions: not recorded." in text and "No fetched file is recorded." in text


def test_versions_stand_once_and_pages_that_differ_are_named(tmp_path):
    for name in "abc":
        results(tmp_path, name)
    text = book_status.status(tmp_path, [page(name) for name in "abc"])
    assert "Every page ran on these." in text and rows(text)["numpy"] == ["numpy", "2.0.0"]
    results(tmp_path, "c", versions={"numpy": "2.1.0", "torch": "2.9.0"})
    text = book_status.status(tmp_path, [page(name) for name in "abcd"])
    assert rows(text)["numpy"][1] == "2.0.0" and rows(text)["torch"][1] == "not recorded"
    lines = re.findall(r"^- \[(Subject .)].*\): (.*)$", text, re.MULTILINE)
    assert lines == [
        ("Subject c", "numpy 2.1.0 instead of 2.0.0"),
        ("Subject c", "python not recorded instead of 3.11.7"),
        ("Subject c", "torch 2.9.0 instead of not recorded"),
        ("Subject d", "not recorded"),
    ]


@pytest.mark.parametrize(
    ("given", "recorded", "mark"),
    [
        ({}, {}, ""),
        ({}, {"mark": "phantom, untrained"}, "[phantom, untrained]{.tb-notice}"),
        ({"cohorts": ["phantom", "rider"]}, {"mark": ""}, ""),  # a record knows better than the profile
        ({"cohort": "phantom_a", "models": ["astra.benchmark"]}, {}, "[phantom]{.tb-notice}"),
        ({"cohorts": ["phantom", "rider"], "models": ["x.benchmark.untrained", "volume"]}, {},
         "[partly phantom, partly untrained]{.tb-notice}"),
    ],
)  # fmt: skip
def test_phantoms_and_untrained_weights_are_marked(tmp_path, given, recorded, mark):
    path = results(tmp_path, "rider", **recorded)
    one = Page(STAGE, "rider", {"cohort": "rider", **given} if "cohorts" not in given else given, "Heading")
    assert book_status.marks(book_status.read(tmp_path, one)) == mark
    assert path.exists()


def table_of(run, cohort, name, inputs, **parameters):
    record = artefacts.provenance(parameters, inputs)
    embeddings.write(embeddings.path_of(run, cohort, name), ["s"], np.ones((1, 2)), record)


def test_published_files_and_weights_are_named_once_with_their_hashes(tmp_path):
    weights = {"kind": "pretrained", "source": "package==1", "sha256": "c" * 64}
    table_of(tmp_path, "a", "x", {"bank": "d" * 64}, weights=weights, device="cpu")
    table_of(tmp_path, "b", "x", {"bank": "e" * 64}, weights=weights, device="cuda")
    table_of(tmp_path, "b", "y", {"bank": "e" * 64}, weights={"kind": "random", "source": "seed 0", "sha256": ""})
    table_of(tmp_path, "b", "z", {"a.whl": "a" * 64})
    record = artefacts.provenance({}, {"a.whl": "a" * 64, "annotations": "f" * 64})
    artefacts.write_csv(tmp_path / "annotations" / "b.csv", TABLE, record)
    text = book_status.status(tmp_path, [page("a")])
    part = text.partition("## Inputs")[2].partition("## Sizes")[0]
    assert rows(part).keys() == {"file", "---", "a.whl", "package==1"}
    assert rows(part)["a.whl"][1] == "a" * 64 and rows(part)["package==1"][1] == "c" * 64
    assert "embeddings were computed on `cpu`, `cuda`; cores" in rows(text)["hardware"][1]


def test_sizes_are_those_of_the_files(tmp_path):
    for name, size in (("images/a/1.dcm", 1_500_000), ("images/b.dcm", 500_000), ("cache/x.whl", 250_000), ("odd", 9)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    found = rows(book_status.sizes(tmp_path))
    assert found["images"][2:] == ["2", "2.0"] and "patches" not in found
    assert found["all of these"][3] == "2.0" and found["cache"][2:] == ["1", "0.2"]


def test_the_same_run_gives_the_same_page(tmp_path):
    executed(tmp_path, "a")
    results(tmp_path, "a")
    first = book_status.status(tmp_path, [page("a")])
    assert first == book_status.status(tmp_path, [page("a")])
    assert str(tmp_path) not in first


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (155, "2 min 35 s"), (3599.7, "1 h 00 min"), (18_190, "5 h 03 min")],
)
def test_time_spans_are_said_as_one_says_them(seconds, said):
    assert book_status.duration(seconds) == said


def test_parts_stand_in_the_order_of_their_pages(tmp_path):
    pages = [Page(STAGE, name, {}, "", name, part) for name, part in (("a", "First"), ("b", "Second"), ("c", "First"))]
    text = book_status.status(tmp_path, pages)
    assert re.findall(r"^### (.*)", text, re.MULTILINE) == ["First", "Second"]
    first = text.partition("### First")[2].partition("### Second")[0]
    assert list(rows(first)) == ["page", "---", "a", "c"]
