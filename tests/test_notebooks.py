"""Notebooks as committed (clean, short cells, parameters with help), and as they run by themselves under papermill."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
import SimpleITK as sitk
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from sklearn.metrics import roc_auc_score

from tumorbench_utils import annotations, bank
from tumorbench_utils.patches import BENCHMARK

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 15  # of a code cell, but for that of the parameters, which papermill wants in one
MAX_WIDTH = 92  # characters of a line that a page shows: longer ones scroll at the width of the book
HIDDEN = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells_of(path, kind=None):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if kind in (None, cell["cell_type"])]


def tags(cell):
    return set(cell["metadata"].get("tags", []))


def text(cell):
    return "".join(cell["source"])


def tagged(path, tag):
    (cell,) = [cell for cell in cells_of(path) if tag in tags(cell)]
    return cell


# As committed


def test_committed_notebooks_are_found():
    assert NOTEBOOKS


@each_notebook
def test_committed_without_outputs_and_counts(path):
    for cell in cells_of(path, "code"):
        assert cell["outputs"] == [], cell["id"]
        assert cell["execution_count"] is None, cell["id"]


@each_notebook
def test_committed_without_traces_of_a_run(path):
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    assert set(metadata) <= {"kernelspec", "language_info"}
    for cell in cells_of(path):
        folded = {"cellView", "jupyter"} if "solution" in tags(cell) else set()  # in Colab and in JupyterLab
        assert set(cell["metadata"]) <= {"tags", "mystnb"} | folded, cell["id"]
        assert "injected-parameters" not in tags(cell)


@each_notebook
def test_committed_cell_ids_are_unique(path):
    ids = [cell["id"] for cell in cells_of(path)]
    assert len(ids) == len(set(ids))


@each_notebook
def test_committed_code_cells_are_short(path):
    cells = [cell for cell in cells_of(path, "code") if "parameters" not in tags(cell)]
    long = {cell["id"]: n for cell in cells if (n := len(text(cell).splitlines())) > MAX_LINES}
    assert long == {}


@each_notebook
def test_committed_code_that_a_page_shows_fits_its_width(path):
    shown = [cell for cell in cells_of(path, "code") if not tags(cell) & HIDDEN]
    assert shown
    wide = [(cell["id"], line) for cell in shown for line in text(cell).splitlines() if len(line) > MAX_WIDTH]
    assert wide == []


@each_notebook
def test_committed_notebook_begins_with_its_title_and_ends_with_limits_and_the_way_on(path):
    first, *_, last = cells_of(path, "markdown")
    assert cells_of(path)[0] == first
    assert re.match(r"# \w", text(first))
    headings = re.findall(r"^#{1,6} .*$", "\n".join(map(text, cells_of(path, "markdown"))), re.MULTILINE)
    assert sum(heading.startswith("# ") for heading in headings) == 1
    assert text(last).startswith("## Limits")
    assert re.search(r"\*\*Next:\*\* \[.+\]\(.+\)", text(last))


@each_notebook
def test_committed_links_lead_to_files(path):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", "\n".join(map(text, cells_of(path, "markdown")))):
        assert (path.parent / link).is_file(), link


@each_notebook
def test_committed_parameters_are_literals_with_help(path):
    source = text(tagged(path, "parameters"))
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        assert isinstance(statement, ast.Assign), lines[statement.lineno - 1]
        (target,) = statement.targets
        assert isinstance(target, ast.Name)
        ast.literal_eval(statement.value)
        assert re.search(r"  # \w.+$", lines[statement.end_lineno - 1]), f"{target.id} has no help"


def defaults(path):
    statements = ast.parse(text(tagged(path, "parameters"))).body
    return {statement.targets[0].id: ast.literal_eval(statement.value) for statement in statements}


@each_notebook
def test_committed_parameters_are_understood_by_papermill(path):
    known = papermill.inspect_notebook(path)
    assert {name: ast.literal_eval(each["default"]) for name, each in known.items()} == defaults(path)
    assert all(each["help"] for each in known.values())


def checked(path):
    """What the notebook gives to ``parameters.check``: (number of the cell, type by parameter)."""
    for number, cell in enumerate(cells_of(path)):
        if cell["cell_type"] == "code" and "parameters.check" in text(cell):
            call = ast.parse(text(cell)).body[0].value
            assert ast.unparse(call.args[0]) == "globals()"
            return number, {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    raise AssertionError("no cell calls parameters.check")


@each_notebook
def test_committed_check_names_every_parameter_with_its_type(path):
    number, kinds = checked(path)
    given = {name: type(value).__name__ for name, value in defaults(path).items()}
    assert set(kinds) == set(given)
    assert [name for name in given if given[name] not in re.findall(r"\w+", kinds[name])] == []  # of several types one
    assert "parameters" in tags(cells_of(path)[number - 1])


@each_notebook
def test_committed_install_cell_is_pinned_and_not_on_the_page(path):
    (install,) = [cell for cell in cells_of(path, "code") if "pip install" in text(cell)]
    assert tags(install) == {"remove-cell"}
    assert cells_of(path, "code")[0] == install
    assert re.search(r'%pip install .*"tumorbench(\[\w+\])? @ git\+https://[^"@]+@v\d+\.\d+\.\d+"', text(install))
    assert 'if find_spec("tumorbench_utils") is None' in text(install)


# The kNN evaluation, run by itself


KNN = ROOT / "notebooks" / "3_knn_evaluation.ipynb"
COHORT, MODEL, CONTROL = "nsclc_radiomics", "fmcib_authors", "fmcib_authors_shuffled_roi"
COLUMNS = ["protocol", "split", "sample_id", "patient_id", "label", "probability", "k"]


def run_papermill(folder, **parameters):
    """Run the kNN notebook from ``folder``, which holds the run too."""
    given = {"controls": [], "run": str(folder / "mine"), "repeats": 3, "draws": 50} | parameters
    return execute(KNN, folder, given)


def execute(notebook, folder, given, fresh=False):
    """Run a notebook from ``folder`` with parameters, to ``executed.ipynb`` there.

    ``fresh``: by papermill's command line, as a reader does (book/test_commands.py runs so what the book prints). Else
    by papermill in a kernel that the tests share, whose names are forgotten between runs: it need not start and import
    for each.
    """
    if not fresh:
        return execute_shared(notebook, folder, given)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), "executed.ipynb"]
    command += ["--parameters_yaml", json.dumps(given)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


class Shared(AsyncKernelManager):
    """A kernel that outlives those who talk to it. Papermill leaves their channels to it: each would knock at the
    kernel's door ten times a second till the tests end."""

    def client(self, **options):
        self.talking = super().client(**options)
        return self.talking

    def hang_up(self):
        self.talking.stop_channels()


SHARED = Shared(kernel_name="python3")  # started by the first who needs it
FORGET = """
%reset -f in
_first = globals().setdefault("_first", set(globals()))
for _name in [each for each in globals() if each not in _first and not each.startswith("_")]:
    del globals()[_name]
"""


def execute_shared(notebook, folder, given):
    if not SHARED.has_kernel:
        run_sync(SHARED.start_kernel)(env={**os.environ, "PYTHONPATH": str(ROOT)})
    begin = f"{FORGET}__import__('os').chdir({str(folder)!r})"
    NotebookClient(new_notebook(cells=[new_code_cell(begin)]), km=SHARED).execute()
    SHARED.hang_up()
    how = {"progress_bar": False, "kernel_name": "python3", "km": SHARED, "execution_timeout": 240}
    try:
        papermill.execute_notebook(notebook, folder / "executed.ipynb", given, **how)
    except papermill.PapermillExecutionError as error:
        return subprocess.CompletedProcess([], 1, stderr=str(error))
    finally:
        SHARED.hang_up()
    return subprocess.CompletedProcess([], 0, stderr="")


@pytest.fixture(scope="module", autouse=True)
def shared_kernel():
    yield
    if SHARED.has_kernel:
        run_sync(SHARED.shutdown_kernel)(now=True)


def outputs_of(notebook):
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


@dataclass(frozen=True)
class Run:
    """A run of the notebook by itself; ``models`` are its embedding tables, the first is no control."""

    folder: Path
    models: list

    def table(self, suffix=""):
        return pd.read_csv(self.folder / "mine" / "results" / "3_knn_evaluation" / f"{COHORT}{suffix}.csv")

    def predictions(self, model):
        return pd.read_parquet(self.folder / "mine" / "predictions" / COHORT / f"{model}.parquet")

    @property
    def outputs(self):
        return outputs_of(self.folder / "executed.ipynb")


@pytest.fixture(scope="module")
def with_control(tmp_path_factory):
    folder = tmp_path_factory.mktemp("with_control")
    done = run_papermill(folder, controls=[CONTROL])
    assert done.returncode == 0, done.stderr
    return Run(folder, [MODEL, CONTROL])


@pytest.fixture(scope="module")
def without_controls(tmp_path_factory, with_control):
    folder = tmp_path_factory.mktemp("without_controls")
    for name in ("annotations", "embeddings"):
        shutil.copytree(with_control.folder / "mine" / name, folder / "mine" / name)
    done = run_papermill(folder)
    assert done.returncode == 0, done.stderr
    return Run(folder, [MODEL])


@pytest.fixture(params=["with_control", "without_controls"])
def knn_run(request):
    return request.getfixturevalue(request.param)


def test_a_run_writes_only_into_its_folder(knn_run):
    assert {path.name for path in knn_run.folder.iterdir()} == {"executed.ipynb", "mine"}
    found = {path.name for path in (knn_run.folder / "mine" / "predictions" / COHORT).iterdir()}
    assert found == {f"{model}.parquet" for model in knn_run.models}


def test_predictions_have_their_columns_and_fit_the_annotations(knn_run):
    annotations = pd.read_csv(knn_run.folder / "mine" / "annotations" / f"{COHORT}.csv").set_index("sample_id")
    for model in knn_run.models:
        table = knn_run.predictions(model)
        assert list(table.columns) == COLUMNS
        assert not table.isna().any().any()
        assert set(table["protocol"]) == {"paper", "grouped"}
        assert not table.duplicated(["protocol", "split", "sample_id"]).any()
        assert table["probability"].between(0, 1).all()
        assert table["k"].between(1, 50).all()
        own = annotations.loc[table["sample_id"]]
        assert (own["label"].to_numpy() == table["label"]).all()
        assert (own["patient_id"].astype(str).to_numpy() == table["patient_id"]).all()


def test_aucs_are_those_of_the_predictions(knn_run):
    results = knn_run.table().set_index(["model", "protocol"])
    splits = knn_run.table(".splits").sort_values(["model", "protocol", "split"]).set_index(["model", "protocol"])
    assert set(results.index) == {(model, protocol) for model in knn_run.models for protocol in ("paper", "grouped")}
    for (model, protocol), row in results.iterrows():
        table = knn_run.predictions(model).query("protocol == @protocol")
        aucs = [roc_auc_score(part["label"], part["probability"]) for _, part in table.groupby("split")]
        assert len(aucs) == 10
        assert aucs == pytest.approx(list(splits.loc[(model, protocol), "test_auc"]), abs=1e-12)
        assert row["auc"] == pytest.approx(sum(aucs) / 10, abs=1e-12)
        assert row["low"] < row["auc"] < row["high"]
        assert row["control"] == (model != MODEL)


def test_auc_of_fmcib_under_the_paper_protocol(knn_run):
    row = knn_run.table().set_index(["model", "protocol"]).loc[(MODEL, "paper")]
    assert f"{row['auc']:.3f} ({row['low']:.3f}-{row['high']:.3f})" == "0.579 (0.553-0.605)"


def test_the_published_figure_stays_marked_as_published(knn_run):
    (row,) = knn_run.table(".comparison").to_dict("records")
    assert (row["status"], f"{row['auc_published']:.3f}", row["same_features"]) == ("published", "0.577", False)
    assert row["difference"] == pytest.approx(row["auc"] - row["auc_published"], abs=1e-12)


def test_controls_are_compared_or_said_to_be_absent(with_control, without_controls):
    (row,) = with_control.table(".differences").to_dict("records")
    aucs = with_control.table().query("protocol == 'paper'").set_index("model")["auc"]
    assert row["name"] == CONTROL
    assert row["difference"] == pytest.approx(aucs[CONTROL] - aucs[MODEL], abs=1e-6)  # in float32
    assert 0 < row["p"] <= row["p_holm"] <= 1
    assert without_controls.table(".differences").empty
    assert "No negative controls on this page" in json.dumps(without_controls.outputs)
    assert "No negative controls on this page" not in json.dumps(with_control.outputs)


def test_the_findings_are_sentences(knn_run):
    *_, findings = [
        "".join(output["data"]["text/markdown"])
        for output in knn_run.outputs
        if "text/markdown" in output.get("data", {})
    ]
    assert re.fullmatch(r"(- [A-Z0-9][^\n]{40,}\.\n?){2,3}", findings), findings


def test_controls_do_not_change_the_model(with_control, without_controls):
    pd.testing.assert_frame_equal(with_control.predictions(MODEL), without_controls.predictions(MODEL))


def test_figures_come_with_caption_and_alternative_text(knn_run):
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in knn_run.outputs]
    figures = [page for page in pages if "<figure" in page]
    assert len(figures) == 5 + (len(knn_run.models) > 1)
    for figure in figures:
        assert re.search(r'<svg[^>]* role="img" aria-label="[^"]{20,}"', figure)
        assert re.search(r"<figcaption>[^<]{20,}</figcaption>", figure)


def test_no_output_names_a_folder_of_this_machine(knn_run):
    shown = json.dumps([output.get("data", output.get("text")) for output in knn_run.outputs])
    own = str(knn_run.folder / "mine")  # the folder of the run was given as a parameter, so it may appear
    for folder in (str(ROOT), str(Path.home())):
        assert f"{folder}/" not in shown.replace(own, "")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"repeat": 3}, "unknown parameter repeat. Known: cohort, variant, models"),
        ({"repeats": "three"}, "parameter repeats must be int, not 'three'"),
        ({"models": MODEL}, f"parameter models must be list, not '{MODEL}'"),
        ({"cohort": "nsclc_radiomic"}, "unknown cohort 'nsclc_radiomic'. Did you mean 'nsclc_radiomics'?"),
    ],
)
def test_a_wrong_parameter_fails_before_anything_is_written(tmp_path, given, told):
    done = run_papermill(tmp_path, **given)
    assert done.returncode != 0
    assert told in done.stderr
    assert not (tmp_path / "mine").exists()
    errors = [output for output in Run(tmp_path, []).outputs if output["output_type"] == "error"]
    assert [told in error["evalue"] for error in errors] == [True]


# Data curation, run by itself


CURATION = ROOT / "notebooks" / "1_data_curation.ipynb"
PHANTOM = {"cases": 3, "retests": 1}  # else as by default


class Page:
    """The page of a cohort that the notebook made in ``folder``, which holds the run too."""

    notebook = CURATION

    def __init__(self, folder, fresh=False, **given):
        self.folder, self.run = folder, folder / "mine"
        self.cohort = given.get("cohort", "phantom")
        folder.mkdir(exist_ok=True)
        given = {"run": str(self.run), "workers": 1, **given}  # a process of its own imports longer than it works here
        self.done = execute(self.notebook, folder, given, fresh)

    def checked(self):
        assert self.done.returncode == 0, self.done.stderr
        return self

    @property
    def outputs(self):
        return outputs_of(self.folder / "executed.ipynb")

    @property
    def text(self):
        """All that the page shows, without markup."""
        shown = [output.get("data", {}) for output in self.outputs]
        parts = ["".join(each.get(kind, "")) for each in shown for kind in ("text/html", "text/markdown")]
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", "\n".join(parts)))

    def csv(self, name, folder="results/1_data_curation"):
        return pd.read_csv(self.run / folder / f"{self.cohort}{name}.csv")

    def annotations(self, name=""):
        return self.csv(name, "annotations")

    def files(self, *folders):
        """Bytes by path under the run."""
        found = [path for folder in folders for path in (self.run / folder).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.run)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return Page(tmp_path_factory.mktemp("phantoms"), **PHANTOM).checked()


def beside(page, folder, *kept):
    """Begin a run in ``folder`` from some folders of another."""
    for name in kept:
        shutil.copytree(page.run / name, folder / "mine" / name)
    return folder


def test_phantoms_go_from_dicom_to_an_annotation_table_and_two_banks(phantoms):
    table = phantoms.annotations().set_index("sample_id")
    truth = pd.read_csv(phantoms.run / "images" / "phantom" / "cases.csv").set_index("sample_id")
    assert list(table.index) == list(truth.index[truth["scan"] == "test"])
    assert len(table) == PHANTOM["cases"]
    assert (table["label"] == truth.loc[table.index, "malignant"]).all()
    apart = (table[["x", "y", "z"]] - truth.loc[table.index, ["x", "y", "z"]]).abs().max(axis=None)
    assert apart < 2  # mm, as far as a mask of voxels can tell
    assert (table["volume_ml"] / truth.loc[table.index, "true_volume_ml"]).between(0.7, 1.4).all()
    for geometry in ("iso_1mm", "ct_clip"):
        rows = pd.read_parquet(phantoms.run / "patches" / "phantom" / f"{geometry}.zarr" / "rows.parquet")
        assert sorted(rows["sample_id"]) == sorted(table.index)


def test_second_scans_are_left_out_and_listed(phantoms):
    left_out = phantoms.annotations(".excluded")
    assert len(left_out) == PHANTOM["retests"]
    assert left_out["sample_id"].str.endswith("-retest").all()
    assert set(left_out["reason"]) == {"second scan of the patient"}
    assert list(phantoms.csv("")["kept"]) == [4, 3] and list(phantoms.csv("")["left_out"]) == [0, 1]
    assert len(phantoms.csv(".quality")) == 4  # they are measured all the same


def test_figures_of_phantoms_say_that_they_are(phantoms):
    pages = ["".join(output.get("data", {}).get("text/html", "")) for output in phantoms.outputs]
    figures = [page for page in pages if "<figure" in page]
    assert len(figures) >= 5
    for figure in figures:
        assert re.search(r'<svg[^>]* role="img" aria-label="[^"]{20,}"', figure)
        assert "PHANTOM" in re.search(r"<figcaption>([^<]{20,})</figcaption>", figure)[1]


def test_the_same_parameters_give_the_same_bytes(phantoms, tmp_path):
    again = Page(beside(phantoms, tmp_path, "images"), **PHANTOM).checked()
    first, second = (page.files("annotations", "patches", "results") for page in (phantoms, again))
    assert len(first) > 15 and set(first) == set(second)
    assert [name for name in first if first[name] != second[name]] == []


def test_a_cohort_smaller_than_the_number_of_second_scans_can_be_made(tmp_path):
    page = Page(tmp_path, cases=1, geometries=["iso_1mm"]).checked()
    assert len(page.annotations()) == len(page.annotations(".excluded")) == 1


def test_phantoms_scanned_twice_keep_both_scans(tmp_path):
    given = {"cohort": "phantom_retest", "cases": 1, "retests": 1, "geometries": ["iso_1mm"]}
    page = Page(tmp_path, **given, trials=1, jitter_mm=[4.0, 8.0]).checked()
    table = page.annotations()
    assert table["patient_id"].value_counts().tolist() == [2] and table["label"].isna().all()
    rows = pd.read_parquet(page.run / "patches" / "phantom_retest" / "iso_1mm.zarr" / "rows.parquet")
    assert rows.groupby("sample_id")["trial"].apply(list).tolist() == [[0, 1, 2]] * 2
    assert "This cohort has no endpoint" in page.text
    captions = re.findall(r"<figcaption>([^<]+)", json.dumps(page.outputs))
    assert captions and all("PHANTOM" in caption for caption in captions)


def published_like(page, folder):
    """A run that holds the annotation table of another as published embeddings bring it: no image, no volume."""
    beside(page, folder, "images", "annotations")
    table = page.annotations().drop(columns=["image", "volume_ml"])
    table.loc[0, "label"] = 1 - table.loc[0, "label"]
    table["x"] += [0.0, 3.0, 4.0]
    table.to_csv(folder / "mine" / "annotations" / "phantom.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def beside_a_table(phantoms, tmp_path_factory):
    folder = published_like(phantoms, tmp_path_factory.mktemp("beside"))
    before = (folder / "mine" / "annotations" / "phantom.csv").read_bytes()
    return before, Page(folder, write=False, **PHANTOM, geometries=["iso_1mm"]).checked()


def test_a_table_that_is_there_is_compared_and_stays(beside_a_table):
    before, page = beside_a_table
    assert (page.run / "annotations" / "phantom.csv").read_bytes() == before
    assert "3 of its 3 samples are among the 3 of this page, 2 of them with the same label." in page.text
    assert "3.00 mm from those measured here (median of 3 samples), at most 4.0 mm" in page.text


def test_patches_are_those_of_the_table_that_is_there(beside_a_table):
    _, page = beside_a_table
    rows = pd.read_parquet(page.run / "patches" / "phantom" / "iso_1mm.zarr" / "rows.parquet").set_index("sample_id")
    table = page.annotations().set_index("sample_id")
    assert (rows.loc[table.index, ["x", "y", "z"]] == table[["x", "y", "z"]]).all(axis=None)


def test_images_beside_a_table_need_no_other_labels(phantoms, tmp_path):
    given = PHANTOM | {"write": False, "labels": "none", "geometries": ["iso_1mm"]}
    page = Page(published_like(phantoms, tmp_path), **given).checked()
    rows = pd.read_parquet(page.run / "patches" / "phantom" / "iso_1mm.zarr" / "rows.parquet")
    assert sorted(rows["sample_id"]) == sorted(page.annotations()["sample_id"])


def test_a_folder_of_one_s_own_with_a_table_of_cases(phantoms, tmp_path):
    own, made = tmp_path / "own", phantoms.run / "images" / "phantom"
    cases = pd.read_csv(made / "cases.csv").query("scan == 'test'").head(2)
    for name in cases["sample_id"]:
        shutil.copytree(made / name, own / name)
    cases.to_csv(own / "cases.csv", index=False)
    page = Page(tmp_path, images="own", geometries=["iso_1mm"]).checked()
    pd.testing.assert_frame_equal(page.annotations(), phantoms.annotations().head(2))
    assert page.annotations(".excluded").empty
    assert [path.name for path in (page.run / "patches" / "phantom").glob("*.zarr")] == ["iso_1mm.zarr"]
    assert {path.name for path in own.iterdir()} == {*cases["sample_id"], "cases.csv"}  # nothing is written there
    captions = re.findall(r"<figcaption>([^<]+)", json.dumps(page.outputs))
    assert captions and all("PHANTOM" in caption for caption in captions)


def test_labels_of_the_released_table_and_their_follow_up(tmp_path):
    page = Page(tmp_path, cohort="nsclc_radiogenomics", labels="released", images="none").checked()
    labels = page.annotations()["label"]
    assert ((labels == 1).sum(), (labels == 0).sum()) == (93, 51)
    assert "93 positive and 51 negative samples, as expected" in page.text
    assert "Kaplan-Meier" in page.text
    assert "PHANTOM" not in page.text


def test_a_cohort_without_a_source_of_labels_is_described_and_no_more(tmp_path):
    page = Page(tmp_path, cohort="dlcs", labels="none", images="none").checked()
    assert "No source of labels on this page." in page.text
    assert page.csv("").empty
    assert {path.name for path in page.run.iterdir()} == {"results"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"case": 3}, "unknown parameter case. Known: cohort, variant, labels"),
        ({"trials": "none"}, "parameter trials must be int, not 'none'"),
        ({"cohort": "nsclc_radiogenomics", "labels": "mine.csv", "images": "none"}, "labels is 'mine.csv': neither"),
        ({"cohort": "rider", "labels": "released", "images": "none", "write": False}, "no such annotation table"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_a_wrong_parameter_of_curation_is_told_and_no_table_is_written(tmp_path, given, told):
    page = Page(tmp_path, **given)
    assert page.done.returncode != 0
    assert told in page.done.stderr
    assert not (page.run / "annotations").exists() and not (page.run / "patches").exists()


# Embedding extraction, run by itself


EXTRACTION = ROOT / "notebooks" / "2_embedding_extraction.ipynb"


class ModelPage(Page):
    """The page of a model that the notebook made in ``folder``."""

    notebook = EXTRACTION

    def table(self, cohort, name):
        return pd.read_parquet(self.run / "embeddings" / cohort / f"{name}.parquet")

    def captions(self):
        return re.findall(r"<figcaption>([^<]+)", "".join(self.shown))

    @property
    def shown(self):
        return ["".join(output.get("data", {}).get("text/html", "")) for output in self.outputs]


@pytest.fixture(scope="module")
def untrained(phantoms, tmp_path_factory):
    folder = beside(phantoms, tmp_path_factory.mktemp("untrained"), "annotations", "patches", "images")
    given = {"model": "models_genesis", "recipes": ["benchmark", "authors"], "weights": "random"}
    return ModelPage(folder, **given).checked()


def test_an_untrained_model_under_both_recipes(untrained, phantoms):
    for cohort, samples in (("phantom", 3), ("lung_ct", 2)):
        for recipe, dim in (("benchmark", 4096), ("authors", 512)):
            table = untrained.table(cohort, f"models_genesis.{recipe}.untrained")
            assert len(table) == samples and {len(vector) for vector in table["embedding"]} == {dim}
    results = pd.read_csv(untrained.run / "results/2_embedding_extraction/models_genesis.csv")
    names = [f"models_genesis.{recipe}.untrained" for recipe in ("benchmark", "authors")]
    assert list(results["embedding"].unique()) == [*names, " v. ".join(names)]
    assert "untrained: weights as drawn at random" in untrained.text
    assert "every seed point has its vector." in untrained.text


def test_every_figure_of_untrained_weights_and_phantoms_says_so(untrained):
    captions = untrained.captions()
    marks = [caption.split(":")[0] for caption in captions]
    assert len(captions) == 6
    untrained_marks = ["PARTLY PHANTOM, UNTRAINED", "PHANTOM, UNTRAINED"]  # speed is of both cohorts
    assert sorted(set(marks)) == [*untrained_marks, "Recipe authors", "Recipe benchmark"]
    assert all("lung" in caption for caption in captions if caption.startswith("Recipe "))  # a real patch, as fed


def test_a_second_run_leaves_the_tables_alone(untrained):
    before = untrained.files("embeddings")
    given = {"model": "models_genesis", "recipes": ["benchmark", "authors"], "weights": "random"}
    again = ModelPage(untrained.folder, **given).checked()
    assert again.files("embeddings") == before
    assert again.captions()[0] == untrained.captions()[0]  # the speed is that of the run that computed


@pytest.mark.parametrize(("model", "dim"), [("volume", 2), ("radiomics", None)])
def test_controls_come_from_table_and_mask(phantoms, tmp_path, model, dim):
    folder = beside(phantoms, tmp_path / "run", "annotations", "patches", "images")
    page = ModelPage(folder, model=model, cohorts=["phantom"]).checked()
    table = page.table("phantom", model)
    lengths = {len(vector) for vector in table["embedding"]}
    assert len(table) == 3 and (lengths == {dim} if dim else min(lengths) > 80)
    assert "A control has no weights." in page.text
    assert all(caption.startswith("PHANTOM") for caption in page.captions()[1:])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"modell": "suprem"}, "unknown parameter modell. Known: model, recipes"),
        ({"model": "supreme"}, "unknown model 'supreme'. Did you mean 'suprem'?"),
        ({"recipes": ["author"]}, "recipes are ['author']; it has benchmark"),
        ({"model": "suprem", "weights": "mine.pth"}, "weights is 'mine.pth', neither"),
        ({"device": "gpu"}, "device is 'gpu', must be auto, cuda"),
        ({"cohorts": ["rider"]}, "Run notebooks/1_data_curation.ipynb with cohort=rider"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_a_wrong_parameter_of_extraction_is_told_and_no_table_is_written(tmp_path, given, told):
    page = ModelPage(tmp_path, **given)
    assert page.done.returncode != 0
    assert told in page.done.stderr
    assert not (page.run / "embeddings").exists()


@pytest.fixture(scope="module")
def jittered(phantoms, tmp_path_factory):
    """A run of phantoms with two jittered seed points each."""
    folder = beside(phantoms, tmp_path_factory.mktemp("jittered"), "images")
    Page(folder, **PHANTOM, trials=2, geometries=["iso_1mm"]).checked()
    return folder


@pytest.mark.parametrize(("given", "expected"), [({}, [0, 1, 2]), ({"trials": 1}, [0, 1])])
def test_as_many_jittered_seed_points_are_embedded_as_asked_for(jittered, given, expected):
    page = ModelPage(jittered, model="random_encoder", cohorts=["phantom"], **given).checked()
    table = page.table("phantom", "random_encoder.benchmark.untrained")
    assert table.groupby("sample_id")["trial"].apply(sorted).tolist() == [expected] * 3
    results = pd.read_csv(page.run / "results/2_embedding_extraction/random_encoder.csv")
    assert results.set_index("quantity")["value"]["samples"] == 3  # the diagnostics are of the annotated ones


def test_a_control_describes_the_annotated_seed_points(jittered):
    page = ModelPage(jittered, model="volume", cohorts=["phantom"], trials=1).checked()
    assert page.table("phantom", "volume")["trial"].tolist() == [0] * 3


def test_more_jittered_seed_points_than_there_are_is_an_error(jittered):
    page = ModelPage(jittered, model="random_encoder", cohorts=["phantom"], trials=3)
    assert page.done.returncode != 0 and "holds no trials 3" in page.done.stderr


def test_weights_that_cannot_be_fetched_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    page = ModelPage(tmp_path / "run", fresh=True, model="ct_fm", cohorts=["lung_ct"])
    assert "Go online (without HF_HUB_OFFLINE)" in page.done.stderr and "weights='<path>'" in page.done.stderr
    assert not (page.run / "embeddings").exists()


# Robustness and saliency, run by themselves


ROBUSTNESS = ROOT / "notebooks" / "4_robustness.ipynb"
SALIENCY = ROOT / "notebooks" / "5_saliency.ipynb"
ENCODER = "random_encoder.benchmark.untrained"
NO_PATCHES = {"stressed": [], "perturbations": {}, "voxels": []}
SCRAMBLED = {  # cosine to the original, as recomputed from the released embeddings
    "fmcib_authors_shuffled_roi": 0.970,
    "fmcib_authors_randomized_sampled_roi": 0.970,
    "fmcib_authors_shuffled_non_roi": 0.909,
    "fmcib_authors_randomized_sampled_non_roi": 0.909,
}
ODD = ["LUNG1-023", "LUNG1-326", "LUNG1-399"]  # whose control is the original


class LaterPage(ModelPage):
    """The page that a notebook of robustness or saliency made in ``folder``."""

    def __init__(self, notebook, folder, **given):
        self.notebook = notebook
        super().__init__(folder, draws=50, **given)

    def results(self, name):
        return pd.read_csv(self.run / "results" / f"{name}.csv")


def cosine(table, condition):
    """The mean cosine under a condition in a tidy table of robustness."""
    (value,) = table.loc[table["quantity"].str.fullmatch(rf"cosine {condition}(\.0)?( HU)?"), "value"]
    return value


def figures_are_marked(page, count, mark):
    """Each has caption and alternative text, and the mark opens the caption."""
    figures = [shown for shown in page.shown if "<figure" in shown]
    assert len(figures) >= count
    for figure in figures:
        assert re.search(r'aria-label="[^"]{20,}"', figure)
        assert mark in re.search(r"<figcaption>([^<]{20,})</figcaption>", figure)[1].split(":")[0]


TUMOURS = 12  # balls of noise in a box of noise: small images, where phantoms from DICOM take a minute


def stage_patches(run):
    """Annotations and a bank of patches, under the name of the phantoms."""
    images, table = run / "images", []
    images.mkdir(parents=True)
    z, y, x = np.indices((56, 56, 56)) - 28
    for number in range(TUMOURS):
        drawn, name = x**2 + y**2 + z**2 < (5 + number % 2 * 4 + number % 3) ** 2, f"S{number:02}"
        noise = np.random.default_rng(number).normal(0, 30, drawn.shape)
        for array, suffix in (((np.where(drawn, 40, -800) + noise).astype(np.int16), ""), (drawn * 1, ".mask")):
            image = sitk.GetImageFromArray(array.astype(np.int16))
            image.SetOrigin((-28.0, -28.0, -28.0))
            sitk.WriteImage(image, str(images / f"{name}{suffix}.nrrd"))
        table.append((name, f"P{number}", f"{name}.nrrd", 0.0, 0.0, 0.0, number % 2, drawn.sum() / 1000))
    columns = ["sample_id", "patient_id", "image", "x", "y", "z", "label", "volume_ml"]
    table = annotations.check(pd.DataFrame(table, columns=columns), "phantom")
    annotations.write(run, "phantom", annotations.Annotations(table, table[:0]), {"parameters": {}})
    masks = {name: f"{name}.mask.nrrd" for name in table["sample_id"]}
    seeds = bank.seed_points(table, 2, [4.0])
    bank.build(run, "phantom", seeds, BENCHMARK[:1], root=images, workers=1, masks=masks)


@pytest.fixture(scope="module")
def robust(tmp_path_factory):
    """A page of robustness, whose embeddings the notebook makes itself."""
    folder = tmp_path_factory.mktemp("robust")
    stage_patches(folder / "mine")
    given = {"trials": 2, "jitter_mm": [4.0], "perturbations": {"noise": [25]}, "voxels": ["shuffled_roi"]}
    return LaterPage(ROBUSTNESS, folder, **given).checked()


def test_robustness_goes_from_patches_to_kappa_perturbations_and_controls(robust):
    trials = robust.table("phantom", ENCODER).groupby("sample_id")["trial"].apply(sorted)
    assert trials.tolist() == [[0, 1, 2]] * TUMOURS
    stressed = {path.stem for path in (robust.run / "stress" / "phantom" / ENCODER).glob("*.parquet")}
    assert stressed == {"clean", "noise-25", "shuffled_roi"}
    table = robust.results("4_robustness/phantom")
    assert set(table["part"]) == {"dose", "responses", "controls", "jitter"} and set(table["embedding"]) == {ENCODER}
    assert 0 < cosine(table, "noise 25") < 1 and 0 < cosine(table, "shuffled_roi") < 1
    assert table.set_index("quantity")["value"]["kappa"] <= 1
    (caption,) = [each for each in map(unescape, robust.captions()) if "The study's kappa, one point" in each]
    assert "Means of this run: Random encoder" in caption


def test_figures_of_robustness_say_what_they_are_of(robust):
    figures_are_marked(robust, 5, "PHANTOM")
    captions = [caption for caption in robust.captions() if "plane through the seed point" not in caption]
    assert all(caption.startswith("PHANTOM, UNTRAINED: ") for caption in captions)
    assert {path.name for path in robust.folder.iterdir()} == {"executed.ipynb", "mine"}


@pytest.fixture(scope="module")
def published_controls(with_control, tmp_path_factory):
    """A page of robustness of published embeddings alone, which an earlier stage has brought into the run."""
    folder = tmp_path_factory.mktemp("published_controls")
    for name in ("annotations", "embeddings"):
        shutil.copytree(with_control.folder / "mine" / name, folder / "mine" / name)
    given = {"cohort": COHORT, "models": [MODEL], "controls": list(SCRAMBLED), "sources": ["registry"]}
    return LaterPage(ROBUSTNESS, folder, **given, **NO_PATCHES).checked()


def test_published_controls_have_the_known_cosines(published_controls):
    table = published_controls.results(f"4_robustness/{COHORT}")
    assert {name: cosine(table, name) for name in SCRAMBLED} == pytest.approx(SCRAMBLED, abs=0.001)


def test_patients_whose_control_is_the_original_are_named(published_controls):
    odd = published_controls.results(f"4_robustness/{COHORT}.odd")
    assert sorted(odd["sample_id"].unique()) == ODD
    (shown,) = [each for each in published_controls.shown if "Patients whose control is identical" in each]
    assert all(patient in shown for patient in ODD)
    assert "PHANTOM" not in published_controls.text and "UNTRAINED" not in published_controls.text
    assert not (published_controls.run / "patches").exists() and not (published_controls.run / "stress").exists()


@pytest.fixture(scope="module")
def looked(untrained, tmp_path_factory):
    """A page of saliency of one real tumour by eight windows."""
    folder = beside(untrained, tmp_path_factory.mktemp("looked"), "annotations", "patches")
    given = {"model": "random_encoder", "cohorts": ["lung_ct"], "most": 1, "size": 24, "overlap": 0.0, "steps": 2}
    return LaterPage(SALIENCY, folder, **given).checked()


def test_saliency_of_a_real_tumour_gives_maps_and_measures(looked):
    stem = looked.run / "saliency" / ENCODER / "lung_ct"
    assert sorted(path.name for path in stem.iterdir()) == ["lung1.gradients.zarr", "lung1.occlusion.zarr"]
    cases = looked.results("5_saliency/random_encoder.cases")
    assert cases[["sample_id", "method"]].values.tolist() == [["lung1", "occlusion"], ["lung1", "gradients"]]
    table = looked.results("5_saliency/random_encoder")
    assert not table.duplicated(["cohort", "method", "measure"]).any() and set(table["model"]) == {"random_encoder"}
    value = table.set_index(["method", "measure"])["value"]
    for row in cases.itertuples():
        assert value[row.method, "mass_inside"] == pytest.approx(row.mass_inside)
        assert f"{100 * row.mass_inside:.1f} % of the map inside the tumour" in looked.text
    assert {"deletion area", "deletion area, displaced"} <= set(table["measure"])
    assert "spearman" not in set(table["measure"])  # random weights have no twin


def test_figures_of_saliency_of_untrained_weights_say_so(looked):
    figures_are_marked(looked, 6, "UNTRAINED")
    viewers = [shown for shown in looked.shown if 'type="range"' in shown]
    assert len(viewers) == 1 and "http" not in re.sub(r"http://www\.w3\.org/\S+", "", viewers[0])
    assert "- UNTRAINED: Two lung tumour CTs" in looked.text and "PHANTOM" not in looked.text


@pytest.mark.parametrize(
    ("notebook", "given", "told"),
    [
        (ROBUSTNESS, {"perturbation": {}}, "unknown parameter perturbation. Known: cohort, variant, models"),
        (SALIENCY, {"model": "random_encoder", "overlapp": 0.5}, "unknown parameter overlapp. Known: model, recipe"),
    ],
    ids=lambda given: given.stem if isinstance(given, Path) else "",
)
def test_a_wrong_parameter_of_a_later_stage_is_told_and_nothing_is_written(tmp_path, notebook, given, told):
    page = LaterPage(notebook, tmp_path, **given)
    assert page.done.returncode != 0
    assert told in page.done.stderr
    assert not page.run.exists()
