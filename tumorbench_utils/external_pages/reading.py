"""The cohorts of a page of external validation: labelled alike, with their embeddings, and who is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import annotations, embeddings, tables
from ..cohorts import COHORTS, base
from ..probes import external
from ..probes.external import ExternalError, Site

ENDPOINTS = {
    "label": "the label of each cohort's own rule",
    "two_year": "alive at 730 days against dead before, by the follow-up of each cohort alike",
}
TWO_YEAR = {  # the endpoint of a cohort that is the strict two-year rule, where it is not called two_year
    "nsclc_radiomics": "strict",
    "c4kc_kits": "paper",
    "phantom": "survival",
    "phantom_a": "survival",
    "phantom_b": "survival",
}
CENSORED, UNFOLLOWED, UNLABELLED = "censored before two years", "no follow-up", "no label"
LEFT_OUT = ["cohort", "sample_id", "patient_id", "reason"]


@dataclass(frozen=True)
class Page:
    """What a page is made of. ``titles`` by embedding table, ``names``, ``rules`` and ``variants`` by cohort;
    ``left_out`` has ``LEFT_OUT``."""

    id: str
    endpoint: str
    sites: tuple[Site, ...]
    titles: dict[str, str]
    names: dict[str, str]
    rules: dict[str, str]
    variants: dict[str, str]
    left_out: pd.DataFrame

    def mark(self, titles: Mapping[str, str] | None = None) -> str:
        """What figures and sentences on these embeddings (all, if none are given) bear: phantom, untrained or none."""
        titles = self.titles if titles is None else titles
        marks = [tables.mark(site.id, titles) for site in self.sites]
        words = dict.fromkeys(word for each in marks for word in each.split(", ") if word)
        partly = "phantom" in words and not all("phantom" in each for each in marks)
        return ", ".join(f"partly {word}" if partly and word == "phantom" else word for word in words)


def provide(
    run: str | Path,
    cohorts: Sequence[str],
    models: Sequence[str],
    variants: Mapping[str, str],
    sources: Mapping[str, Sequence[str]],
    weights: Mapping[str, str],
    workers: int = 2,
    **how,
) -> None:
    """The annotations and embedding tables of each cohort, made or fetched where the run lacks them.

    ``variants`` and ``sources`` by cohort, by default "paper" and none; a name in them that is no cohort of the page
    is an error.
    """
    for name, given in (("variants", variants), ("sources", sources)):
        odd = sorted(set(given) - set(cohorts))
        if odd:
            raise ExternalError(f"{name}: {', '.join(odd)} is not among the cohorts {', '.join(cohorts)}")
    for cohort in cohorts:
        variant = variants.get(cohort, "paper")
        COHORTS.get(cohort).endpoint(variant)  # an error here rather than after an hour
        tables.provide(run, cohort, models, sources.get(cohort, ()), variant, weights, workers, **how)


def labelled(run: str | Path, cohort: str, endpoint: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Samples with a label under ``endpoint``, and those without (``LEFT_OUT``).

    "label" is the annotations' own; "two_year" :func:`cohorts.base.two_year_survival` of their follow-up. Samples that
    curation left out stay out, with the reason that it gave.
    """
    if endpoint not in ENDPOINTS:
        raise LookupError(f"unknown endpoint '{endpoint}'. Known: {', '.join(ENDPOINTS)}")
    samples = annotations.read(annotations.path_of(run, cohort))
    before = annotations.read_excluded(run, cohort)
    reason = pd.Series(UNLABELLED, samples.index)
    if endpoint == "two_year":
        lacking = [name for name in annotations.FOLLOW_UP if name not in samples]
        if lacking:
            raise ExternalError(
                f"{cohort}: two-year survival takes follow-up; annotations have no {', '.join(lacking)}"
            )
        time, event = samples["time_days"], samples["event"]
        reason = pd.Series(np.where(time.isna() | event.isna(), UNFOLLOWED, CENSORED), samples.index)
        samples = samples.assign(label=base.two_year_survival(time, event))
    known = samples["label"].notna()
    out = pd.concat([before, samples.assign(reason=reason)[~known]], ignore_index=True).assign(cohort=cohort)
    if not known.any():
        raise ExternalError(f"{cohort}: no sample has a label under '{endpoint}'")
    return samples[known].reset_index(drop=True), out[LEFT_OUT]


def read(
    run: str | Path,
    page: str,
    cohorts: Sequence[str],
    endpoint: str,
    models: Sequence[str],
    variants: Mapping[str, str],
    folds: int = external.FOLDS,
    seed: int = 0,
) -> Page:
    """Every cohort with the samples that have a label and an embedding of every model; who has not is listed."""
    sites, out = [], []
    for cohort in cohorts:
        samples, without = labelled(run, cohort, endpoint)
        joined, provenance = embeddings.load(run, cohort, models, samples, scaled=False)
        raw = [model for model in models if embeddings.is_raw(provenance[model])]
        sites.append(external.site(cohort, joined.annotations, joined.vectors, raw, folds, seed))
        out += [without, _unmatched(cohort, samples, without, joined.unmatched)]
    external.check_sites(sites)
    rules = {cohort: _rule(cohort, variants.get(cohort, "paper"), endpoint) for cohort in cohorts}
    found = {cohort: variant_of(cohort, variants.get(cohort, "paper"), endpoint) for cohort in cohorts}
    names = {cohort: COHORTS.get(cohort).title for cohort in cohorts}
    titles = tables.titled(run, cohorts[0], models)
    return Page(page, endpoint, tuple(sites), titles, names, rules, found, pd.concat(out, ignore_index=True))


def variant_of(cohort: str, annotated: str, endpoint: str) -> str:
    """The endpoint of the cohort by which a page labels it: that of its annotations, or its two-year rule."""
    return annotated if endpoint == "label" else TWO_YEAR.get(cohort, "two_year")


def _rule(cohort: str, variant: str, endpoint: str) -> str:
    return ENDPOINTS[endpoint] if endpoint == "two_year" else COHORTS.get(cohort).endpoint(variant).rule


def _unmatched(cohort: str, samples: pd.DataFrame, without: pd.DataFrame, unmatched: pd.DataFrame) -> pd.DataFrame:
    """Samples lost for want of an embedding, or of an annotation, each once, but for those left out already."""
    unmatched = unmatched[~unmatched["sample_id"].isin(without["sample_id"])]
    lacking = unmatched.groupby("sample_id", sort=False)["model"].agg(list)
    lost = set(unmatched.loc[unmatched["missing_from"] == "embeddings", "sample_id"])
    found = pd.DataFrame({"cohort": cohort, "sample_id": lacking.index}, index=range(len(lacking)))
    found["patient_id"] = found["sample_id"].map(samples.set_index("sample_id")["patient_id"])
    found["reason"] = [_lacking(models) if name in lost else "no annotation" for name, models in lacking.items()]
    return found[LEFT_OUT]


def _lacking(models: Sequence[str]) -> str:
    return f"no embedding of {models[0]}" if len(models) == 1 else f"no embedding of {len(models)} models"


def inputs(run: str | Path, page: Page) -> dict[str, str]:
    """SHA-256 of every embedding table that the page was made of."""
    found = {}
    for site in page.sites:
        found |= tables.inputs(run, site.id, list(page.titles))
    return found
