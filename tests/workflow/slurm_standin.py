"""Stand-ins for SLURM's commands: `sbatch` runs the job here and now, and writes down what it was asked for.

Installed under the names in ``COMMANDS`` in front of the PATH; calls are lines of JSON in ``$STANDIN/calls``, states of
jobs files in ``$STANDIN/jobs``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "squeue", "scancel", "sinfo", "scontrol")
WITH_VALUE = {"--job-name", "--output", "--comment", "-A", "-p", "-t", "--mem", "-D"}  # given as two words


def install(folder, state):
    """Put the commands into ``folder``; what they are asked for is kept in ``state``."""
    for path in (folder, state / "jobs"):
        path.mkdir(parents=True)
    for name in COMMANDS:
        script = f'#!/bin/sh\nSTANDIN="{state}" exec "{sys.executable}" -I "{Path(__file__)}" {name} "$@"\n'
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)


def parsed(words):
    """Options of a call to sbatch by name, those without a value being True."""
    options, words = {}, iter(words)
    for word in words:
        name, equals, value = word.partition("=")
        options[name] = value if equals else next(words) if name in WITH_VALUE else True
    return options


def sbatch(words, state):
    options, number = parsed(words), str(100 + len(list((state / "jobs").iterdir())))
    log = Path(options["--output"].replace("%j", number))
    with open(state / "calls", "a") as calls:
        calls.write(json.dumps(options) + "\n")
    (state / "jobs" / number).write_text("RUNNING")
    environment = (
        os.environ | {"SLURM_JOB_ID": number} | ({"SLURM_GPUS": options["--gpus"]} if "--gpus" in options else {})
    )
    with open(log, "w") as output:
        streams = {"stdout": output, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        done = subprocess.run(["sh", "-c", options["--wrap"]], cwd=options["-D"], env=environment, **streams)
    (state / "jobs" / number).write_text("FAILED" if done.returncode else "COMPLETED")
    print(number)


def srun(words, state):
    first = next(place for place, word in enumerate(words) if not word.startswith("-"))
    os.execvp(words[first], words[first:])


def sacct(words, state):
    if "-1" in words:  # the plugin's question for an account ends in `| tail -1`, which no shell takes off
        sys.exit("sacct: invalid option -- '1'")
    if "--format=Reason" not in words:
        for path in sorted((state / "jobs").iterdir()):
            print(f"{path.name}|{path.read_text()}")


def sinfo(words, state):
    print("PARTITION\ncpu*\ngpu")


def scontrol(words, state):
    print("MinJobAge = 300 sec\nMaxArraySize = 1001")


if __name__ == "__main__":
    {"sbatch": sbatch, "srun": srun, "sacct": sacct, "sinfo": sinfo, "scontrol": scontrol}[sys.argv[1]](
        sys.argv[2:], Path(os.environ["STANDIN"])
    )
