"""What the generated parts of a book share: a page of the run, links to it, tables."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Page:
    """A page of the run: its ``stage`` and ``name``, what the profile gives it, the ``heading`` of its notebook, its
    ``subject`` (a model, a cohort or an endpoint; "" if it is about the whole run), and its ``part`` of the contents.
    """

    stage: str
    name: str
    given: dict = field(default_factory=dict)
    heading: str = ""
    subject: str = ""
    part: str = ""

    @property
    def file(self) -> str:
        """Its place in the book, as the contents name it."""
        return f"notebooks/{self.stage}/{self.name}"

    def link(self, text: str = "") -> str:
        """A link to it from a chapter, under its subject, or else its heading."""
        return f"[{text or self.subject or self.heading}]({self.file}.ipynb)"


def heading(notebook: Path) -> str:
    """The heading of a notebook, which is the first line of its first cell."""
    first = json.loads(notebook.read_text())["cells"][0]["source"]
    return "".join(first).splitlines()[0].removeprefix("# ")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A MyST table that scrolls in its own box on a narrow screen."""
    lines = [head, ["---"] * len(head), *rows]
    body = "\n".join("| " + " | ".join(str(cell).replace("|", "/") for cell in line) + " |" for line in lines)
    return f"\n{body}\n"
