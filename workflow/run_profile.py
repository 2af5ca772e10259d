"""A profile of a run: one YAML file naming cohorts and pages, built on the profile that it ``extends``."""

from pathlib import Path

import yaml

CONFIG = Path(__file__).parent / "config"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KEYS = {"extends", "cohorts", "pages"}
COHORT_KEYS = {"sources", "variant"}


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
    for cohort, options in profile["cohorts"].items():
        if set(options or {}) - COHORT_KEYS:
            raise SystemExit(f"{path}: cohort {cohort}: unknown keys {sorted(set(options) - COHORT_KEYS)}")
        if not (options or {}).get("sources"):
            raise SystemExit(f"{path}: cohort {cohort}: no sources")
    for stage, pages in profile["pages"].items():
        if not (NOTEBOOKS / f"{stage}.ipynb").exists():
            raise SystemExit(f"{path}: no notebook {stage}.ipynb")
        for page, parameters in pages.items():
            cohort = (parameters or {}).get("cohort")
            if cohort not in profile["cohorts"]:
                raise SystemExit(f"{path}: page {stage}/{page}: its cohort is not among the profile's cohorts")
            if page != cohort:  # results are filed under the cohort
                raise SystemExit(f"{path}: page {stage}/{page}: a page bears the name of its cohort")
