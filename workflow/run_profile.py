"""A profile of a run: one YAML file naming cohorts and pages, built on the profile that it ``extends``."""

from pathlib import Path

import yaml

CONFIG = Path(__file__).parent / "config"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KEYS = {"extends", "cohorts", "pages"}
COHORT_KEYS = {"sources", "variant"}
CURATION, EVALUATION = "1_data_curation", "3_knn_evaluation"


def load(name: str) -> dict:
    """The profile ``name``, merged over what it extends; unknown keys and stages are errors that name the file."""
    path = CONFIG / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in CONFIG.glob("*.yaml")))
        raise SystemExit(f"no profile '{name}' in {CONFIG.name}. Known: {known}")
    content = yaml.safe_load(path.read_text()) or {}
    base = content.pop("extends", None)
    profile = merge(load(base), content) if base else content
    check(profile, path)
    return profile


def merge(base: dict, over: dict) -> dict:
    """``base`` with the entries of ``over`` laid over it, mappings key by key."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def check(profile: dict, path: Path) -> None:
    """What can be wrong in a profile before anything runs."""
    unknown = set(profile) - KEYS
    if unknown:
        raise SystemExit(f"{path}: unknown keys {sorted(unknown)}. Known: {sorted(KEYS)}")
    for key in ("cohorts", "pages"):
        if not isinstance(profile.get(key), dict):
            raise SystemExit(f"{path}: no {key}")
    profile["cohorts"] = {cohort: options or {} for cohort, options in profile["cohorts"].items()}
    for cohort, options in profile["cohorts"].items():
        if set(options) - COHORT_KEYS:
            raise SystemExit(f"{path}: cohort {cohort}: unknown keys {sorted(set(options) - COHORT_KEYS)}")
    for stage, pages in profile["pages"].items():
        if not (NOTEBOOKS / f"{stage}.ipynb").exists():
            raise SystemExit(f"{path}: no notebook {stage}.ipynb")
        for page, parameters in pages.items():
            cohort = (parameters or {}).get("cohort")
            if cohort not in profile["cohorts"]:
                raise SystemExit(f"{path}: page {stage}/{page}: its cohort is not among the profile's cohorts")
            if page != cohort:  # results are filed under the cohort
                raise SystemExit(f"{path}: page {stage}/{page}: a page bears the name of its cohort")
            if stage == EVALUATION and not profile["cohorts"][cohort].get("sources"):
                raise SystemExit(f"{path}: page {stage}/{page}: cohort {cohort} has no sources of embeddings")


def inputs(profile: dict, stage: str, page: str) -> dict[str, str]:
    """What a page reads, by name, relative to the folder of the run.

    Published embeddings come with the annotation table that belongs to them; curation then checks that table.
    """
    cohort = profile["pages"][stage][page]["cohort"]
    read = {}
    if profile["cohorts"][cohort].get("sources"):
        read["annotations"] = f"annotations/{cohort}.csv"
    if stage == EVALUATION:
        read["embeddings"] = f"embeddings/{cohort}"
    return read


def files(profile: dict, stage: str, page: str) -> list[str]:
    """What a page writes besides its results: curation writes the annotation table where no other rule does."""
    given = parameters(profile, stage, page)
    return [f"annotations/{given['cohort']}.csv"] if given.get("write") and given["labels"] != "none" else []


def parameters(profile: dict, stage: str, page: str) -> dict:
    """The parameters of a page: those of the profile, and what follows from its cohort."""
    given = profile["pages"][stage][page]
    options = profile["cohorts"][given["cohort"]]
    common = {"variant": options.get("variant", "paper")}
    if stage == EVALUATION:
        return {"sources": options["sources"], **common, **given}
    if stage == CURATION:
        return {"labels": "none", "images": "none", "write": not options.get("sources"), **common, **given}
    return {**common, **given}
