"""Sentences and small tables of the data curation pages, made from what was counted."""

from __future__ import annotations

from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pandas as pd

from .annotations import Annotations
from .bank import Bank, Built
from .cohorts.base import Cohort, Endpoint
from .curation import Measured, Selected
from .sources import Zenodo

NOTICE = '<p class="tb-notice">phantom: computed images of no patient, to test the machinery and to learn it.</p>\n'
SHOWN = 12  # tumours in a montage
VIEW = (64, 64, 64)  # voxels, mm in the geometry of 1 mm


class Views(NamedTuple):
    """Patches of a montage, their spacings, the outlines of their masks (or None), and titles."""

    patches: list[np.ndarray]
    spacings: list[tuple[float, float, float]]
    outlines: list[np.ndarray | None]
    titles: list[str]


def card(cohort: Cohort) -> str:
    """What the registry says of a cohort, as a Markdown list of definitions."""
    doi = f" ([{cohort.doi}](https://doi.org/{cohort.doi}))" if cohort.doi else ""
    lines = [
        *([NOTICE] if cohort.phantom else []),
        f"**{cohort.title}**, {cohort.anatomy}, {cohort.size}.\n",
        f"- **Source**: {cohort.source}{doi}; licence {cohort.licence}",
        f"- **Seed point**: {cohort.seed_rule}",
    ]
    for variant, endpoint in cohort.endpoints.items():
        rule = endpoint.rule[0].upper() + endpoint.rule[1:]
        lines.append(f"- **Endpoint, variant `{variant}`**: {endpoint.title}. {rule}. Expected: {_expected(endpoint)}.")
    if not cohort.endpoints:
        lines.append("- **Endpoint**: none")
    return "\n".join(lines)


def after_mark(title: str, mark: str) -> str:
    """A title as it follows the mark of its figure: "Site A" of "PHANTOM, site A", which the mark says already."""
    if not mark:
        return title
    rest = title.removeprefix(mark.upper()).lstrip(", ") or "the cohort"
    return f"{rest[0].upper()}{rest[1:]}"


def noted(cohort: Cohort) -> str:
    """What the query of a cohort leaves out, as a sentence after another; empty if there is nothing to note.

    A query for masks names the cases that the flow of the selection begins with, which the sentence says.
    """
    note = getattr(cohort.images, "note", "")
    opening = "Settled by the query, before the flow below begins" if note and cohort.images.mask else "Note"
    return f" {opening}: {note}." if note else ""


def expectation(cohort: Cohort) -> str:
    """The expected class counts of every variant, and how to get the labels, in words."""
    counts = [f"{_expected(each)} ({variant})" for variant, each in cohort.endpoints.items()]
    expected = f"Expected: {'; '.join(counts) or 'no endpoint'}."
    if isinstance(cohort.images, Zenodo):
        expected += f" With `labels: zenodo` the table of record {cohort.images.record} is fetched."
    return expected


def hashes(**tables: pd.DataFrame | None) -> dict[str, str]:
    """SHA-256 of tables as CSV, by name; those that are None are left out."""
    given = {name: table for name, table in tables.items() if table is not None}
    return {name: sha256(table.to_csv(index=False).encode()).hexdigest() for name, table in given.items()}


def _expected(endpoint: Endpoint) -> str:
    if endpoint.positives is None:
        return "no set count"
    return f"{endpoint.positives:,} positive, {endpoint.negatives:,} negative"


def agreement(kept: pd.DataFrame, made: pd.DataFrame) -> str:
    """How the annotation table that a run has compares with the one that this page made, in a sentence."""
    both = kept.merge(made, on="sample_id", suffixes=("", "_here"))
    same = int((both["label"].fillna(-1) == both["label_here"].fillna(-1)).sum())
    if len(both) == 0:
        count = "as many" if len(kept) == len(made) else f"{len(kept):,} against {len(made):,}"
        classes = "the same" if _classes(kept) == _classes(made) else "other"
        return (
            "The annotation table of this run comes with the published embeddings and names its samples otherwise; "
            f"it has {count} samples and {classes} counts of classes."
        )
    return (
        "The annotation table of this run comes with the published embeddings. "
        f"{len(both):,} of its {len(kept):,} samples are among the {len(made):,} of this page, "
        f"{same:,} of them with the same label."
    )


def _classes(table: pd.DataFrame) -> dict[float, int]:
    return table["label"].value_counts().to_dict()


def seed_distance(kept: pd.DataFrame, measured: Measured) -> str:
    """How far the seed points of the run's table are from those measured here, in a sentence."""
    both = kept.reindex(columns=["sample_id", "x", "y", "z"]).dropna()
    if both.empty:
        return "The run's table has no seed points to compare with those measured here."
    both = both.merge(measured.table, on="sample_id", suffixes=("", "_here"))
    if both.empty:
        return "The seed points of the run's table cannot be compared: it names its samples otherwise."
    apart = np.linalg.norm(both[["x", "y", "z"]].to_numpy() - both[["x_here", "y_here", "z_here"]].to_numpy(), axis=1)
    return (
        f"The seed points of the run's table are {np.median(apart):.2f} mm from those measured here (median of "
        f"{len(both):,} samples), at most {apart.max():.1f} mm."
    )


def followed(made: Annotations) -> pd.DataFrame:
    """Follow-up of all patients, those without a label too: leaving them out would bend the curve."""
    both = [table for table in (made.table, made.excluded) if "time_days" in table]
    if not both:
        return pd.DataFrame(columns=["patient_id", "time_days", "event"])
    patients = pd.concat(both, ignore_index=True).drop_duplicates("patient_id")
    return patients[patients["time_days"].notna() & patients["event"].notna()].reset_index(drop=True)


def left_out(selected: Selected) -> pd.DataFrame:
    """The exclusions of the unit that is sampled, without those of an earlier one (the scans of LUNA16's nodules)."""
    earlier = selected.flow[selected.flow["unit"] != selected.flow["unit"].iloc[-1]]["why"]
    excluded = selected.annotations.excluded
    return excluded[~excluded["reason"].isin(set(earlier))]


def sized(table: pd.DataFrame, measured: Measured) -> pd.DataFrame:
    """An annotation table with the volumes measured on this page (ml), whatever it held before."""
    table = table.drop(columns="volume_ml", errors="ignore")
    return table.merge(measured.table[["sample_id", "volume_ml"]], on="sample_id", how="left")


def quality(table: pd.DataFrame) -> pd.DataFrame:
    """Quality control in a few rows: quantity, least, median, most, and the sample that has the most.

    Where all samples have the same, none is named; names of phantoms are told without the word that the page bears.
    """
    quantities = {
        "tumour volume, ml": "volume_ml",
        "longest diameter, mm": "diameter_mm",
        "parts of the mask": "parts",
        "mean of the tumour, HU": "tumour_hu",
        "slices": "slices",
        "pixel, mm": "pixel_mm",
        "slice distance, mm": "slice_mm",
        "lowest voxel, HU": "lowest_hu",
        "highest voxel, HU": "highest_hu",
    }
    rows = []
    for title, name in quantities.items():
        values = table[name].dropna() if name in table else pd.Series(dtype=float)
        if len(values):
            most = str(table.loc[values.idxmax(), "sample_id"]).removeprefix("PHANTOM-")
            figures = list(map(_figure, (values.min(), values.median(), values.max())))
            rows.append((title, *figures, most if figures[0] != figures[2] else "–"))
    return pd.DataFrame(rows, columns=["quantity", "least", "median", "most", "most in"])


def _figure(value: float) -> str:
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def banks(built: Built) -> pd.DataFrame:
    """The banks of a run in a table: geometry, what the border does, rows, size on disk, spacing along R, A and S.

    "cut off" are patches that the border clamps, "seed outside" those whose seed point lies outside the image;
    "without mask" counts samples, for which ``mask_reason`` of the bank's rows says why.
    """
    rows = []
    for name, path in built.paths.items():
        found = Bank(path)
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        row = {
            "geometry": name,
            "cut off": int(found.rows["clamped"].sum()),
            "seed outside": int(found.rows["outside"].sum()),
            "left out": len(found.excluded),
            "rows": len(found.rows),
            "samples": found.rows["sample_id"].nunique(),
            "without mask": found.rows.loc[found.rows["mask_reason"] != "", "sample_id"].nunique(),
            "MB": size / 1e6,
            "mm along R, A, S": " × ".join(f"{value:.3g}" for value in found.spacing),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def views(found: Bank, most: int = SHOWN) -> Views:
    """The first tumours of a bank for a montage, with the outline of each mask, None for a sample without one."""
    rows = list(found.rows[found.rows["trial"] == 0].head(most).itertuples())
    return Views(
        [found.patch(row, VIEW) for row in rows],
        [found.spacing] * len(rows),
        [found.mask(row, VIEW) for row in rows],
        [str(row.sample_id) for row in rows],
    )


def summary(
    cohort: Cohort,
    variant: str,
    manifest: pd.DataFrame | None,
    selected: Selected | None,
    measured: Measured | None,
    built: Built | None,
) -> list[str]:
    """What a page shows, one sentence a finding; class counts are held against those expected."""
    points = []
    if manifest is not None:
        size = manifest["bytes"].sum() / 1e9
        points.append(f"The archive lists {len(manifest):,} series of this cohort, {size:.1f} GB.")
    if selected is None:
        points.append("No source of labels was at hand; the annotation table needs one.")
    elif cohort.endpoints:
        points += _labels(cohort, variant, selected)
    if measured is not None:
        points.append(f"{len(measured.table):,} tumours were measured, {len(measured.excluded):,} could not be.")
    if built is not None:
        rows = [Bank(path).rows for path in built.paths.values()]
        counts = sorted({len(each) for each in rows})
        held = " to ".join(f"{n:,}" for n in dict.fromkeys((counts[0], counts[-1])))
        cut = sum(int(each["clamped"].sum()) for each in rows)
        lost = built.excluded.drop_duplicates(["sample_id", "trial"])  # each geometry lists them
        points.append(
            f"The patch banks hold {held} patches a geometry; {cut:,} in all are cut "
            f"off by the border of the image, {len(lost):,} seed points were left out."
        )
    return points


def _labels(cohort: Cohort, variant: str, selected: Selected) -> list[str]:
    table, endpoint = selected.annotations.table, cohort.endpoint(variant)
    positives, negatives = int((table["label"] == 1).sum()), int((table["label"] == 0).sum())
    found = f"{positives:,} positive and {negatives:,} negative samples"
    units = selected.flow.groupby("unit", sort=False)["left_out"].sum()
    counts = " and ".join(f"{n:,} {unit}s" for unit, n in units.items())
    left = f"{counts} left out, each with its reason." if units.any() else "none is left out."
    if endpoint.positives is None:
        return [f"{found}; {left}"]
    same = (positives, negatives) == (endpoint.positives, endpoint.negatives)
    wanted = f"{endpoint.positives:,} and {endpoint.negatives:,}"
    return [f"{found}, {'as expected' if same else f'where {wanted} were expected'}; {left}"]
