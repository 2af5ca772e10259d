"""Every command that the book and the README print: checked against the code, and those of single notebooks run."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import papermill
import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXTS = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCK = re.compile(
    r"^```(?:\{code-block\} (?:bash|sh)|bash|sh)\n(?P<options>(?::[^\n]*\n)*)(?P<body>.*?)^```", re.M | re.S
)
ELSEWHERE = "tb-elsewhere"  # class of blocks that need what this machine cannot reach: checked, not run
SHELL = {
    "pre-commit",
    "cd",
    "export",
    "pip",
    "conda",
    "git",
    "jupyter",
    "kubectl",
    "docker",
    "sbatch",
    "squeue",
    "sinfo",
    "cp",
    "mkdir",
    "ls",
    ".",
}


@dataclass(frozen=True)
class Command:
    """One line that a text prints."""

    text: str
    line: str
    elsewhere: bool

    @property
    def words(self):
        """Its words, without variables set before it, the folder of programs, and comments."""
        words = shlex.split(self.line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        return [words[0].rsplit("bin/", 1)[-1], *words[1:]]


def printed():
    """The commands of all texts, continued lines joined."""
    for path in TEXTS:
        for block in BLOCK.finditer(path.read_text(encoding="utf-8")):
            elsewhere = ELSEWHERE in block["options"]
            for line in block["body"].replace("\\\n", " ").splitlines():
                if line.strip() and not line.strip().startswith("#"):
                    yield Command(path.name, line.strip(), elsewhere)


COMMANDS = list(printed())


def of(program):
    return [pytest.param(each, id=f"{each.text}: {each.line[:90]}") for each in COMMANDS if each.words[0] == program]


def test_commands_are_found_and_of_known_kinds():
    assert len(COMMANDS) > 30
    kinds = {each.words[0] for each in COMMANDS}
    assert {"make", "papermill", "python"} <= kinds
    assert kinds - {"make", "papermill", "python"} <= SHELL


@pytest.mark.parametrize("command", of("make"))
def test_make_knows_the_target_and_the_settings(command):
    targets = [word for word in command.words[1:] if "=" not in word]
    settings = {word.split("=")[0] for word in command.words[1:] if "=" in word}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert settings <= set(re.findall(r"^([A-Z]+) \?=", makefile, re.M))
    known = re.findall(r"^([a-z]+):", makefile, re.M)
    assert targets and all(target in known or target.startswith(".venv/.ready-") for target in targets)


@cache
def parameters(notebook):
    """Parameters of a notebook and the types of their defaults."""
    known = papermill.inspect_notebook(ROOT / notebook)
    return {name: type(ast.literal_eval(each["default"])) for name, each in known.items()}


def given(words):
    """What a papermill line gives to a notebook, as papermill reads it."""
    found, rest = {}, list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-p", "--parameters"):
            name, value = rest.pop(0), rest.pop(0)
            found[name] = yaml.safe_load(value)
        elif word in ("-y", "--parameters_yaml"):
            found |= yaml.safe_load(rest.pop(0))
        else:
            assert word == "--no-progress-bar", word
    return found


@pytest.mark.parametrize("command", of("papermill"))
def test_papermill_finds_the_notebook_and_its_parameters(command):
    words = [word for word in command.words[1:] if word != "--help-notebook"]
    known = parameters(words[0])
    if "--help-notebook" in command.words:
        return
    assert words[1].endswith(".ipynb") and words[1] != words[0]
    for name, value in given(words[2:]).items():
        assert name in known, name
        assert isinstance(value, (known[name], int) if known[name] is float else known[name]), name


@cache
def helped(*program):
    """What a program says of its options; texts print several lines of one."""
    done = subprocess.run([sys.executable, *program, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("command", of("python"))
def test_python_finds_the_program_and_its_options(command):
    where = command.words[1:3] if command.words[1] == "-m" else command.words[1:2]
    rest = command.words[1 + len(where) :]
    subcommand = [rest[0]] if rest and re.fullmatch(r"[a-z]+", rest[0]) else []
    flags = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert {flag for flag in flags if flag not in helped(*where, *subcommand)} == set()


# Single notebooks, as printed, on what the quick run has made


EXERCISE = "notebooks/workshop_"  # run in an environment of their own by tests/workflow/test_clean_environment.py
ALONE = [
    each for each in COMMANDS if each.text == "one_notebook.md" and not each.elsewhere and EXERCISE not in each.line
]


@pytest.fixture(scope="module")
def checkout(html, tmp_path_factory):
    """A folder in which the lines of the chapter work: the notebooks, and a run with the tables of the quick run."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "notebooks").symlink_to(ROOT / "notebooks")
    quick = html.parents[2]
    for name in ("annotations", "embeddings", "predictions", "results"):
        shutil.copytree(quick / name, folder / "runs" / "mine" / name)
    return folder


def results(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.csv")}


@pytest.mark.parametrize("command", [pytest.param(each, id=each.line[:120]) for each in ALONE])
def test_the_line_runs_as_printed(command, checkout):
    before = results(checkout)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": programs, "PYTHONPATH": str(ROOT)}
    line = command.line.replace(". .venv/bin/activate", "true")  # this is the environment of the tests
    done = subprocess.run(
        ["bash", "-c", line], cwd=checkout, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    writes = command.words[0] == "papermill" and "--help-notebook" not in command.words
    assert (results(checkout) != before) == writes
