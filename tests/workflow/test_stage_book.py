"""Staging of the book: today's prose over the outputs of the run, generated tables, contents, MathJax."""

import copy
import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import stage_book
import yaml

from tumorbench_utils import published
from tumorbench_utils.cohorts import COHORTS, STUDY
from tumorbench_utils.models import MODELS, TEN

ROOT = Path(__file__).parents[2]
STAGE, CURATION, EXTRACTION = "3_knn_evaluation", "1_data_curation", "2_embedding_extraction"
RESULTS = stage_book.PARTS[STAGE]
ROBUSTNESS, SALIENCY = "4_robustness", "5_saliency"
SOURCE = json.loads((ROOT / "notebooks" / f"{STAGE}.ipynb").read_text())
OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["what the run printed\n"]}
INJECTED = {
    "cell_type": "code",
    "id": "injected",
    "metadata": {"tags": ["injected-parameters"]},
    "execution_count": 4,
    "outputs": [],
    "source": ["# Parameters\n", "repeats = 3\n"],
}


def tags(cell):
    return cell["metadata"].get("tags", [])


def text(cell):
    return "".join(cell["source"])


def executed_notebook():
    """The notebook as papermill leaves it: counted, with outputs, the parameters given in a cell of their own."""
    notebook = copy.deepcopy(SOURCE)
    for number, cell in enumerate(notebook["cells"], 1):
        cell["metadata"]["papermill"] = {"status": "completed", "duration": 0.1}
        if cell["cell_type"] == "code":
            cell |= {"execution_count": number, "outputs": [OUTPUT]}
    place = next(number for number, cell in enumerate(notebook["cells"]) if "parameters" in tags(cell))
    notebook["cells"].insert(place + 1, copy.deepcopy(INJECTED))
    return notebook


@pytest.fixture
def staged():
    today = copy.deepcopy(SOURCE)
    prose = [cell for cell in today["cells"] if cell["cell_type"] == "markdown"]
    links = "See [a](../book/study.md), [b](../book/models.md#x), [c](workshop_2_size.ipynb).\n"
    prose[1]["source"] = ["## Corrected today\n", "\n", links]
    today["cells"].insert(3, {"cell_type": "markdown", "id": "new", "metadata": {}, "source": "New today."})
    last = next(cell for cell in reversed(today["cells"]) if cell["cell_type"] == "code")
    last["metadata"]["tags"] = ["remove-input"]
    return today, stage_book.with_prose(executed_notebook(), today, "A cohort")["cells"]


def test_what_is_not_shown_of_stderr_is_not_kept_either():
    executed, today = executed_notebook(), copy.deepcopy(SOURCE)
    noise = {"output_type": "stream", "name": "stderr", "text": ["a bar, or a path of this machine\n"]}
    for cell in executed["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [noise, OUTPUT]
    chosen = [cell for cell in today["cells"] if cell["cell_type"] == "code"][-2]
    chosen["metadata"]["tags"] = ["remove-stderr"]
    cells = {cell["id"]: cell for cell in stage_book.with_prose(executed, today, "A cohort")["cells"]}
    assert cells[chosen["id"]]["outputs"] == [OUTPUT]
    assert sum(noise in cell.get("outputs", []) for cell in cells.values()) > 3


def test_prose_is_of_today_and_in_its_place(staged):
    today, cells = staged
    kept = [cell for cell in cells if "injected-parameters" not in tags(cell)]
    assert [cell["id"] for cell in kept] == [cell["id"] for cell in today["cells"]]
    assert any(text(cell).startswith("## Corrected today") for cell in cells)
    assert any(text(cell) == "New today." for cell in cells)


def test_code_and_outputs_are_those_of_the_run(staged):
    _, cells = staged
    ran = {cell["id"]: cell for cell in executed_notebook()["cells"] if cell["cell_type"] == "code"}
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert {cell["id"] for cell in code} == set(ran)
    for cell in code:
        for key in ("source", "outputs", "execution_count"):
            assert cell[key] == ran[cell["id"]][key]


def test_tags_are_of_today(staged):
    _, cells = staged
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert tags(code[-1]) == ["remove-input"]


def test_the_title_names_the_subject(staged):
    _, cells = staged
    first, *rest = text(SOURCE["cells"][0]).replace("](../book/", "](../../").splitlines()
    assert first.startswith("# ")
    assert text(cells[0]).splitlines() == [f"{first}: A cohort", *rest]


def test_injected_parameters_follow_the_defaults_collapsed(staged):
    _, cells = staged
    place = next(number for number, cell in enumerate(cells) if "parameters" in tags(cell))
    assert cells[place + 1]["source"] == INJECTED["source"]
    assert tags(cells[place + 1]) == ["injected-parameters", "hide-input"]
    assert sum("injected-parameters" in tags(cell) for cell in cells) == 1


def test_links_lead_out_of_the_page_two_folders_up(staged):
    _, cells = staged
    prose = "\n".join(text(cell) for cell in cells if cell["cell_type"] == "markdown")
    assert "](../book/" not in prose
    assert "[a](../../study.md), [b](../../models.md#x), [c](../workshop_2_size/size.ipynb)" in prose
    for link in re.findall(r"\]\(\.\./\.\./([^)#]+)", prose):
        assert (ROOT / "book" / link).is_file(), link


def test_the_source_stays_as_it_is(staged):
    today, _ = staged
    assert not today["cells"][0]["source"][0].rstrip().endswith(": A cohort")


ONE_MODEL = {"fmcib_authors": 0.61, "fmcib_authors_shuffled_roi": 0.58}
TITLES = {"fmcib": "FMCIB", "vista3d": "VISTA3D", "fmcib_authors": "FMCIB (own recipe)"}


def results(cohort, aucs):
    """A table of results as the notebook writes it; ``aucs`` by model are those of the grouped protocol."""
    rows = [
        {
            "model": model,
            "protocol": protocol,
            "series": protocol,
            "auc": auc if protocol == "grouped" else 0.99,
            "low": 0.5,
            "high": 1.0,
            "title": TITLES.get(model, "tumour shuffled"),
            "cohort": cohort,
            "variant": "paper",
            "n": 400,
            "control": model not in TITLES,
        }
        for protocol in ("paper", "grouped")
        for model, auc in aucs.items()
    ]
    return pd.DataFrame(rows)


def prepared(run, **cohorts):
    """A run as far as staging looks at it, and its profile; AUCs by cohort and model."""
    for folder in ("results", "notebooks"):
        (run / folder / STAGE).mkdir(parents=True, exist_ok=True)
    for cohort, aucs in cohorts.items():
        table = results(cohort, aucs)
        table.to_csv(run / "results" / STAGE / f"{cohort}.csv", index=False)
        table.head(1).to_csv(run / "results" / STAGE / f"{cohort}.differences.csv", index=False)
        (run / "notebooks" / STAGE / f"{cohort}.ipynb").write_text(json.dumps(executed_notebook()))
    return {"pages": {STAGE: {cohort: {"cohort": cohort} for cohort in cohorts}}}


@pytest.fixture
def book(tmp_path):
    return stage_book.stage(tmp_path, prepared(tmp_path, nsclc_radiomics=ONE_MODEL))


def test_phantoms_are_no_headline(tmp_path):
    profile = prepared(tmp_path, nsclc_radiomics=ONE_MODEL, phantom_a=ONE_MODEL, phantom_b=ONE_MODEL)
    headline = stage_book.stage(tmp_path, profile) / "_generated" / "headline.md"
    assert "patients of NSCLC-Radiomics" in headline.read_text() and "PHANTOM" not in headline.read_text()
    shutil.rmtree(tmp_path / "results")
    headline = stage_book.stage(tmp_path, prepared(tmp_path, phantom_a=ONE_MODEL)) / "_generated" / "headline.md"
    assert headline.read_text() == ""


def test_the_answer_is_that_of_the_leaderboard_or_that_there_is_none(tmp_path):
    profile = prepared(tmp_path, nsclc_radiomics=ONE_MODEL)
    answer = stage_book.stage(tmp_path, profile) / "_generated" / "which_model.md"
    assert answer.read_text() == "*This run has no leaderboard.*\n"
    board = tmp_path / "results" / "7_leaderboard"
    board.mkdir()
    (board / "which_model.md").write_text("**None.**\n")
    stage_book.stage(tmp_path, profile)
    assert answer.read_text() == "**None.**\n"


def test_the_book_holds_the_prose_and_the_page(book):
    chapters = {path.name for path in (ROOT / "book").glob("*.md")}
    assert {path.name for path in book.glob("*.md")} == chapters
    page = json.loads((book / "notebooks" / STAGE / "nsclc_radiomics.ipynb").read_text())
    assert text(page["cells"][0]).splitlines()[0].endswith(": NSCLC-Radiomics")


def test_contents_are_filled_and_name_only_what_is_there(book):
    contents = yaml.safe_load((book / "_toc.yml").read_text())
    parts = {part["caption"]: [chapter["file"] for chapter in part["chapters"]] for part in contents["parts"]}
    assert parts[RESULTS] == [f"notebooks/{STAGE}/nsclc_radiomics"]
    for file in [contents["root"], *(file for files in parts.values() for file in files)]:
        assert any((book / f"{file}{suffix}").is_file() for suffix in (".md", ".ipynb")), file
    kept = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())["parts"]
    # a part without a page is none
    assert [part["caption"] for part in contents["parts"]] == [
        part["caption"] for part in kept if part["chapters"] or part["caption"] == RESULTS
    ]


CURATED, EXTRACTED = ["phantom", "luna16", "rider"], ["suprem", "volume"]


def with_pages(run, stage, pages):
    """Executed pages of a stage, each cell with an output."""
    folder = run / "notebooks" / stage
    folder.mkdir()
    executed = json.loads((ROOT / "notebooks" / f"{stage}.ipynb").read_text())
    for number, cell in enumerate(cell for cell in executed["cells"] if cell["cell_type"] == "code"):
        cell |= {"execution_count": number, "outputs": [OUTPUT]}
    for page in pages:
        (folder / f"{page}.ipynb").write_text(json.dumps(executed))


def test_pages_are_in_the_part_of_their_stage_under_the_names_of_their_subjects(tmp_path):
    profile = prepared(tmp_path, nsclc_radiomics=ONE_MODEL)
    with_pages(tmp_path, CURATION, CURATED)
    with_pages(tmp_path, EXTRACTION, EXTRACTED)
    curated, extracted = {page: {"cohort": page} for page in CURATED}, {page: {"model": page} for page in EXTRACTED}
    profile = {"pages": {CURATION: curated, EXTRACTION: extracted, **profile["pages"]}}
    book = stage_book.stage(tmp_path, profile)
    parts = {part["caption"]: part["chapters"] for part in yaml.safe_load((book / "_toc.yml").read_text())["parts"]}
    assert parts["The data"] == [
        {"file": f"notebooks/{CURATION}/{cohort}", "title": COHORTS.get(cohort).title} for cohort in CURATED
    ]
    assert parts["The embeddings"] == [
        {"file": f"notebooks/{EXTRACTION}/{model}", "title": MODELS.get(model).title} for model in EXTRACTED
    ]
    assert parts[RESULTS] == [{"file": f"notebooks/{STAGE}/nsclc_radiomics", "title": "NSCLC-Radiomics"}]
    known = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())["parts"]
    filled = ("The data", "The embeddings", RESULTS)
    assert list(parts) == [part["caption"] for part in known if part["chapters"] or part["caption"] in filled]
    for part, heading in (("The data", "Data curation"), ("The embeddings", "Embedding extraction")):
        for chapter in parts[part]:
            page = json.loads((book / f"{chapter['file']}.ipynb").read_text())
            assert text(page["cells"][0]).splitlines()[0] == f"# {heading}: {chapter['title']}"
            assert all((book / chapter["file"]).parent.joinpath(link).is_file() for link in links_of(page))


def test_pages_of_robustness_and_saliency_follow_the_results_under_their_subjects(tmp_path, monkeypatch):
    root = tmp_path / "root"
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    (root / "book").symlink_to(ROOT / "book")
    stages = {ROBUSTNESS: {"phantom_retest": "cohort"}, SALIENCY: {"astra": "model"}}
    profile = prepared(tmp_path, nsclc_radiomics=ONE_MODEL)
    for stage, pages in stages.items():
        (root / "notebooks" / f"{stage}.ipynb").write_text(json.dumps(SOURCE))
        (tmp_path / "notebooks" / stage).mkdir()
        for page, key in pages.items():
            (tmp_path / "notebooks" / stage / f"{page}.ipynb").write_text(json.dumps(executed_notebook()))
            profile["pages"].setdefault(stage, {})[page] = {key: page}
    monkeypatch.setattr(stage_book, "ROOT", root)
    book = stage_book.stage(tmp_path, profile)
    parts = {part["caption"]: part["chapters"] for part in yaml.safe_load((book / "_toc.yml").read_text())["parts"]}
    assert list(parts)[2:5] == [RESULTS, "Would it survive?", "Where does it look?"]
    titles = {ROBUSTNESS: COHORTS.get("phantom_retest").title, SALIENCY: MODELS.get("astra").title}
    for stage, caption in ((ROBUSTNESS, "Would it survive?"), (SALIENCY, "Where does it look?")):
        (page,) = stages[stage]
        assert parts[caption] == [{"file": f"notebooks/{stage}/{page}", "title": titles[stage]}]
        shown = json.loads((book / "notebooks" / stage / f"{page}.ipynb").read_text())
        assert text(shown["cells"][0]).splitlines()[0].endswith(f": {titles[stage]}")


def test_a_page_of_cohorts_bears_its_title_and_the_page_of_the_whole_run_its_own_heading(tmp_path, monkeypatch):
    root, external, board = tmp_path / "root", "3c_external_validation", "7_leaderboard"
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    (root / "book").symlink_to(ROOT / "book")
    profile = prepared(tmp_path, nsclc_radiomics=ONE_MODEL)
    for stage, page, given in ((external, "mine", {"title": "malignancy of nodules"}), (board, "leaderboard", {})):
        (root / "notebooks" / f"{stage}.ipynb").write_text(json.dumps(SOURCE))
        (tmp_path / "notebooks" / stage).mkdir()
        (tmp_path / "notebooks" / stage / f"{page}.ipynb").write_text(json.dumps(executed_notebook()))
        profile["pages"][stage] = {page: given}
    monkeypatch.setattr(stage_book, "ROOT", root)
    book = stage_book.stage(tmp_path, profile)
    parts = {part["caption"]: part["chapters"] for part in yaml.safe_load((book / "_toc.yml").read_text())["parts"]}
    assert parts["In another hospital"] == [{"file": f"notebooks/{external}/mine", "title": "malignancy of nodules"}]
    assert parts["The answer"] == [{"file": f"notebooks/{board}/leaderboard"}, {"file": "which_model"}]
    heads = [
        text(json.loads((book / "notebooks" / stage / f"{page}.ipynb").read_text())["cells"][0]).splitlines()[0]
        for stage, page in ((external, "mine"), (board, "leaderboard"))
    ]
    own = text(SOURCE["cells"][0]).splitlines()[0]
    assert heads == [f"{own}: malignancy of nodules", own]


def test_exercises_follow_the_chapter_on_teaching_in_their_order(tmp_path):
    toc, part = tmp_path / "_toc.yml", stage_book.TEACH
    toc.write_text(yaml.safe_dump({"root": "intro", "parts": [
        {"caption": part, "chapters": [{"file": "teach"}]}, {"caption": RESULTS, "chapters": [{"file": "own"}]},
    ]}))  # fmt: skip
    stages = ["workshop_1_leakage", "workshop_2_size", STAGE]
    pages = [stage_book.Page(stage, "page", {}, part=stage_book.PARTS[stage]) for stage in stages]
    stage_book.fill_contents(toc, pages)
    files = [[chapter["file"] for chapter in each["chapters"]] for each in yaml.safe_load(toc.read_text())["parts"]]
    assert files == [
        ["teach", "notebooks/workshop_1_leakage/page", "notebooks/workshop_2_size/page"],
        [f"notebooks/{STAGE}/page", "own"],
    ]
    assert [stage_book.subject(stage, "page", {}) for stage in stages[:2]] == ["", ""]


def links_of(page):
    prose = "\n".join(text(cell) for cell in page["cells"] if cell["cell_type"] == "markdown")
    found = re.findall(r"\]\((\.\./[^)#]+)", prose)
    assert found
    return found


# What does not apply to a page is not shown


def markdown(source):
    return {"cell_type": "markdown", "id": source, "metadata": {}, "source": [source]}


def code(name, outputs=0, hidden=True, ran=True):
    tags = ["hide-input"] if hidden else []
    cell = {"cell_type": "code", "id": name, "metadata": {"tags": tags}, "source": [name]}
    return cell | ({"outputs": [OUTPUT] * outputs, "execution_count": 1} if ran else {})


def kept(*cells):
    sections = stage_book.sections(list(cells))
    assert [cell for section in sections for cell in section] == list(cells)
    return [cell["id"] for section in sections for cell in stage_book.told(section)]


def test_a_section_without_outputs_is_dropped_with_its_words():
    page = [markdown("# Title"), markdown("## Full"), code("a", 1), markdown("## Empty"), code("b"), markdown("more")]
    assert kept(*page, markdown("## Last"), code("c", 2)) == ["# Title", "## Full", "a", "## Last", "c"]


def test_hidden_code_without_output_is_dropped_and_other_code_is_not():
    page = [markdown("## One"), code("makes"), code("shown", hidden=False), code("draws", 1), code("nothing")]
    assert kept(*page) == ["## One", "shown", "draws"]


def test_open_code_alone_does_not_keep_a_section():
    assert kept(markdown("## One"), code("a", hidden=False), code("b")) == []


def test_text_alone_stays():
    page = [markdown("# Title"), markdown("## Limits"), markdown("- one"), markdown("## More"), markdown("text")]
    assert kept(*page) == ["# Title", "## Limits", "- one", "## More", "text"]


def test_what_comes_before_the_first_section_stays():
    page = [markdown("# Title"), code("install"), code("parameters"), markdown("### Sub"), code("check")]
    assert kept(*page, markdown("## One"), code("a")) == ["# Title", "install", "parameters", "### Sub", "check"]


def test_a_heading_of_third_level_does_not_begin_a_section():
    assert kept(markdown("## One"), code("a", 1), markdown("### Sub"), markdown("text")) == [
        "## One", "a", "### Sub", "text",
    ]  # fmt: skip


def test_cells_alike_are_told_apart():
    empty = code("same")
    assert kept(markdown("## One"), code("same"), code("x", 1), empty, markdown("same")) == ["## One", "x", "same"]


def test_a_page_of_curation_without_images_ends_with_its_limits():
    """The prose of masks and banks goes with their figures; that of the limits stays."""
    source = json.loads((ROOT / "notebooks" / f"{CURATION}.ipynb").read_text())
    executed = copy.deepcopy(source)
    imaged = re.compile("built|measured")
    for cell in executed["cells"]:
        if cell["cell_type"] == "code":
            about = imaged.search(text(cell)) and not re.search("summary", text(cell))
            cell |= {"execution_count": 1, "outputs": [] if about else [OUTPUT]}
    cells = stage_book.with_prose(executed, source, "RIDER")["cells"]
    headings = re.findall(r"^## .*", "\n".join(text(cell) for cell in cells), re.MULTILINE)
    assert "## The patch bank" not in headings and "## From mask to seed point" not in headings
    assert headings[0] == "## The cohort" and headings[-1] == "## Limits"
    assert all(cell["outputs"] for cell in cells if "hide-input" in tags(cell))


def test_the_part_of_mathjax_that_pages_need_is_there(book):
    config = yaml.safe_load((book / "_config.yml").read_text())
    script = book / "_static" / config["sphinx"]["config"]["mathjax_path"]
    assert script.stat().st_size > 500_000
    fonts = list(script.parent.glob("output/chtml/fonts/woff-v2/*.woff"))
    assert len(fonts) > 20


def test_a_second_staging_leaves_nothing_of_the_first(book, tmp_path):
    (book / "left_over.md").write_text("# Left over\n")
    assert stage_book.stage(tmp_path, prepared(tmp_path, nsclc_radiomics=ONE_MODEL)) == book
    assert not (book / "left_over.md").exists()


def test_the_first_page_shows_one_cohort_with_its_controls(book):
    shown = (book / "_generated" / "headline.md").read_text()
    assert shown.startswith("```{raw} html\n<figure")
    assert "NSCLC-Radiomics" in shown
    assert "FMCIB (own recipe): 0.61 (0.50 to 1.00)" in shown  # grouped, not the 0.99 of the other protocol
    assert "tumour shuffled 0.58" in shown
    assert "0.99" not in shown


def test_the_first_page_shows_the_study_s_models_on_several_cohorts(tmp_path):
    luna = {"fmcib": 0.81, "vista3d": 0.72}
    nsclc = {"fmcib_authors": 0.77, "fmcib_authors_shuffled_roi": 0.78, "fmcib": 0.56, "vista3d": 0.63}
    book = stage_book.stage(tmp_path, prepared(tmp_path, nsclc_radiomics=nsclc, luna16=luna))
    shown = (book / "_generated" / "headline.md").read_text()
    assert "Heat map of AUC" in shown
    assert "2 models lead on the 2 cohorts: LUNA16: FMCIB; NSCLC-Radiomics: VISTA3D." in shown
    cells = set(re.findall(r">(0\.\d\d)</text>", shown))
    assert {"0.81", "0.72", "0.56", "0.63"} <= cells
    assert not {"0.77", "0.78", "0.99"} & cells


def table(markdown):
    """Head and rows of a Markdown table."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    head, rule, *rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert set("".join(rule)) == {"-"}
    assert all(len(row) == len(head) for row in rows)
    return head, rows


def test_published_auc_is_the_package_data_and_marked_as_published():
    head, rows = table(stage_book.published_auc())
    study = published.figures("auc").set_index(["model", "cohort"])["auc"]
    cohorts = [cohort for cohort in COHORTS if cohort.title in head]
    assert head == ["model", *(cohort.title for cohort in cohorts)]
    assert len(cohorts) == 6
    assert [row[0] for row in rows] == [model.title for model in TEN]
    assert len(rows) * len(cohorts) == len(study) == 60
    for model, row in zip(TEN, rows, strict=True):
        for cohort, cell in zip(cohorts, row[1:], strict=True):
            value = re.fullmatch(r"\[(\d\.\d{3})\]\{\.tb-published\}", cell)
            assert value, (model.id, cohort.id, cell)
            assert float(value[1]) == pytest.approx(study[model.id, cohort.id], abs=0.0005 + 1e-9)


def test_the_study_s_best_figure_is_where_it_belongs():
    head, rows = table(stage_book.published_auc())
    values = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert values["FMCIB"]["LUNA16"] == "[0.886]{.tb-published}"
    assert values["VISTA3D"]["NSCLC-Radiomics"] == "[0.583]{.tb-published}"


def test_models_tables_have_all_ten_and_every_licence():
    for name, columns in stage_book.MODEL_TABLES.items():
        head, rows = table(stage_book.models_table(TEN, columns))
        assert len(rows) == len(TEN) == 10 and head == ["model", *columns], name
        for model, row in zip(TEN, rows, strict=True):
            assert row[0] == f"{model.title} ({model.year}) {{cite}}`{model.citation}`"
    head, rows = table(stage_book.models_table(TEN, ["dimensions", "licence of weights"]))
    assert [row[1:] for row in rows] == [[f"{model.dim:,}", model.weights_licence] for model in TEN]


def test_tables_of_models_hold_every_column():
    shown = [column for columns in stage_book.MODEL_TABLES.values() for column in columns]
    assert sorted(["model", *shown]) == sorted(stage_book.cards.models_table(TEN))


def test_further_models_are_named_by_their_titles():
    _, rows = table(stage_book.models_table((model for model in MODELS if model.id not in TEN), ["weights"]))
    assert [row[0].split(" ")[0] for row in rows] == ["Astra", "Random", "Tumour", "Radiomics"]


def test_models_that_a_run_lacks_are_named():
    assert stage_book.left_out({"pages": {}}) == ""
    assert "Astra" in stage_book.left_out({"left_out": ["astra"]})


def test_cohorts_table_has_every_endpoint_rule():
    head, rows = table(stage_book.cohorts_table())
    counts = head.index("positive / negative")
    found, title = {}, ""
    for row in rows:
        title = row[0].split(" {cite}")[0].strip() or title  # a cohort is named in its first row
        found[title, row[head.index("variant")].strip("`")] = row[counts]
    for cohort in STUDY:
        for variant, endpoint in cohort.endpoints.items():
            assert found.pop((cohort.title, variant)) == f"{endpoint.positives:,} / {endpoint.negatives:,}"
    assert [title for title, _ in found] == [cohort.title for cohort in STUDY if not cohort.endpoints]


def test_works_cited_in_tables_are_in_the_bibliography():
    known = set(re.findall(r"@\w+\{([^,]+),", (ROOT / "book" / "references.bib").read_text()))
    cited = re.findall(r"\{cite\}`([^`]+)`", stage_book.models_table(MODELS, ["weights"]) + stage_book.cohorts_table())
    assert len(cited) >= 17
    assert set(cited) <= known


def test_a_bar_in_a_cell_does_not_end_it():
    head, rows = table(stage_book.markdown_table(["a", "b"], [["x|y", "z"]]))
    assert (head, rows) == (["a", "b"], [["x/y", "z"]])
