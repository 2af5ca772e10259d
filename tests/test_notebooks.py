"""Notebooks as committed (clean, short cells, parameters with help), and as they run by themselves under papermill."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import papermill
import pytest
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 15  # of a code cell
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
        assert set(cell["metadata"]) <= {"tags", "mystnb"}, cell["id"]
        assert "injected-parameters" not in tags(cell)


@each_notebook
def test_committed_cell_ids_are_unique(path):
    ids = [cell["id"] for cell in cells_of(path)]
    assert len(ids) == len(set(ids))


@each_notebook
def test_committed_code_cells_are_short(path):
    long = {cell["id"]: n for cell in cells_of(path, "code") if (n := len(text(cell).splitlines())) > MAX_LINES}
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
    assert kinds == {name: type(value).__name__ for name, value in defaults(path).items()}
    assert "parameters" in tags(cells_of(path)[number - 1])


@each_notebook
def test_committed_install_cell_is_pinned_and_not_on_the_page(path):
    (install,) = [cell for cell in cells_of(path, "code") if "pip install" in text(cell)]
    assert tags(install) == {"remove-cell"}
    assert cells_of(path, "code")[0] == install
    assert re.search(r'%pip install .*"tumorbench @ git\+https://[^"@]+@v\d+\.\d+\.\d+"', text(install))
    assert 'if find_spec("tumorbench_utils") is None' in text(install)


# The kNN evaluation, run by itself


KNN = ROOT / "notebooks" / "3_knn_evaluation.ipynb"
COHORT, MODEL, CONTROL = "nsclc_radiomics", "fmcib_authors", "fmcib_authors_shuffled_roi"
COLUMNS = ["protocol", "split", "sample_id", "patient_id", "label", "probability", "k"]


def run_papermill(folder, *parameters, controls=()):
    """Run the notebook from ``folder``, which holds the run too."""
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(KNN), "executed.ipynb"]
    command += ["--parameters_yaml", json.dumps({"controls": list(controls)}), "-p", "run", str(folder / "mine")]
    command += ["-p", "repeats", "3", "-p", "draws", "50", *parameters]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)


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
        cells = json.loads((self.folder / "executed.ipynb").read_text(encoding="utf-8"))["cells"]
        return [output for cell in cells for output in cell.get("outputs", [])]


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
        (["-p", "repeat", "3"], "unknown parameter repeat. Known: cohort, variant, models"),
        (["-p", "repeats", "three"], "parameter repeats must be int, not 'three'"),
        (["-p", "models", MODEL], f"parameter models must be list, not '{MODEL}'"),
        (["-p", "cohort", "nsclc_radiomic"], "unknown cohort 'nsclc_radiomic'. Did you mean 'nsclc_radiomics'?"),
    ],
)
def test_a_wrong_parameter_fails_before_anything_is_written(tmp_path, given, told):
    done = run_papermill(tmp_path, *given)
    assert done.returncode != 0
    assert told in done.stderr
    assert not (tmp_path / "mine").exists()
    errors = [output for output in Run(tmp_path, []).outputs if output["output_type"] == "error"]
    assert [told in error["evalue"] for error in errors] == [True]
