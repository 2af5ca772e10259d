"""The embedding tables that a page reads: made or fetched where a run lacks them, titled, marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from . import annotations, artefacts, embeddings, extraction, models, provision, published
from .cohorts import is_phantom
from .extraction.records import SOURCE
from .models import Encoder

UNTRAINED = "untrained"


def encoders_of(names: Sequence[str], weights: Mapping[str, str], **how) -> list[Encoder]:
    """The encoders whose tables are called ``names``, ready; ``how`` as in :func:`models.called`."""
    made = [models.called(name, weights, **how) for name in names]
    controls = [each.name for each in made if not isinstance(each, Encoder)]
    if controls:
        raise ValueError(f"{', '.join(controls)}: a control has no network that could be fed perturbed patches")
    return made


def provide(
    run: str | Path,
    cohort: str,
    names: Sequence[str],
    sources: Sequence[str] = (),
    variant: str = "paper",
    weights: Mapping[str, str] | None = None,
    workers: int = 2,
    trials: int = 0,
    jitter_mm: Sequence[float] = (4.0,),
    **how,
) -> None:
    """The annotations, patches and embedding tables that a page needs and a run lacks, as far as they can be had.

    Published tables come from ``sources``; encoders (``how`` as in :func:`models.called`) are run on patches, which are
    made for phantoms and the two open CTs; for other cohorts an error says which notebook to run first.
    """
    if sources:
        published.provide(run, cohort, sources, variant)
    lacking = [name for name in names if not embeddings.path_of(run, cohort, name).exists()]
    made = [models.called(name, weights, **how) for name in lacking]
    if made or not annotations.path_of(run, cohort).exists():
        provision.ensure(run, cohort, models.grids_of(made), workers, trials, jitter_mm)
    for each in made:
        extraction.extract(run, cohort, [each], workers=workers)


def titled(run: str | Path, cohort: str, names: Sequence[str]) -> dict[str, str]:
    """Title of each embedding table, as figures name it: the model, its recipe if it is the authors', its weights.

    No two are the same: a released table that has the title of another is told by its source, others by their name.
    """
    titles, sources = {}, {}
    for name in names:
        given = embeddings.provenance(embeddings.path_of(run, cohort, name))["parameters"]
        sources[name], words = given.get("source"), [given["title"]]
        if given.get("recipe") == "authors" and given.get("source") == SOURCE:
            words.append("authors' recipe")
        if given.get(UNTRAINED) and UNTRAINED not in given["title"]:
            words.append(UNTRAINED)
        titles[name] = ", ".join(words)
    for ending in (lambda name: ", as released" if sources[name] == "released" else "", lambda name: f" ({name})"):
        seen = list(titles.values())
        titles = {name: title + (ending(name) if seen.count(title) > 1 else "") for name, title in titles.items()}
    return titles


def mark_of(cohort: str, title: str) -> str:
    """What a figure or sentence on one embedding bears."""
    return mark(cohort, {"": title})


def mark(cohort: str, titles: Mapping[str, str]) -> str:
    """What figures of these tables bear: phantom, untrained, both or none ("")."""
    untrained = [UNTRAINED in title for title in titles.values()]
    words = ["phantom"] if is_phantom(cohort) else []
    if any(untrained):
        words.append(UNTRAINED if all(untrained) else "partly untrained")
    return ", ".join(words)


def inputs(run: str | Path, cohort: str, names: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each embedding table that a page was made of."""
    paths = [embeddings.path_of(run, cohort, name) for name in names]
    return {f"{cohort}/{path.name}": artefacts.sha256_of(path) for path in paths}
