"""What this book needs of Sphinx beyond Jupyter Book: right Colab links, nothing loaded from another host.

Not here but in ``_config.yml``: ``sphinx_thebe`` is left out of the list of extensions. It adds an inline
script after the HTML builder has started, which Sphinx then writes twice (once as ``None``, once as ``""``);
the script declares a ``const``, so that the second copy is a console error on every page.
"""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging

logger = logging.getLogger(__name__)

REDIRECT = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="_static/{icon}">
<meta http-equiv="refresh" content="0; url={page}"></head><body><a href="{page}">{title}</a></body></html>
"""
MATHJAX = "mathjax/"  # folder of _static into which MathJax is staged
RESULT_PAGE = re.compile(r"notebooks/(?P<stage>[^/]+)/[^/]+")
FOREIGN = re.compile(
    r"<(?:script|img|iframe|video|audio|source|embed|object|link\s+rel=.stylesheet.)\b[^>]*?"
    r"\s(?:src|href|data)=[\"']((?:https?:)?//[^\"']+)",
    re.IGNORECASE,
)


def leave_mathjax_to_sphinx(app: Sphinx, config: Config) -> None:
    """Jupyter Book puts every script under ``_static`` on every page; MathJax belongs on those with formulas."""
    config.html_js_files = [name for name in config.html_js_files if not str(name).startswith(MATHJAX)]
    script = Path(app.srcdir, "_static", config.mathjax_path)
    if not script.exists():
        logger.warning("no MathJax at %s: formulas would stay raw. Stage it before the build.", script)


def notebook_source(url: str, branch: str, pagename: str) -> str:
    """The Colab address of a result page's *source* notebook: ``notebooks/<stage>.ipynb`` of the repository.

    ``url`` is the theme's, which follows the rendered page; one page of a stage is one run of that notebook.
    """
    page = RESULT_PAGE.fullmatch(pagename)
    before, marker, _ = url.partition(f"/blob/{branch}/")
    return f"{before}{marker}notebooks/{page['stage']}.ipynb" if page and marker else url


def point_colab_at_source(app: Sphinx, pagename: str, _template: str, context: dict, _doctree: object) -> None:
    """Rewrite the launch buttons that the theme has made for this page."""
    branch = app.config.html_theme_options.get("repository_branch", "main")
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            for button in group["buttons"]:
                button["url"] = notebook_source(button["url"], branch, pagename)


def keep_mathjax_to_formulas(app: Sphinx, pagename: str, _template: str, context: dict, _doctree: object) -> None:
    """Sphinx loads MathJax (1.2 MB) on a page without formulas too, if a page below it in the contents has some."""
    if not app.env.get_domain("math").data["has_equations"].get(pagename):
        kept = [file for file in context.get("script_files", []) if MATHJAX not in str(file.filename or "")]
        context["script_files"] = kept


def warn_of_foreign_assets(_app: Sphinx, pagename: str, _template: str, context: dict, _doctree: object) -> None:
    """A page that would load a file from another host is a warning, and a strict build fails on it."""
    assets = context.get("script_files", []) + context.get("css_files", [])
    linked = [str(asset.filename) for asset in assets if "//" in str(asset.filename or "")]
    for address in FOREIGN.findall(context.get("body") or "") + linked:
        logger.warning("the page would load %s from another host", address, location=pagename)


def write_index(app: Sphinx, exception: Exception | None) -> None:
    """``index.html`` leads to the first page; the one written otherwise has no icon, a 404 in the console."""
    if exception or app.builder.format != "html":
        return
    config = app.config
    page = REDIRECT.format(
        title=config.html_title,
        icon=Path(config.html_favicon).name,
        page=app.builder.get_target_uri(config.root_doc),
    )
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def empty_icon_script(app: Sphinx, exception: Exception | None) -> None:
    """The theme's icons come as a web font; its script (1.5 MB) draws the same ones again."""
    script = Path(app.outdir, "_static", "scripts", "fontawesome.js")
    if script.exists() and not exception:
        script.write_text("", encoding="utf-8")


def setup(app: Sphinx) -> dict:
    """Connect the handlers: after the theme's buttons (priority 501), before the other index (500)."""
    app.connect("config-inited", leave_mathjax_to_sphinx)
    app.connect("html-page-context", point_colab_at_source, priority=502)
    app.connect("html-page-context", keep_mathjax_to_formulas, priority=503)
    app.connect("html-page-context", warn_of_foreign_assets, priority=900)
    app.connect("build-finished", write_index, priority=400)
    app.connect("build-finished", empty_icon_script)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
