"""A profile of a run: one YAML file naming cohorts and pages, built on the profile that it ``extends``."""

import re
from pathlib import Path

import yaml

from tumorbench_utils import models, published

CONFIG = Path(__file__).parent / "config"
NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
KEYS = {"extends", "cohorts", "pages"}
COHORT_KEYS = {"sources", "variant"}
CURATION, EXTRACTION, EVALUATION = "1_data_curation", "2_embedding_extraction", "3_knn_evaluation"
BEYOND, EXTERNAL = "3b_beyond_knn", "3c_external_validation"
ROBUSTNESS, SALIENCY, ALIGNMENT = "4_robustness", "5_saliency", "6_representation_alignment"
LEADERBOARD = "7_leaderboard"
REGISTRY = "registry"  # the source of published embeddings that the package index carries
UNTRAINED = ".untrained"  # at the end of a table's name
BY_MODEL = (EXTRACTION, SALIENCY)  # stages whose pages bear the name of a model
BY_ENDPOINT = (EXTERNAL,)  # of an endpoint that several cohorts share
WORKSHOP = (  # exercises on the embeddings that the package index carries; nothing is built on their results
    "workshop_1_leakage",
    "workshop_2_size",
    "workshop_3_unstable_k",
    "workshop_4_stability",
    "workshop_5_chance_alignment",
)
WHOLE = (LEADERBOARD, *WORKSHOP)  # one page a run; the pages of all other stages bear the name of a cohort
OF_TABLES = (EVALUATION, BEYOND, EXTERNAL, ROBUSTNESS, ALIGNMENT)  # stages that read embedding tables


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

    Pages of extraction and saliency of such a model go, its tables from pages of other stages, a page of which no table
    is left, and its maps from beside those of other models.
    """
    lacking = unavailable(profile)
    if not lacking:
        return profile
    pages = {
        stage: {page: given for page, given in group.items() if (stage, page) not in lacking}
        for stage, group in profile["pages"].items()
    }
    left = {**profile, "pages": pages}
    for stage in set(OF_TABLES) & set(pages):
        kept = {page: with_tables_of(left, profile, given) for page, given in pages[stage].items()}
        pages[stage] = {page: given for page, given in kept.items() if given["models"]}
    names = {page for _, page in lacking}
    for page, given in pages.get(SALIENCY, {}).items():
        beside = [name for name in given.get("beside", []) if name.endswith(UNTRAINED) or model_of(name) not in names]
        pages[SALIENCY][page] = {**given, "beside": beside}
    return {**profile, "pages": pages, "left_out": list(dict.fromkeys(page for _, page in lacking))}


def with_tables_of(left: dict, profile: dict, given: dict) -> dict:
    """The parameters of a page of ``profile`` without the tables that the profile ``left`` does not make."""
    cohorts = cohorts_of(given)
    gone = {table for cohort in cohorts for table in set(tables(profile, cohort)) - set(tables(left, cohort))}
    lists = {name: given[name] for name in ("models", "controls", "stressed") if name in given}
    return {**given, **{name: [table for table in some if table not in gone] for name, some in lists.items()}}


def cohorts_of(given: dict) -> list[str]:
    """The cohorts of a page: the one whose name it bears, or several."""
    return [given["cohort"]] if "cohort" in given else list(given.get("cohorts", []))


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
    if stage in WHOLE:
        return "" if page == name_of(stage) else f"its one page is called {name_of(stage)}"
    if stage in BY_ENDPOINT and given.get("page") != page:
        return "a page bears the name of its parameter page"
    unknown = [cohort for cohort in cohorts_of(given) if cohort not in profile["cohorts"]]
    if unknown or not cohorts_of(given):
        return "its cohort is not among the profile's cohorts"
    if stage not in BY_ENDPOINT and page != given.get("cohort"):
        return "a page bears the name of its cohort"
    return fault_of_tables(profile, given) if stage in OF_TABLES else ""


def name_of(stage: str) -> str:
    """What a stage is called without its number: leaderboard."""
    return re.sub(r"^(workshop_)?\d\w?_", "", stage)


def fault_of_tables(profile: dict, given: dict) -> str:
    """What is wrong with the embedding tables that a page reads, in words; empty if nothing is."""
    wanted = given.get("models") or []
    for cohort in cohorts_of(given):
        there = tables(profile, cohort)
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
    if stage in WORKSHOP:
        used = [cohort for cohort, options in profile["cohorts"].items() if REGISTRY in options.get("sources", [])]
        return {name: path for cohort in used for name, path in published_of(profile, cohort).items()}
    if stage == LEADERBOARD:
        others = [(name, each) for name, pages in ranked(profile).items() for each in pages]
        return {f"page_{name}_{each}": f"results/{name}/{each}.csv" for name, each in others}
    if stage in BY_MODEL:
        return {f"curated_{cohort}": f"results/{CURATION}/{cohort}.csv" for cohort in given["cohorts"]}
    if stage == CURATION:
        sources = profile["cohorts"][given["cohort"]].get("sources", [])
        return {"annotations": f"annotations/{given['cohort']}.csv"} if sources else {}
    return {name: path for cohort in cohorts_of(given) for name, path in read_of(profile, cohort, given).items()}


def read_of(profile: dict, cohort: str, given: dict) -> dict[str, str]:
    """What a page reads of a cohort: published tables, and the results of the pages that make the others."""
    there, read = tables(profile, cohort), published_of(profile, cohort)
    makers = dict.fromkeys(there[name] for name in given["models"] if there[name])
    read |= {f"extracted_{model}": f"results/{EXTRACTION}/{model}.csv" for model in makers}
    if makers and cohort in profile["pages"].get(CURATION, {}):
        read[f"curated_{cohort}"] = f"results/{CURATION}/{cohort}.csv"
    return read


def published_of(profile: dict, cohort: str) -> dict[str, str]:
    """The published annotations and embeddings of a cohort, by name; none if the profile names no source of them."""
    sources = profile["cohorts"][cohort].get("sources", [])
    if not sources:
        return {}
    names = published.tables(sources)
    read = {f"embeddings_{cohort}_{name}": f"embeddings/{cohort}/{name}.parquet" for name in names}
    return {f"annotations_{cohort}": f"annotations/{cohort}.csv", **read}


def ranked(profile: dict) -> dict[str, dict]:
    """Pages by stage whose results the leaderboard reads: all but its own and the exercises."""
    return {stage: pages for stage, pages in profile["pages"].items() if stage not in WHOLE}


def files(profile: dict, stage: str, page: str) -> list[str]:
    """What a page writes besides its results: curation writes the annotation table where no other rule does."""
    if stage != CURATION:
        return []
    given = parameters(profile, stage, page)
    return [f"annotations/{given['cohort']}.csv"] if given.get("write") and given["labels"] != "none" else []


def parameters(profile: dict, stage: str, page: str) -> dict:
    """The parameters of a page: those of the profile, and what follows from its cohort."""
    given = profile["pages"][stage][page]
    if stage == LEADERBOARD:
        return {"pages": {name: list(pages) for name, pages in ranked(profile).items()}, **given}
    if stage in (*WORKSHOP, *BY_MODEL):
        return dict(given)
    options = {cohort: profile["cohorts"][cohort] for cohort in cohorts_of(given)}
    if stage in BY_ENDPOINT:
        sources = {cohort: each["sources"] for cohort, each in options.items() if each.get("sources")}
        variants = {cohort: each["variant"] for cohort, each in options.items() if "variant" in each}
        return {"sources": sources, "variants": variants, **given}
    common = {"variant": options[given["cohort"]].get("variant", "paper")}
    sources = options[given["cohort"]].get("sources", [])
    if stage in OF_TABLES:
        return {"sources": sources, **common, **given}
    return {"labels": "none", "images": "none", "write": not sources, **common, **given}
