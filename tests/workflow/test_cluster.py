"""The same workflow on a cluster: SLURM with stand-ins for its commands, Kubernetes with one for its server."""

import json
import os
import re

import needs
import pytest
import slurm_standin
import yaml
from kubernetes_standin import Server
from test_workflow import COHORT, STAGE, Checkout

from tumorbench_utils.artefacts import cache_dir

EXTRACTION, CURATION, MODEL = "2_embedding_extraction", "1_data_curation", "random_encoder"
PUBLISHED, EXTRACTS = f"published_{COHORT}", f"{EXTRACTION}_{MODEL}"


def profile_of(checkout, name):
    """Published embeddings, and a page of extraction that fails for a misspelt parameter: the targets of both."""
    extraction = {"model": MODEL, "cohorts": ["phantom"], "weights": "random", "tirals": 0}
    curation = {"cohort": "phantom", "labels": "cases", "images": "phantom", "cases": 4}
    pages = {CURATION: {"phantom": curation}, EXTRACTION: {MODEL: extraction}}
    content = {"cohorts": {COHORT: {"sources": ["registry"]}, "phantom": None}, "pages": pages}
    (checkout.root / "workflow" / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content))
    for made in (f"results/{CURATION}/phantom.csv", "annotations/phantom.csv"):  # nothing reads them before it fails
        path = checkout.run(name) / made
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return [f"runs/{name}/annotations/{COHORT}.csv", f"runs/{name}/results/{EXTRACTION}/{MODEL}.csv"]


def on_cluster(checkout, name, *options):
    """Exit status and all that was printed by a run of which nothing is done here; `--cores` is for one machine."""
    process = checkout.start(name, *options)
    output, _ = process.communicate(timeout=600)
    return process.returncode, output


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def slurm(checkout, tmp_path_factory):
    """One run through the stand-ins: exit status, output, and the calls of sbatch by the rule of the job."""
    folder = tmp_path_factory.mktemp("slurm")
    slurm_standin.install(folder / "bin", folder / "state")
    checkout.env["PATH"] = f"{folder / 'bin'}{os.pathsep}{checkout.env['PATH']}"
    targets = profile_of(checkout, "slurm")
    quick = ["--latency-wait", "1", "--retries", "0", "--slurm-init-seconds-before-status-checks", "1"]
    status, output = on_cluster(checkout, "slurm", *targets, "--cluster", "slurm", *quick)
    calls = [json.loads(line) for line in (folder / "state" / "calls").read_text().splitlines()]
    return status, output, [(call["--comment"].removeprefix("rule_"), call) for call in calls]


def test_each_job_is_submitted_and_asks_for_what_it_needs(slurm):
    _, output, calls = slurm
    assert {rule: [call.get(name) for name in ("-p", "--mem", "-t", "--gpus")] for rule, call in calls} == {
        PUBLISHED: ["cpu", "8000", "240", None],
        EXTRACTS: ["gpu", "16000", "1440", "1"],
    }, output
    assert len(calls) == 2
    assert dict(calls)[EXTRACTS]["--cpus-per-task"] == "2"
    assert not any("-A" in call for _, call in calls)  # SLURM knows the account


def test_the_results_of_a_job_are_there(checkout, slurm):
    assert (checkout.run("slurm") / "annotations" / f"{COHORT}.csv").is_file()
    assert len(list((checkout.run("slurm") / "embeddings" / COHORT).glob("*.parquet"))) == 5


def test_a_job_that_fails_is_reported_with_its_logs(checkout, slurm):
    status, output, _ = slurm
    assert status != 0
    assert re.search(r"SLURM-job '\d+' failed, SLURM status is: 'FAILED'", output)
    logs = re.findall(r"/\S*\d+\.log", output)
    failed = [path for path in logs if os.path.exists(path)]
    assert failed and all(f"rule_{EXTRACTS}" in path for path in failed)
    with open(failed[0]) as stream:
        assert "unknown parameter tirals" in stream.read()
    cells = json.loads((checkout.run("slurm") / "notebooks" / EXTRACTION / f"{MODEL}.ipynb").read_text())["cells"]
    errors = [each for cell in cells for each in cell.get("outputs", []) if each["output_type"] == "error"]
    assert [error["ename"] for error in errors] == ["ParameterError"]


@pytest.fixture(scope="module")
def pods(checkout):
    """One run through the stand-in for Kubernetes: exit status, output, and the pods by the rule of the job."""
    targets = profile_of(checkout, "kubernetes")
    with Server() as server:
        config = checkout.root / "kubeconfig"
        config.write_text(yaml.safe_dump(server.config))
        checkout.env |= {"KUBECONFIG": str(config), "TUMORBENCH_CACHE": str(cache_dir())}
        volume = ["--kubernetes-shared-persistent-volumes", f"shared:{checkout.root.parent}"]
        quick = ["--latency-wait", "1", "--retries", "0", "--seconds-between-status-checks", "1"]
        status, output = on_cluster(checkout, "kubernetes", *targets, "--cluster", "kubernetes", *volume, *quick)
    specs = [job["spec"]["template"]["spec"] for job in server.jobs.values()]
    return status, output, {re.search(r"--allowed-rules (\w+)", str(spec))[1]: spec for spec in specs}


def test_a_pod_has_the_image_the_volume_and_what_its_stage_needs(checkout, pods):
    _, output, specs = pods
    assert set(specs) == {PUBLISHED, EXTRACTS}, output
    for spec in specs.values():
        container = spec["containers"][0]
        assert container["image"] == "tumorbench:latest"
        assert {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}} in spec["volumes"]
        assert {"name": "shared", "mountPath": str(checkout.root.parent)} in container["volumeMounts"]
        assert container["args"][1].startswith(f"cd '{checkout.root}' &&")
        assert [each["name"] for each in container["env"]] == ["TUMORBENCH_CACHE"]
    limits = {rule: spec["containers"][0]["resources"]["limits"] for rule, spec in specs.items()}
    assert limits[PUBLISHED] == {"cpu": "1000m", "memory": "8000M", "ephemeral-storage": "10000M"}
    assert limits[EXTRACTS]["memory"] == "16000M" and limits[EXTRACTS]["nvidia.com/gpu"] == "1"


def test_a_pod_leaves_its_results_on_the_volume_and_a_lost_one_is_reported(checkout, pods):
    status, output, _ = pods
    assert len(list((checkout.run("kubernetes") / "embeddings" / COHORT).glob("*.parquet"))) == 5
    assert status != 0 and re.search(r"Job snakejob-\S+ failed", output)


def test_a_folder_off_the_volume_is_refused_before_anything_runs(checkout):
    profile_of(checkout, "apart")
    status, output = on_cluster(checkout, "apart", f"runs/apart/annotations/{COHORT}.csv", "--cluster", "kubernetes")
    assert status != 0 and "lies on no volume that the jobs would share; persistent volumes: tumorbench:" in output


def test_a_cluster_without_gpus_is_not_asked_for_any():
    assert "gpu" not in needs.of_page(EXTRACTION, 0)
    assert needs.of_page(EXTRACTION, 2)["gpu"] == 2
    assert "gpu" not in needs.of_page(STAGE, 2)


def test_two_pages_that_keep_one_core_busy_go_side_by_side_on_one_machine():
    assert [needs.cores(stage, cluster=False) for stage in (EXTRACTION, "1_data_curation", STAGE)] == [2, 2, 1]
    assert [needs.cores(stage, cluster=True) for stage in (EXTRACTION, STAGE)] == [2, 2]


def test_a_second_try_asks_for_twice_the_memory_and_time():
    asked = needs.of_page(EXTRACTION, 1)
    assert [asked[name](None, attempt) for name in ("mem_mb", "runtime") for attempt in (1, 2)] == [
        16000, 32000, 1440, 2880
    ]  # fmt: skip
