"""The maps that were drawn for a page, and the tumours they are of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import annotations, bank, maps, models, plots, provision
from ..cohorts import COHORTS, is_phantom
from ..models import Encoder, grids_of

TITLES = {maps.OCCLUSION: "occlusion", maps.GRADIENTS: "integrated gradients"}
LABELS = {maps.OCCLUSION: plots.DISTANCE, maps.GRADIENTS: "integrated gradient, absolute value"}
LOST = ["cohort", "sample_id", "encoder", "method", "reason"]


class PageError(ValueError):
    """A page that cannot be made as asked; the message says what to do."""


@dataclass(frozen=True)
class Mapped:
    """What :func:`maps.draw` gave of a cohort and an encoder."""

    cohort: str
    encoder: Encoder
    drawn: maps.Drawn

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.encoder.weights.kind == "random"

    def samples(self, most: int) -> list[str]:
        """The first samples that have a map, ``most`` at the most."""
        return list(dict.fromkeys(name for name, _ in self.drawn.paths))[:most]


@dataclass(frozen=True)
class Case:
    """One tumour as one encoder sees it. ``hu``, ``mask`` (or None) and ``maps`` by method are upright (R, A, S), maps
    without sign; ``spacing`` (3,) mm along these axes. ``reason`` says why there is no mask, empty if there is one.
    ``figures`` are what else a method found (:class:`maps.Map`)."""

    cohort: str
    sample_id: str
    patient_id: str
    encoder: Encoder
    hu: np.ndarray
    mask: np.ndarray | None
    maps: dict[str, np.ndarray]
    spacing: tuple[float, float, float]
    reason: str
    figures: dict[str, dict]

    @property
    def untrained(self) -> bool:
        """Whether the weights are random."""
        return self.encoder.weights.kind == "random"

    @property
    def mark(self) -> str:
        """What a figure of it bears: phantom, untrained, both or none ("")."""
        return marked([self])

    @property
    def title(self) -> str:
        """The model, and whether it is untrained."""
        return title_of(self.encoder)


def title_of(encoder: Encoder) -> str:
    """The title of an encoder's model, and whether its weights are random."""
    title = encoder.model.title
    return f"{title}, untrained" if encoder.weights.kind == "random" and "untrained" not in title else title


def beside(names: Sequence[str], own: Sequence[Encoder | None], **how) -> list[Encoder]:
    """Encoders by the names of their tables, ready; what is named twice or is among ``own`` is left out.

    :class:`PageError` for a table made with the weights of a file, whose path a name does not tell.
    """
    known = {one.name for one in own if one is not None}
    of_file = [name for name in names if ".file-" in name]
    if of_file:
        raise PageError(
            f"beside has {', '.join(of_file)}, made with the weights of a file, which this page cannot load: leave it "
            "out, and make a page of that model with weights='<path>'"
        )
    return [models.called(name, **how) for name in dict.fromkeys(names) if name not in known]


def provide(run: str | Path, cohorts: Sequence[str], encoders: Sequence[Encoder], workers: int) -> None:
    """Annotations and banks of the cohorts, as far as a run lacks them and they can be made."""
    for cohort in cohorts:
        provision.ensure(run, cohort, grids_of(encoders), workers)


def draw(run: str | Path, encoder: Encoder, samples: Mapping[str, Sequence[str] | None], **options) -> list[Mapped]:
    """:func:`maps.draw` of the samples by cohort (None: those that ``options`` say)."""
    return [
        Mapped(cohort, encoder, maps.draw(run, cohort, encoder, some, **options)) for cohort, some in samples.items()
    ]


def cases(run: str | Path, found: Sequence[Mapped]) -> list[Case]:
    """The tumours of which maps were drawn, in the order of the bank."""
    return [case for each in found if each.drawn.paths for case in _cases(run, each)]


def _cases(run: str | Path, mapped: Mapped) -> list[Case]:
    cohort, encoder = mapped.cohort, mapped.encoder
    found, recipe = bank.Bank(bank.path_of(run, cohort, encoder.geometry.id)), encoder.recipe
    patients = annotations.read(annotations.path_of(run, cohort)).set_index("sample_id")["patient_id"]
    read = {key: maps.read(path) for key, path in mapped.drawn.paths.items()}
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
        figures = {method: each.figures for method, each in mine.items()}
        made.append(Case(*about, hu, upright, turned, found.spacing, reason, figures))
    return made


def first(found: Sequence[Case], method: str) -> Case | None:
    """The first tumour that has a map by the method; None if none has."""
    return next((case for case in found if method in case.maps), None)


def same_tumour(shown: Case | None, others: Sequence[Case]) -> list[Case]:
    """The tumour that is shown as others see it."""
    return [case for case in others if shown and (case.cohort, case.sample_id) == (shown.cohort, shown.sample_id)]


def marked(found: Sequence[Case | Mapped]) -> str:
    """The mark of a figure of several cases: what is true of all, "partly" what is true of some."""
    words = []
    for word, true in (
        ("phantom", [is_phantom(case.cohort) for case in found]),
        ("untrained", [case.untrained for case in found]),
    ):
        if any(true):
            words.append(word if all(true) else f"partly {word}")
    return ", ".join(words)


def told(caption: str, found: Sequence[Case | Mapped]) -> str:
    """The caption of a table that holds figures of these, opened by their mark as that of a figure is."""
    mark = marked(found)
    return f"{mark.upper()}: {caption}" if mark else caption


def times(found: Sequence[Mapped]) -> pd.DataFrame:
    """Maps by encoder, cohort and method: how many, and the seconds and forward passes of one (mean of those drawn
    now). Empty if there are none."""
    keys = ["encoder", "cohort", "method"]
    made = [each.drawn.timings.assign(encoder=each.encoder.name, cohort=each.cohort) for each in found]
    made = [each for each in made if len(each)]
    if not made:
        return pd.DataFrame(columns=[*keys, "maps", "seconds a map", "patches a map"])
    timings = pd.concat(made)
    new = timings[timings["status"] == maps.DRAWN].groupby(keys, sort=False)
    counts = timings.groupby(keys, sort=False).size().rename("maps")
    means = new[["seconds", "forwards"]].mean()
    return (
        counts.to_frame()
        .join(means.rename(columns={"seconds": "seconds a map", "forwards": "patches a map"}))
        .reset_index()
    )


def times_shown(found: Sequence[Mapped]) -> pd.DataFrame:
    """:func:`times` as a page shows it, under titles: cohort, map, maps, and what one costs if any was drawn now."""
    table = entitled(times(found), found)
    shown = pd.DataFrame(
        {
            "cohort": table["cohort"],
            "map": table["encoder"] + ": " + table["method"],
            "maps": table["maps"],
            "seconds each": table["seconds a map"].astype(float),
            "passes each": table["patches a map"].astype(float).round().astype("Int64"),
        }
    )
    return shown.dropna(axis="columns", how="all")


def entitled(table: pd.DataFrame, found: Sequence[Mapped]) -> pd.DataFrame:
    """A table by cohort, encoder and method under their titles; what has none keeps its name."""
    encoders = {each.encoder.name: title_of(each.encoder) for each in found}
    cohorts = {each.cohort: COHORTS.get(each.cohort).title for each in found if each.cohort in COHORTS}
    titles = {"cohort": cohorts, "encoder": encoders, "method": TITLES}
    return table.assign(**{name: table[name].replace(known) for name, known in titles.items()})


def left_out(found: Sequence[Mapped]) -> pd.DataFrame:
    """Maps that were asked for and could not be had of any encoder: cohort, sample_id, encoder, method, reason."""
    lists = [each.drawn.excluded.assign(cohort=each.cohort, encoder=each.encoder.name) for each in found]
    return pd.concat([pd.DataFrame(columns=LOST), *(each[LOST] for each in lists if len(each))], ignore_index=True)


def lost_shown(lost: pd.DataFrame, found: Sequence[Mapped]) -> pd.DataFrame:
    """What could not be had (:data:`LOST`) as a page shows it, under titles, the reason beside the sample."""
    columns = ["cohort", "sample_id", "reason", "encoder", "method"]
    return entitled(lost, found)[columns].rename(columns={"sample_id": "sample"})


def inputs(found: Sequence[Mapped], judged: Sequence[Case]) -> dict[str, str]:
    """What the page was made of, SHA-256: weights of every encoder, each patch by its grid, and the masks of the cases
    ``judged``, on which every figure of focus rests."""
    hashes = {}
    for each in found:
        for (sample, _), path in each.drawn.paths.items():
            record = maps.read(path).record["inputs"]
            weights = each.encoder.weights
            hashes[f"weights of {each.encoder.name}"] = weights.sha256 or weights.state_sha256  # random: of the state
            hashes[f"{each.cohort}/{sample}, {each.encoder.geometry.id}"] = record["bank"]
    for case in judged:
        if case.mask is not None:
            bits = str(case.mask.shape).encode() + np.packbits(case.mask).tobytes()
            hashes[f"{case.cohort}/{case.sample_id}, mask"] = hashlib.sha256(bits).hexdigest()
    return hashes
