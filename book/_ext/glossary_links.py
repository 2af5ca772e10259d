"""Links the first mention of each glossary term on a page to its entry, quietly: a dotted underline, and what it means.

Mentions are looked for in running text alone: paragraphs, list items and definitions, not in headings, code, formulas,
links, captions, tables, cards, outputs, or the glossary itself. ``{term}`` links by hand, and then counts as the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from docutils import nodes
from sphinx.addnodes import glossary
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

# Terms that also have an everyday meaning: explained in the glossary, but a mention may mean something else
EVERYDAY = frozenset({"alignment", "annotation table", "calibration", "control", "drop", "head", "hub", "patient"})
EVERYDAY |= {"judge", "profile", "record", "registry", "run", "sample", "split", "stage", "trial", "variant", "window"}
APART = (nodes.table, nodes.caption, nodes.legend, nodes.footnote, nodes.citation, glossary)
QUIET = {"sd-card", "cell_output", "tb-question", "tb-next"}  # classes of blocks that are no running text
EMPHASIS = (nodes.emphasis, nodes.strong)


class Entry(NamedTuple):
    """Where a term is explained, and the first sentence of what is said."""

    page: str
    anchor: str
    meaning: str


def note_terms(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Keep the terms of the glossary; where they are not those of the last build, every page is written anew."""
    objects = env.get_domain("std").objects.items()
    places = {name: place for (kind, name), place in objects if kind == "term"}
    glossaries = {page: env.get_doctree(page) for page in {page for page, _ in places.values()}}
    terms = {name.lower(): entry(page, anchor, glossaries[page]) for name, (page, anchor) in places.items()}
    same, env.glossary_terms = terms == getattr(env, "glossary_terms", None), terms
    return [] if same else sorted(env.found_docs)


def entry(page: str, anchor: str, doctree: nodes.document) -> Entry:
    """The entry of the term with this anchor; all names of one thing share that of the first."""
    item = next(term.parent for term in doctree.findall(nodes.term) if anchor in term["ids"])
    said = next((" ".join(paragraph.astext().split()) for paragraph in item.findall(nodes.paragraph)), "")
    return Entry(page, next(item.findall(nodes.term))["ids"][0], re.split(r"(?<=[.?!])\s+(?=[A-Z])", said)[0])


def link_mentions(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Link the first mention of each term on a page of the HTML book."""
    known = app.env.glossary_terms.items()
    terms = {name: term for name, term in known if name not in EVERYDAY and term.page != page}
    if app.builder.format != "html" or not terms:
        return
    words = (r"\s+".join(map(re.escape, name.split())) for name in sorted(terms, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w-])({'|'.join(words)})(?:e?s)?(?![\w-])", re.IGNORECASE)
    linked = {reference.get("refuri") for reference in doctree.findall(nodes.reference)}
    links = {}
    for name, term in terms.items():
        address = f"{app.builder.get_relative_uri(page, term.page)}#{term.anchor}"
        links[name] = {"refuri": address, "reftitle": term.meaning, "internal": True, "classes": ["tb-term"]}
    for paragraph in filter(is_running_text, list(doctree.findall(nodes.paragraph))):
        join_lines(paragraph)
        for text in [text for text in paragraph.findall(nodes.Text) if is_plain(text, paragraph)]:
            link_text(text, pattern, links, linked)


def is_running_text(paragraph: nodes.paragraph) -> bool:
    """Whether a paragraph, by all it lies in, is one in which terms are linked."""
    return not any(isinstance(up, APART) or QUIET & set(up.get("classes", [])) for up in upwards(paragraph))


def is_plain(text: nodes.Text, paragraph: nodes.paragraph) -> bool:
    """Whether a text lies in a paragraph with nothing but emphasis around it."""
    return all(isinstance(up, EMPHASIS) for up in takewhile(lambda up: up is not paragraph, upwards(text.parent)))


def upwards(node: nodes.Node | None) -> Iterator[nodes.Element]:
    """A node and all it lies in."""
    while node is not None:
        yield node
        node = node.parent


def join_lines(node: nodes.Element) -> None:
    """Join texts that follow each other, here and in emphasis, so that a term may go over the end of a line."""
    joined: list[nodes.Node] = []
    for child in node.children:
        if isinstance(child, EMPHASIS):
            join_lines(child)
        follows = joined and isinstance(child, nodes.Text) and isinstance(joined[-1], nodes.Text)
        joined[-1 if follows else len(joined) :] = [nodes.Text(joined[-1] + child) if follows else child]
    node.children = []
    node.extend(joined)


def link_text(text: nodes.Text, pattern: re.Pattern, links: dict[str, dict], linked: set[str]) -> None:
    """Replace a text by itself with links at the mentions whose address is not in ``linked``, and add it there."""
    parts, end = [], 0
    for found in pattern.finditer(text):
        link = links[" ".join(found[1].lower().split())]
        if link["refuri"] not in linked:
            linked.add(link["refuri"])
            parts += [nodes.Text(text[end : found.start()]), nodes.reference("", found[0], **link)]
            end = found.end()
    if parts:
        text.parent.replace(text, [*parts, nodes.Text(text[end:])])


def setup(app: Sphinx) -> dict:
    """Connect the handlers."""
    app.connect("env-updated", note_terms)
    app.connect("doctree-resolved", link_mentions)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
