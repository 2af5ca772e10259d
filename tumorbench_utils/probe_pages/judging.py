"""Two judges of the same embeddings on the same splits: kNN and the linear probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import annotations, artefacts, embeddings, knn, statistics
from ..plots import Several, Shown
from ..plots.probes import ends, forest, p_words
from ..plots.several import in_groups
from ..probes import linear
from ..statistics import bounded

HEADS = {"knn": "kNN", "linear": "linear probe"}


@dataclass(frozen=True)
class Judged:
    """Samples with a label and an embedding in every table, and what both heads make of them on grouped splits.

    ``vectors`` (n, d) by model; ``evaluations`` and ``predictions`` (protocol, split, sample_id, patient_id, label,
    probability) by model and head; ``unmatched`` samples that one side lacks; ``released`` the linear probe of the
    study's later code for the first model. ``k_max`` may be less than asked for, if training parts are smaller.
    """

    cohort: str
    variant: str
    titles: dict[str, str]
    annotations: pd.DataFrame
    vectors: dict[str, np.ndarray]
    unmatched: pd.DataFrame
    labels: np.ndarray
    splits: list[knn.Split]
    k_max: int
    evaluations: dict[tuple[str, str], knn.Evaluation | linear.Evaluation]
    predictions: dict[tuple[str, str], pd.DataFrame]
    released: linear.Evaluation

    @property
    def models(self) -> list[str]:
        """Names of the embedding tables."""
        return list(self.vectors)

    @property
    def patients(self) -> np.ndarray:
        """(n,) patient of each sample."""
        return self.annotations["patient_id"].to_numpy(str)


def judged(
    run: str | Path,
    cohort: str,
    models: Sequence[str],
    titles: Mapping[str, str],
    *,
    variant: str = "paper",
    k_max: int = knn.K_MAX,
    trials: int = linear.TRIALS,
    seed: int = 0,
) -> Judged:
    """Both heads on the same ten patient-grouped splits, learning from the training part only."""
    samples = annotations.read(annotations.path_of(run, cohort))
    joined, _ = embeddings.load(run, cohort, models, samples[samples["label"].notna()].reset_index(drop=True))
    table = joined.annotations
    labels = statistics.binary_labels(table["label"])
    splits = knn.grouped_splits(labels, table["patient_id"])
    k_max = min(k_max, *(len(split.train) for split in splits))
    evaluations, predictions = {}, {}
    for name, vectors in joined.vectors.items():
        evaluations[name, "knn"] = knn.evaluate(vectors, labels, splits, k_max)
        evaluations[name, "linear"] = linear.evaluate(vectors, labels, splits, trials, seed)
        for head in HEADS:
            predictions[name, head] = linear.predictions_table(evaluations[name, head].predictions, table)
    released = linear.released(joined.vectors[models[0]], labels, splits)
    return Judged(
        cohort, variant, dict(titles), table, dict(joined.vectors), joined.unmatched, labels, splits, k_max,
        evaluations, predictions, released,
    )  # fmt: skip


def heads_table(found: Judged) -> pd.DataFrame:
    """AUC by model and head with the corrected interval: model, title, head, series, value, low, high."""
    rows = [
        (name, found.titles[name], head, HEADS[head], *linear.interval(each))
        for (name, head), each in found.evaluations.items()
    ]
    return pd.DataFrame(rows, columns=["model", "title", "head", "series", "value", "low", "high"])


def heads_shown(found: Judged, mark: str) -> Shown | Several:
    """AUC of both judges for every model; of the first the released linear probe, too."""
    return in_groups(heads_table(found), lambda rows: _heads_shown(found, rows, mark))


def _heads_shown(found: Judged, table: pd.DataFrame, mark: str) -> Shown:
    first = found.titles[found.models[0]]
    theirs = linear.interval(found.released)
    row = pd.DataFrame(
        [(first, "linear probe as released", *theirs)], columns=["title", "series", "value", "low", "high"]
    )
    words = [f"{row.title}, {row.series} {row.value:.3f}" for row in table.itertuples()]
    stopped = int((~found.released.scores["converged"]).sum())
    short = f" (lbfgs stopped short in {stopped} of {len(found.splits)} splits)" if stopped else ""
    caption = (
        "Mean test AUC over ten patient-grouped splits with the corrected 95 % interval. Both judges learn from the "
        f"training part and choose k (1 to {found.k_max}) or C on the validation part. As released: raw features, "
        f"C = 1, for {first} only{short}: {theirs[0]:.3f}. Of kNN and linear probe: "
        f"{ends(table['value'], words)}."
    )
    drawn = pd.concat([table, row]) if first in set(table["title"]) else table
    alt = f"Dot plot of AUC. {'; '.join(words)}."
    return Shown(forest(bounded(drawn), "AUC (dotted: chance)"), caption, alt, mark)


def heads_differences(found: Judged, draws: int, seed: int = 0) -> pd.DataFrame:
    """Linear probe minus kNN by model, paired patient bootstrap, p corrected over the models (Holm)."""
    tables = []
    for name in found.models:
        pair = {HEADS[head]: found.predictions[name, head] for head in HEADS}
        tables.append(statistics.paired_bootstrap(pair, HEADS["knn"], draws, seed).assign(name=name))
    table = pd.concat(tables, ignore_index=True)
    table["p_holm"] = statistics.holm(table["p"])
    table.insert(0, "title", table["name"].map(found.titles))
    return table.rename(columns={"auc": "linear probe", "reference_auc": "kNN"})


def heads_words(table: pd.DataFrame) -> pd.DataFrame:
    """The differences for a page: embedding, difference, p, kNN, linear probe."""
    return difference_words(table, ["kNN", "linear probe"])


def signed(row: NamedTuple) -> str:
    """The difference of a row and its interval, with their signs."""
    return f"{row.difference:+z.3f} ({row.low:+z.3f} to {row.high:+z.3f})"


def difference_words(table: pd.DataFrame, both: Sequence[str]) -> pd.DataFrame:
    """Embedding, difference with its interval, Holm's p, and last the columns ``both`` that it is the difference of."""
    words = list(map(signed, table.itertuples()))
    shown = {"embedding": table["title"], "difference": words, "p, Holm": table["p_holm"].map(p_words)}
    return pd.DataFrame(shown | {name: table[name] for name in both})


def coverage(found: Judged) -> pd.DataFrame | None:
    """How many samples each table lacks or has in excess; None where there are none."""
    if found.unmatched.empty:
        return None
    counts = found.unmatched.groupby(["model", "missing_from"], sort=False).size().rename("samples").reset_index()
    counts["model"] = counts["model"].map(found.titles)
    return counts.rename(columns={"model": "embeddings", "missing_from": "missing from"})


def write_predictions(run: str | Path, found: Judged, record: Mapping) -> None:
    """Test predictions of the linear probe: ``predictions/<cohort>/linear/<model>.parquet``."""
    for name in found.models:
        path = Path(run) / "predictions" / found.cohort / "linear" / f"{name}.parquet"
        artefacts.write_parquet(path, found.predictions[name, "linear"], record)
