"""A table of a static page that a reader can sort, filter and download: plain HTML with a short script.

Nothing is requested from anywhere, it works from a file, and without JavaScript it is a plain table.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

MISSING = "–"

# Colours are those of the theme where there is one, else those of the reader's system
STYLE = """
.tb-sortable{--line:var(--pst-color-border,#8a8a8a80);--ground:var(--pst-color-background,Canvas);
--ink:var(--pst-color-text-base,CanvasText);color:var(--ink);margin:1rem 0;font-size:0.9rem}
.tb-sortable [data-box]{overflow-x:auto;max-width:100%;border:1px solid var(--line);border-radius:0.25rem}
.tb-sortable [data-more]{mask-image:linear-gradient(to right,#000 calc(100% - 2.5rem),#0003)}
.tb-sortable table{border-collapse:separate;border-spacing:0;margin:0;width:auto;table-layout:auto;font-size:inherit;
color:inherit;border:0;line-height:1.35}
.tb-sortable table th,.tb-sortable table td{padding:0.35rem 0.6rem;text-align:left;vertical-align:top;
border:0;border-bottom:1px solid var(--line);background:var(--ground);color:inherit;font-variant-numeric:tabular-nums}
.tb-sortable table tbody tr:last-child>*{border-bottom:0}
.tb-sortable table thead th{vertical-align:bottom;font-weight:600;min-width:5rem;border-bottom:1px solid var(--line)}
figure.tb-sortable [data-box] table tbody td{white-space:nowrap}
figure.tb-sortable [data-box] table tbody td.tb-words{white-space:normal;min-width:9rem}
.tb-sortable table tr>:first-child{position:sticky;left:0;z-index:1;min-width:6.5rem;max-width:min(9.5rem,30vw);
white-space:normal;overflow-wrap:break-word;border-right:1px solid var(--line);font-weight:600}
@media (max-width:30rem){.tb-sortable table th,.tb-sortable table td{padding:0.35rem 0.4rem}
.tb-sortable table thead th{min-width:4rem}}
.tb-sortable th button{all:unset;cursor:pointer;font:inherit;color:inherit}
.tb-sortable th button:focus-visible,.tb-sortable [data-box]:focus-visible{outline:2px solid var(--tb-ours,#0072b2);
outline-offset:2px}
.tb-sortable th button::after{content:" ↕";opacity:0.5}
.tb-sortable th[aria-sort=ascending] button::after{content:" ↑";opacity:1}
.tb-sortable th[aria-sort=descending] button::after{content:" ↓";opacity:1}
.tb-sortable small{display:block;font-size:0.85em;font-weight:400}
.tb-sortable [data-tags]{display:block}
.tb-sortable [data-tags] span{display:inline-block;border:1px solid var(--line);border-radius:0.25rem;padding:0 0.3em;
margin:0.1em 0.2em 0 0;font-size:0.8em;font-weight:600}
.tb-sortable [data-controls]{display:flex;flex-wrap:wrap;gap:0.3rem 1rem;align-items:center;margin-bottom:0.5rem}
.tb-sortable [data-controls][hidden]{display:none}
.tb-sortable input[type=search]{font:inherit;color:inherit;background:var(--ground);border:1px solid var(--line);
border-radius:0.25rem;padding:0.25rem 0.5rem;width:11rem;max-width:100%}
.tb-sortable input[type=checkbox]{accent-color:#0072b2}
.tb-sortable output{display:block;margin-top:0.4rem}
figure.tb-sortable[id] figcaption{margin:0.4rem 0 0;color:var(--ink);text-align:left;font-family:inherit;
font-size:inherit;font-weight:400;line-height:1.5}
"""

# A cell without data-value is missing and comes last in either direction; rows of equal value keep their first order
SCRIPT = """(() => {
const all = document.getElementById("ID"), body = all.querySelector("tbody"), rows = [...body.rows];
const heads = [...all.querySelectorAll("thead th")], search = all.querySelector("input[type=search]");
const boxes = [...all.querySelectorAll("input[type=checkbox]")], said = all.querySelector("output");
const words = all.querySelector("[data-controls]"), states = ["ascending", "descending"];
const box = all.querySelector("[data-box]");
const edge = () => box.toggleAttribute("data-more", box.scrollLeft + box.clientWidth < box.scrollWidth - 1);
const marked = [...all.querySelectorAll("td[data-mark]")].map(cell => [cell, cell.innerHTML, cell.dataset.value]);
let order = "", by = null;
const say = () => {
  const shown = rows.filter(row => !row.hidden).length;
  said.textContent = shown + " of " + rows.length + " rows" + order;
};
const filter = () => {
  const wanted = search.value.trim().toLowerCase().split(/\\s+/), on = boxes.filter(box => box.checked);
  const off = on.map(box => box.value), blank = on.map(box => box.dataset.cells).filter(word => word);
  marked.forEach(([cell, inside, value]) => {
    const gone = blank.includes(cell.dataset.mark);
    cell.innerHTML = gone ? "–" : inside;
    if (gone) delete cell.dataset.value;
    else if (value !== undefined) cell.dataset.value = value;
  });
  rows.forEach(row => {
    const text = row.textContent.toLowerCase(), flags = (row.dataset.flags || "").split(" ");
    row.hidden = !wanted.every(word => text.includes(word)) || off.some(flag => flags.includes(flag));
  });
  if (by !== null) arrange();
  say();
  edge();
};
const arrange = () => {
  const [place, next] = by, sign = next === "ascending" ? 1 : -1, number = heads[place].dataset.kind === "number";
  const value = row => { const v = row.cells[place].dataset.value; return v === undefined || !number ? v : +v; };
  const compare = (a, b) => number ? a - b : a.localeCompare(b, "en", {sensitivity: "base", numeric: true});
  body.append(...[...rows].sort((one, two) => {
    const a = value(one), b = value(two);
    if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
    return sign * compare(a, b);
  }));
};
const sort = place => {
  const head = heads[place], now = head.getAttribute("aria-sort"), first = head.dataset.first;
  const next = now === "none" ? first : states[1 - states.indexOf(now)];
  by = [place, next];
  arrange();
  heads.forEach(each => each.setAttribute("aria-sort", each === head ? next : "none"));
  order = ", by " + head.dataset.name + ", " + next;
  say();
};
heads.forEach((head, place) => {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  button.addEventListener("click", () => sort(place));
  head.append(button);
  head.setAttribute("aria-sort", "none");
});
search.value = "";
search.addEventListener("input", filter);
box.addEventListener("scroll", edge, {passive: true});
addEventListener("resize", edge);
boxes.forEach(each => { each.checked = false; each.addEventListener("change", filter); });
words.hidden = false;
filter();
})();"""


class SortableError(ValueError):
    """A table that cannot be shown; the message names the column and what is wrong."""


@dataclass(frozen=True)
class Column:
    """How a column of a table is shown.

    ``key`` names the column of the table. Its interval stands in ``<key>_low`` and ``<key>_high``, words for a small
    label in the cell ("phantom") in ``<key>_mark``, its tip in ``<key>_tip`` and the reason why a value is missing in
    ``<key>_why``, if the table has these. ``help`` says what the column holds, ``digits`` how a number is written, with
    a thousands separator.
    ``published`` marks figures that are not of this run. ``falling``: the first click puts the largest on top.
    """

    key: str
    head: str
    help: str = ""
    digits: int = 2
    published: bool = False
    falling: bool = True


@dataclass(frozen=True)
class Filter:
    """A checkbox that hides the rows in which the column ``key`` of the table is true.

    ``cells``: it also blanks every cell that bears this label, as if its value were missing.
    """

    key: str
    label: str
    cells: str = ""


class Sortable:
    """A sortable table as a page shows it; ``html`` is all of it."""

    def __init__(self, page: str, caption: str):
        self.html, self.caption = page, caption

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Table: {self.caption}"


def sortable(
    table: pd.DataFrame,
    caption: str,
    columns: Sequence[Column],
    filters: Sequence[Filter] = (),
    record: Mapping | None = None,
    name: str = "leaderboard",
    tags: str = "",
) -> Sortable:
    """A table of one row a model that can be sorted by its heads, searched, filtered and downloaded.

    ``columns`` are shown, the first of them as the head of each row, which stays in sight; ``tags`` names a column of
    words, separated by commas, that stand as labels under it. The downloads ``<name>.csv`` and ``<name>.json`` hold
    every column of ``table``, the latter with the provenance ``record``. Rows start in the order of the table; missing
    values are a dash, always last. Numbers are sorted as they are, not as they are rounded.
    """
    named = [each.key for each in columns] + [each.key for each in filters] + ([tags] if tags else [])
    lost = [key for key in named if key not in table]
    if lost or not columns:
        what = f"no column {', '.join(lost)}" if lost else "no column to show"
        raise SortableError(f"{name}: the table has {what}; it has {', '.join(map(str, table))}")
    heads = "".join(_head(each, table[each.key]) for each in columns)
    rows = "".join(_row(row, columns, filters, tags) for row in table.to_dict("records"))
    told = html.escape(caption)
    grid = (
        f'<div data-box role="region" tabindex="0" aria-label="Table, scrolls sideways"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    links = " ".join(_download(name, kind, text) for kind, text in _files(table, record).items())
    foot = f"<output>{len(table)} rows</output><p data-links>Download {links}</p><figcaption>{told}</figcaption>"
    body = _controls(filters) + grid + foot
    key = "t" + hashlib.sha256(body.encode()).hexdigest()[:10]
    style = f"<style>{STYLE}</style>".replace("\n", "")
    page = f'<figure class="tb-sortable" id="{key}">{style}{body}'
    return Sortable(f"{page}<script>{SCRIPT.replace('ID', key)}</script></figure>", caption)


def _head(column: Column, values: pd.Series) -> str:
    kind = "number" if _numeric(values) else "text"
    first = "descending" if column.falling and kind == "number" else "ascending"
    tip = f' title="{html.escape(column.help, quote=True)}"' if column.help else ""
    name = html.escape(column.head, quote=True)
    published = "<small>as published</small>" if column.published else ""
    return (
        f'<th scope="col" data-kind="{kind}" data-first="{first}" data-name="{name}"{tip}>{html.escape(column.head)}'
        f"{published}</th>"
    )


def _numeric(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _row(row: Mapping, columns: Sequence[Column], filters: Sequence[Filter], tags: str) -> str:
    flags = " ".join(str(number) for number, each in enumerate(filters) if _true(row[each.key]))
    first, *others = columns
    words = [each.strip() for each in str(row[tags]).split(",")] if tags and not _missing(row[tags]) else []
    cells = _cell(row, first, "th", _labels(words)) + "".join(_cell(row, each) for each in others)
    return f'<tr data-flags="{flags}">{cells}</tr>'


def _cell(row: Mapping, column: Column, element: str = "td", beside: str = "") -> str:
    value = row[column.key]
    scope = ' scope="row"' if element == "th" else ""
    if _missing(value):
        why = row.get(f"{column.key}_why")
        return f"<{element}{scope}{_tip(why)}>{MISSING}{beside}</{element}>"
    written, exact = _written(value, column.digits)
    low, high = row.get(f"{column.key}_low"), row.get(f"{column.key}_high")
    if not _missing(low) and not _missing(high):
        written += f"<small>{_written(low, column.digits)[0]} to {_written(high, column.digits)[0]}</small>"
    mark = row.get(f"{column.key}_mark")
    written += _labels([] if _missing(mark) else [str(mark)])
    kinds = (["tb-published"] if column.published else []) + (["tb-words"] if isinstance(value, str) else [])
    look = f' class="{" ".join(kinds)}"' if kinds and element == "td" else ""
    look += "" if _missing(mark) or not str(mark) else f' data-mark="{html.escape(str(mark), quote=True)}"'
    look += _tip(row.get(f"{column.key}_tip"))
    exact = html.escape(exact, quote=True)
    return f'<{element}{scope}{look} data-value="{exact}">{written}{beside}</{element}>'


def _tip(words: object) -> str:
    return f' title="{html.escape(str(words), quote=True)}"' if not _missing(words) and str(words) else ""


def _labels(words: Sequence[str]) -> str:
    inside = "".join(f"<span>{html.escape(word)}</span>" for word in words if word)
    return f"<span data-tags>{inside}</span>" if inside else ""


def _missing(value: object) -> bool:
    """None, NaN and infinity: no number to show or to sort by."""
    if isinstance(value, str):
        return False
    return bool(pd.isna(value)) or (isinstance(value, (float, np.floating)) and not np.isfinite(value))


def _true(value: object) -> bool:
    return not _missing(value) and bool(value)


def _written(value: object, digits: int) -> tuple[str, str]:
    """A value as a reader sees it, escaped, and as it is sorted."""
    if isinstance(value, (bool, np.bool_)):
        return ("yes", "1") if value else ("no", "0")
    if isinstance(value, (int, float, np.number)):
        return f"{float(value):,.{digits}f}".replace("-", "−"), repr(float(value))
    return html.escape(str(value)), str(value)


def _controls(filters: Sequence[Filter]) -> str:
    """Search and checkboxes; hidden until the script, without which they would do nothing, shows them."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{number}"{_cells(each)}> {html.escape(each.label)}</label>'
        for number, each in enumerate(filters)
    )
    return f'<div data-controls hidden><input type="search" placeholder="Search" aria-label="Search rows">{boxes}</div>'


def _cells(chosen: Filter) -> str:
    return f' data-cells="{html.escape(chosen.cells, quote=True)}"' if chosen.cells else ""


def _files(table: pd.DataFrame, record: Mapping | None) -> dict[str, str]:
    """What can be downloaded: CSV, and JSON with provenance, in which what is missing is null."""
    rows = [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]
    whole = {"provenance": dict(record or {}), "rows": rows}
    return {"csv": table.to_csv(index=False), "json": json.dumps(whole, indent=1, allow_nan=False)}


def _plain(value: object) -> object:
    if _missing(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _download(name: str, kind: str, text: str) -> str:
    media = {"csv": "text/csv", "json": "application/json"}[kind]
    data = base64.b64encode(text.encode()).decode()
    return f'<a download="{name}.{kind}" href="data:{media};charset=utf-8;base64,{data}">{name}.{kind}</a>'
