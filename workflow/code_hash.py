"""Hash of what a notebook runs: its code cells, the package's modules they use and its data, but no prose.

A rule that carries it as a parameter runs again when code changes and not when a sentence does.
"""

import ast
import hashlib
import json
import re
from functools import cache
from pathlib import Path

PACKAGE = "tumorbench_utils"
ROOT = Path(__file__).parents[1]


def of_notebook(path: Path) -> str:
    """Hash of the code cells of a notebook and of every module of the package that they reach."""
    cells = json.loads(Path(path).read_text())["cells"]
    source = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    python = re.sub(r"^(\s*)%", r"\1pass  # %", "\n".join(source), flags=re.MULTILINE)  # magics are not Python
    return digest(source, reached(imports(python, "")))


def of_module(name: str) -> str:
    """Hash of one module of the package (``published``) and of those that it reaches."""
    return digest([], reached({name}))


def of_script(path: Path) -> str:
    """Hash of a script and of every module of the package that it reaches."""
    source = Path(path).read_text()
    return digest([source], reached(imports(source, "")))


def digest(source: list[str], modules: set[str]) -> str:
    """One short hash of texts, of the files of modules, and of the data that the package carries."""
    hasher = hashlib.sha256("\0".join(source).encode())
    for path in [*map(file_of, sorted(modules)), *sorted((ROOT / PACKAGE / "data").glob("*.*"))]:
        hasher.update(path.read_bytes())
    return hasher.hexdigest()[:16]


def reached(names: set[str]) -> set[str]:
    """The modules named and all that they import, directly or not."""
    done, ahead = set(), set(names)
    while ahead:
        name = ahead.pop()
        if name in done or file_of(name) is None:
            continue
        done.add(name)
        ahead |= imports(file_of(name).read_text(), name) | {name.rpartition(".")[0]}  # a package runs first
    return done


def imports(source: str, module: str) -> set[str]:
    """Dotted names within the package that a source text imports; a name may be a module or something in one."""
    found = set()
    for node in statements(source):
        if isinstance(node, ast.Import):
            parts = [alias.name.partition(".") for alias in node.names]
            found |= {rest for head, _, rest in parts if head == PACKAGE}
        if isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            if base is not None:
                found |= {base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names)}
    return found


@cache
def statements(source: str) -> list[ast.stmt]:
    """The import statements of a source text, parsed once."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def absolute(node: ast.ImportFrom, module: str) -> str | None:
    """Where ``from ... import`` points, relative to the package; None if outside it."""
    if node.level == 0:
        head, _, rest = (node.module or "").partition(".")
        return rest if head == PACKAGE else None
    path = file_of(module)
    parents = module.split(".") if path and path.name == "__init__.py" else module.split(".")[:-1]
    kept = [part for part in parents if part][: len(parents) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def file_of(name: str) -> Path | None:
    """File of a dotted module name within the package; None if there is none."""
    base = ROOT.joinpath(PACKAGE, *[part for part in name.split(".") if part])
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)
