"""The README's figures, commands and links are those of the code, and its picture is one of them."""

import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests import real
from tumorbench_utils import knn, published

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ALT, PICTURE = re.search(r"!\[([^]]+)\]\(([^)]+)\)", README).groups()
FIGURE = re.compile(r"\d\.\d\d")


def row(start: str) -> str:
    """The figure of the table row that begins with ``start``."""
    return next(line.split("|")[2].strip() for line in README.splitlines() if line.startswith(f"| {start}"))


@cache
def computed(protocol, name):
    """Mean AUC and its interval of a real embedding table."""
    given = real.registry()
    table, chosen = given.annotations.table, knn.PROTOCOLS.get(protocol)
    splits = chosen.split(table["label"], table["patient_id"], None)
    return chosen.interval(chosen.evaluate(given.tables[name][1], table["label"], splits).scores)


@pytest.mark.parametrize(
    ("protocol", "start"), [("paper", "this run, the study's protocol"), ("grouped", "this run, patient-grouped")]
)
def test_figures_are_what_the_protocols_give(protocol, start):
    mean, low, high = computed(protocol, "fmcib_authors")
    assert row(start) == f"{mean:.3f} ({low:.3f}-{high:.3f})"


def test_the_answer_stands_before_all_else_and_is_that_of_the_grouped_protocol():
    mean, low, high = computed("grouped", "fmcib_authors")
    answer = " ".join(README.split("\n\n")[2].split())
    assert f"AUC of {mean:.2f} ({low:.2f} to {high:.2f})" in answer
    assert "no better than on scans in which the tumour was scrambled" in answer
    assert all(computed("grouped", f"fmcib_authors_{how}_roi")[0] >= mean for how in ("shuffled", "randomized_sampled"))


def test_published_figure_is_the_published_one():
    auc = published.figures("auc").query("model == 'fmcib' and cohort == 'nsclc_radiomics'").iloc[0]
    assert row("as published") == f"{auc['auc']:.3f} ({auc['ci_low']:.3f}-{auc['ci_high']:.3f})"


def test_every_make_target_and_notebook_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets
    for name in re.findall(r"notebooks/\w+\.ipynb", README):
        assert (ROOT / name).exists(), name


def test_every_link_leads_to_a_file_of_the_repository_or_to_a_page():
    links = re.findall(r"\]\(([^)]+)\)", README)
    files = [link for link in links if not link.startswith("https://")]
    assert len(files) > 8
    assert [link for link in files if not (ROOT / link.partition("#")[0]).exists()] == []


def test_profiles_are_those_of_the_workflow():
    named = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (ROOT / "workflow" / "config").glob("*.yaml"))
    assert f"PROFILE={'|'.join(named)}" in README


def test_picture_is_light_and_says_what_it_shows_to_those_who_do_not_see_it():
    drawn = (ROOT / PICTURE).read_text(encoding="utf-8")
    assert len(drawn.encode()) < 300_000
    assert "fill: #ffffff" in drawn  # a ground of its own: its text is dark
    words = " ".join(re.findall(r"<text[^>]*>([^<]*)", drawn))
    assert "PHANTOM" in ALT and "PHANTOM" in words
    assert len(FIGURE.findall(ALT)) >= 6
    assert set(FIGURE.findall(ALT)) <= set(FIGURE.findall(words))


@pytest.mark.parametrize("name", ["fmcib_authors", "fmcib_authors_shuffled_roi"])
def test_picture_has_the_figures_that_the_grouped_protocol_gives(name):
    mean, low, high = computed("grouped", name)
    assert f">{mean:.2f} ({low:.2f} to {high:.2f})<" in (ROOT / PICTURE).read_text(encoding="utf-8")


def test_citation_is_that_of_the_citation_file():
    cited = dict(re.findall(r"^  (\w+) += \{(.+?)\},?$", README, re.MULTILINE))
    kept = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["title"] == kept["title"]
    assert cited["author"] == f"{{{kept['authors'][0]['name']}}}"
    assert cited["version"] == kept["version"]
    assert cited["url"] == kept["repository-code"]
    assert kept["references"][0]["doi"] in README
