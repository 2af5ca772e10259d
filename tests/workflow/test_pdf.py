"""A small built book becomes one PDF: all pages, bookmarks by part, links that stay inside."""

import re
import shutil
import subprocess
import sys

import pdf
import pytest
import yaml

LINKS = '<a href="b.html#there">next</a> <a href="https://example.org/">out</a> <a href="gone.html">gone</a>'
PAGES = {
    "intro": f'<h1>A &amp; B<a class="headerlink" href="#">#</a></h1><a href="#x">here</a> {LINKS} <p id="x">Text.</p>',
    "b": '<h1>Second</h1><div class="bd-sidebar-primary">menu</div><p style="height: 1500px">long</p>end',
}


@pytest.fixture
def book(tmp_path):
    book = tmp_path / "my run" / "book"
    site = book / "_build" / "html"
    site.mkdir(parents=True)
    for name, text in {**PAGES, "index": "", "gone": ""}.items():
        (site / f"{name}.html").write_text(f"<!DOCTYPE html><html><body>{text}</body></html>")
    toc = {"root": "intro", "parts": [{"caption": "Part", "chapters": [{"file": "b"}]}]}
    (book / "_toc.yml").write_text(yaml.safe_dump(toc))
    (book / "_config.yml").write_text("title: A book\n")
    return book


def test_the_book_is_one_file_with_bookmarks_and_links_inside(book):
    from pypdf import PdfReader

    # A process of its own: another test's browser may be open in this one
    command = [sys.executable, pdf.__file__, "--run", str(book.parent)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reader = PdfReader(printed.strip().removeprefix("The book as a PDF: "))
    texts = [page.extract_text() for page in reader.pages]
    assert len(texts) == 4 and reader.metadata.title == "A book"
    assert re.sub(r"\s+", " ", texts[0]).startswith("A book A & B Part Second")
    assert "Text." in texts[1] and "Second" in texts[2] and "end" in texts[3] and "menu" not in "".join(texts)
    first, part, below = reader.outline
    marks = [(each.title, reader.get_destination_page_number(each)) for each in (first, part, *below)]
    assert marks == [("A & B", 1), ("Part", 2), ("Second", 2)]
    links = [link.get_object() for page in reader.pages for link in page.get("/Annots", [])]
    inside = [reader.pages.index(link["/Dest"][0].get_object()) for link in links if "/Dest" in link]
    outside = [link["/A"]["/URI"] for link in links if "/A" in link]
    assert inside == [1, 2, 2] and outside == ["https://example.org/"]
    assert not [path.name for path in (book / "_build").iterdir() if path.name not in ("html", "book.pdf")]


def test_without_a_book_or_a_browser_it_says_what_to_do(book, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match=r"chromium.*Install Chromium"):
        pdf.print_book(book)
    (book / "_build" / "html" / "index.html").unlink()
    with pytest.raises(SystemExit, match=r"no built book\. Build it first: make book"):
        pdf.print_book(book)
