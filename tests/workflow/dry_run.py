"""Dry runs in forks of one process that has imported Snakemake: alone, each would spend most of its time on that."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

FORKS = multiprocessing.get_context("forkserver")
# not the scripts of workflow/, which know by where they lie whose files they read
FORKS.set_forkserver_preload(["snakemake.cli", "tumorbench_utils.models", "tumorbench_utils.published"])


def dry_run(root: Path, name: str) -> tuple[int, str]:
    """Exit status and all that `python workflow/run.py --profile <name> --dry-run` prints in the folder ``root``."""
    output = root / "dry_run.txt"
    process = FORKS.Process(target=in_this_process, args=(root, name, output))
    process.start()
    process.join()
    return process.exitcode, output.read_text()


def in_this_process(root: Path, name: str, output: Path) -> None:
    from snakemake import cli

    os.chdir(root)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.execv = lambda _, command: cli.main(command[command.index("snakemake") + 1 :])  # what run.py would become
    sys.argv = ["workflow/run.py", "--profile", name, "--cores", "2", "--dry-run"]
    runpy.run_path(sys.argv[0], run_name="__main__")
