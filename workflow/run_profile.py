"""A profile of a run: one YAML file naming cohorts and pages, built on the profile that it ``extends``."""

from pathlib import Path

import yaml

from tumorbench_utils import models, published

CONFIG = Path(__file__).parent / "config"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KEYS = {"extends", "cohorts", "pages"}
COHORT_KEYS = {"sources", "variant"}
CURATION, EXTRACTION, EVALUATION = "1_data_curation", "2_embedding_extraction", "3_knn_evaluation"
ROBUSTNESS, SALIENCY = "4_robustness", "5_saliency"
UNTRAINED = ".untrained"  # at the end of a table's name
BY_MODEL = (EXTRACTION, SALIENCY)  # stages whose pages bear the name of a model; those of the others, of a cohort


def load(name: str) -> dict:
    """The profile ``name``, merged over what it extends; unknown keys and stages are errors that name the file."""
    return available(whole(name))


def whole(name: str) -> dict:
    """The profile ``name``, what cannot run here included."""
    path = CONFIG / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(each.stem for each in CONFIG.glob("*.yaml")))
        raise SystemExit(f"no profile '{name}' in {CONFIG.name}. Known: {known}")
    content = yaml.safe_load(path.read_text()) or {}
    base = content.pop("extends", None)
    profile = merge(whole(base), content) if base else content
    check(profile, path)
    return profile


def available(profile: dict) -> dict:
    """``profile`` without what needs weights that are not installed; ``left_out`` names their models, if there are any.

    Pages of extraction and saliency of such a model go, its tables from pages of robustness, a page of robustness of
    which no table is left, and its maps from beside those of other models.
    """
    lacking, robust = unavailable(profile), {}
    if not lacking:
        return profile
    pages = {
        stage: {page: given for page, given in group.items() if (stage, page) not in lacking}
        for stage, group in profile["pages"].items()
    }
    for page, given in pages.get(ROBUSTNESS, {}).items():
        gone = set(tables(profile, given["cohort"])) - set(tables({**profile, "pages": pages}, given["cohort"]))
        kept = {
            name: [table for table in given[name] if table not in gone]
            for name in ("models", "stressed")
            if name in given
        }
        robust |= {page: {**given, **kept}} if kept["models"] else {}
    pages |= {ROBUSTNESS: robust} if ROBUSTNESS in pages else {}
    names = {page for _, page in lacking}
    for page, given in pages.get(SALIENCY, {}).items():
        beside = [name for name in given.get("beside", []) if name.endswith(UNTRAINED) or model_of(name) not in names]
        pages[SALIENCY][page] = {**given, "beside": beside}
    return {**profile, "pages": pages, "left_out": list(dict.fromkeys(page for _, page in lacking))}


def unavailable(profile: dict) -> list[tuple[str, str]]:
    """Pages (stage, model) whose published weights come in a package that is not installed; the run goes on without."""
    return [
        (stage, page)
        for stage in BY_MODEL
        for page, given in profile["pages"].get(stage, {}).items()
        if given.get("weights", "pretrained") == "pretrained" and not models.installed(models.MODELS.get(page))
    ]


def tables(profile: dict, cohort: str) -> dict[str, str]:
    """Names of the embedding tables of a cohort that a run has, each with its page of extraction; "": published."""
    sources = profile["cohorts"][cohort].get("sources", [])
    made = dict.fromkeys(published.tables(sources), "")
    for page, given in profile["pages"].get(EXTRACTION, {}).items():
        if page in models.MODELS and cohort in (given or {}).get("cohorts", []):
            made |= dict.fromkeys(extracted(page, given), page)
    return made


def extracted(model: str, given: dict) -> list[str]:
    """Names of the embedding tables that a page of extraction makes; of weights from a file only the run can tell."""
    source, weights = models.MODELS.get(model), given.get("weights", "pretrained")
    if isinstance(source, models.Control):
        return [model]
    weights = weights if source.checkpoint else "random"
    endings = {"pretrained": "", "random": UNTRAINED}
    names = [f"{model}.{recipe}" for recipe in given.get("recipes", ["benchmark"])]
    return [f"{name}{endings[weights]}" for name in names] if weights in endings else []


def model_of(table: str) -> str:
    """The model or control that makes an embedding table."""
    return table.split(".")[0]


def is_mapped(table: str) -> bool:
    """Whether saliency maps can be drawn of what makes an embedding table: an encoder, not a control."""
    return model_of(table) in models.MODELS and not isinstance(models.MODELS.get(model_of(table)), models.Control)


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
    if stage in BY_MODEL:
        return fault_of_model(profile, stage, page, given)
    if given.get("cohort") not in profile["cohorts"]:
        return "its cohort is not among the profile's cohorts"
    if page != given["cohort"]:
        return "a page bears the name of its cohort"
    if stage == EVALUATION and not profile["cohorts"][page].get("sources"):
        return f"cohort {page} has no sources of embeddings"
    if stage == ROBUSTNESS:
        return fault_of_robustness(profile, page, given)
    return ""


def fault_of_robustness(profile: dict, page: str, given: dict) -> str:
    """What is wrong with a page of robustness, in words; empty if nothing is."""
    there, wanted = tables(profile, page), given.get("models") or []
    unknown = [table for table in [*wanted, *given.get("controls", [])] if table not in there]
    if unknown or not wanted:
        return f"no page of {EXTRACTION} makes its models {unknown}. There are: {', '.join(there)}"
    apart = [table for table in given.get("stressed", []) if table not in wanted]
    return f"it stresses {apart}, which are not among its models" if apart else ""


def fault_of_model(profile: dict, stage: str, page: str, given: dict) -> str:
    """What is wrong with a page of one model, in words; empty if nothing is."""
    curated = profile["pages"].get(CURATION, {})
    unseen = [cohort for cohort in given.get("cohorts", []) if cohort not in curated]
    if given.get("model") != page:
        return f"a page of {stage.split('_')[-1]} bears the name of its model"
    if page not in models.MODELS:
        return f"no model is called {page}"
    if stage == SALIENCY and isinstance(models.MODELS.get(page), models.Control):
        return f"{page} is a control: there is no network to look into"
    strange = [name for name in given.get("beside", []) if not is_mapped(name)]
    if strange:
        return f"no encoder makes {strange}, which are to be mapped beside it"
    return f"no page of {CURATION} for its cohorts {unseen}" if unseen or not given.get("cohorts") else ""


def inputs(profile: dict, stage: str, page: str) -> dict[str, str]:
    """What a page reads, by name, relative to the folder of the run.

    Published embeddings come with the annotation table that belongs to them; curation then checks that table. The
    patch banks and extracted embeddings are not declared, but the results of the pages that make them are.
    """
    given = profile["pages"][stage][page]
    if stage in BY_MODEL:
        return {f"curated_{cohort}": f"results/{CURATION}/{cohort}.csv" for cohort in given["cohorts"]}
    cohort, read = given["cohort"], {}
    sources = profile["cohorts"][cohort].get("sources", [])
    if sources:
        read["annotations"] = f"annotations/{cohort}.csv"
    if stage in (EVALUATION, ROBUSTNESS):
        names = published.tables(sources)
        read |= {f"embeddings_{name}": f"embeddings/{cohort}/{name}.parquet" for name in names}
    if stage == ROBUSTNESS:
        there = tables(profile, cohort)
        makers = dict.fromkeys(there[name] for name in given["models"] if there[name])
        read |= {f"extracted_{model}": f"results/{EXTRACTION}/{model}.csv" for model in makers}
        if cohort in profile["pages"].get(CURATION, {}):
            read["curated"] = f"results/{CURATION}/{cohort}.csv"
    return read


def files(profile: dict, stage: str, page: str) -> list[str]:
    """What a page writes besides its results: curation writes the annotation table where no other rule does."""
    if stage != CURATION:
        return []
    given = parameters(profile, stage, page)
    return [f"annotations/{given['cohort']}.csv"] if given.get("write") and given["labels"] != "none" else []


def parameters(profile: dict, stage: str, page: str) -> dict:
    """The parameters of a page: those of the profile, and what follows from its cohort."""
    given = profile["pages"][stage][page]
    if stage in BY_MODEL:
        return dict(given)
    options = profile["cohorts"][given["cohort"]]
    common = {"variant": options.get("variant", "paper")}
    if stage in (EVALUATION, ROBUSTNESS):
        return {"sources": options.get("sources", []), **common, **given}
    if stage == CURATION:
        return {"labels": "none", "images": "none", "write": not options.get("sources"), **common, **given}
    return {**common, **given}
