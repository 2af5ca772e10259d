"""A profile of a run: one YAML file naming cohorts and pages, built on the profile that it ``extends``."""

from pathlib import Path

import yaml

from tumorbench_utils import models, published

CONFIG = Path(__file__).parent / "config"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KEYS = {"extends", "cohorts", "pages"}
COHORT_KEYS = {"sources", "variant"}
CURATION, EXTRACTION, EVALUATION = "1_data_curation", "2_embedding_extraction", "3_knn_evaluation"


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
    lacking = unavailable(profile)
    for page in lacking:
        del profile["pages"][EXTRACTION][page]
    return {**profile, "left_out": lacking} if lacking else profile


def unavailable(profile: dict) -> list[str]:
    """Pages of extraction whose published weights come in a package that is not installed; the run goes on without."""
    pages = profile["pages"].get(EXTRACTION, {})
    return [
        page
        for page, given in pages.items()
        if given.get("weights", "pretrained") == "pretrained" and not models.installed(models.MODELS.get(page))
    ]


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
        for page, given in pages.items():
            wrong = fault(profile, stage, page, given or {})
            if wrong:
                raise SystemExit(f"{path}: page {stage}/{page}: {wrong}")


def fault(profile: dict, stage: str, page: str, given: dict) -> str:
    """What is wrong with a page of a profile, in words; empty if nothing is. Results are filed under its name."""
    if stage == EXTRACTION:
        curated = profile["pages"].get(CURATION, {})
        unseen = [cohort for cohort in given.get("cohorts", []) if cohort not in curated]
        if given.get("model") != page:
            return "a page of extraction bears the name of its model"
        return f"no page of {CURATION} for its cohorts {unseen}" if unseen or not given.get("cohorts") else ""
    if given.get("cohort") not in profile["cohorts"]:
        return "its cohort is not among the profile's cohorts"
    if page != given["cohort"]:
        return "a page bears the name of its cohort"
    if stage == EVALUATION and not profile["cohorts"][page].get("sources"):
        return f"cohort {page} has no sources of embeddings"
    return ""


def inputs(profile: dict, stage: str, page: str) -> dict[str, str]:
    """What a page reads, by name, relative to the folder of the run.

    Published embeddings come with the annotation table that belongs to them; curation then checks that table. The
    patch banks that extraction reads are not declared, but the results of the pages that build them are.
    """
    if stage == EXTRACTION:
        cohorts = profile["pages"][stage][page]["cohorts"]
        return {f"curated_{cohort}": f"results/{CURATION}/{cohort}.csv" for cohort in cohorts}
    cohort = profile["pages"][stage][page]["cohort"]
    read = {}
    if profile["cohorts"][cohort].get("sources"):
        read["annotations"] = f"annotations/{cohort}.csv"
    if stage == EVALUATION:
        tables = published.tables(profile["cohorts"][cohort]["sources"])
        read |= {f"embeddings_{table}": f"embeddings/{cohort}/{table}.parquet" for table in tables}
    return read


def files(profile: dict, stage: str, page: str) -> list[str]:
    """What a page writes besides its results: curation writes the annotation table where no other rule does."""
    if stage == EXTRACTION:
        return []
    given = parameters(profile, stage, page)
    return [f"annotations/{given['cohort']}.csv"] if given.get("write") and given["labels"] != "none" else []


def parameters(profile: dict, stage: str, page: str) -> dict:
    """The parameters of a page: those of the profile, and what follows from its cohort."""
    given = profile["pages"][stage][page]
    if stage == EXTRACTION:
        return dict(given)
    options = profile["cohorts"][given["cohort"]]
    common = {"variant": options.get("variant", "paper")}
    if stage == EVALUATION:
        return {"sources": options["sources"], **common, **given}
    if stage == CURATION:
        return {"labels": "none", "images": "none", "write": not options.get("sources"), **common, **given}
    return {**common, **given}
