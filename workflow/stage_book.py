"""Put a book together: prose, executed notebooks, generated tables and MathJax, in ``<run>/book``, ready to build.

Nothing is executed. Prose cells are taken from the notebooks' sources of today, so that a corrected sentence shows
without a rerun; code and outputs are those of the run.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import book_cards
import book_status
import pandas as pd
import run_profile
import yaml
from book_pages import Page, heading, markdown_table

from tumorbench_utils import cards, plots, published
from tumorbench_utils.cohorts import COHORTS, STUDY, is_phantom
from tumorbench_utils.models import MODELS, TEN, Control, Model

ROOT = Path(__file__).parents[1]
TEACH = "Learn and teach"
PARTS = {  # the part of the contents in which the pages of a stage stand
    run_profile.LEADERBOARD: "The answer",
    run_profile.CURATION: "The data",
    run_profile.EXTRACTION: "The embeddings",
    run_profile.EVALUATION: "Do neighbours know the endpoint?",
    run_profile.BEYOND: "Beyond neighbours",
    run_profile.EXTERNAL: "In another hospital",
    run_profile.ROBUSTNESS: "Would it survive?",
    run_profile.SALIENCY: "Where does it look?",
    run_profile.ALIGNMENT: "Do models agree?",
    **dict.fromkeys(run_profile.WORKSHOP, TEACH),
}
MODEL_TABLES = {  # what one table holds, so that each fits the page
    "origin": ["learnt by", "architecture", "pretraining data", "overlap with the cohorts"],
    "terms": ["licence of code", "licence of weights", "gated", "weights", "size"],
    "recipes": ["million parameters (paper)", "dimensions", "recipe: benchmark", "recipe: authors"],
}
MATHJAX_PARTS = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")


def main() -> None:
    """``python workflow/stage_book.py --run runs/quick --profile quick``"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--profile", required=True, help="name of its profile")
    chosen = parser.parse_args()
    stage(chosen.run, run_profile.load(chosen.profile))


def stage(run: Path, profile: dict) -> Path:
    """Stage the book of a run; its folder."""
    book = run / "book"
    shutil.rmtree(book, ignore_errors=True)
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    copy_mathjax(book / "_static" / "mathjax" / "es5")
    pages = pages_of(profile)
    for page in pages:
        stage_page(run, book, page)
    fill_contents(book / "_toc.yml", pages)
    generated = book / "_generated"
    generated.mkdir()
    (generated / "headline.md").write_text(headline(run))
    (generated / "which_model.md").write_text(which_model(run))
    (generated / "published_auc.md").write_text(published_auc())
    others = [model for model in MODELS if model.id not in TEN]
    for name, columns in MODEL_TABLES.items():
        (generated / f"models_{name}.md").write_text(models_table(TEN, columns))
        (generated / f"other_models_{name}.md").write_text(models_table(others, columns))
    (generated / "models_left_out.md").write_text(left_out(profile))
    (generated / "cohorts_table.md").write_text(cohorts_table())
    (generated / "model_cards.md").write_text(book_cards.models(pages))
    (generated / "cohort_cards.md").write_text(book_cards.cohorts(pages))
    (generated / "status.md").write_text(book_status.status(run, pages))
    return book


def pages_of(profile: dict) -> list[Page]:
    """The pages of a run, in the order of the parts."""
    headings = {stage_name: heading(ROOT / "notebooks" / f"{stage_name}.ipynb") for stage_name in profile["pages"]}
    return [
        Page(stage_name, name, given or {}, headings[stage_name], subject(stage_name, name, given), PARTS[stage_name])
        for stage_name in sorted(profile["pages"], key=list(PARTS).index)
        for name, given in profile["pages"][stage_name].items()
    ]


def copy_mathjax(target: Path) -> None:
    """The part of MathJax that the book needs, from the package that carries it."""
    files = metadata.files("sphinx-mathjax-offline") or []
    script = next(Path(file.locate()) for file in files if file.name == MATHJAX_PARTS[0])
    target.mkdir(parents=True)
    shutil.copy(script, target)
    shutil.copytree(script.parent / MATHJAX_PARTS[1], target / MATHJAX_PARTS[1])


def stage_page(run: Path, book: Path, page: Page) -> None:
    """Copy one executed notebook into the book with today's prose and a title of its own."""
    executed = json.loads((run / "notebooks" / page.stage / f"{page.name}.ipynb").read_text())
    source = json.loads((ROOT / "notebooks" / f"{page.stage}.ipynb").read_text())
    target = book / f"{page.file}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(with_prose(executed, source, page.subject)))


def subject(stage_name: str, name: str, given: dict) -> str:
    """What a page is about, its model, cohort or endpoint, as its heading names it; "" if it is about the whole run."""
    if stage_name in run_profile.WHOLE:
        return ""
    if stage_name in run_profile.BY_ENDPOINT:
        return given["title"]
    return (MODELS if stage_name in run_profile.BY_MODEL else COHORTS).get(name).title


def with_prose(executed: dict, source: dict, subject: str) -> dict:
    """Cells of ``source`` in their order and with its tags, code cells as executed; the heading names a ``subject``.

    What does not apply to a page gives no output there: such hidden code, and sections of which nothing is left to
    see, are not shown.
    """
    ran = {cell["id"]: cell for cell in executed["cells"]}
    cells = []
    for cell in source["cells"]:
        cells.append({**ran[cell["id"]], "metadata": cell["metadata"]} if cell["cell_type"] == "code" else dict(cell))
        if "parameters" in cell["metadata"].get("tags", []):
            cells += [one for one in executed["cells"] if "injected-parameters" in one["metadata"].get("tags", [])]
    for cell in cells:
        if "remove-stderr" in cell["metadata"].get("tags", []):  # it would still lie in the book's sources
            cell["outputs"] = [each for each in cell["outputs"] if each.get("name") != "stderr"]
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"].append("hide-input")
            cell["metadata"]["mystnb"] = {"code_prompt_show": "Parameters of this page"}
        if cell["cell_type"] == "markdown":  # a page lies one folder deeper than its source
            cell["source"] = "".join(cell["source"]).replace("](../book/", "](../../")
            cell["source"] = re.sub(r"\]\((workshop_\d_(\w+))\.ipynb\)", r"](../\1/\2.ipynb)", cell["source"])
    first = cells[0]["source"].splitlines()
    cells[0]["source"] = "\n".join([f"{first[0]}: {subject}" if subject else first[0], *first[1:]])
    return {**executed, "cells": [cell for section in sections(cells) for cell in told(section)]}


def sections(cells: list[dict]) -> list[list[dict]]:
    """Cells by section: what comes before the first heading of second level, then each such heading and its cells."""
    parts: list[list[dict]] = [[]]
    for cell in cells:
        if cell["cell_type"] == "markdown" and "".join(cell["source"]).startswith("## "):
            parts.append([])
        parts[-1].append(cell)
    return parts


def told(section: list[dict]) -> list[dict]:
    """The cells of a section that say something on this page."""
    heading = "".join(section[0]["source"]).startswith("## ") if section else False
    code = [cell for cell in section if cell["cell_type"] == "code" and "outputs" in cell]
    if heading and code and not any(cell["outputs"] for cell in code):
        return []
    empty = [
        cell for cell in code if heading and not cell["outputs"] and "hide-input" in cell["metadata"].get("tags", [])
    ]
    return [cell for cell in section if not any(cell is each for each in empty)]


def fill_contents(toc: Path, pages: Sequence[Page]) -> None:
    """Enter the pages of the run, each with its title, into the parts of the contents by their stage; no part is empty.

    They stand before the chapters that a part has of itself; exercises follow the chapter on teaching.
    """
    contents = yaml.safe_load(toc.read_text())
    for part in contents["parts"]:
        here = [entry(page) for page in pages if page.part == part["caption"]]
        part["chapters"] = part["chapters"] + here if part["caption"] == TEACH else here + part["chapters"]
    contents["parts"] = [part for part in contents["parts"] if part["chapters"]]
    toc.write_text(yaml.safe_dump(contents, sort_keys=False))


def entry(page: Page) -> dict:
    """A page in the contents, under the name of what it is about; the one page of a stage under its own heading."""
    return {"file": page.file, "title": page.subject} if page.subject else {"file": page.file}


def headline(run: Path) -> str:
    """The landing page's figure: the cohorts of patients as a heat map, or one of them with its controls."""
    paths = [path for path in sorted((run / "results" / "3_knn_evaluation").glob("*.csv")) if path.stem in COHORTS]
    if not paths:
        return ""
    results = pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)
    grouped = results[(results["protocol"] == "grouped") & ~results["cohort"].map(is_phantom)]
    if grouped.empty:
        return ""
    ten = grouped[grouped["model"].isin([model.id for model in TEN])]
    first = grouped[grouped["cohort"] == grouped["cohort"].iloc[0]]
    return figure(_all_cohorts(ten) if ten["cohort"].nunique() > 1 else _one_cohort(first))


def _all_cohorts(results: pd.DataFrame) -> plots.Shown:
    """Models of the study by cohorts; the caption counts which lead, it claims nothing else."""
    table = results.pivot(index="model", columns="cohort", values="auc")
    table = table.reindex(index=[model.id for model in TEN if model.id in table.index])
    known = [cohort.id for cohort in COHORTS]
    table = table[sorted(table, key=lambda name: known.index(name) if name in known else len(known))]
    best = {COHORTS.get(cohort).title: TEN.get(model).title for cohort, model in table.idxmax().items()}
    leaders = "; ".join(f"{cohort}: {model}" for cohort, model in best.items())
    table = table.rename(index={model.id: model.title for model in TEN})
    return plots.Shown(
        plots.auc_heatmap(table.rename(columns=lambda name: COHORTS.get(name).title)),
        "AUC of a nearest-neighbour vote, mean of ten patient-grouped splits; pale is chance. "
        f"{len(set(best.values()))} models lead on the {len(best)} cohorts: {leaders}. "
        "Intervals, and with them ties, are on the pages of results.",
        f"Heat map of AUC, models by cohorts. Highest: {leaders}.",
    )


def _one_cohort(results: pd.DataFrame) -> plots.Shown:
    cohort = COHORTS.get(results["cohort"].iloc[0])
    model, endpoint = results.iloc[0], cohort.endpoint(results["variant"].iloc[0])
    values = f"{model['auc']:.2f} ({model['low']:.2f} to {model['high']:.2f})"
    return plots.Shown(
        plots.auc_forest(results),
        f"{endpoint.title.capitalize()} of {model['n']} patients of {cohort.title}, told from embeddings of their "
        f"tumours: AUC {values}, chance is 0.5. Below, the same with voxels scrambled, inside the tumour or around it. "
        "A control that does as well as the model says that the model need not have read what was scrambled.",
        f"Dot plot of AUC with 95 % intervals. {model['title']}: {values}; then negative controls: "
        + "; ".join(f"{row.title} {row.auc:.2f}" for row in results.iloc[1:].itertuples()),
    )


def which_model(run: Path) -> str:
    """What the leaderboard of a run answers; of a run without one, the sentence that says so."""
    answers = run / "results" / run_profile.LEADERBOARD / "which_model.md"
    return answers.read_text() if answers.exists() else "*This run has no leaderboard.*\n"


def figure(shown: plots.Shown) -> str:
    """A figure as a raw HTML block of a Markdown page."""
    return f"```{{raw}} html\n{shown._repr_html_()}\n```\n"


def published_auc() -> str:
    """Table of the AUCs as published, models by cohorts."""
    auc = published.figures("auc").pivot(index="model", columns="cohort", values="auc")
    cohorts = [cohort for cohort in COHORTS if cohort.id in auc]
    rows = [
        [model.title, *(f"[{auc.loc[model.id, cohort.id]:.3f}]{{.tb-published}}" for cohort in cohorts)]
        for model in TEN
    ]
    return markdown_table(["model", *(cohort.title for cohort in cohorts)], rows)


def models_table(models: Iterable[Model | Control], columns: Sequence[str]) -> str:
    """Some columns of models as the registry has them."""
    table = cards.models_table(models)[["model", *columns]]
    return markdown_table(list(table), table.to_numpy().tolist())


def left_out(profile: dict) -> str:
    """A notice of the models whose pages this run lacks, since their weights are not installed; empty if none."""
    names = [MODELS.get(page).title for page in profile.get("left_out", [])]
    if not names:
        return ""
    return f'<p class="tb-notice">not in this run, as the weights are not installed: {", ".join(names)}</p>\n'


def cohorts_table() -> str:
    """The cohorts as the registry has them, a row an endpoint rule."""
    rows = []
    for cohort in STUDY:
        named = f"{cohort.title} {{cite}}`{cohort.citation}`"
        for variant, endpoint in (cohort.endpoints or {"–": None}).items():
            counts = f"{endpoint.positives:,} / {endpoint.negatives:,}" if endpoint else f"none: {cohort.size}"
            rule = endpoint.title if endpoint else "none: test-retest"
            rows.append([named, f"`{variant}`", counts, rule, cohort.anatomy, cohort.licence])
            named = ""  # its further rules stand below
    head = ["cohort", "variant", "positive / negative", "endpoint", "anatomy", "licence of images"]
    return markdown_table(head, rows)


if __name__ == "__main__":
    main()
