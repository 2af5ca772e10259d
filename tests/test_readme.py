"""The README's figures and commands are those of the code."""

import re
from pathlib import Path

import pytest

from tests import real
from tumorbench_utils import knn, published

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def row(start: str) -> str:
    """The figure of the table row that begins with ``start``."""
    return next(line.split("|")[2].strip() for line in README.splitlines() if line.startswith(f"| {start}"))


@pytest.mark.parametrize(
    ("protocol", "start"), [("paper", "this run, the study's protocol"), ("grouped", "this run, patient-grouped")]
)
def test_figures_are_what_the_protocols_give(protocol, start):
    given = real.registry()
    table, vectors = given.annotations.table, given.tables["fmcib_authors"][1]
    chosen = knn.PROTOCOLS.get(protocol)
    splits = chosen.split(table["label"], table["patient_id"], None)
    mean, low, high = chosen.interval(chosen.evaluate(vectors, table["label"], splits).scores)
    assert row(start) == f"{mean:.3f} ({low:.3f}-{high:.3f})"


def test_published_figure_is_the_published_one():
    auc = published.figures("auc").query("model == 'fmcib' and cohort == 'nsclc_radiomics'").iloc[0]
    assert row("as published") == f"{auc['auc']:.3f} ({auc['ci_low']:.3f}-{auc['ci_high']:.3f})"


def test_every_make_target_and_file_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
    for name in re.findall(r"\]\(([A-Z][\w.-]+)\)", README) + re.findall(r"notebooks/\w+\.ipynb", README):
        assert (ROOT / name).exists(), name
