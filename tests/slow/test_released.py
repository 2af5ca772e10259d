"""The released profile from the pickles to the leaderboard: seven files in the released format, at their true sizes.

The rows of the cohorts are the true ones where the package index carries them; the features of the ten models are made
here, with a signal for the endpoint that differs by model. The files lie in a cache of their own, and every process
takes them for the published ones. What they say is known, so the leaderboard has a right answer.
"""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests import real
from tumorbench_utils import annotations, artefacts, published
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.models import TEN

ROOT = Path(__file__).parents[2]
SIZES = {
    "luna16": (677, 45157835), "dlcs": (1714, 116475370), "nsclc_radiomics": (421, 28377237),
    "nsclc_radiogenomics": (144, 10400677), "c4kc_kits": (210, 15991453),
    "colorectal_liver_metastases": (197, 16363424), "rider": (52, 3353109),
}  # fmt: skip  # samples, bytes of the released file
COHORT_NAMES = [name for name in SIZES if name != "rider"]
BEST = "voco"  # at chance on LUNA16 in the study: no published figure can put it on top
STRENGTH = {model.id: 0.06 * number for number, model in enumerate(TEN)} | {BEST: 1.6}
LATENT = 16
STAGES = ("3_knn_evaluation", "3b_beyond_knn", "3c_external_validation", "4_robustness", "6_representation_alignment",
          "7_leaderboard")  # fmt: skip
LEADERBOARD = "7_leaderboard"
PATCH = '''
"""Read by every Python that starts with this folder on its path: the pickles of the test pass for the published.

What fetches them is changed, not `published`, which is also run as a script.
"""
import importlib.machinery, json, pathlib, sys

HASHES = json.loads(pathlib.Path(__file__).with_suffix(".json").read_text())

class Patched(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != "tumorbench_utils.artefacts":
            return None
        spec = super().find_spec(name, path, target)
        whole = spec.loader.exec_module
        def exec_module(module):
            whole(module)
            fetch = module.fetch_url
            def fetch_url(url, sha256, name=None, **how):
                return fetch(url, HASHES.get(name, sha256), name, **how)
            module.fetch_url = fetch_url
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Patched)
'''


def dlcs_rows() -> pd.DataFrame:
    """Rows as of the public table of DLCS: 1,714 nodules of patients 1 to 1,120, of which 176 are malignant."""
    rng = np.random.default_rng(24)
    patient = np.sort(np.append(np.arange(1, 1121), rng.choice(np.arange(1, 1121), 594, replace=False)))
    malignant = np.zeros(1714, int)
    malignant[rng.choice(1714, 176, replace=False)] = 1
    names = pd.Series([f"DLCS_{number:04}" for number in patient])
    return pd.DataFrame(
        {
            "patient-id": names,
            "nodule_id": names.groupby(names).cumcount() + 1,
            "ct_nifti_file": names + ".nii.gz",
            **{f"coord{axis}": rng.uniform(-150, 150, 1714) for axis in "XYZ"},
            "Malignant_lbl": malignant,
            "benchmark_split": np.repeat(["train", "val"], [1200, 514]),
        }
    )


def rows_of(cohort: str) -> pd.DataFrame:
    """Source rows of a cohort, in their order."""
    return dlcs_rows() if cohort == "dlcs" else real.cohort_rows(cohort)


def features(cohort: str, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """(n, dim) float32 by model: a few latent traits, partly common to all models, one of which tells the endpoint.

    The two scans of a patient of RIDER share their traits but for some noise.
    """
    rng = np.random.default_rng(list(SIZES).index(cohort))
    source = COHORTS.get(cohort)
    names = (source.sample or source.patient)(rows).astype(str)
    labelled = annotations.from_rows(source, rows).table.set_index("sample_id")["label"]
    sign = names.map(2 * labelled - 1).fillna(0.0).to_numpy()
    people = pd.factorize(source.patient(rows))[0] if cohort == "rider" else np.arange(len(rows))
    common = rng.normal(size=(len(rows), LATENT))[people]
    found = {}
    for model in TEN:
        own = rng.normal(size=(len(rows), LATENT))[people]
        traits = np.sqrt(0.5) * (common + own) + 0.2 * rng.normal(size=own.shape)
        traits[:, 0] += STRENGTH[model.id] * sign
        wide = traits @ rng.normal(size=(LATENT, model.dim)) + 0.3 * rng.normal(size=(len(rows), model.dim))
        found[model.id] = wide.astype(np.float32)
    return found


def write_pickle(path: Path, cohort: str) -> Path:
    """A file as the released extractor writes it: every model with its own copy of the rows, in splits."""
    rows = rows_of(cohort)
    parts = {"dlcs": ("train", "val"), "rider": ("train",)}.get(cohort, published.SPLITS)
    bounds = np.linspace(0, len(rows), len(parts) + 1).astype(int)
    content, made = {}, features(cohort, rows)
    for model in TEN:
        entries = [
            {"feature": vector[None], "row": row}
            for vector, (_, row) in zip(made[model.id], rows.iterrows(), strict=True)
        ]
        content[model.released_name] = {
            part: entries[start:end] for part, start, end in zip(parts, bounds, bounds[1:], strict=False)
        }
    with path.open("wb") as stream:
        pickle.dump(content, stream, protocol=4)
    return path


class Place:
    """A cache with the pickles, and what a process needs to take them for the published ones."""

    def __init__(self, folder: Path):
        self.cache, self.patch = folder / "cache", folder / "patch"
        for path in (self.cache / "released", self.patch):
            path.mkdir(parents=True)
        for path in artefacts.cache_dir().iterdir():  # other fetched inputs; what is written anew stays here
            if path.name != "released" and path.suffix not in (".lock", ".part"):
                (self.cache / path.name).symlink_to(path)
        hashes = {}
        for cohort, (file, _) in published.RELEASED.items():
            name = f"released/{file.rsplit('/', 1)[-1]}"
            hashes[name] = artefacts.sha256_of(write_pickle(self.cache / name, cohort))
        (self.patch / "sitecustomize.py").write_text(PATCH)
        (self.patch / "sitecustomize.json").write_text(json.dumps(hashes))

    def file(self, cohort: str) -> Path:
        """The pickle of a cohort."""
        return self.cache / "released" / published.RELEASED[cohort][0].rsplit("/", 1)[-1]

    def environment(self, root: Path) -> dict[str, str]:
        """Of a process that works in the tree at ``root``."""
        paths = os.pathsep.join([str(self.patch), str(root)])
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PYTHONPATH": paths, "PATH": programs, "TUMORBENCH_CACHE": str(self.cache)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The seven pickles, 240 MB."""
    return Place(tmp_path_factory.mktemp("released"))


def test_a_planted_model_is_the_best_of_the_ten():
    assert max(STRENGTH, key=STRENGTH.get) == BEST and len(STRENGTH) == len(TEN) == 10
    study = published.figures("auc").set_index(["model", "cohort"])["auc"]
    assert study[BEST, "luna16"] < 0.55


@pytest.mark.parametrize("cohort", SIZES)
def test_pickles_have_the_size_of_the_released_files_and_are_read_whole(place, cohort):
    samples, size = SIZES[cohort]
    assert place.file(cohort).stat().st_size == pytest.approx(size, rel=0.35)
    given = published.read_released(place.file(cohort), cohort)
    made = features(cohort, rows_of(cohort))
    assert list(given.tables) == [model.id for model in TEN]
    for name, (ids, vectors, _) in given.tables.items():
        assert len(set(ids)) == len(ids) == samples and np.array_equal(vectors, made[name])
    endpoint = COHORTS.get(cohort).endpoints.get("paper")
    if endpoint is not None and endpoint.positives:
        counts = given.annotations.table["label"].value_counts()
        assert (counts[1.0], counts[0.0]) == (endpoint.positives, endpoint.negatives)


READ = """
import resource, sys, time
from pathlib import Path
from tumorbench_utils import published
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
published.from_released(sys.argv[1])
print(time.perf_counter() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""


def test_the_largest_file_is_taken_from_the_cache_in_little_time_and_memory(place):
    command = [sys.executable, "-c", READ, "dlcs"]
    found = subprocess.run(command, env=place.environment(ROOT), capture_output=True, text=True, check=True)
    seconds, gigabytes = map(float, found.stdout.split())
    print(f"\nDLCS: {seconds:.1f} s, {gigabytes:.2f} GB")
    assert seconds < 120 and gigabytes < 1


def of_published_tables(profile: dict) -> dict:
    """The part of a profile that needs nothing but published tables, as a profile of its own."""
    cohorts = {name: options for name, options in profile["cohorts"].items() if name in published.RELEASED}

    def ready(stage: str, given: dict) -> bool:
        used = given.get("cohorts", [given["cohort"]] if "cohort" in given else [])
        return stage == LEADERBOARD or (bool(used) and set(used) <= set(cohorts))

    pages = {
        stage: {page: given for page, given in profile["pages"].get(stage, {}).items() if ready(stage, given or {})}
        for stage in STAGES
    }
    return {"cohorts": cohorts, "pages": pages}


def test_the_released_profile_has_its_pages_on_published_tables_alone():
    profile = of_published_tables(load("released"))
    for stage in ("3_knn_evaluation", "3b_beyond_knn", "6_representation_alignment"):
        assert set(profile["pages"][stage]) == set(COHORT_NAMES)
    assert "rider" in profile["pages"]["4_robustness"] and len(profile["pages"]["3c_external_validation"]) == 2
    assert len(profile["pages"][LEADERBOARD]) == 1


def load(name: str) -> dict:
    """A profile, as the workflow reads it."""
    code = f"import json, run_profile; print(json.dumps(run_profile.load('{name}')))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "workflow"), str(ROOT)])}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """The folder of a run of all pages on published tables, to the leaderboard, in a copy of the tree."""
    root = tmp_path_factory.mktemp("tree")
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    profile = of_published_tables(load("released"))
    (root / "workflow" / "config" / "tables.yaml").write_text(yaml.safe_dump(profile))
    targets = [f"runs/tables/results/{stage}/{page}.csv" for stage, pages in profile["pages"].items() for page in pages]
    command = [sys.executable, "workflow/run.py", "--profile", "tables", "--cores", "2", *targets]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=root, env=place.environment(root), **pipes)
    assert done.returncode == 0, done.stdout[-6000:]
    return root / "runs" / "tables"


@pytest.mark.parametrize("cohort", SIZES)
def test_the_run_took_the_pickles_of_this_test(run, place, cohort):
    record = json.loads((run / "annotations" / f"{cohort}.provenance.json").read_text())
    digest = hashlib.sha256(place.file(cohort).read_bytes()).hexdigest()
    assert record["inputs"] == {place.file(cohort).name: digest}
    tables = {path.stem for path in (run / "embeddings" / cohort).glob("*.parquet")}
    assert {model.id for model in TEN} <= tables


@pytest.mark.parametrize("cohort", COHORT_NAMES)
def test_every_cohort_has_ten_models_and_the_planted_one_on_top(run, cohort):
    table = pd.read_csv(run / "results" / "3_knn_evaluation" / f"{cohort}.csv")
    ten = table[table["model"].isin([model.id for model in TEN])]
    for _, rows in ten.groupby("protocol"):
        assert len(rows) == 10 and rows.loc[rows["auc"].idxmax(), "model"] == BEST


def test_the_leaderboard_has_ten_models_on_six_cohorts_and_the_planted_one_first(run):
    ten = [model.id for model in TEN]
    board = pd.read_csv(run / "results" / LEADERBOARD / "leaderboard.csv")
    assert set(ten) <= set(board["table"])
    ranks = pd.read_csv(run / "results" / LEADERBOARD / "ranks.csv")
    ranks = ranks[ranks["model"].isin(ten)]
    assert (len(ranks), ranks["cohort"].nunique()) == (60, 6)
    means = ranks.groupby("model")["rank"].mean()
    assert means.idxmin() == BEST and means[BEST] == 1
    pairs = pd.read_csv(run / "results" / LEADERBOARD / "pairs.csv")
    against = pairs[((pairs["first"] == BEST) | (pairs["second"] == BEST)) & (pairs["cohort"] == "dlcs")]
    assert len(against) >= 9 and (against["p_holm"] < 0.05).all()


def test_external_validation_names_no_other_winner(run):
    for path in (run / "results" / "3c_external_validation").glob("*.csv"):
        table = pd.read_csv(path)
        if "measure" in table:
            worst = table[(table["measure"] == "auc_worst") & table["model"].isin([model.id for model in TEN])]
            assert {rows.loc[rows["value"].idxmax(), "model"] for _, rows in worst.groupby("head")} == {BEST}
