"""What the saliency page of a model is made of: maps held against tumours, figures with captions, closing sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from . import annotations, bank, maps, plots, provision, saliency
from .cohorts import COHORTS, is_phantom
from .models import Encoder, grids_of
from .patches import AIR, oriented
from .plots import Shown

LABELS = {maps.OCCLUSION: plots.DISTANCE, maps.GRADIENTS: "integrated gradient, absolute value"}
TITLES = {maps.OCCLUSION: "occlusion", maps.GRADIENTS: "integrated gradients"}
ALIKE = 0.5  # rank correlation from which on maps of trained and random weights are called alike
STEPS = 10  # of a deletion curve
MOST = 6  # curves in a figure; the caption has all

Curves = Mapping[tuple[str, str, str], saliency.Deletion]  # by cohort, sample_id, method


@dataclass(frozen=True)
class Case:
    """One tumour as one encoder sees it. ``hu``, ``mask`` (or None) and ``maps`` by method are upright (R, A, S), maps
    without sign; ``spacing`` (3,) mm along these axes. ``reason`` says why there is no mask, empty if there is one."""

    cohort: str
    sample_id: str
    patient_id: str
    encoder: Encoder
    hu: np.ndarray
    mask: np.ndarray | None
    maps: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    reason: str

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.encoder.weights.kind == "random"

    @property
    def mark(self) -> str:
        """What a figure of it bears: phantom, untrained, both or none ("")."""
        words = ["phantom"] if is_phantom(self.cohort) else []
        return ", ".join([*words, *(["untrained"] if self.untrained else [])])

    @property
    def title(self) -> str:
        """The model, and whether it is untrained."""
        title = self.encoder.model.title
        return f"{title}, untrained" if self.untrained and "untrained" not in title else title


def provide(run: str | Path, cohorts: Sequence[str], encoders: Sequence[Encoder], workers: int) -> None:
    """Annotations and banks of the cohorts, as far as a run lacks them and they can be made."""
    for cohort in cohorts:
        provision.ensure(run, cohort, grids_of(encoders), workers)


def cases(run: str | Path, cohort: str, encoder: Encoder, drawn: maps.Drawn) -> list[Case]:
    """The tumours of which maps were drawn, in the order of the bank."""
    found, recipe = bank.Bank(bank.path_of(run, cohort, encoder.geometry.id)), encoder.recipe
    patients = annotations.read(annotations.path_of(run, cohort)).set_index("sample_id")["patient_id"]
    read = {key: maps.read(path) for key, path in drawn.paths.items()}
    made = []
    for row in found.rows[found.rows["trial"] == 0].itertuples():
        mine = {method: each for (sample, method), each in read.items() if sample == row.sample_id}
        if not mine:
            continue
        turned = {method: maps.upright(np.abs(each.values), each.axes) for method, each in mine.items()}
        mask = found.mask(row, recipe.size, recipe.axes)
        reason = row.mask_reason if mask is None else "" if mask.any() else "the mask is empty on the patch grid"
        upright = maps.upright(mask, recipe.axes) if mask is not None and mask.any() else None
        hu = maps.upright(found.patch(row, recipe.size, recipe.axes, recipe.pad), recipe.axes)
        about = (cohort, row.sample_id, patients.get(row.sample_id, row.sample_id), encoder)
        made.append(Case(*about, hu, upright, turned, found.spacing, reason))
    return made


def times(timings: pd.DataFrame) -> pd.DataFrame:
    """Maps by cohort and method: how many, and the seconds and forward passes of one (mean of those drawn now)."""
    new = timings[timings["status"] == maps.DRAWN].groupby(["cohort", "method"], sort=False)
    counts = timings.groupby(["cohort", "method"], sort=False).size().rename("maps")
    means = (
        new[["seconds", "forwards"]].mean().rename(columns={"seconds": "seconds a map", "forwards": "patches a map"})
    )
    return counts.to_frame().join(means).reset_index()


def inputs(drawn: Mapping[str, maps.Drawn]) -> dict[str, str]:
    """What the maps were made of: SHA-256 of weights, and of each patch."""
    found = {}
    for cohort, each in drawn.items():
        for (sample, method), path in each.paths.items():
            record = maps.read(path).record["inputs"]
            found |= {"weights": record["weights"], f"{cohort}/{sample}, {method}": record["bank"]}
    return found


def focus_table(found: Sequence[Case], margin_mm: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """:func:`saliency.focus` of every map, and those it cannot be had of (cohort, sample_id, encoder, method, reason).

    Columns: cohort, sample_id, patient_id, encoder, untrained, method, and the measures.
    """
    rows, lost = [], []
    for case in found:
        for method, values in case.maps.items():
            about = {"cohort": case.cohort, "sample_id": case.sample_id, "encoder": case.encoder.name, "method": method}
            if case.mask is None:
                lost.append(about | {"reason": case.reason})
                continue
            try:
                measures = saliency.focus(values, case.mask, case.hu, case.spacing, margin_mm)
            except saliency.SaliencyError as error:
                lost.append(about | {"reason": str(error)})
                continue
            rows.append(about | {"patient_id": case.patient_id, "untrained": case.untrained} | measures)
    return pd.DataFrame(rows), pd.DataFrame(lost)


def summary(table: pd.DataFrame, draws: int, seed: int) -> pd.DataFrame:
    """Means by cohort, encoder and method with patient bootstrap intervals; ``model`` names the row of a figure."""
    if table.empty:
        return pd.DataFrame()
    found = saliency.summarise(table, ["cohort", "encoder", "untrained", "method"], draws=draws, seed=seed)
    titles = {each: COHORTS.get(each).title for each in found["cohort"].unique()}
    weights = found["untrained"].map({True: "untrained", False: "trained"})
    return found.assign(model=weights + ", " + found["method"].map(TITLES) + ": " + found["cohort"].map(titles))


def deletions(found: Sequence[Case], batch: int | None) -> tuple[Curves, pd.DataFrame]:
    """Deletion curves by cohort, sample and method, voxels replaced by air; and what has none, with the reason."""
    import torch

    curves, lost = {}, []
    for case in found:
        recipe, encoder = case.encoder.recipe, case.encoder
        air = float(recipe.scaled(torch.tensor(float(AIR))))
        patch = torch.from_numpy(np.ascontiguousarray(oriented(case.hu, recipe.axes)))
        image = recipe.scaled(patch.to(encoder.device))[None, None]
        for method, values in case.maps.items():
            turned = np.ascontiguousarray(oriented(values, recipe.axes))
            try:
                made = saliency.deletion(encoder.of_values, image, turned, STEPS, air, batch or encoder.batch)
                curves[case.cohort, case.sample_id, method] = made
            except saliency.SaliencyError as error:
                about = {"cohort": case.cohort, "sample_id": case.sample_id, "encoder": encoder.name}
                lost.append(about | {"method": method, "reason": str(error)})
    return curves, pd.DataFrame(lost)


def sanity_table(trained: Sequence[Case], random: Sequence[Case]) -> pd.DataFrame:
    """How alike the maps of trained and of random weights are: cohort, sample_id, method, spearman, top_overlap."""
    others, rows = {(case.cohort, case.sample_id): case for case in random}, []
    for case in trained:
        other = others.get((case.cohort, case.sample_id))
        for method in case.maps if other else ():
            if method in other.maps:
                found = saliency.alike(case.maps[method], other.maps[method])
                rows.append({"cohort": case.cohort, "sample_id": case.sample_id, "method": method} | found)
    return pd.DataFrame(rows)


def planes_shown(case: Case, method: str) -> Shown:
    """The map of one tumour in three planes."""
    figure = plots.planes(case.hu, case.maps[method], case.mask, case.spacing, mark=case.mark, label=LABELS[method])
    outline = "; line: outline of the tumour" if case.mask is not None else ""
    caption = (
        f"{case.title}, {TITLES[method]} on {case.sample_id}: CT at 40 / 400 HU, and the map over it{outline}. Colours "
        "end at the 99th percentile of the map."
    )
    alt = f"Three planes through the tumour {case.sample_id}, above the CT, below the {TITLES[method]} map over it."
    return Shown(figure, caption, alt, case.mark)


def viewer_shown(case: Case, method: str) -> plots.Viewer:
    """Every axial slice of one tumour with its map, to go through."""
    title = (
        f"{case.title}, {TITLES[method]} on {case.sample_id}: axial slices. The sliders go through the patch and fade "
        "the map."
    )
    alt = f"Axial slices of {case.sample_id} with the outline of the tumour and the {TITLES[method]} map."
    return plots.viewer(
        case.hu, case.maps[method], case.mask, title=title, alt=alt, mark=case.mark, spacing=case.spacing,
        label=LABELS[method],
    )  # fmt: skip


def grid_shown(found: Sequence[Case], method: str) -> Shown:
    """The maps of several encoders on the same tumour, in one orientation."""
    rows = [
        {
            "title": case.title,
            "hu": case.hu,
            "saliency": case.maps.get(method),
            "mask": case.mask,
            "spacing": case.spacing,
            "mark": case.mark,
        }
        for case in found
    ]
    names = ", ".join(case.title for case in found)
    caption = (
        f"{found[0].sample_id}, {TITLES[method]}: the axial plane through the tumour, the same field of view and "
        f"orientation for every model, each on its own scale: {names}."
    )
    marked = ", ".join(dict.fromkeys(word for case in found for word in case.mark.split(", ") if word))
    return Shown(plots.grid(rows, label=LABELS[method]), caption, f"Tiles of one tumour: {names}.", marked)


def marked(found: Sequence[Case]) -> str:
    """The mark of a figure of several cases: what is true of all, "partly" what is true of some."""
    words = []
    for word, true in (
        ("phantom", [is_phantom(case.cohort) for case in found]),
        ("untrained", [case.untrained for case in found]),
    ):
        if any(true):
            words.append(word if all(true) else f"partly {word}")
    return ", ".join(words)


def focus_shown(table: pd.DataFrame, mark: str) -> Shown:
    """Whether the maps lie on the tumour, by cohort, weights and method."""
    inside = table[table["measure"].isin(("mass_inside", "mass_expected"))]
    wide = inside.pivot_table("value", "model", "measure", sort=False)
    told = "; ".join(
        f"{name}: {row.mass_inside:.1%} of the map inside the tumour, {row.mass_expected:.1%} by volume"
        for name, row in wide.iterrows()
    )
    caption = (
        "Is it the tumour? Means over cases with 95 % patient bootstrap intervals; upright bars: what a map that knows "
        f"nothing would have on the same cases. {told}."
    )
    return Shown(plots.focus(table), caption, f"Dot plots of four measures. {told}.", mark)


def hu_shown(found: Sequence[Case], method: str, mark: str) -> Shown:
    """Whether the maps lie on bright voxels."""
    told = found[:1] and f"{found[0].title}, {TITLES[method]}, {len(found)} cases"
    caption = (
        f"Mean saliency by HU, as a multiple of the mean of the patch: {told}. Above 1 the model looks at such voxels "
        "more than at others; bone and contrast agent are the bright ones."
    )
    maps_of, ct = [case.maps[method] for case in found], [case.hu for case in found]
    return Shown(plots.hu(maps_of, ct), caption, f"Dot plot of mean saliency over HU. {told}.", mark)


def deletion_shown(curves: Curves, mark: str) -> Shown:
    """Whether the embedding moves when the most salient voxels go first."""
    drawn = {
        f"{sample}, {TITLES[method]}": (each.share, each.distance, each.random_distance)
        for (_, sample, method), each in list(curves.items())[:MOST]
    }
    told = "; ".join(
        f"{sample}, {TITLES[method]}: area {each.area:.2f}, random {each.random_area:.2f}"
        for (_, sample, method), each in curves.items()
    )
    caption = (
        "Voxels replaced by air, the most salient first (solid) or blocks in a random order (dotted). A map that names "
        f"what matters moves the embedding early. {told}."
    )
    return Shown(plots.deletion(drawn), caption, f"Curves of the embedding's distance. {told}.", mark)


def sanity_shown(table: pd.DataFrame, mark: str) -> Shown:
    """Whether the map changes when what was learnt is taken away."""
    told = "; ".join(
        f"{TITLES[method]}: median rank correlation {rows['spearman'].median():.2f}, common top tenth "
        f"{rows['top_overlap'].median():.0%}"
        for method, rows in table.groupby("method", sort=False)
    )
    caption = (
        "The same patch, mapped with trained and with random weights (Adebayo et al. 2018): a map that hardly changes "
        f"shows the image or the architecture, not what was learnt. {told}."
    )
    return Shown(plots.sanity(table.assign(method=table["method"].map(TITLES))), caption, f"Dots. {told}.", mark)


def findings(
    table: pd.DataFrame,
    sanity: pd.DataFrame,
    curves: Curves,
    lost: pd.DataFrame,
) -> str:
    """What the page shows, as a Markdown list; points on phantoms or untrained weights say so."""
    lines = []
    for (cohort, untrained, method), rows in table.groupby(["cohort", "untrained", "method"], sort=False):
        value = rows.set_index("measure")
        words = [*(["PHANTOM"] if is_phantom(cohort) else []), *(["UNTRAINED"] if untrained else [])]
        opening = f"{', '.join(words)}: " if words else ""
        inside = value.loc["enrichment"]
        where = f"{inside['low']:.1f} to {inside['high']:.1f}" if np.isfinite(inside["low"]) else "one patient"
        lines.append(
            f"- {opening}{COHORTS.get(cohort).title}, {TITLES[method]}: the tumour has {inside['value']:.1f} times the "
            f"saliency that its volume would give ({where}); AUC {value.loc['auc', 'value']:.2f}, rank correlation "
            f"with HU {value.loc['hu_spearman', 'value']:+.2f}, {value.loc['bright_mass', 'value']:.1%} on bright "
            f"voxels outside ({value.loc['bright_expected', 'value']:.1%} by volume); {int(inside['cases'])} cases."
        )
    for method, rows in sanity.groupby("method", sort=False) if len(sanity) else ():
        like = rows["spearman"].median()
        verdict = "so it says little of what was learnt" if like >= ALIKE else "so it depends on what was learnt"
        lines.append(f"- With random weights the {TITLES[method]} map has a rank correlation of {like:.2f}, {verdict}.")
    better = sum(each.area > each.random_area for each in curves.values())
    if curves:
        lines.append(
            f"- In {better} of {len(curves)} maps the most salient voxels move the embedding earlier than chance."
        )
    if len(lost):
        lines.append(f"- {len(lost)} maps could not be judged; each is listed with its reason.")
    return "\n".join(lines) or "*No map could be judged.*"


def tidy(table: pd.DataFrame, sanity: pd.DataFrame, curves: Curves, model: str) -> pd.DataFrame:
    """Everything that is one number: model, cohort, encoder, method, measure, value, low, high, cases."""
    columns = ["cohort", "encoder", "method", "measure", "value", "low", "high", "cases"]
    parts = [table[columns]] if len(table) else []
    if len(sanity):
        long = sanity.melt(["cohort", "method"], ["spearman", "top_overlap"], "measure")
        parts.append(_middle(long, "median").assign(encoder="trained against random"))
    rows = [
        (cohort, method, measure, value)
        for (cohort, _, method), each in curves.items()
        for measure, value in (("deletion area", each.area), ("deletion area, random order", each.random_area))
    ]
    if rows:
        parts.append(_middle(pd.DataFrame(rows, columns=["cohort", "method", "measure", "value"]), "mean"))
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.reindex(columns=columns).assign(model=model)[["model", *columns]]


def _middle(long: pd.DataFrame, how: str) -> pd.DataFrame:
    """Value by cohort, method and measure over cases, and how many these are."""
    groups = long.groupby(["cohort", "method", "measure"], sort=False)["value"]
    return groups.agg(value=how, cases="size").reset_index()
