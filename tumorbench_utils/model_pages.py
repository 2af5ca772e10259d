"""Figures with their captions, and the closing sentences, of the page of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from . import bank, cards, plots, tables
from .cohorts import COHORTS, is_phantom
from .diagnostics import Comparison, Diagnosis
from .models import Control, Described, Encoder, Model
from .patches import AIR, AXES
from .plots import Shown
from .plots.base import percent

SOFT_TISSUE = (40, 400)  # centre and width, HU
STRICT = (
    "A checkpoint is loaded strictly: every tensor of the encoder is filled from the file, or the page stops and lists "
    "what is missing. The file's hash goes into every table that is made with it."
)
# a control's patch, by whether it needs the mask
CONTROLS = {True: "What the control is computed from", False: "To look at, not used by the control"}
DEVICES = {"cpu": "the CPU", "cuda": "a GPU (CUDA)", "mps": "a GPU (MPS)"}
titled = tables.titled  # the names of embedding tables, as all pages call them


def mark(encoder: Encoder | Described, cohort: str = "") -> str:
    """What every figure of an embedding bears: phantom data, untrained weights, both or none ("")."""
    untrained = isinstance(encoder, Encoder) and encoder.weights.kind == "random"
    return ", ".join([*(["phantom"] if is_phantom(cohort) else []), *(["untrained"] if untrained else [])])


def named(cohort: str) -> str:
    """The title of a cohort; of one that the registry lacks its name."""
    return COHORTS.get(cohort).title if cohort in COHORTS else cohort


def weights(encoder: Encoder | Described) -> str:
    """What an encoder was filled with, as Markdown; of a checkpoint, how it was loaded."""
    if isinstance(encoder, Described):
        return "*A control has no weights.*"
    told = cards.weights_sentence(encoder.weights)
    return told if encoder.weights.kind == "random" else f"{told}\n\n{STRICT}"


def source(encoder: Encoder | Described) -> str:
    """Where the weights of an encoder come from, without the folder of a file; "none" for a control."""
    return "none" if isinstance(encoder, Described) else encoder.weights.source


def fed(source: Model | Control) -> str:
    """How a patch becomes numbers: by two recipes, by one, or by a control that has no network and so no recipe."""
    if isinstance(source, Control):
        return "A control has no network, no weights and no recipe; what it is computed from stands below."
    if source.authors is None:
        return "One recipe, `benchmark`: the patch as the study's pipeline cuts it, in the axes and window named below."
    return (
        "Two recipes: `benchmark` is what the released code of the study did, oddities included, so that its numbers "
        "can be repeated; `authors` is what the model's authors prescribe."
    )


def planes(source: Model | Control) -> str:
    """What the rows of the figure of a patch are: as fed and in HU, or of a control in HU alone."""
    if isinstance(source, Control):
        return "The patch in HU, as a radiologist looks at it. No network is fed here."
    return (
        "Above, the numbers that enter the network, with its own axes and window; below, the same patch as a "
        "radiologist looks at it. What is washed out above, the model has to tell apart in a fraction of its range."
    )


def whole(run: str | Path, cohort: str, encoders: Sequence[Encoder | Described]) -> str:
    """The first sample of a cohort whose patch the border of the image cuts off for none of the encoders, if any."""
    banks = [bank.Bank(bank.path_of(run, cohort, each.geometry.id)) for each in encoders]
    seeds = pd.concat([each.rows[each.rows["trial"] == 0] for each in banks])
    cut = seeds.groupby("sample_id", sort=False)["clamped"].any()
    return cut.sort_values(kind="stable").index[0]


def seen(run: str | Path, cohort: str, encoder: Encoder | Described, sample_id: str) -> Shown:
    """The patch of a sample in three planes: as the encoder sees it, and in HU, with the outline of the mask."""
    control, geometry = isinstance(encoder, Described), encoder.geometry
    size, axes, pad = (
        (geometry.size, "RAS", AIR) if control else (encoder.recipe.size, encoder.recipe.axes, encoder.recipe.pad)
    )
    found = bank.Bank(bank.path_of(run, cohort, geometry.id))
    row = next(found.rows[found.rows["sample_id"] == sample_id].itertuples())
    hu, mask = found.patch(row, size, axes, pad), found.mask(row, size, axes)
    values, limits = (None, None) if control else _scaled(encoder, hu)
    marked = "phantom" if is_phantom(cohort) else ""  # weights play no part in it
    figure = plots.seen(hu, axes, geometry, values, limits=limits, mask=mask, window=SOFT_TISSUE, mark=marked)
    steps = (geometry.spacing[AXES[way][0]] for way in axes)
    field = " × ".join(f"{step * n:g}" for step, n in zip(steps, size, strict=True))
    how = f"Recipe {encoder.recipe_name}" if not control else CONTROLS[encoder.control.needs_mask]
    what = f"{how}: patch of {row.sample_id}, {field} mm along {axes}, in three planes through the seed point (cross)"
    outline = "" if mask is None else "; line: outline of the mask"
    alt = f"Three planes through the tumour {row.sample_id}" + ("." if control else ", twice: as fed, and in HU.")
    return Shown(figure, f"{what}{outline}.", alt, marked)


def _scaled(encoder: Encoder, hu: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """A patch as the recipe scales it, and the values that its window leads to."""
    import torch

    values = encoder.recipe.scaled(torch.from_numpy(np.ascontiguousarray(hu))).numpy()
    return values, (encoder.recipe.window[0][1], encoder.recipe.window[-1][1])


def remembered(timings: pd.DataFrame, path: str | Path) -> pd.DataFrame:
    """``timings``, those of tables that were there already as an earlier run of the page measured and kept them."""
    if not Path(path).exists() or not (timings["images"] == 0).any():
        return timings
    before = pd.read_csv(path)
    before = before[before["images"] > 0].set_index(["name", "cohort"])
    keys = pd.MultiIndex.from_frame(timings[["name", "cohort"]])
    known = (timings["images"] == 0).to_numpy() & keys.isin(before.index)
    kept = before.loc[keys[known]].reset_index()
    return pd.concat([timings[~known], kept], ignore_index=True)


def throughput(
    timings: pd.DataFrame, encoder: Encoder | Described, titles: Mapping[str, str] = MappingProxyType({})
) -> Shown | None:
    """How fast the patches were embedded; None if that is not known. ``timings`` has a column cohort.

    ``titles`` are those of the embedding tables, by name.
    """
    done = timings[timings["images"] > 0]
    if done.empty:
        return None
    done = done.assign(name=[titles.get(name, name) for name in done["name"]])
    rates = "; ".join(
        f"{row.name}, {named(row.cohort)}: {row.images / row.seconds:.3g} patches a second"
        for row in done.itertuples(index=False)
    )
    where = ""
    if not isinstance(encoder, Described):
        where = f" On {DEVICES.get(encoder.device.type, encoder.device.type)}, {encoder.precision}."
    if "peak_bytes" in done and encoder.device.type != "cuda":  # that of the process, which encoders share
        done = done.drop(columns="peak_bytes")
    computed = done["cohort"].map(is_phantom)
    words = ["phantom" if computed.all() else "partly phantom"] if computed.any() else []
    marked = ", ".join(filter(None, [*words, mark(encoder)]))
    done = done.assign(name=done["name"] + ", " + done["cohort"].map(named)).drop(columns="cohort")  # a label wraps
    caption = f"Speed, in patches a second, by embedding and cohort. In all {cards.timing_sentence(timings)}{where}"
    return Shown(plots.throughput(done), caption, f"Bars. {rates}.", marked)


def spectrum(found: Mapping[str, Diagnosis], cohort: str, marked: str) -> Shown:
    """Spectrum, norms and similarities of embeddings of a cohort."""
    ranks = "; ".join(f"{name}: {_rank(each)}" for name, each in found.items())
    caption = (
        f"Embeddings of {named(cohort)}. Share of the variance by component (dashed: effective rank), lengths of the "
        f"vectors, and cosine similarity of all pairs. Effective ranks: {ranks}."
    )
    return Shown(plots.spectrum(found), caption, f"Variance by component, lengths, similarities. {ranks}.", marked)


def _rank(found: Diagnosis) -> str:
    rank = found.spectrum.effective_rank
    return "none" if np.isnan(rank) else f"{rank:.1f} of at most {found.spectrum.limit:,}"


def twins(found: Mapping[str, Diagnosis]) -> pd.DataFrame:
    """Pairs of samples that an embedding cannot tell apart, as a page shows them: sample, and, cosine, embedding."""
    columns = {"sample_a": "sample", "sample_b": "and"}
    parts = [each.duplicates.rename(columns=columns).assign(embedding=name) for name, each in found.items()]
    table = pd.concat(parts, ignore_index=True)
    same = table.pop("identical").to_numpy(bool)
    table["cosine"] = [
        "same numbers" if one else f"{value:.6f}" for one, value in zip(same, table["cosine"], strict=True)
    ]
    return table[["sample", "and", "cosine", "embedding"]]


def projection(found: Diagnosis, annotations: pd.DataFrame, cohort: str, marked: str, name: str) -> Shown:
    """The first two principal components of the embedding ``name``, by label and by volume."""
    shares = " and ".join(map(percent, found.spectrum.shares[:2]))
    caption = (
        f"{name}: the first two principal components of {found.samples:,} tumours of {named(cohort)} ({shares} of the "
        "variance), coloured by label (left) and by volume (right), where these are known."
    )
    alt = f"Scatter plots of two principal components, {shares} of the variance, by label and by volume."
    return Shown(plots.projection(found, annotations), caption, alt, marked)


def recipes(compared: Comparison, names: Sequence[str], marked: str) -> Shown:
    """Whether two recipes give the same neighbours and distances."""
    if not compared.k:
        caption = f"{compared.samples:,} samples are too few to compare recipes."
        return Shown(plots.recipes(compared, tuple(names)), caption, caption, marked)
    shared = f"of {compared.k} nearest neighbours {percent(compared.overlap)} are shared, "
    shared += f"{percent(compared.chance)} by chance"
    caption = (
        f"Recipe {names[0]} against {names[1]}, the same tumours and weights: {shared} (above); cosine distances of "
        "pairs under both (below)."
    )
    return Shown(plots.recipes(compared, tuple(names)), caption, f"Histogram and scatter plot: {shared}.", marked)


def findings(
    found: Mapping[str, Diagnosis], compared: Comparison | None, lost: pd.DataFrame, cohort: str, marked: str
) -> str:
    """What the page shows, as a Markdown list of lists, each of which bears the mark."""
    parts = {f"{name} on {named(cohort)}": cards.findings(each) for name, each in found.items()}
    if compared is not None:
        parts["Benchmark against authors"] = cards.recipes_findings(compared)
    seeds = len(lost.drop_duplicates(["cohort", "sample_id", "trial"])) if len(lost) else 0
    parts["Left out"] = [
        f"{seeds:,} seed points have no vector." if seeds else "Nothing: every seed point has its vector."
    ]
    opening = f"{marked.upper()}: " if marked else ""
    lines = [[f"- **{opening}{title}**", *(f"  - {point}" for point in points)] for title, points in parts.items()]
    return "\n".join(line for part in lines for line in part)


def tidy(
    model: Model | Control, found: Mapping[str, Diagnosis], compared: Comparison | None, cohort: str
) -> pd.DataFrame:
    """Everything on the page that is one number: model, cohort, embedding, quantity, value."""
    parts = [each.table().assign(embedding=name) for name, each in found.items()]
    if compared is not None:
        parts.append(compared.table().assign(embedding=" v. ".join(found)))
    table = pd.concat(parts, ignore_index=True).assign(model=model.id, cohort=cohort)
    return table[["model", "cohort", "embedding", "quantity", "value"]]
