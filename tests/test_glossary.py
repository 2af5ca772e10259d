"""The glossary is in order and says enough, and the first mention of each term on a page leads to it."""

import io
import re
import sys
from pathlib import Path

import pytest
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
from glossary_links import EVERYDAY  # noqa: E402

GLOSSARY = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
WORDS = """# Words

```{glossary}
patch
  A box of CT, 48 voxels a side. See [the page](page.md).

patch bank
bank of patches
  The folder of patches.

seed point
  The middle of a patch, in mm.

window
  A range of HU.
```
"""
PAGE = """# A patch in a heading

A `patch` in code, a [patch](words.md) in a link and a span of [seed point]{.tb-published} are left alone.

```python
patch = 1
```

:::{table} A patch bank in a caption
| seed point | patch |
| --- | --- |
| seed point | patch |
:::

- Of patch-wise dispatches, the *Patches* are linked, and no patch after them.
- Two **patch banks**; a *seed
  point* over the end of a line, and another seed point. Open the window.
- A bank of patches is the same thing under another name.
"""
OTHER = """# Another

Patches by hand: {term}`patch`. Each patch has its seed point.

```{raw} html
<p>patch bank</p>
```
"""
LINK = re.compile(r'<a class="tb-term[^"]*" href="([^"]*)" title="([^"]*)">([^<]*)</a>')


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    source = tmp_path_factory.mktemp("project")
    (source / "index.md").write_text("# First\n\n```{toctree}\npage\nother\nwords\n```\n")
    for name, text in {"page": PAGE, "other": OTHER, "words": WORDS}.items():
        (source / f"{name}.md").write_text(text)
    return source


def built(source, parallel=1):
    """Pages of the project as HTML by name; a warning is an error."""
    chosen = {"extensions": ["myst_parser", "glossary_links"], "html_theme": "basic"}
    chosen["myst_enable_extensions"] = ["attrs_inline", "colon_fence"]
    where = {"srcdir": source, "confdir": None, "outdir": source / "out", "doctreedir": source / "trees"}
    how = {"buildername": "html", "confoverrides": chosen, "status": io.StringIO(), "warningiserror": True}
    with docutils_namespace():
        Sphinx(**where, **how, parallel=parallel).build()
    return {page.stem: page.read_text(encoding="utf-8") for page in (source / "out").glob("*.html")}


@pytest.fixture(scope="module")
def pages(project):
    return built(project, parallel=2)


def test_first_mention_of_each_term_is_linked_once(pages):
    assert LINK.findall(pages["page"]) == [
        ("words.html#term-patch", "A box of CT, 48 voxels a side.", "Patches"),
        ("words.html#term-patch-bank", "The folder of patches.", "patch banks"),
        ("words.html#term-seed-point", "The middle of a patch, in mm.", "seed\npoint"),
    ]


def test_a_link_by_hand_is_the_first_mention(pages):
    assert [words for _, _, words in LINK.findall(pages["other"])] == ["seed point"]
    assert 'href="words.html#term-patch"><span class="xref std std-term">patch</span>' in pages["other"]


def test_the_glossary_does_not_link_to_itself(pages):
    assert "tb-term" not in pages["words"]
    assert "window" in EVERYDAY and "Open the window." in pages["page"]


def test_new_words_reach_pages_that_were_not_touched_and_old_ones_leave_them_alone(project, pages):
    (project / "words.md").write_text(WORDS.replace("box of CT", "cube of CT").replace("window\n", "code\n"))
    found = {words: title for _, title, words in LINK.findall(built(project)["page"])}
    assert found["Patches"] == "A cube of CT, 48 voxels a side."
    assert found["code"] == "A range of HU."
    before = (project / "out" / "page.html").stat().st_mtime_ns
    built(project)
    assert (project / "out" / "page.html").stat().st_mtime_ns == before


# The glossary of the book


def entries():
    """Terms, as lists of names, with their definitions."""
    for block in re.findall(r"^```\{glossary\}\n(.*?)^```$", GLOSSARY, re.DOTALL | re.MULTILINE):
        for entry in block.strip().split("\n\n"):
            lines = entry.splitlines()
            yield [line for line in lines if line[0] != " "], " ".join(line.strip() for line in lines if line[0] == " ")


def test_terms_are_in_alphabetical_order_and_each_name_stands_once():
    first = [names[0].lower() for names, _ in entries()]
    every = [name.lower() for names, _ in entries() for name in names]
    assert len(first) > 70
    assert first == sorted(first)
    assert len(every) == len(set(every))


@pytest.mark.parametrize(("names", "definition"), list(entries()), ids=[names[0] for names, _ in entries()])
def test_a_definition_is_two_or_three_sentences_and_names_its_chapter(names, definition):
    said, _, see = definition.rpartition(" [")
    sentences = re.split(r"(?<=[.?!;])\s+(?=[A-Z`])", said.removesuffix(" See").removesuffix("; see"))
    assert 2 <= len(sentences) <= 3 or (len(sentences) == 1 and len(said.split()) > 20), sentences
    assert len(sentences[0].split()) >= 8
    chapter = re.search(r"\]\(([\w.]+\.md)(#[\w-]+)?\)", f"[{see}")
    assert (ROOT / "book" / chapter[1]).exists()


def test_words_of_everyday_meaning_are_all_explained():
    assert {name.lower() for names, _ in entries() for name in names} >= EVERYDAY
