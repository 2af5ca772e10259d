"""The status of a run for its book: when each page ran, with which code and versions, and what it wrote.

All of it is read from what the run left: executed notebooks, the records beside results and in embedding tables, and
Snakemake's own records. What none of them holds is called not recorded. The same run gives the same text.
"""

import json
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import code_hash
import run_profile
from book_pages import Page, markdown_table

from tumorbench_utils import artefacts, embeddings
from tumorbench_utils.cohorts import is_phantom

ROOT = Path(__file__).parents[1]
UNKNOWN = "not recorded"
DIGITS = 8  # of a hash in a table; the list of results has them all
FOLDERS = {  # what lies in the folder of a run
    "annotations": "annotation tables",
    "images": "images fetched or computed",
    "patches": "patch banks",
    "embeddings": "embedding tables",
    "stress": "embeddings of perturbed patches",
    "saliency": "saliency maps",
    "predictions": "predictions",
    "results": "results and their records",
    "notebooks": "executed notebooks",
}


@dataclass(frozen=True)
class Ran:
    """What is known of how a page ran: ``started`` and ``ended`` (UTC) or None, ``seconds`` or None, the hash of its
    ``code`` then ("" if not known), whether that is the code of ``today`` (None if not known), the SHA-256 of its
    ``results`` ("" if there are none), and the ``record`` beside them ({} if there is none)."""

    page: Page
    started: datetime | None
    ended: datetime | None
    seconds: float | None
    code: str
    today: bool | None
    results: str
    record: dict


def status(run: Path, pages: Sequence[Page]) -> str:
    """The status of a run, as Markdown of a chapter."""
    ran = [read(run, page) for page in pages]
    tables = table_records(run)
    parts = [
        ("In all", totals(ran, tables)),
        ("Versions", versions(ran)),
        ("Pages", "\n".join(pages_tables(ran))),
        ("Inputs", inputs(run, tables)),
        ("Sizes", sizes(run)),
        ("Hashes of all results", hashes(run)),
    ]
    return "\n".join(f"## {heading}\n\n{text}" for heading, text in parts)


# Reading what a run left


def read(run: Path, page: Page) -> Ran:
    """All that is known of how ``page`` ran."""
    notebook = json_of(run / "notebooks" / page.stage / f"{page.name}.ipynb")
    times = notebook.get("metadata", {}).get("papermill", {})
    results = run / "results" / page.stage / f"{page.name}.csv"
    code = recorded_code(results)
    return Ran(
        page,
        moment(times.get("start_time")),
        moment(times.get("end_time")),
        times.get("duration"),
        code,
        is_of_today(page, code, notebook),
        artefacts.sha256_of(results) if results.is_file() else "",
        json_of(artefacts.provenance_path(results)),
    )


def json_of(path: Path) -> dict:
    """A JSON file; {} if it is not there or cannot be read, since the page is to say so and not to fail."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def moment(text: str | None) -> datetime | None:
    """A time as papermill writes it, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def recorded_code(results: Path) -> str:
    """Hash of the code with which a file of results was made, from Snakemake's record of it; "" if there is none."""
    record = json_of(ROOT / ".snakemake" / "metadata" / urlsafe_b64encode(str(results).encode()).decode())
    texts = [str(each).strip("'") for each in record.get("params") or []]
    return next((text for text in texts if len(text) == 16 and set(text) <= set("0123456789abcdef")), "")


def is_of_today(page: Page, code: str, notebook: dict) -> bool | None:
    """Whether a page is what today's code would make; without a hash from then, only a changed notebook tells."""
    source = ROOT / "notebooks" / f"{page.stage}.ipynb"
    if code:
        return code == hash_of(source)
    ran = {cell.get("id"): "".join(cell["source"]) for cell in notebook.get("cells", [])}
    cells = [cell for cell in json_of(source).get("cells", []) if cell["cell_type"] == "code"]
    changed = any(ran.get(cell["id"]) != "".join(cell["source"]) for cell in cells)
    return False if ran and changed else None


@cache
def hash_of(notebook: Path) -> str:
    """Hash of the code of a notebook today, of the package's modules too."""
    return code_hash.of_notebook(notebook)


def table_records(run: Path) -> dict[str, dict]:
    """The records of the embedding tables of a run, by ``cohort/table``; {} for one that cannot be read."""
    found = {}
    for path in sorted((run / "embeddings").glob("*/*.parquet")):
        try:
            found[f"{path.parent.name}/{path.stem}"] = embeddings.provenance(path)
        except embeddings.EmbeddingError:
            found[f"{path.parent.name}/{path.stem}"] = {}
    return found


# Saying it


def totals(ran: Sequence[Ran], tables: dict[str, dict]) -> str:
    """How many pages, from when to when, how long, and on what."""
    started = [each.started for each in ran if each.started]
    ended = [each.ended for each in ran if each.ended]
    took = [each.seconds for each in ran if each.seconds is not None]
    untimed = f" ({len(ran) - len(took)} {UNKNOWN})" if 0 < len(took) < len(ran) else ""
    devices = sorted({each.get("parameters", {}).get("device") or "" for each in tables.values()} - {""})
    computed = f"embeddings were computed on {', '.join(f'`{each}`' for each in devices)}; " if devices else ""
    rows = [
        ["pages", f"{len(ran)}"],
        ["first start", shown(min(started, default=None))],
        ["last end", shown(max(ended, default=None))],
        ["run times added up", (duration(sum(took)) if took else UNKNOWN) + untimed],
        ["current", agreement([each.today for each in ran])],
        ["hardware", f"{computed}cores, memory and graphics card {UNKNOWN}"],
    ]
    return markdown_table(["this run", "value"], rows)


def agreement(today: Sequence[bool | None]) -> str:
    """How many pages ran with today's code, and what is known of the others."""
    count = Counter(today)
    others = [f"{count[key]} {words}" for key, words in ((False, "older"), (None, UNKNOWN)) if count[key]]
    return ", ".join([f"{count[True]} of {len(today)} pages", *others])


def versions(ran: Sequence[Ran]) -> str:
    """Versions of Python and packages on which most pages ran, and the pages that ran on others, by name."""
    recorded = [(each.page, each.record["versions"]) for each in ran if each.record.get("versions")]
    if not recorded:
        return f"Versions: {UNKNOWN}.\n"
    names = sorted({name for _, found in recorded for name in found})
    usual = {name: most(found.get(name, UNKNOWN) for _, found in recorded) for name in names}
    lines = [
        f"- {page.link()} ({page.part}): {name} {found.get(name, UNKNOWN)} instead of {usual[name]}"
        for page, found in recorded
        for name in names
        if found.get(name, UNKNOWN) != usual[name]
    ]
    lines += [f"- {each.page.link()} ({each.page.part}): {UNKNOWN}" for each in ran if not each.record.get("versions")]
    text = "Most pages ran on these; the others follow." if lines else "Every page ran on these."
    body = "\n".join(lines) + "\n" if lines else ""
    return f"{text}\n{markdown_table(['package', 'version'], list(usual.items()))}\n{body}"


def most(values: Iterator[str]) -> str:
    """The most frequent of some texts; of several, the first in the alphabet."""
    count = Counter(values)
    return min(count, key=lambda value: (-count[value], value))


def pages_tables(ran: Sequence[Ran]) -> Iterator[str]:
    """A table of pages for each part of the contents."""
    head = ["page", "took", "ran (UTC)", "current", "code", "results", "marks"]
    words = {True: "yes", False: "**no**", None: UNKNOWN}
    for part in dict.fromkeys(each.page.part for each in ran):
        rows = [
            [
                each.page.link(),
                UNKNOWN if each.seconds is None else duration(each.seconds),
                shown(each.started),
                words[each.today],
                each.code[:DIGITS] or UNKNOWN,
                each.results[:DIGITS] or "none",
                marks(each),
            ]
            for each in ran
            if each.page.part == part
        ]
        yield f"### {part}\n\n{boxed(markdown_table(head, rows))}"


def marks(ran: Ran) -> str:
    """What the results of a page must not be taken for: of the record, or else of what the page was given."""
    given, recorded = ran.page.given, ran.record.get("parameters", {}).get("mark")
    phantom = share("phantom", [is_phantom(cohort) for cohort in run_profile.cohorts_of(given)])
    untrained = share("untrained", [name.endswith(run_profile.UNTRAINED) for name in given.get("models", [])])
    words = ", ".join(filter(None, [phantom, untrained])) if recorded is None else recorded
    return f"[{words}]{{.tb-notice}}" if words else ""


def share(word: str, true: Sequence[bool]) -> str:
    """``word`` if it holds of all, "partly" if of some, "" if of none."""
    return "" if not any(true) else word if all(true) else f"partly {word}"


def inputs(run: Path, tables: dict[str, dict]) -> str:
    """Published files and weights that the run read, each once, with their SHA-256."""
    published = [json_of(path) for path in sorted((run / "annotations").glob("*.provenance.json"))]
    published += [each for each in tables.values() if "weights" not in each.get("parameters", {})]
    rows = {
        (name, digest)
        for record in published
        for name, digest in record.get("inputs", {}).items()
        if "." in name  # a file; a table of the run itself has a word for a name
    }
    for record in tables.values():
        weights = record.get("parameters", {}).get("weights") or {}
        if weights.get("kind", "random") != "random":
            rows.add((weights.get("source", UNKNOWN), weights.get("sha256") or UNKNOWN))
    if not rows:
        return "No fetched file is recorded.\n"
    table = markdown_table(["file", "SHA-256"], [[f"`{name}`", f"`{digest}`"] for name, digest in sorted(rows)])
    text = "Published embeddings and weights. Files that only an exercise reads are named at the foot of its page."
    return f"{text}\n\n{boxed(table)}"


def sizes(run: Path) -> str:
    """How much lies in each part of the run's folder, and in the cache."""
    rows, total = [], 0
    for name, what in FOLDERS.items():
        files, size = weight(run / name)
        total += size
        if files:
            rows.append([f"`{name}`", what, f"{files:,}", megabytes(size)])
    files, size = weight(artefacts.cache_dir())
    rows += [["all of these", "", "", megabytes(total)], ["cache", "fetched files", f"{files:,}", megabytes(size)]]
    text = "The cache is the machine's: other runs share it."
    return f"{text}\n{markdown_table(['folder', 'holds', 'files', 'MB'], rows)}"


def weight(folder: Path) -> tuple[int, int]:
    """Number of files in a folder and below, and their bytes."""
    found = [size for path in folder.rglob("*") if (size := size_of(path)) is not None]
    return len(found), sum(found)


def size_of(path: Path) -> int | None:
    """Bytes of a file; None if it is none, or gone meanwhile: other runs write to the cache."""
    try:
        return path.stat().st_size if path.is_file() else None
    except FileNotFoundError:
        return None


def hashes(run: Path) -> str:
    """SHA-256 of every file of results, folded away, as ``sha256sum --check`` reads them in the run's folder."""
    there = [path for path in sorted((run / "results").rglob("*")) if path.is_file()]
    files = [path for path in there if not path.name.endswith(".provenance.json")]
    lines = "\n".join(f"{artefacts.sha256_of(path)}  {path.relative_to(run).as_posix()}" for path in files)
    text = f"{len(files)} files; the list is what `sha256sum --check` reads in the folder of the run."
    return f":::{{dropdown}} {text}\n```{{code-block}} text\n{lines}\n```\n:::\n"


def boxed(table: str) -> str:
    """A table whose cells do not break, but for the first of a row."""
    return f":::{{div}} tb-numbers tb-pages\n{table}:::\n"


def shown(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M}" if time else UNKNOWN


def duration(seconds: float) -> str:
    """A time span as one says it: 14 s, 2 min 35 s, 5 h 03 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
