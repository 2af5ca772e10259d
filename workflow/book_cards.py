"""Cards of models and cohorts for a book: what the registries say, figures as published, pages of the run, a command.

Nothing is written down here that a registry or the run holds.
"""

from collections.abc import Sequence

import run_profile
from book_pages import Page

from tumorbench_utils import cards, pages, published
from tumorbench_utils.cohorts import COHORTS, STUDY, Cohort
from tumorbench_utils.models import MODELS, TEN, Control, Model

GRID = "::::{{grid}} 2 2 3 3\n:gutter: 2\n:class-container: tb-cards\n\n{}\n::::\n"
NONE = "no page in this run"


def models(run: Sequence[Page]) -> str:
    """All models and controls: a grid of links to their cards, then the cards."""
    links = [tile(model.title, f"model-{model.id}", dimensions(model)) for model in MODELS]
    return "\n".join([GRID.format("\n".join(links)), *(model_card(model, run) for model in MODELS)])


def cohorts(run: Sequence[Page]) -> str:
    """All cohorts: a grid of links to their cards, then the cards."""
    links = [tile(cohort.title, f"cohort-{cohort.id}", cohort.size) for cohort in COHORTS]
    return "\n".join([GRID.format("\n".join(links)), *(cohort_card(cohort, run) for cohort in COHORTS)])


def tile(title: str, target: str, text: str) -> str:
    """A small card that leads to a section of the page."""
    small = ":class-title: sd-fs-6\n:class-body: sd-p-2"
    return f":::{{grid-item-card}} {title}\n:link: {target}\n:link-type: ref\n{small}\n{text}\n:::"


def dimensions(model: Model | Control) -> str:
    count = len(model.names()) if isinstance(model, Control) else model.dim
    return f"{count:,} {'dimension' if count == 1 else 'dimensions'}"


def model_card(model: Model | Control, run: Sequence[Page]) -> str:
    """The section of one model."""
    there = [page for page in run if shows(page, model.id)]
    kind = "A model of the study. " if model.id in TEN else ""
    cited = f"Described in {{cite:t}}`{model.citation}`. " if model.citation else ""
    parts = [
        f"(model-{model.id})=\n### {model.title}",
        f"{kind}{cited}",
        f"**Pages**: {links(there, model.id)}.",
        published_auc("model", model.id),
        cards.card(model),
        how_to_run(model),
    ]
    return paragraphs(parts)


def shows(page: Page, model: str) -> bool:
    """Whether a page is about a model: it bears its name, or reads a table of its embeddings."""
    if page.stage in run_profile.BY_MODEL:
        return page.name == model
    names = [name.split(".")[0] for name in page.given.get("models", [])]
    return any(name == model or name.startswith(f"{model}_") for name in names)


def how_to_run(model: Model | Control) -> str:
    """One command that embeds the default cohorts with a model, and what it fetches."""
    command = f"papermill notebooks/{run_profile.EXTRACTION}.ipynb out.ipynb -p run runs/mine -p model {model.id}"
    checkpoint = getattr(model, "checkpoint", None)
    if getattr(model, "authors", None):
        command += ' -y "recipes: [benchmark, authors]"'
    if not checkpoint and isinstance(model, Model):
        command += " -p weights random"
    text = "To run it"
    if checkpoint:
        size = f" ({cards.size_of(checkpoint)})" if checkpoint.size else ""
        text = f"To run it with its weights{size}; with `-p weights random` it runs untrained"
    return f"{text}:\n\n```{{code-block}} bash\n{command}\n```"


def cohort_card(cohort: Cohort, run: Sequence[Page]) -> str:
    """The section of one cohort."""
    there = [page for page in run if cohort.id in run_profile.cohorts_of(page.given)]
    there = [page for page in there if page.stage != run_profile.EXTRACTION]
    kind = "A cohort of the study. " if cohort in STUDY else ""
    cited = f"Described in {{cite:t}}`{cohort.citation}`. " if cohort.citation else ""
    chosen = selection(cohort)
    parts = [
        f"(cohort-{cohort.id})=\n### {cohort.title}",
        f"{kind}{cited}",
        f"**Pages**: {links(there, cohort.id)}.",
        published_auc("cohort", cohort.id),
        pages.card(cohort) + (f"\n- **Selection**: {chosen}" if chosen else ""),
    ]
    return paragraphs(parts)


def selection(cohort: Cohort) -> str:
    """Which series or files of the source make up a cohort, and how much that is; "" if it has no source of images."""
    source = cohort.images
    if source is None:
        return ""
    if not hasattr(source, "collection"):
        return f"files {', '.join(f'`{each}`' for each in source.files)} of Zenodo record {source.record}"
    wanted = source.expected
    size = f" ({wanted.mask_gb:g} GB)" if wanted.mask_gb else ""
    masks = f", and {wanted.mask:,} masks{size}" if wanted.mask else ""
    text = f"{wanted.cases:,} cases of collection `{source.collection}`: {wanted.ct:,} CTs ({wanted.ct_gb:g} GB){masks}"
    return f"{text}; {source.note}" if source.note else text


def published_auc(of: str, name: str) -> str:
    """The study's AUCs of one model by cohort, or of one cohort by model, marked as published; "" if there are none."""
    other, registry = {"model": ("cohort", COHORTS), "cohort": ("model", MODELS)}[of]
    found = published.figures("auc").query(f"{of} == @name").set_index(other)["auc"]
    figures = [f"{each.title} [{found[each.id]:.3f}]{{.tb-published}}" for each in registry if each.id in found.index]
    return f"**AUC as published**: {', '.join(figures)}." if figures else ""


def links(there: Sequence[Page], card: str) -> str:
    """Links to pages under the headings of their notebooks, and what they are about if not that of the card."""
    words = [page.heading if page.name == card else f"{page.heading}: {page.subject}" for page in there]
    return ", ".join(page.link(text) for page, text in zip(there, words, strict=True)) or NONE


def paragraphs(parts: Sequence[str]) -> str:
    """Texts one after another, those that say nothing left out."""
    return "\n\n".join(part for part in parts if part) + "\n"
