"""Print the built book of a run as one PDF: ``python workflow/pdf.py --run runs/quick``.

Chromium prints page after page, light and without menus; folded code stays folded. Bookmarks follow the contents of
the book, and a link to another page of the book leads there within the file.
"""

import argparse
import html
import io
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import yaml

from tumorbench_utils import artefacts

if TYPE_CHECKING:
    from pypdf import PdfWriter

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (  # of a browser that runs as any user, on any machine, and calls nobody
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = """async () => {
    document.querySelectorAll('a[href^="#"]').forEach(link => link.removeAttribute('href'));
    if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
    await document.fonts.ready;
    return document.querySelector('h1')?.firstChild.textContent.trim() ?? document.title;
}"""
STYLE = """
.bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-footer, .bd-footer-content,
.prev-next-footer, .headerlink, .copybtn, .tb-next, #jb-print-toc,
#pst-back-to-top { display: none !important; }
.bd-main .bd-content .bd-article-container { max-width: none; padding: 0; }
.bd-article { padding: 0; font-size: 10pt; }
.pst-scrollable-table-container, .highlight pre, .cell_output .output { overflow: visible !important; }
pre { white-space: pre-wrap !important; }
td, th { white-space: normal !important; position: static !important; }
figure, tr, .admonition, .sd-card, .highlight, details { break-inside: avoid; }
h1, h2, h3, h4, caption { break-after: avoid; }
"""
PAPER = {
    "format": "A4",
    "margin": dict.fromkeys(("top", "bottom", "left", "right"), "16mm"),
    "print_background": True,
    "display_header_footer": True,
    "header_template": "<span></span>",
}
FOOTER = '<div style="width: 100%; font: 8px sans-serif; text-align: center">{}</div>'
FRONT = "<meta charset='utf-8'><body style='font: 11pt/1.5 sans-serif'><h1>{}</h1>{}</body>"
Part = tuple[str, list[str]]  # its caption, and the files of its pages without ".html"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the run, its book built")
    print(f"The book as a PDF: {print_book(parser.parse_args().run / 'book')}")


def print_book(book: Path) -> Path:
    """Print the built ``book``; the path of the PDF. Without a built book or a browser the program ends and says so."""
    from pypdf import PdfWriter

    site, target = book / "_build" / "html", book / "_build" / "book.pdf"
    if not (site / "index.html").exists():
        raise SystemExit(f"{site}: no built book. Build it first: make book")
    title, parts = contents(book)
    body, starts, titles = PdfWriter(), {}, {}
    with browser() as printed:
        for file in (file for _, files in parts for file in files):
            starts[file] = len(body.pages)
            titles[file], content = printed((site / f"{file}.html").resolve())
            body.append(io.BytesIO(content), import_outline=False)
        front, before = book / "_build" / "front.html", len(body.pages)
        front.write_text(front_page(title, parts, titles, site), encoding="utf-8")
        body.merge(position=0, fileobj=io.BytesIO(printed(front.resolve())[1]), import_outline=False)
        front.unlink()
    starts = {file: start + len(body.pages) - before for file, start in starts.items()}
    bookmark(body, parts, starts, titles)
    lead_inside(body, {(site / f"{file}.html").resolve(): start for file, start in starts.items()})
    body.add_metadata({"/Title": title})
    body.compress_identical_objects()
    with artefacts.atomic_path(target) as temporary:
        body.write(temporary)
    return target


def contents(book: Path) -> tuple[str, list[Part]]:
    """Title and parts of a book; its first page is a part without a name."""
    given = yaml.safe_load((book / "_toc.yml").read_text())
    parts = [(part["caption"], [chapter["file"] for chapter in part["chapters"]]) for part in given["parts"]]
    return yaml.safe_load((book / "_config.yml").read_text())["title"], [("", [given["root"]]), *parts]


@contextmanager
def browser() -> Iterator[Callable[[Path], tuple[str, bytes]]]:
    """A function that prints an HTML file: its heading and the PDF."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise SystemExit(f"no browser to print with: none of {', '.join(BROWSERS)} is on the path. Install Chromium.")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        page = chromium.new_page(color_scheme="light", viewport={"width": 900, "height": 900})

        def printed(path: Path) -> tuple[str, bytes]:
            page.goto(path.as_uri())
            title = page.evaluate(READY)
            page.add_style_tag(content=STYLE)
            return title, page.pdf(**PAPER, footer_template=FOOTER.format(html.escape(title)))

        yield printed
        chromium.close()


def front_page(title: str, parts: Sequence[Part], titles: Mapping[str, str], site: Path) -> str:
    """The first page of the PDF: title and contents."""
    lines = []
    for caption, files in parts:
        links = [
            f'<li><a href="{(site / f"{file}.html").resolve().as_uri()}">{html.escape(titles[file])}</a></li>'
            for file in files
        ]
        lines.append(f"<h3>{html.escape(caption)}</h3><ul>{''.join(links)}</ul>")
    return FRONT.format(html.escape(title), "".join(lines))


def bookmark(body: "PdfWriter", parts: Sequence[Part], starts: Mapping[str, int], titles: Mapping[str, str]) -> None:
    """Enter parts and pages as bookmarks."""
    for caption, files in parts:
        parent = body.add_outline_item(title=caption, page_number=starts[files[0]]) if caption else None
        for file in files:
            body.add_outline_item(title=titles[file], page_number=starts[file], parent=parent)


def lead_inside(body: "PdfWriter", places: Mapping[Path, int]) -> None:
    """Let links to files of the book lead to their pages here, and drop links to other files of this machine."""
    from pypdf.generic import ArrayObject, NameObject

    for page in body.pages:
        kept = ArrayObject()
        for reference in page.get("/Annots", []):
            link = reference.get_object()
            address = urlsplit(str(link.get("/A", {}).get("/URI", "")))
            if address.scheme == "file":
                start = places.get(Path(unquote(address.path)))
                if start is None:
                    continue
                target = [body.pages[start].indirect_reference, NameObject("/Fit")]
                link[NameObject("/Dest")] = ArrayObject(target)
                del link["/A"]
            kept.append(reference)
        if "/Annots" in page:
            page[NameObject("/Annots")] = kept


if __name__ == "__main__":
    main()
