"""The cards of the book say what registries and figures as published hold, and link to what the run has."""

import re

import book_cards
import pytest
import run_profile
from book_pages import Page

from tumorbench_utils import published
from tumorbench_utils.cohorts import COHORTS, STUDY
from tumorbench_utils.models import MODELS, TEN, Control

RUN = [
    Page(run_profile.CURATION, "luna16", {"cohort": "luna16"}, "Data curation", "LUNA16"),
    Page(run_profile.EXTRACTION, "ct_fm", {"model": "ct_fm", "cohorts": ["luna16"]}, "Embedding extraction", "CT-FM"),
    Page(run_profile.SALIENCY, "ct_fm", {"model": "ct_fm", "cohorts": ["luna16"]}, "Saliency", "CT-FM"),
    Page(
        run_profile.EVALUATION,
        "dlcs",
        {"cohort": "dlcs", "models": ["fmcib_authors", "ct_fm.benchmark"]},
        "kNN",
        "DLCS",
    ),
    Page(run_profile.EXTERNAL, "both", {"cohorts": ["luna16", "dlcs"]}, "External validation", "malignancy"),
    Page(run_profile.LEADERBOARD, "leaderboard", {}, "Leaderboard"),
]


def sections(text):
    """Texts of the cards by the target of their headings."""
    parts = re.split(r"^\(((?:model|cohort)-\w+)\)=\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_model_and_cohort_has_a_card_and_a_tile_that_leads_to_it():
    for text, registry, kind in (
        (book_cards.models(RUN), MODELS, "model"),
        (book_cards.cohorts(RUN), COHORTS, "cohort"),
    ):
        found = sections(text)
        assert list(found) == [f"{kind}-{each.id}" for each in registry]
        assert re.findall(r"^:link: (.*)", text, re.MULTILINE) == list(found)
        for each in registry:
            assert found[f"{kind}-{each.id}"].startswith(f"### {each.title}\n\n")
            assert f":::{{grid-item-card}} {each.title}\n" in text


def test_cards_link_to_the_pages_of_the_run_and_say_where_there_are_none():
    models, cohorts = sections(book_cards.models(RUN)), sections(book_cards.cohorts(RUN))
    both = "[Embedding extraction](notebooks/2_embedding_extraction/ct_fm.ipynb), [Saliency](notebooks/5_saliency/"
    judged = "[kNN: DLCS](notebooks/3_knn_evaluation/dlcs.ipynb)"
    assert f"**Pages**: {both}ct_fm.ipynb), {judged}." in models["model-ct_fm"]
    assert f"**Pages**: {judged}." in models["model-fmcib"]
    assert "**Pages**: no page in this run." in models["model-voco"]
    curated = "[Data curation](notebooks/1_data_curation/luna16.ipynb)"
    external = "[External validation: malignancy](notebooks/3c_external_validation/both.ipynb)"
    maps = "[Saliency: CT-FM](notebooks/5_saliency/ct_fm.ipynb)"
    assert f"**Pages**: {curated}, {maps}, {external}." in cohorts["cohort-luna16"]
    assert f"**Pages**: [kNN](notebooks/3_knn_evaluation/dlcs.ipynb), {external}." in cohorts["cohort-dlcs"]
    assert "**Pages**: no page in this run." in cohorts["cohort-rider"]
    assert "leaderboard" not in "".join([*models.values(), *cohorts.values()])


def test_figures_as_published_are_those_of_the_study_and_marked():
    models, cohorts = sections(book_cards.models(RUN)), sections(book_cards.cohorts(RUN))
    study = published.figures("auc")
    shown = {
        (kind, name): len(re.findall(r"\[\d\.\d{3}]\{\.tb-published}", text))
        for kind, found in (("model", models), ("cohort", cohorts))
        for name, text in found.items()
    }
    for kind in ("model", "cohort"):
        counts = study[kind].value_counts()
        assert {name.partition("-")[2]: n for (each, name), n in shown.items() if each == kind and n} == dict(counts)
    assert "LUNA16 [0.886]{.tb-published}" in models["model-fmcib"]
    assert "FMCIB [0.886]{.tb-published}" in cohorts["cohort-luna16"]


def test_overlap_licences_and_recipes_are_on_the_card():
    found = sections(book_cards.models(RUN))
    assert "pretraining overlap" in found["model-models_genesis"] and "tb-notice" in found["model-models_genesis"]
    for model in TEN:
        text = found[f"model-{model.id}"]
        assert f"A model of the study. Described in {{cite:t}}`{model.citation}`." in text
        assert f"code {model.code_licence}; weights {model.weights_licence}" in text
        assert "| array axes lead to |" in text and f"`{model.checkpoint.file}`" in text
        assert ("**Gated**" in text) == (model.checkpoint.gated is True)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_the_command_of_a_model_names_parameters_that_its_notebook_has(model):
    import nbformat

    text = book_cards.how_to_run(model)
    command = re.search(r"```\{code-block} bash\n(papermill .*)\n```", text)[1]
    notebook = nbformat.read(run_profile.NOTEBOOKS.parent / command.split()[1], as_version=4)
    known = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    for name in re.findall(r'-p (\w+)|-y "(\w+):', command):
        assert re.search(rf"^{''.join(name)} = ", known, re.MULTILINE), name
    assert f"-p model {model.id}" in command
    trained = not isinstance(model, Control) and model.checkpoint
    assert ("-p weights random" in command) == (not isinstance(model, Control) and not trained)
    assert ("authors" in command) == bool(getattr(model, "authors", None))


def test_a_cohort_shows_selection_labels_and_counts():
    found = sections(book_cards.cohorts(RUN))
    text = found["cohort-nsclc_radiogenomics"]
    assert "A cohort of the study. " in text and "variant `two_year`" in text
    assert "105 positive, 28 negative" in text and "93 positive, 51 negative" in text
    assert "144 cases of collection `nsclc_radiogenomics`: 149 CTs (21 GB), and 144 masks (0.9 GB); 67 of" in text
    assert "of Zenodo record 10782890" in found["cohort-dlcs"] and "**Endpoint**: none" in found["cohort-rider"]
    assert "tb-notice" in found["cohort-phantom"] and "**Selection**" not in found["cohort-phantom"]
    for cohort in STUDY:
        assert cohort.doi in found[f"cohort-{cohort.id}"] and cohort.licence in found[f"cohort-{cohort.id}"]
        assert cohort.seed_rule in found[f"cohort-{cohort.id}"]
