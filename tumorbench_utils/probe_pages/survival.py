"""Survival of a cohort: everybody who was followed, those too whom a two-year label must leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .. import annotations, embeddings
from ..cohorts import COHORTS
from ..plots import Several, Shown
from ..plots.base import counted
from ..plots.probes import p_words
from ..plots.several import in_groups, listed
from ..plots.survival import risk_curves, survival_forest
from ..probes import survival
from ..probes.clinical import PREFIX, Covariates, covariates
from ..probes.concordance import SurvivalError
from ..probes.risk_groups import NULL, RiskGroups, risk_groups
from ..probes.survival import FEWEST, HORIZON, SurvivalEvaluation
from ..statistics import bounded, holm
from .clinic import covariate

COLUMNS = ["cohort", "variant", "model", "title", "head", "features", "measure", "value", "low", "high", "n"]
CLINICAL, VOLUME = "clinical", "volume"
WORDS = {"cox": "Cox", "knn_survival": "nearest neighbours"}


@dataclass(frozen=True)
class Survived:
    """What the follow-up of a cohort says of its embeddings.

    ``samples``: one a patient, with time_days and event. ``left_out``: sample_id, patient_id, reason. ``labelled``: of
    these patients, how many the page's binary endpoint uses. ``evaluations`` by model and head, ``summaries`` alike,
    ``features`` by model, ``differences`` of Harrell's C to the first model (head, name, ...), ``groups`` by model and
    number of groups, from Cox risks; ``unsplit`` says of which models there are none, and why. ``unknown`` are
    covariates that are not used, since nobody knows them of patients whom the endpoint left out.
    """

    cohort: str
    horizon: float
    titles: dict[str, str]
    samples: pd.DataFrame
    left_out: pd.DataFrame
    labelled: int
    evaluations: dict[tuple[str, str], SurvivalEvaluation]
    summaries: dict[tuple[str, str], pd.DataFrame]
    features: dict[str, str]
    differences: pd.DataFrame
    groups: dict[str, dict[int, RiskGroups]]
    unsplit: dict[str, str]
    unknown: list[str]

    @property
    def early(self) -> int:
        """Patients censored before the horizon, of whom a binary label cannot know."""
        samples = self.samples
        return int(((samples["event"] == 0) & (samples["time_days"] < self.horizon)).sum())

    @property
    def foremost(self) -> str:
        """Of the embeddings with risk groups, the one of highest mean C on validation patients under Cox."""
        return max(
            (name for name in self.groups if self.features[name] == "embedding"),
            key=lambda name: self.evaluations[name, "cox"].scores["validation_c"].mean(),
        )


def survived(
    run: str | Path,
    cohort: str,
    models: Sequence[str],
    titles: Mapping[str, str],
    draws: int,
    seed: int = 0,
    horizon: float = HORIZON,
) -> Survived | None:
    """Cox regression and survival of neighbours for each embedding table, clinical columns and volume beside them.

    Clinical columns ("clinical") and, where no table has it, ``volume_ml`` ("volume") are judged by Cox alone.
    ``draws`` of the patient bootstrap. None where :func:`survival_lacking` says why.
    """
    reason, ready = _ready(run, cohort, models)
    if reason:
        return None
    samples, left_out, vectors = ready
    time, event, patients = (samples[name].to_numpy() for name in ("time_days", "event", "patient_id"))
    parts = survival.splits(time, event, patients)
    features, titles = dict.fromkeys(models, "embedding"), {name: titles[name] for name in models}
    jobs = [(name, head) for head in survival.HEADS for name in models]
    for name, title, matrix in _comparators(samples, models):
        vectors[name], features[name], titles[name] = matrix, "clinical" if name == CLINICAL else "embedding", title
        jobs.append((name, "cox"))
    found = {job: survival.evaluate(vectors[job[0]], time, event, parts, job[1], horizon) for job in jobs}
    groups, unsplit = _groups(found, time, event)
    return Survived(
        cohort,
        float(horizon),
        titles,
        samples,
        left_out,
        int(samples["label"].notna().sum()),
        found,
        {job: survival.summary(each) for job, each in found.items()},
        features,
        _differences(found, models[0], patients, draws, seed),
        groups,
        unsplit,
        [
            name
            for name in annotations.read(annotations.path_of(run, cohort))
            if _covariate(name) and name not in samples
        ],
    )


def survival_lacking(run: str | Path, cohort: str, models: Sequence[str]) -> str:
    """Why there is no survival to show, in a sentence; empty where there is."""
    return _ready(run, cohort, models)[0]


def _ready(run: str | Path, cohort: str, models: Sequence[str]) -> tuple[str, tuple | None]:
    """What is lacking, and where nothing is, what :func:`_followed` gives."""
    if not models:
        return "No embedding was named.", None
    everybody, title = _everybody(run, cohort), COHORTS.get(cohort).title if cohort in COHORTS else cohort
    if not {"time_days", "event"} <= set(everybody) or everybody[["time_days", "event"]].dropna().empty:
        return f"{title} has no follow-up: its annotations have no time_days and event.", None
    ready = _followed(run, cohort, models, everybody)
    deaths, patients = int(ready[0]["event"].sum()), len(ready[0])
    if deaths < FEWEST:
        few = f"{title} has {deaths} deaths among {patients} patients with follow-up and embeddings"
        return f"{few}; survival needs at least {FEWEST}.", None
    return "", ready


def _everybody(run: str | Path, cohort: str) -> pd.DataFrame:
    """Annotated samples, then those the endpoint left out, which have no label.

    Covariates that nobody wrote down of the latter go: what is missing would say who was censored, and so alive.
    """
    table, excluded = annotations.read(annotations.path_of(run, cohort)), annotations.read_excluded(run, cohort)
    kept = [name for name in excluded if name in ("sample_id", "patient_id", "time_days", "event") or _covariate(name)]
    excluded = excluded.loc[~excluded["sample_id"].isin(table["sample_id"]), kept]
    if not {"time_days", "event"} <= set(excluded) or excluded[["time_days", "event"]].dropna().empty:
        return pd.concat([table, excluded], ignore_index=True) if len(excluded) else table
    table = table.drop(columns=[name for name in table if _covariate(name) and name not in excluded])
    for name in filter(_covariate, kept):
        if name in table and pd.api.types.is_numeric_dtype(table[name]):
            excluded = excluded.assign(**{name: pd.to_numeric(excluded[name], errors="coerce")})
    return pd.concat([table, excluded], ignore_index=True)


def _covariate(name: str) -> bool:
    return name == "volume_ml" or name.startswith(PREFIX)


def _followed(
    run: str | Path, cohort: str, models: Sequence[str], everybody: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, np.ndarray]]:
    """One followed sample a patient that all tables have, the others with the reason, and the vectors by model."""
    known = everybody[["time_days", "event"]].notna().all(axis=1)
    joined, _ = embeddings.load(run, cohort, list(models), everybody[known].reset_index(drop=True))
    samples = joined.annotations
    first = ~samples["patient_id"].duplicated()
    reason = pd.Series("no embedding in every table", everybody["sample_id"])
    reason[samples["sample_id"]] = "another sample of a patient counted already"
    reason[everybody.loc[~known, "sample_id"]] = "no follow-up"
    kept = samples[first].reset_index(drop=True)
    left_out = everybody[~everybody["sample_id"].isin(kept["sample_id"])][["sample_id", "patient_id"]]
    left_out = left_out.assign(reason=reason[left_out["sample_id"]].to_numpy()).reset_index(drop=True)
    rows = first.to_numpy()
    return kept, left_out, {name: vectors[rows] for name, vectors in joined.vectors.items()}


def _comparators(samples: pd.DataFrame, models: Sequence[str]) -> list[tuple[str, str, np.ndarray]]:
    found = []
    columns = covariates(samples)
    if columns.names:
        found.append((CLINICAL, "Clinical covariates", _clinical(samples, columns)))
    if VOLUME not in models and "volume_ml" in samples and samples["volume_ml"].nunique() > 1:
        volume = samples["volume_ml"].where(samples["volume_ml"] > 0)
        found.append((VOLUME, "Tumour volume", np.log10(volume.to_numpy(float))[:, None]))
    return found


def _clinical(samples: pd.DataFrame, columns: Covariates) -> np.ndarray:
    """(n, c): numbers as they are (NaN: the head puts in the training mean) with a flag of missing ones, and a column
    a level of categories. No follow-up is looked at."""
    found = []
    for name in columns.numbers:
        values = samples[name].to_numpy(float)
        found += [values, np.isnan(values).astype(float)] if np.isnan(values).any() else [values]
    for name in columns.categories:
        levels = samples[name].fillna("not known").astype(str)
        found += [(levels == level).to_numpy(float) for level in sorted(levels.unique())]
    return np.column_stack(found)


def _groups(
    found: Mapping[tuple[str, str], SurvivalEvaluation], time: np.ndarray, event: np.ndarray
) -> tuple[dict[str, dict[int, RiskGroups]], dict[str, str]]:
    groups, unsplit = {}, {}
    for (name, head), each in found.items():
        if head != "cox":
            continue
        risk = survival.out_of_sample(each, len(time))
        try:
            groups[name] = {parts: risk_groups(risk, time, event, parts) for parts in (2, 3)}
        except SurvivalError as error:
            unsplit[name] = str(error)
    return groups, unsplit


def _differences(
    found: Mapping[tuple[str, str], SurvivalEvaluation], reference: str, patients: np.ndarray, draws: int, seed: int
) -> pd.DataFrame:
    tables = []
    for head in survival.HEADS:
        some = {name: each for (name, which), each in found.items() if which == head}
        tables.append(survival.differences(some, reference, patients, "c_harrell", draws, seed).assign(head=head))
    return pd.concat(tables, ignore_index=True)


def survival_table(found: Survived, variant: str = "paper") -> pd.DataFrame:
    """C and AUC of every model and head, in the columns of the results file; ``positives`` counts deaths."""
    rows = []
    for (name, head), each in found.summaries.items():
        some = each[each["measure"].isin(survival.MEASURES)]
        rows.append(some.assign(model=name, title=found.titles[name], head=head, features=found.features[name]))
    table = pd.concat(rows, ignore_index=True).assign(cohort=found.cohort, variant=variant, n=len(found.samples))
    return table[COLUMNS].assign(positives=int(found.samples["event"].sum()))


def survival_shown(found: Survived, mark: str) -> Shown | Several:
    """C of Harrell, C over time and the AUC at two years of every model and head."""
    return in_groups(bounded(survival_table(found)), lambda rows: _survival_shown(found, rows, mark))


def _survival_shown(found: Survived, rows: pd.DataFrame, mark: str) -> Shown:
    rows_c = rows[rows["measure"] == "c_harrell"]
    every = "; ".join(f"{row.title}, {WORDS[row.head]}: {_limits(row)}" for row in rows_c.itertuples())
    ends = rows_c.loc[[rows_c["value"].idxmax(), rows_c["value"].idxmin()]].itertuples()
    high, low = (f"{_limits(row)} ({row.title}, {WORDS[row.head]})" for row in ends)
    told = f"Harrell's C goes from {low} to {high}" if len(rows_c) > 1 else f"Harrell's C is {high}"
    caption = (
        "How often the one of two patients with the higher risk dies first (C), the same for whole survival curves (C "
        f"over time), and the AUC of deaths within {found.horizon:.0f} days, in which deaths stand for those censored "
        "before. Means over ten patient-grouped splits with corrected 95 % intervals; components, penalty and k were "
        "chosen on validation patients. C over time of Cox is Harrell's, but deaths before the first of the training "
        f"part count as ties, since all curves are 1 until then. Dotted: chance. {told}."
    )
    return Shown(survival_forest(rows), caption, f"Dot plot of concordance by embedding and head. {every}.", mark)


def _limits(row: tuple) -> str:
    return f"{row.value:.2f} ({row.low:.2f} to {row.high:.2f})" if np.isfinite(row.low) else f"{row.value:.2f}"


def risk_groups_shown(found: Survived, mark: str) -> Shown | None:
    """Kaplan-Meier curves of the risk groups under the foremost embedding; None where no risks could be cut."""
    if not any(found.features[name] == "embedding" for name in found.groups):
        return None
    name = found.foremost
    groups, time = found.groups[name], found.samples["time_days"].to_numpy()
    panels = {
        "Cut at the median risk": (groups[2].curves, time, groups[2].group),
        "Cut at the tertiles": (groups[3].curves, time, groups[3].group),
    }
    never = int((groups[2].group < 0).sum())
    untested = f" {never} patients were in no test part and are in no group." if never else ""
    told = f"{found.titles[name]}: {_told(groups[2])}, cut at the median; {_told(groups[3])} for the outer thirds"
    caption = (
        f"Share of patients alive, with 95 % bands, in groups of Cox risk under {found.titles[name]}, the embedding "
        "with the highest C on validation patients. The risk of a patient is the mean rank over those of ten splits "
        f"that had the patient in the test part, so nobody helped to learn the own risk.{untested} Dotted: "
        f"{found.horizon:.0f} days. {NULL} {told}."
    )
    return Shown(risk_curves(panels, found.horizon), caption, f"Kaplan-Meier curves of risk groups. {told}.", mark)


def _told(groups: RiskGroups) -> str:
    p = f"one-sided log-rank p {'< 0.001' if groups.p < 0.001 else f'= {groups.p:.3f}'}"
    ratio = _ratio(groups)
    return f"hazard ratio {ratio}, {p}" if ratio else f"no hazard ratio ({groups.reason}), {p}"


def _ratio(groups: RiskGroups) -> str:
    """The hazard ratio with its interval, "" for none."""
    known = np.isfinite(groups.hazard_ratio)
    return f"{groups.hazard_ratio:.2f} ({groups.low:.2f} to {groups.high:.2f})" if known else ""


def risk_groups_table(found: Survived) -> pd.DataFrame:
    """One row a model and cut: hazard ratio of the highest against the lowest group, log-rank p (one-sided, that the
    highest dies sooner), and Holm's over the models of a cut."""
    rows = [
        {
            "embedding": found.titles[name],
            "groups": parts,
            "patients, all groups": int(each.sizes["patients"].sum()),
            "deaths, all groups": int(each.sizes["deaths"].sum()),
            "hazard ratio": _ratio(each) or "–",
            "log-rank p, one-sided": each.p,
        }
        for name, both in found.groups.items()
        for parts, each in both.items()
    ]
    table = pd.DataFrame(rows)
    for parts in table["groups"].unique() if len(table) else ():
        some = table["groups"] == parts
        table.loc[some, "p, Holm"] = holm(table.loc[some, "log-rank p, one-sided"])
    ps = [name for name in table if name in ("log-rank p, one-sided", "p, Holm")]
    order = ["embedding", "groups", "hazard ratio", "p, Holm", "log-rank p, one-sided"]
    order += ["patients, all groups", "deaths, all groups"]
    return table.assign(**{name: table[name].map(p_words) for name in ps}).reindex(columns=order)


def survival_left_out(found: Survived) -> pd.DataFrame:
    """reason, samples: how many samples each reason left out of the follow-up."""
    counts = found.left_out.groupby("reason", sort=False).size()
    return counts.rename("samples").rename_axis("reason").reset_index()


def survival_found(found: Survived) -> list[str]:
    """What the follow-up showed, in sentences."""
    n, deaths = len(found.samples), int(found.samples["event"].sum())
    years = f"{found.horizon:.0f} days"
    lines = [
        f"{n} patients were followed and {deaths} of them died. {found.early} left before {years}, so that a binary "
        f"label at {years} knows {n - found.early}; the binary endpoint of this page uses {found.labelled} of them."
    ]
    rows = bounded(survival_table(found))
    rows = rows[rows["measure"] == "c_harrell"]
    for head, some in rows.groupby("head", sort=False):
        above = some[some["low"] > 0.5]
        best = some.loc[some["value"].idxmax()]
        lines.append(
            f"{WORDS[head].capitalize()}: the interval of Harrell's C lies above chance for {len(above)} of "
            f"{len(some)}; highest is {best['title']} with {_limits(best)}."
        )
    if found.unknown:
        names = ", ".join(map(covariate, found.unknown))
        lines.append(f"Not used, since they are not known of patients whom the endpoint left out: {names}.")
    lines += [line for line in (_errors(found), _apart(found), _split(found), _failed(found)) if line]
    return lines


def _errors(found: Survived) -> str:
    values = {job: each.set_index("measure")["value"] for job, each in found.summaries.items()}
    values = {job: each for job, each in values.items() if np.isfinite(each["brier"])}
    if not values:
        return "The Brier score is not defined: the training parts have nobody left at the horizon."
    better = [job for job, each in values.items() if each["brier"] < each["brier_reference"]]
    name, head = min(values, key=lambda job: values[job]["brier"])
    least = values[name, head]
    return (
        f"The Brier score of survival at {found.horizon:.0f} days is below that of one curve for everybody "
        f"({least['brier_reference']:.3f}) for {len(better)} of {len(values)} models; lowest is {least['brier']:.3f}, "
        f"of {found.titles[name]} ({WORDS[head]})."
    )


def _apart(found: Survived) -> str:
    table = found.differences
    if table.empty:
        return ""
    apart, first = table[table["p_holm"] < 0.05], next(iter(found.titles.values()))
    names = listed(
        f"{found.titles[row.name]} ({WORDS[row.head]}) {row.difference:+.2f} ({row.low:+.2f} to {row.high:+.2f})"
        for row in apart.itertuples(index=False)
    )
    told = f": {names}" if names else ""
    return (
        f"Harrell's C differs from that of {first} in {len(apart)} of {counted(len(table), 'comparison')} (p < 0.05 "
        f"with Holm's correction over those of one head, patients drawn with replacement){told}."
    )


def _split(found: Survived) -> str:
    told = [f"{found.titles[name]}: no risk groups ({reason})" for name, reason in found.unsplit.items()]
    told += [f"{found.titles[name]}: {_told(both[2])}" for name, both in found.groups.items()]
    return f"Deaths of patients whose Cox risk is above the median, against the others. {listed(told)}." if told else ""


def _failed(found: Survived) -> str:
    failed = {job: int(each.scores["failed"].sum()) for job, each in found.evaluations.items()}
    lost = {job: number for job, number in failed.items() if number}
    names = ", ".join(f"{found.titles[name]} ({number})" for (name, _), number in lost.items())
    return f"Cox models that did not converge and were passed over: {names}." if lost else ""
