from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

#: Ten colours that stand out on white and on near-black alike; the last is for "other".
_PALETTE = ["#4e79a7", "#f28e2b", "#e15759", "#59a14f", "#b07aa1", "#76b7b2", "#d4a72c", "#ff9da7", "#9c755f"]
_PALETTE += ["#3f9fd8", "#9aa0a6"]

STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #ffffff; --text: #1f2328; --muted: #656d76;
  --line: #d9dde2; --accent: #2f6fb5; --soft: #eaf1f9; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --card: #1c2024; --text: #e4e7ea;
  --muted: #98a1aa; --line: #343b42; --accent: #78b0ea; --soft: #21303f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
section > h3 { margin-top: 1.5rem; }
p { margin: .4rem 0; max-width: 46rem; }
small, .muted, figcaption { color: var(--muted); font-size: .875rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  margin: 1.5rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: 1rem;
  margin: 0; min-width: 0; }
.card b.big { display: block; font-size: 1.7rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .9rem; text-align: left; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
thead th { border-top: 0; color: var(--muted); font-weight: 600; font-size: .875rem; white-space: nowrap; }
tbody th { font-weight: 400; }
td.n, th.n { text-align: right; white-space: nowrap; }
tr.this { background: var(--soft); }
tr.this th, tr.this td { font-weight: 650; }
.tag { display: inline-block; border: 1px solid var(--line); border-radius: 1rem; padding: 0 .55rem;
  font-size: .75rem; font-weight: 400; color: var(--muted); margin-left: .5rem; white-space: nowrap; }
svg { display: block; width: 100%; height: auto; }
svg.map { max-width: 34rem; margin: 0 auto; }
svg.map circle { fill-opacity: .75; }
svg.map circle:hover { fill-opacity: 1; stroke: var(--text); stroke-width: 1.5; }
.legend { list-style: none; padding: 0; margin: .75rem 0 0; display: flex; flex-wrap: wrap; gap: .15rem 1rem;
  font-size: .875rem; }
.legend li { overflow-wrap: anywhere; }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .4rem; }
ol.near { list-style: none; margin: 0; padding: 0; }
ol.near li { display: flex; justify-content: space-between; gap: 1rem; padding: .25rem .5rem;
  margin: .15rem 0; border-radius: .3rem;
  background: linear-gradient(var(--soft), var(--soft)) no-repeat left / var(--part) 100%; }
ol.near span:first-child { overflow-wrap: anywhere; }
ol.near span:last-child { color: var(--muted); font-variant-numeric: tabular-nums; }
dl.facts { display: grid; gap: .35rem 2.5rem; margin: 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
dl.facts div { display: flex; justify-content: space-between; gap: 1rem;
  border-bottom: 1px solid var(--line); }
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
@media print { .card, .scroll, tr { break-inside: avoid; } }
""" + "".join(f".g{i} {{ fill: {c}; background: {c}; }}\n" for i, c in enumerate(_PALETTE))


def escape(value: object) -> str:
    """Return the text of ``value`` with every character that means something in HTML made harmless."""
    # Lone surrogates (undecodable bytes of a file) cannot be written as UTF-8.
    return html.escape(str(value), quote=True).encode("utf-8", "replace").decode("utf-8")


def is_number(value: object) -> bool:
    """Tell whether ``value`` is a finite number (``bool`` is none)."""
    if isinstance(value, bool) or value is None or isinstance(value, (str, bytes, Mapping, list, tuple)):
        return False
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def number(value: Any) -> str:
    """Write a number with four digits that count; a dash for what is none or not finite."""
    if not is_number(value):
        return "–"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    value = float(value)
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 4 if abs(value) < 10 else 3 if abs(value) < 100 else 1
    return f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.4g}"


def words(name: object) -> str:
    """Write a name of code as words."""
    return str(name).replace("_", " ")


def table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], *, mark: int | None = None) -> str:
    """Return a table whose first column is text and whose others are numbers.

    Args:
        head: Text of the head row, escaped here.
        rows: First cell and the others, as HTML.
        mark: Row to stand out.
    """
    first, *others = head
    columns = "".join(f'<th class="n" scope="col">{escape(text)}</th>' for text in others)
    marked = {mark: ' class="this"'}
    body = "".join(
        f'<tr{marked.get(i, "")}><th scope="row">{name}</th>'
        + "".join(f'<td class="n">{cell}</td>' for cell in cells)
        + "</tr>\n"
        for i, (name, cells) in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">{escape(first)}</th>{columns}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def page(title: str, body: str) -> str:
    """Return a whole HTML document that asks for nothing from outside."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
