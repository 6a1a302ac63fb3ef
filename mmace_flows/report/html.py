"""The report's page: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

CSS = """
:root { color-scheme: light dark; --ink: #1c1f24; --soft: #5b6470; --page: #ffffff; --panel: #f5f6f8; --line: #dfe3e8;
  --accent: #b5460f; --good: #11734b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --soft: #9aa4b0; --page: #15181c; --panel: #1d2127;
  --line: #323841; --accent: #f08a4b; --good: #4cc38a; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; margin: 3rem 0 .6rem; padding-top: .4rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .92rem; }
nav { margin: 1.4rem 0 0; font-size: .95rem; } nav a { display: inline-block; margin: 0 1rem .3rem 0; }
a { color: var(--accent); text-decoration-thickness: 1px; text-underline-offset: .15em; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.6rem, 1fr)); gap: .7rem; margin: 1.4rem 0; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .8rem .95rem; }
.card b { display: block; font-size: 1.25rem; white-space: nowrap; font-weight: 600; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.card small { font-size: .78rem; font-weight: 400; white-space: nowrap; }
.card span { color: var(--soft); font-size: .85rem; line-height: 1.35; display: block; margin-top: .25rem; }
.note { border-left: 3px solid var(--accent); padding: .3rem 0 .3rem .9rem; margin: 1rem 0; }
figure { margin: 1.2rem 0; } figure svg { width: 100%; height: auto; display: block; }
figure.narrow svg { max-width: 46rem; } figcaption { margin-top: .4rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; border-bottom-color: var(--soft); }
th.text, td.text { text-align: left; } td.short { white-space: nowrap; }
tr.group td { border-top: 2px solid var(--line); }
code { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
details { margin: .8rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .9rem; overflow-x: auto;
  font: .84rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media print { main { max-width: none; } details { display: block; } }
"""


@dataclass
class Section:
    """A titled part of the page. ``body`` is HTML already."""

    anchor: str
    title: str
    body: str


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document. ``lead`` is HTML under the title."""
    links = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>' for section in sections)
    bodies = "".join(
        f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>{section.body}</section>'
        for section in sections
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1>{lead}<nav aria-label="Contents">{links}</nav></header>{bodies}'
        "</main></body></html>\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[object]], text_columns: int = 1, group: bool = False) -> str:
    """A table; the first ``text_columns`` columns are text, the rest numbers.

    ``group``: a first (and then second) cell that equals the one above is left out, and a new first cell gets a line.
    """
    if not rows:
        return ""
    lines = []
    before: Sequence[object] = ()
    for row in rows:
        new = not before or row[0] != before[0]
        shown = [
            "" if group and not new and (index == 0 or (index == 1 and row[1] == before[1])) else cell
            for index, cell in enumerate(row)
        ]
        lines.append(
            f"<tr{' class=group' if group and new and before else ''}>{_cells(shown, 'td', text_columns)}</tr>"
        )
        before = row
    head = f"<thead><tr>{_cells(header, 'th', text_columns)}</tr></thead>" if any(header) else ""
    return f'<div class="scroll"><table>{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _cells(row: Sequence[object], tag: str, text_columns: int) -> str:
    def css(index: int, cell: object) -> str:
        if index >= text_columns:
            return ""
        return ' class="text short"' if len(str(cell)) <= 24 else ' class="text"'

    return "".join(f"<{tag}{css(index, cell)}>{escape(str(cell))}</{tag}>" for index, cell in enumerate(row))


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers: (number, unit, what it is)."""
    return (
        '<div class="cards">'
        + "".join(
            f'<div class="card"><b>{escape(number)} <small>{escape(unit)}</small></b><span>{escape(name)}</span></div>'
            for number, unit, name in values
        )
        + "</div>"
    )


def figure(svg: str, caption: str, narrow: bool = False) -> str:
    """An inline figure with its caption."""
    css = ' class="narrow"' if narrow else ""
    return f"<figure{css}>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def paragraph(text: str, css: str = "") -> str:
    """Plain text as a paragraph."""
    return f'<p class="{css}">{escape(text)}</p>' if css else f"<p>{escape(text)}</p>"
