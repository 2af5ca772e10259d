"""Tables and figures of external validation, with captions made from this run's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, permutations

import numpy as np
import pandas as pd

from ..plots import Several, Shown
from ..plots import external as figures
from ..plots.base import counted, percent
from ..plots.probes import ends, forest, p_words
from ..plots.several import ROWS, in_groups
from ..probes import external, external_scores
from ..probes.external import Evaluated
from .reading import Page

HEAD = {"knn": "kNN", "linear": "linear probe"}
MOST = 7  # models in one figure of a pair of cohorts
LINES = 20  # of a table on the page; files have all
VOLUME = "volume"


def interval(row: Mapping, digits: int = 2, sign: str = "") -> str:
    """``0.71 (0.60 to 0.81)`` of value, low, high."""
    value, low, high = (f"{row[name]:{sign}z.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def _foremost(table: pd.DataFrame, size: pd.Series, words: str) -> tuple[pd.DataFrame, str]:
    """Of a long table the rows of largest absolute ``size``, and what to add to its caption; else all and ""."""
    if len(table) <= LINES:
        return table, ""
    kept = size.abs().sort_values(ascending=False, kind="stable").index[:LINES]
    return table.loc[sorted(kept)], f"; the {LINES} {words} of {len(table)} rows, all are in the files of this page"


def enough(page: Page, draws: int) -> int:
    """``draws``, raised to what Holm's correction over all drops of the page asks for."""
    pairs = len(page.sites) * (len(page.sites) - 1)
    return max(draws, external_scores.least_draws(len(page.titles) * len(external.HEADS) * pairs))


def cohorts_table(page: Page) -> pd.DataFrame:
    """One row a cohort: who is in it, who was left out for which reason, and its rule."""
    rows = []
    for site in page.sites:
        out = page.left_out.query("cohort == @site.id")["reason"].value_counts()
        volume = site.samples.get("volume_ml", pd.Series(dtype=float)).dropna()
        rows.append(
            {
                "cohort": page.names[site.id],
                "samples": len(site.samples),
                "patients": site.samples["patient_id"].nunique(),
                "positive": f"{site.labels.sum():,} ({percent(site.labels.mean())})",
                "median volume (ml)": f"{volume.median():.3g}" if len(volume) else "–",
                "left out": "; ".join(f"{n:,} {reason}" for reason, n in out.items()) or "none",
                "rule": page.rules[site.id],
            }
        )
    return pd.DataFrame(rows)


def cohorts_shown(page: Page) -> Shown:
    """Class balance and tumour volumes of every cohort."""
    told = "; ".join(
        f"{row.cohort}: {row.samples:,} samples, {row.positive} positive, median volume {row.volume} ml"
        for row in cohorts_table(page).rename(columns={"median volume (ml)": "volume"}).itertuples()
    )
    caption = (
        "Samples of each cohort by class and, where volumes are known, the volume of every tumour (upright lines: "
        f"medians). Another balance or other sizes are part of any drop. {told}."
    )
    figure = figures.sites({page.names[site.id]: site.samples for site in page.sites})
    return Shown(figure, caption, f"Bars of class counts and dots of volumes by cohort. {told}.", page.mark({}))


def apart_table(page: Page, draws: int, seed: int = 0) -> pd.DataFrame:
    """AUC of a linear "which cohort?" by embedding and pair of cohorts: model, title, first, second, value, low, high,
    n_first, n_second."""
    rows = []
    for (first, second), model in ((pair, model) for pair in combinations(page.sites, 2) for model in page.titles):
        predictions = external.which_site(first, second, model, len(first.folds), seed)
        found = external_scores.aucs(predictions, draws, seed).iloc[0]
        about = {"model": model, "title": page.titles[model], "first": first.id, "second": second.id}
        ends = {name: found[name] for name in ("value", "low", "high")}
        rows.append(about | ends | {"n_first": len(first.samples), "n_second": len(second.samples)})
    return pd.DataFrame(rows)


def apart_shown(page: Page, table: pd.DataFrame) -> Shown | Several:
    """How well each embedding tells the cohorts apart."""
    shown = []
    for (first, second), rows in table.groupby(["first", "second"], sort=False):
        pair = f"{page.names[first]}\nor {page.names[second]}?"
        shown.append(in_groups(rows, lambda some, pair=pair: _apart_shown(page, some, pair)))
    return shown[0] if len(shown) == 1 else Several(shown)


def _apart_shown(page: Page, rows: pd.DataFrame, pair: str) -> Shown:
    words = [f"{row['title']} {interval(row)}" for row in rows.to_dict("records")]
    caption = (
        f"{' '.join(pair.split())} AUC of a linear classifier of the cohort, patients held out, with 95 % interval; "
        f"dotted: an embedding that cannot tell, as one below it cannot. {ends(rows['value'], words)}."
    )
    figure = forest(rows.assign(series=pair), "AUC for the cohort", title=pair)
    return Shown(figure, caption, f"Dot plot of AUC for the cohort. {'; '.join(words)}.", page.mark(_titles(rows)))


def _titles(rows: pd.DataFrame) -> dict[str, str]:
    return dict(zip(rows["model"], rows["title"], strict=True))


def drift_table(page: Page) -> tuple[pd.DataFrame, str]:
    """What the scale of the training cohort makes of the features of the test cohort, in words of a page."""
    table = external.drift(page.sites)
    shown = pd.DataFrame(
        {
            "embedding": table["model"].map(page.titles),
            "shift (sd)": table["shift"],
            "spread (sd)": table["spread"],
            "beyond 3 sd": [percent(share, 1) for share in table["beyond"]],
            "beyond it in training": [percent(share, 1) for share in table["beyond_train"]],
            "scaled by → features of": _way(page, table),
        }
    )
    return _foremost(shown, table["shift"], "of largest shift")


def judged(page: Page, k_max: int, draws: int, seed: int, progress: Callable = iter) -> tuple[Evaluated, pd.DataFrame]:
    """Predictions of both heads in all cohorts, and their scores (``external_scores.SCORES``) with a title."""
    found = external.evaluate(page.sites, k_max=k_max, progress=progress)
    table = external_scores.scores(found.predictions, draws, seed)
    table.insert(1, "title", table["model"].map(page.titles))
    return found, table


def compared(page: Page, scores: pd.DataFrame) -> pd.DataFrame:
    """One row a model, head and ordered pair: value, low, high with the suffixes _within and _external."""
    keys = ["model", "title", "head", "test"]
    parts = {name: scores[scores["measure"] == f"auc_{name}"] for name in ("within", "external")}
    within = parts["within"][[*keys, "value", "low", "high"]]
    elsewhere = parts["external"][[*keys, "train", "value", "low", "high"]]
    both = elsewhere.merge(within, on=keys, suffixes=("_external", "_within"))
    return both.assign(head=both["head"].map(HEAD))


def compared_shown(page: Page, scores: pd.DataFrame) -> Several:
    """Within and external AUC, a figure an ordered pair of cohorts, and at most seven models in it."""
    table, shown = compared(page, scores), []
    for train, test in permutations(page.names, 2):
        names = page.names[train], page.names[test]
        rows = table[(table["train"] == train) & (table["test"] == test)]
        shown.append(in_groups(rows, lambda some, names=names: _pair_shown(page, some, *names), MOST))
    return Several(shown)


def _pair_shown(page: Page, rows: pd.DataFrame, train: str, test: str) -> Shown:
    words = [
        f"{row.title}, {row.head}: {row.value_external:.2f} from {train}, {row.value_within:.2f} within"
        for row in rows.itertuples()
    ]
    caption = (
        f"AUC in {test}, of judges trained there (bars; patients held out in folds) and of judges trained in {train} "
        f"(filled), with 95 % intervals. A filled mark on the left of its bar is a drop. "
        f"{ends(rows['value_external'], words)}."
    )
    figure, mark = figures.slopes(rows, train, test), page.mark(_titles(rows))
    return Shown(figure, caption, f"Pairs of AUC joined by lines. {'; '.join(words)}.", mark)


def drops(page: Page, scores: pd.DataFrame) -> pd.DataFrame:
    """The drops, one row a model, head and ordered pair, with p and p_holm."""
    table = scores[scores["measure"] == "drop"]
    return table.assign(head=table["head"].map(HEAD)).reset_index(drop=True)


def drops_shown(page: Page, scores: pd.DataFrame, draws: int) -> Several:
    """External minus within, a figure an ordered pair and at most twelve embeddings."""
    table, shown = drops(page, scores), []
    for _, rows in table.groupby(["train", "test"], sort=False):
        sure = rows[rows["p_holm"] < 0.05]
        counts = (
            f"Of these {len(rows)} differences {changes(sure)} beyond chance at 0.05 (Holm over the {len(table)} of "
            f"the page, {draws:,} draws)"
        )
        shown.append(in_groups(rows, lambda some, counts=counts: _drops_shown(page, scores, some, counts)))
    return Several(shown)


def changes(rows: pd.DataFrame) -> str:
    """``1 drop and 2 gains are``, of differences (``value``); ``none is`` of none."""
    worse, better = int((rows["value"] < 0).sum()), int((rows["value"] > 0).sum())
    return f"{counted(worse, 'drop')} and {counted(better, 'gain')} are" if worse + better else "none is"


def _drops_shown(page: Page, scores: pd.DataFrame, rows: pd.DataFrame, counts: str) -> Shown:
    one = rows.iloc[0]
    here, there = page.names[one["train"]], page.names[one["test"]]
    at_home = scores[(scores["measure"] == "auc_within") & (scores["test"] == one["test"])]["n_train"].iloc[0]
    words = [f"{row['title']}, {row['head']} {interval(row, sign='+')}" for row in rows.to_dict("records")]
    caption = (
        f"AUC in {there} of judges trained on {one['n_train']:,} samples of {here}, minus AUC of judges trained on "
        f"{at_home:,} samples of {there} itself; 95 % intervals, the same patients drawn for both. Left of the line "
        f"the other cohort teaches less. {counts}. {ends(rows['value'], words)}."
    )
    pair = f"Learnt in {here},\ntested in {there}"
    figure = forest(rows.assign(series=rows["head"]), "difference in AUC, external − within", 0.0, pair)
    return Shown(figure, caption, f"Dot plot of differences in AUC. {'; '.join(words)}.", page.mark(_titles(rows)))


def drops_table(page: Page, scores: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """External minus within, its p-values and both AUCs in words, one row a model, head and ordered pair."""
    both = compared(page, scores).merge(drops(page, scores), on=["model", "title", "head", "train", "test"])
    records = both.to_dict("records")
    shown = pd.DataFrame(
        {
            "judge": _judges(both["title"], both["head"]),
            "external − within": [interval(row, sign="+") for row in records],
            "p, Holm": both["p_holm"].map(p_words),
            "p": both["p"].map(p_words),
            "external": [interval(_of(row, "_external")) for row in records],
            "within": [interval(_of(row, "_within")) for row in records],
            **_ways(page, both),
        }
    )
    return _foremost(shown, both["value"], "of largest change")


def _judges(titles: pd.Series, heads: pd.Series) -> pd.Series:
    """The first column of a table: the embedding and the head on it."""
    return titles + ", " + heads


def _ways(page: Page, rows: pd.DataFrame) -> dict[str, pd.Series]:
    """The column by which rows stand together: learnt in which cohort, tested in which."""
    return {"learnt in → tested in": _way(page, rows)}


def _way(page: Page, rows: pd.DataFrame) -> pd.Series:
    return rows["train"].map(page.names) + " → " + rows["test"].map(page.names)


def _of(row: Mapping, suffix: str) -> dict:
    return {name: row[name + suffix] for name in ("value", "low", "high")}


def rescaled_table(
    page: Page, found: Evaluated, scores: pd.DataFrame, draws: int, seed: int
) -> tuple[pd.DataFrame, str]:
    """External AUC as it is, and if the test cohort were first moved onto the training cohort (transductive)."""
    moved = external_scores.aucs(found.rescaled, draws, seed)
    both = compared(page, scores)
    both = both.merge(moved.assign(head=moved["head"].map(HEAD)), on=["model", "head", "train", "test"])
    shown = pd.DataFrame(
        {
            "judge": _judges(both["title"], both["head"]),
            "external": [interval(_of(row, "_external")) for row in both.to_dict("records")],
            "moved onto the training cohort": [interval(row) for row in both.to_dict("records")],
            **_ways(page, both),
        }
    )
    return _foremost(shown, both["value"] - both["value_external"], "that moving changes most")


def calibration_table(page: Page, found: Evaluated, draws: int, seed: int) -> tuple[pd.DataFrame, str]:
    """Mean predicted probability against the share of positives, in another cohort."""
    table = external_scores.calibration(found.predictions, draws, seed)
    table["value"] = table["difference"]
    shown = pd.DataFrame(
        {
            "judge": _judges(table["model"].map(page.titles), table["head"].map(HEAD)),
            "predicted − observed": [interval(row, sign="+") for row in table.to_dict("records")],
            "predicted": table["predicted"],
            "observed": table["observed"],
            "positive where learnt": table["observed_train"],
            **_ways(page, table),
        }
    )
    return _foremost(shown, table["difference"], "farthest off")


def choices_table(page: Page, found: Evaluated) -> tuple[pd.DataFrame, str]:
    """k or C where all samples of a cohort were learnt from, and over the folds within it."""
    rows, wide = [], []
    for (model, head, train), some in found.choices.groupby(["model", "head", "train"], sort=False):
        whole, folds = some[some["fold"] == "all"].iloc[0], some[some["fold"] != "all"]["chosen"]
        wide.append(float(np.log(folds.max() / folds.min())))
        rows.append(
            {
                "judge": f"{page.titles[model]}, {HEAD[head]}",
                "k or C": _chosen(whole["chosen"]),
                "in folds": f"{_chosen(folds.min())} to {_chosen(folds.max())}",
                "inner AUC": whole["score"],
                "learnt in": page.names[train],
            }
        )
    return _foremost(pd.DataFrame(rows), pd.Series(wide), "least sure")


def _chosen(value: float) -> str:
    """k or C in plain decimals: 0.00001 rather than 1e-05."""
    return np.format_float_positional(value, precision=6, fractional=False, trim="-")


def left_out_table(page: Page) -> pd.DataFrame | None:
    """How many samples each cohort lost for which reason; None if none."""
    if page.left_out.empty:
        return None
    counts = page.left_out.groupby(["cohort", "reason"], sort=False).size().rename("samples").reset_index()
    return counts.assign(cohort=counts["cohort"].map(page.names))


def worst(page: Page, scores: pd.DataFrame) -> pd.DataFrame:
    """The worst cases, best first, with ``where`` (the test cohort's title)."""
    table = external_scores.ranked(scores)
    return table.assign(head=table["head"].map(HEAD), where=table["test"].map(page.names))


def worst_shown(page: Page, scores: pd.DataFrame) -> Shown:
    """Ranking by the lowest external AUC: the first twelve, and tumour volume wherever it is."""
    table = worst(page, scores)
    rank = table["value"].rank(ascending=False, method="min").astype(int)
    some = table.assign(rank=rank)[(table.index < ROWS) | (table["model"] == VOLUME)]
    words = [f"{row['title']}, {row['head']} {interval(row)} in {row['where']}" for row in some.to_dict("records")]
    few = f" The {ROWS} best of {len(table)}, and tumour volume; all are in the results." if len(table) > ROWS else ""
    caption = (
        "Lowest AUC over the cohorts in which a judge did not learn, best first, with the 95 % interval of the minimum "
        f"(patients of all cohorts drawn at once).{few} {ends(some['value'], words)}."
    )
    alt = f"Ranked dot plot of the lowest external AUC. {'; '.join(words)}."
    return Shown(figures.worst(some), caption, alt, page.mark(_titles(some)))
