"""The workflow from published embeddings to a book, in a copy of the tree: what runs again, what fails, what survives.

One small run (one model, one control) is shared by all tests.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run_profile
import yaml
from dry_run import dry_run

ROOT = Path(__file__).parents[2]
STAGE, COHORT = "3_knn_evaluation", "nsclc_radiomics"
CURATION = "1_data_curation"
PAGE_RULE = f"{STAGE}_{COHORT}"
CURATED = {
    # one process: others would import longer than they work here
    "phantom": {"cohort": "phantom", "labels": "cases", "images": "phantom", "cases": 3, "retests": 0, "workers": 1},
    COHORT: {"cohort": COHORT},
}
CURATION_RULES = {f"{CURATION}_{cohort}" for cohort in CURATED}
EVERY_RULE = {f"published_{COHORT}", PAGE_RULE, *CURATION_RULES}
PAGE = {
    "cohort": COHORT,
    "models": ["fmcib_authors"],
    "controls": ["fmcib_authors_shuffled_roi"],
    "repeats": 3,
    "draws": 50,
}


class Checkout:
    """A copy of the files of the repository, with its own profiles and runs."""

    def __init__(self, root):
        self.root = root
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, root / name)
        programs = Path(sys.executable).parent
        self.env = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
        self.notebook = root / "notebooks" / f"{STAGE}.ipynb"

    def profile(self, name, curated=None, **changes):
        content = {"cohorts": {COHORT: {"sources": ["registry"]}}, "pages": {STAGE: {COHORT: PAGE | changes}}}
        if curated:
            content["cohorts"] |= {cohort: None for cohort in curated if cohort != COHORT}
            content["pages"][CURATION] = curated
        (self.root / "workflow" / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content))

    def start(self, name, *options, **how):
        command = [sys.executable, "workflow/run.py", "--profile", name, "--cores", "2", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, cwd=self.root, env=self.env, **pipes, **how)

    def snakemake(self, name, *options):
        """Exit status and all that was printed."""
        process = self.start(name, *options)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    def scheduled(self, name):
        """The rules that a run would run now, without running them."""
        status, output = dry_run(self.root, name)
        assert status == 0, output
        return set(re.findall(r"^(?:local)?rule (\w+):", output, flags=re.MULTILINE))

    def run(self, name):
        return self.root / "runs" / name

    def page(self, name):
        return self.run(name) / "book" / "_build" / "html" / "notebooks" / STAGE / f"{COHORT}.html"

    def executed(self, name):
        return self.run(name) / "notebooks" / STAGE / f"{COHORT}.ipynb"

    def with_inputs_of(self, name, other):
        """Begin a run from the annotations and embeddings of another."""
        for folder in ("annotations", "embeddings"):
            shutil.copytree(self.run(other) / folder, self.run(name) / folder)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The copy, in which the profile ``small`` has run."""
    copy = Checkout(tmp_path_factory.mktemp("checkout"))
    copy.profile("small", CURATED)
    status, output = copy.snakemake("small")
    assert status == 0, output
    return copy


@pytest.fixture
def notebook(checkout):
    """Edit cells of the notebook; afterwards it is as before, its time included."""
    path, kept = checkout.notebook, checkout.root / "kept.ipynb"
    shutil.copy2(path, kept)

    def edit(kind, number, addition):
        content = json.loads(path.read_text())
        cells = [cell for cell in content["cells"] if cell["cell_type"] == kind]
        cells[number]["source"] = ["".join(cells[number]["source"]) + addition]
        path.write_text(json.dumps(content))

    yield edit
    shutil.copy2(kept, path)


def test_a_run_leaves_data_results_an_executed_notebook_and_a_book(checkout):
    run = checkout.run("small")
    for name in ("", ".splits", ".differences", ".comparison"):
        assert (run / "results" / STAGE / f"{COHORT}{name}.csv").is_file()
    assert {path.stem for path in (run / "predictions" / COHORT).iterdir()} == {*PAGE["models"], *PAGE["controls"]}
    assert len(list((run / "embeddings" / COHORT).glob("*.parquet"))) == 5
    cells = json.loads(checkout.executed("small").read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")
    assert "NSCLC-Radiomics" in checkout.page("small").read_text()
    assert (run / "book" / "_build" / "html" / "index.html").is_file()
    assert not list(run.rglob(".tmp-*"))


def test_a_second_run_does_nothing(checkout):
    start = time.monotonic()
    status, output = checkout.snakemake("small")
    assert (status, "Nothing to be done" in output) == (0, True), output
    assert time.monotonic() - start < 20


def test_a_sentence_reaches_the_page_without_a_rerun(checkout, notebook):
    executed = checkout.executed("small").read_bytes()
    notebook("markdown", 1, "\n\nA sentence of the heron.")
    assert checkout.scheduled("small") == {"all", "book"}
    status, output = checkout.snakemake("small")
    assert status == 0, output
    assert "A sentence of the heron." in checkout.page("small").read_text()
    assert checkout.executed("small").read_bytes() == executed


def test_code_reruns_the_page_but_not_its_inputs(checkout, notebook):
    notebook("code", -1, "\n# another way to say it")
    assert checkout.scheduled("small") == {"all", "book", PAGE_RULE}


def test_a_parameter_reruns_the_page_but_not_its_inputs(checkout):
    checkout.profile("small", CURATED, draws=60)
    try:
        assert checkout.scheduled("small") == {"all", "book", PAGE_RULE}
    finally:
        checkout.profile("small", CURATED)


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("knn", {PAGE_RULE}),
        ("patches", EVERY_RULE),  # by way of the recipes in the registry of models, which all pages reach
        ("phantom/image", {*CURATION_RULES, PAGE_RULE}),  # a page makes the tables that it lacks, from images
        ("published", {f"published_{COHORT}", PAGE_RULE, f"{CURATION}_{COHORT}"}),  # whose table may be another
    ],
)
def test_a_module_reruns_the_pages_that_use_it(checkout, name, rules):
    module = checkout.root / "tumorbench_utils" / f"{name}.py"
    before = module.read_text()
    module.write_text(before + "\n# changed\n")
    try:
        assert checkout.scheduled("small") == {"all", "book"} | rules
    finally:
        module.write_text(before)


def test_what_is_as_it_was_before_a_change_reruns_nothing(checkout):
    assert checkout.scheduled("small") == set()


def test_curation_makes_tables_and_banks_and_pages_of_the_book(checkout):
    run = checkout.run("small")
    assert {path.name for path in (run / "annotations").glob("*.csv")} >= {"phantom.csv", f"{COHORT}.csv"}
    assert {path.name for path in (run / "patches").iterdir()} == {"phantom"}
    assert len(list((run / "patches" / "phantom").glob("*.zarr"))) == 2
    contents = checkout.page("small").read_text()
    for cohort, title in (("phantom", "PHANTOM"), (COHORT, "NSCLC-Radiomics")):
        assert (run / "results" / CURATION / f"{cohort}.csv").is_file()
        page = (run / "book" / "_build" / "html" / "notebooks" / CURATION / f"{cohort}.html").read_text()
        assert f"Data curation: {title}" in page
        assert f'href="../{CURATION}/{cohort}.html"' in contents
        assert ("The patch bank" in page) == (cohort == "phantom")
        assert "Limits" in page


def curated_rules(profile):
    return {f"{CURATION}_{cohort}" for cohort in profile["pages"][CURATION]}


@pytest.mark.parametrize("name", ["quick", "released", "full"])
def test_a_shipped_profile_has_the_rules_of_its_pages(checkout, name):
    profile = run_profile.load(name)
    published = {cohort for cohort, options in profile["cohorts"].items() if options.get("sources")}
    assert {"quick": 1, "released": 7, "full": 7}[name] == len(published)
    rules = {f"published_{cohort}" for cohort in published}
    rules |= {f"{stage}_{page}" for stage, pages in profile["pages"].items() for page in pages}
    assert len(curated_rules(profile)) == 12 and curated_rules(profile) <= rules
    assert checkout.scheduled(name) == {"all", "book"} | rules


def test_evaluation_of_a_cohort_without_sources_is_refused_before_anything_runs(checkout):
    content = {"extends": "quick", "pages": {STAGE: {"dlcs": {"cohort": "dlcs", "models": ["fmcib"]}}}}
    (checkout.root / "workflow" / "config" / "sourceless.yaml").write_text(yaml.safe_dump(content))
    status, output = checkout.snakemake("sourceless")
    assert status != 0
    assert f"sourceless.yaml: page {STAGE}/dlcs: no page of 2_embedding_extraction makes its models ['fmcib']" in output
    assert "Traceback" not in output
    assert not checkout.run("sourceless").exists()


def test_an_unknown_parameter_fails_and_the_notebook_keeps_the_traceback(checkout):
    checkout.profile("misspelt", repeat=4)
    checkout.with_inputs_of("misspelt", "small")
    status, output = checkout.snakemake("misspelt", "--retries", "0")
    assert status != 0
    assert "unknown parameter repeat. Known: cohort, variant" in output
    cells = json.loads(checkout.executed("misspelt").read_text())["cells"]
    errors = [each for cell in cells for each in cell.get("outputs", []) if each["output_type"] == "error"]
    assert [error["ename"] for error in errors] == ["ParameterError"]
    assert "unknown parameter repeat" in "".join(errors[0]["traceback"])
    assert not list((checkout.run("misspelt") / "results").rglob("*.csv"))
    assert not checkout.page("misspelt").exists()


def kill(process, condition, limit=90):
    """Kill a run and all that it has started as soon as ``condition`` holds."""
    until = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until, "nothing happened"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.*") if not path.name.startswith(".")}


def test_a_run_killed_in_a_notebook_goes_on_to_the_same_bytes(checkout):
    checkout.profile("killed")
    checkout.with_inputs_of("killed", "small")
    run = checkout.run("killed")
    target = f"runs/killed/results/{STAGE}/{COHORT}.csv"
    process = checkout.start("killed", target, start_new_session=True)
    kill(process, lambda: list((run / "predictions").rglob("fmcib*.parquet")))
    cells = json.loads(checkout.executed("killed").read_text())["cells"]
    ran = [bool(cell["execution_count"]) for cell in cells if cell["cell_type"] == "code"]
    assert any(ran) and not all(ran)  # in the middle
    assert not list((run / "results").rglob("*.csv"))

    status, output = checkout.snakemake("killed", target)
    assert status == 0, output
    for folder in (f"results/{STAGE}", "predictions"):
        undisturbed, again = bytes_of(checkout.run("small") / folder), bytes_of(run / folder)
        assert set(again) == set(undisturbed)
        assert [name for name in again if again[name] != undisturbed[name]] == []


def test_a_patch_bank_killed_in_the_middle_goes_on_to_the_same_bytes(checkout):
    checkout.profile("banking", CURATED)
    run, done = checkout.run("banking"), checkout.run("small")
    for folder in ("images", "annotations", "embeddings"):
        shutil.copytree(done / folder, run / folder)
    (run / "annotations" / "phantom.csv").unlink()
    target = f"runs/banking/results/{CURATION}/phantom.csv"
    process = checkout.start("banking", target, start_new_session=True)
    kill(process, lambda: list((run / "patches").rglob("cases/*.json")))
    time.sleep(3)  # a kernel has a session of its own, and ends a moment after who started it
    first = min((run / "patches").rglob("regions/c.*"), key=lambda path: path.stat().st_mtime_ns)
    began = first.stat().st_mtime_ns
    status, output = checkout.snakemake("banking", target)
    assert status == 0, output
    kept = [path.stat().st_mtime_ns for path in (run / "patches").rglob(f"regions/{first.name}")]
    assert began in kept  # what was there was not made again
    assert bytes_below(run / "patches") == bytes_below(done / "patches")


def bytes_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_import_killed_in_the_middle_is_made_anew(checkout):
    checkout.profile("halfway")
    run = checkout.run("halfway")
    target = f"runs/halfway/annotations/{COHORT}.csv"
    process = checkout.start("halfway", target, start_new_session=True)
    kill(process, lambda: list((run / "embeddings").rglob("fmcib*.parquet")))
    assert 0 < len(list((run / "embeddings").rglob("fmcib*.parquet"))) < 5  # in the middle

    status, output = checkout.snakemake("halfway", target)
    assert status == 0, output
    for folder in ("annotations", "embeddings"):
        undisturbed = bytes_of(checkout.run("small") / folder)
        assert bytes_of(run / folder) == {name: undisturbed[name] for name in undisturbed if "phantom" not in name}
    assert not list(run.rglob(".tmp-*"))


def test_two_runs_of_a_profile_at_once_are_refused(checkout):
    holder = "import run, time; run.hold(run.Path('runs/.small.lock')); print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", holder], cwd=checkout.root, stdout=subprocess.PIPE, text=True,
        env=checkout.env | {"PYTHONPATH": str(checkout.root / "workflow")},
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"
    status, output = checkout.snakemake("small")
    assert status != 0 and "another run of this profile is going on" in output
    other.kill()  # and with its process the lock is gone
    other.wait()
    assert checkout.scheduled("small") == set()
