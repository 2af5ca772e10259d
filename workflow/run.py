"""Run a profile: Snakemake under a lock that ends with its process, so that a killed run goes on by the same command.

python workflow/run.py [--profile quick] [--cores all] [further options of Snakemake]
python workflow/run.py --profile full --cluster slurm [--gpus 1] [further options of Snakemake]

Snakemake's own lock outlives a hard kill and must then be removed by hand; this one is the operating system's.
"""

import argparse
import fcntl
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
PROFILES = HERE / "profiles"
CLUSTERS = sorted(path.parent.name for path in PROFILES.glob("*/config.yaml") if path.parent.name != "default")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", help="name of a file in workflow/config")
    parser.add_argument("--run", help="folder of the run, runs/<profile> by default")
    parser.add_argument("--cores", default="all", help="processes at a time, on one machine")
    parser.add_argument("--cluster", choices=CLUSTERS, help="send the jobs there, as workflow/profiles says")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs of a job that runs a network, on a cluster")
    chosen, options = parser.parse_known_args()
    if "--config" in options:
        parser.error("--config is set here: give --profile and --run instead")
    lock = hold(Path("runs") / f".{chosen.profile}.lock")
    os.set_inheritable(lock, True)  # kept by the process that Snakemake now becomes
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(HERE / "Snakefile"), "--nolock"]
    config = [f"profile={chosen.profile}", *([f"run={chosen.run}"] if chosen.run else [])]
    if chosen.cluster:
        command += ["--profile", str(PROFILES / "default"), "--workflow-profile", str(PROFILES / chosen.cluster)]
        config += [f"gpus={chosen.gpus}"]
        plugins = [str(HERE / "plugins"), *filter(None, [os.environ.get("PYTHONPATH")])]
        os.environ["PYTHONPATH"] = os.pathsep.join(plugins)
    else:
        command += ["--workflow-profile", str(PROFILES / "default"), "--cores", chosen.cores]
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait leave the core to other notebooks
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        os.environ.setdefault(name, str(2**32))  # glibc keeps the memory of one layer for the next, not for the kernel
    os.execv(sys.executable, [*command, *options, "--config", *config])


def hold(path: Path) -> int:
    """Lock ``path`` for as long as this process lives; the file descriptor. A second holder is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"another run of this profile is going on (it holds {path}); wait for its end or stop it")
    return descriptor


if __name__ == "__main__":
    main()
