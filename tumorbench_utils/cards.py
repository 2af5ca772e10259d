"""Sentences and tables on models: what one is, what it was filled with, and what its embeddings look like."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .diagnostics import COMPONENTS, FEWEST, LISTED, Comparison, Diagnosis
from .models.base import RECIPES, Checkpoint, Control, Model, Recipe
from .patches import AXES
from .plots.base import percent

if TYPE_CHECKING:
    from .models.loading import Weights

FEW = 30  # samples, below which figures of an embedding are those of the samples as much as of the model
COLLAPSED = 0.99  # median cosine similarity from which on samples lie in nearly one direction
GATED = {True: "yes", False: "no", None: "not known"}
NONE_KNOWN = ("none", "none known")
HUB = "https://huggingface.co"


def card(model: Model | Control) -> str:
    """What the registry says of a model, as Markdown: a list, the recipes in a table, and why these differ."""
    if isinstance(model, Control):
        return _control_card(model)
    year = f", {model.year}" if model.year else ""
    lines = [
        f"**{model.title}**{year} (`{model.id}`), {model.dim:,} dimensions.\n",
        *([] if model.overlap in NONE_KNOWN else [f"{_notice(f'pretraining overlap – {model.overlap}')}\n"]),
        f"- **Learnt by**: {model.objective}",
        f"- **Architecture**: {model.architecture}; {parameters(model)}",
        f"- **Pretraining data**: {model.pretraining}",
        *([f"- **Overlap with the cohorts**: {model.overlap}"] if model.overlap in NONE_KNOWN else []),
        f"- **Licence**: code {model.code_licence}; {_weights_licence(model)}",
        f"- **Weights**: {whereabouts(model.checkpoint)}",
    ]
    notes = [model.checkpoint.note if model.checkpoint else "", model.note]
    lines += [f"- **Note**: {_sentence(note)}" for note in notes if note]
    lines += ["", _markdown(recipe_table(model))]
    if model.differences:
        head = "Why the recipes differ:" if model.authors else "On the recipe:"
        lines += ["", f"{head}\n", *(f"- {_sentence(each)}" for each in model.differences)]
    return "\n".join(lines)


def _control_card(control: Control) -> str:
    names = control.names()
    shown = ", ".join(f"`{name}`" for name in names[:4]) + (", …" if len(names) > 4 else "")
    lines = [
        f"**{control.title}** (`{control.id}`), a control without a network; "
        f"{len(names):,} {'feature' if len(names) == 1 else 'features'}.\n",
        f"- **Made by**: {control.architecture}; {control.objective}",
        f"- **Features**: {shown}",
        f"- **Needs**: {'patch and mask' if control.needs_mask else 'the annotation table alone'}",
        f"- **Scale**: {'each feature standardised over the cohort' if control.standardise else 'as computed'}",
        f"- **Licence**: code {control.code_licence}",
    ]
    return "\n".join(lines + ([f"- **Note**: {_sentence(control.note)}"] if control.note else []))


def parameters(model: Model) -> str:
    """How many parameters the encoder has, and how many the paper counts, in words."""
    encoder, paper = model.parameters_encoder, model.parameters_paper
    found = f"{encoder:,.1f} million parameters in the encoder used" if encoder else "parameters not counted"
    return f"{found} ({paper:,.1f} million as the study counts)" if paper else found


def whereabouts(checkpoint: Checkpoint | None) -> str:
    """Where published weights lie, with file, size and hash, in Markdown."""
    if checkpoint is None:
        return "none; it runs untrained"
    pinned = checkpoint.revision not in ("", "main")
    revision = f" at `{checkpoint.revision[:12]}`" if pinned else ", revision not pinned" if checkpoint.repo else ""
    if checkpoint.repo:
        kind = "datasets/" if checkpoint.repo_type == "dataset" else ""
        place = f"[{checkpoint.repo}]({HUB}/{kind}{checkpoint.repo}) on Hugging Face{revision}"
    elif checkpoint.url:
        place = f"<{checkpoint.url}>"
    else:
        place = f"Python package `{checkpoint.package}`{revision}"
    size = size_of(checkpoint) if checkpoint.size else "size not known here"
    digest = f"SHA-256 `{checkpoint.sha256[:16]}…`" if checkpoint.sha256 else "hash not known here"
    return f"{place}, file `{checkpoint.file}`, {size}, {digest}"


def size_of(checkpoint: Checkpoint | None) -> str:
    """The size of a checkpoint's file; a dash if it is not known."""
    if checkpoint is None or not checkpoint.size:
        return "–"
    scale, unit = (1e9, "GB") if checkpoint.size >= 1e9 else (1e6, "MB")
    return f"{checkpoint.size / scale:.3g} {unit}"


def _weights_licence(model: Model) -> str:
    if model.checkpoint is None:
        return "no weights"
    gated = {True: ". **Gated**: terms must be accepted, and a token given", False: "; not gated"}
    return f"weights {model.weights_licence}{gated.get(model.checkpoint.gated, '')}"


def recipe_table(model: Model) -> pd.DataFrame:
    """The recipes of a model side by side; columns "recipe" (what a row is about), benchmark and, if any, authors."""
    recipes = {name: getattr(model, name) for name in RECIPES if getattr(model, name)}
    columns = {name: _recipe_rows(recipe) for name, recipe in recipes.items()}
    return pd.DataFrame(
        {"recipe": list(columns[RECIPES[0]]), **{name: rows.values() for name, rows in columns.items()}}
    )


def _recipe_rows(recipe: Recipe) -> dict[str, str]:
    spacing = spacing_of(recipe)
    field = [step * n for step, n in zip(spacing, recipe.size, strict=True)]
    beyond = "clamped" if recipe.clip else "carried on in a straight line"
    exact = recipe.geometry.sampling == "exact"
    return {
        "array axes lead to": ", ".join(recipe.axes),
        "spacing along them, mm": _times(spacing),
        "voxels": _times(recipe.size),
        "field of view, mm": _times(field),
        "seed point": "in the middle of the patch" if exact else "truncated to a voxel, as released",
        "HU → value": ", ".join(f"{hu:g} → {value:g}" for hu, value in recipe.window).replace("-", "−"),
        "beyond these": beyond,
        "padding, HU": f"{recipe.pad:g}".replace("-", "−"),
        "pooling": recipe.pooling,
        "dimensions": f"{recipe.dim:,}",
    }


def spacing_of(recipe: Recipe) -> tuple[float, ...]:
    """mm between voxels along the axes of the array that a recipe feeds; a geometry has them along x, y, z."""
    return tuple(recipe.geometry.spacing[AXES[way][0]] for way in recipe.axes)


def _times(values: Iterable[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def in_short(recipe: Recipe | None) -> str:
    """A recipe in a few words; a dash if there is none."""
    if recipe is None:
        return "–"
    low, high = recipe.window[0][0], recipe.window[-1][0]
    shape = f"{recipe.size[0]}³" if len(set(recipe.size)) == 1 else _times(recipe.size)
    spacing = spacing_of(recipe)
    step = f"{spacing[0]:g}" if len(set(spacing)) == 1 else _times(spacing)
    return f"{recipe.axes} {shape} at {step} mm, {low:g} to {high:g} HU".replace("-", "−")


def models_table(models: Iterable[Model | Control]) -> pd.DataFrame:
    """Models as the registry has them, a row each, as text for a page of the book (citations in MyST)."""
    return pd.DataFrame([_model_row(model) for model in models])


def _model_row(model: Model | Control) -> dict[str, str]:
    network = isinstance(model, Model)
    checkpoint = model.checkpoint if network else None
    year = f" ({model.year})" if network and model.year else ""
    cited = f" {{cite}}`{model.citation}`" if model.citation else ""
    numbers = (model.parameters_encoder, model.parameters_paper) if network else (None, None)
    encoder, paper = (f"{number:,.1f}" if number else "–" for number in numbers)
    return {
        "model": f"{model.title}{year}{cited}",
        "learnt by": model.objective,
        "architecture": model.architecture,
        "pretraining data": model.pretraining,
        "dimensions": f"{model.dim if network else len(model.names()):,}",
        "million parameters (paper)": f"{encoder} ({paper})" if numbers[1] else encoder,
        "licence of code": model.code_licence,
        "licence of weights": model.weights_licence,
        "gated": "–" if checkpoint is None else GATED[checkpoint.gated],
        "weights": "–" if checkpoint is None else checkpoint.repo or checkpoint.package or f"<{checkpoint.url}>",
        "size": size_of(checkpoint),
        "recipe: benchmark": in_short(model.benchmark) if network else "–",
        "recipe: authors": in_short(model.authors) if network else "–",
        "overlap with the cohorts": model.overlap,
    }


def weights_sentence(weights: Weights) -> str:
    """What an encoder was filled with, as Markdown; for random weights a notice that cannot be overlooked."""
    if weights.kind == "random":
        source = weights.source.removeprefix("untrained, ")
        text = f"untrained: weights as drawn at random ({source}). What follows tests the machinery; "
        return _notice(f"{text}it says nothing about trained weights.") + "\n"
    left = [f"{weights.dropped:,} left out by name" if weights.dropped else ""]
    left += [f"{weights.other:,} of other parts of the network" if weights.other else ""]
    rest = "; ".join(each for each in left if each) or "nothing left over"
    given = (
        _notice("weights given by hand: whose they are is not known here") + "\n\n" if weights.kind == "file" else ""
    )
    return given + (
        f"Weights from `{weights.source}`, SHA-256 `{weights.sha256[:16]}…`: {weights.loaded:,} tensors loaded, all "
        f"that the encoder has; {rest}."
    )


def findings(found: Diagnosis, name: str = "") -> list[str]:
    """What the diagnosis of an embedding says, a sentence each, opened by ``name``; without a verdict."""
    opening = f"{name}: " if name else ""
    points = [f"{_vectors(found)}{_few(found.samples, found.spectrum.limit)}"]
    if found.samples > 1:
        points += [_dead(found), _rank(found), _spread(found), _twins(found)]
    points += _size(found)
    points += [f"Not computed: {each}." for each in found.lacking]
    return [f"{opening}{point}" for point in points if point]


def _vectors(found: Diagnosis) -> str:
    some = f" ({found.samples:,} of them looked at, evenly spaced)" if found.samples < found.of else ""
    low, middle, high = (f"{value:.3g}" for value in np.quantile(found.norms, (0, 0.5, 1)))
    lengths = f"length {middle} (median; {low} to {high})" if found.samples > 1 else f"length {middle}"
    plural = "vector" if found.of == 1 else "vectors"
    return f"{found.of:,} {plural} of {found.dimensions:,} dimensions{some}, {lengths}."


def _few(samples: int, rank: int) -> str:
    if samples >= FEW:
        return ""
    bound = f"a rank is {rank:,} at most, and " if rank == samples - 1 else ""  # else the dimensions bound it
    return f" With {samples:,} the figures say little: {bound}much of {'the rest' if bound else 'them'} is chance."


def _dead(found: Diagnosis) -> str:
    constant, faint = len(found.dead.constant), len(found.dead.faint)
    if not constant and not faint:
        return "No dimension is constant over the samples."
    rest = f"; {faint:,} more hardly vary (below 1/1,000 of the usual spread)" if faint else ""
    return f"{constant:,} of {found.dimensions:,} dimensions are constant over the samples{rest}."


def _rank(found: Diagnosis) -> str:
    each = found.spectrum
    if not each.singular.any():
        return ""
    first = f"the first component has {percent(each.shares[0])} of the variance"
    return (
        f"Effective rank {each.effective_rank:.1f} of at most {each.limit:,} "
        f"(participation ratio {each.participation_ratio:.1f}); {first}."
    )


def _spread(found: Diagnosis) -> str:
    if len(found.cosines) == 1:
        return f"The cosine similarity of the two samples is {found.cosines[0]:.4f}."
    low, middle, high = (f"{value:.3f}" for value in np.quantile(found.cosines, (0.05, 0.5, 0.95)))
    text = f"Cosine similarity of two samples: median {middle}, 90 % of pairs from {low} to {high}"
    narrow = np.median(found.cosines) >= COLLAPSED
    return f"{text}{'; all lie in nearly one direction' if narrow else ''}."


def _twins(found: Diagnosis) -> str:
    if not found.twins:
        return "No two samples have the same vector (to 1e-6 in cosine)."
    shown = found.duplicates.head(3)
    names = "; ".join(f"{row.sample_a} and {row.sample_b}" for row in shown.itertuples())
    exact = int(found.duplicates["identical"].sum())
    least = "at least " if found.twins > LISTED and exact == LISTED else ""
    more = ", …" if found.twins > len(shown) else ""
    pairs = "pair" if found.twins == 1 else "pairs"
    return f"{found.twins:,} {pairs} cannot be told apart by cosine, {least}{exact:,} identical: {names}{more}."


def _size(found: Diagnosis) -> list[str]:
    if found.size.empty:
        return []
    values = found.size["spearman"].abs()
    most = found.size.loc[values.idxmax()]
    text = f"Component 1 and the tumour's volume: rank correlation {values.iloc[0]:.2f} without its sign"
    if most["component"] != 1:
        text += f"; of the first {min(COMPONENTS, len(values))} the highest is {values.max():.2f}, of component "
        text += f"{most['component']:.0f}"
    return [f"{text} ({most['samples']:.0f} samples)."]


def recipes_findings(compared: Comparison, name: str = "") -> list[str]:
    """What two embeddings of the same samples (benchmark and authors recipe) have in common, a sentence each."""
    opening = f"{name}: " if name else ""
    points = []
    if compared.k:
        points.append(
            f"Of the {compared.k} nearest neighbours of a sample the two recipes share {percent(compared.overlap)} "
            f"(unrelated embeddings: {percent(compared.chance)}; {compared.samples:,} samples)."
        )
    if np.isfinite(compared.cka_debiased):
        points.append(
            f"Linear CKA {compared.cka:.2f}; without the bias of few samples in many dimensions "
            f"{compared.cka_debiased:.2f}, where 0 is unrelated."
        )
    if np.isfinite(compared.spearman):
        points.append(f"Distances of pairs: Spearman {compared.spearman:.2f}, Pearson {compared.pearson:.2f}.")
    points += [f"Not computed: {each}." for each in compared.lacking]
    if compared.samples < FEWEST:
        points.append(f"{compared.samples:,} samples cannot tell recipes apart.")
    return [f"{opening}{point}" for point in points]


def timing_sentence(timings: pd.DataFrame) -> str:
    """How fast an extraction was and what memory it took; columns name, images, seconds, and where there are such
    forward_seconds and peak_bytes."""
    done = timings[(timings["images"] > 0) & (timings["seconds"] > 0)]
    if done.empty:
        return "Nothing was computed on this page: all embeddings were there already."
    # encoders of one pass share its wall time, waiting for the disk included
    passes = done.drop_duplicates([each for each in ("cohort", "pass_seconds") if each in done] or None)
    wall = "pass_seconds" if "pass_seconds" in done else "seconds"
    images, seconds = int(done["images"].sum()), float(passes[wall].sum())
    text = f"{images:,} patches in {seconds:,.1f} s, {images / seconds:,.3g} a second"
    timed = done[done["forward_seconds"].notna()] if "forward_seconds" in done else done.head(0)
    if len(timed):
        text += f", {percent(timed['forward_seconds'].sum() / seconds)} of the wall time in the network"
    peak = done.get("peak_bytes", pd.Series(dtype=float)).max()
    text += f"; memory grew by at most {peak / 1e9:.2g} GB" if peak > 0 else ""
    kept = len(timings) - len(done)
    tables = "table was" if kept == 1 else "tables were"
    return f"{text}." + (f" {kept:,} {tables} there already." if kept else "")


def _notice(text: str) -> str:
    return f'<p class="tb-notice">{html.escape(text)}</p>'


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _markdown(table: pd.DataFrame) -> str:
    lines = [list(table), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)
