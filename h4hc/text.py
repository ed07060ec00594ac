"""Text that is safe to show: node names come from a file of unknown origin.

A name may hold terminal escape sequences, line breaks, direction overrides or Markdown. It is shown with
every unprintable character as `\\x1b` or `\\u202e`, and shortened in the middle, where it says least.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Iterable, Sequence

SHRUNK = 28  # columns that the shortened column of a table keeps while others can go


def plural(count: int, noun: str, ending: str = "s") -> str:
    """A count and its noun.

    >>> plural(1, "partition"), plural(2, "switch", "es")
    ('1 partition', '2 switches')
    """
    return f"{count} {noun}{'' if count == 1 else ending}"


def printable(text: str) -> str:
    """Replace each character that is not printable (controls, line breaks, direction marks) by its escape.

    A backslash stays as it is: the result is for reading, not for parsing.
    """
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def spreadsheet_cell(text: str) -> str:
    """A cell of a CSV that no spreadsheet takes for a formula: =, +, - or @ in front, save in a number, gets a '.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("-2.5e3")
    ("'=1+1", '-2.5e3')
    """
    text = printable(text)
    if text[:1] not in ("=", "+", "-", "@"):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def csv_text(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV. None is an empty cell; text goes through `spreadsheet_cell`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in (head, *rows):
        writer.writerow([spreadsheet_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return out.getvalue()


def columns(text: str) -> int:
    """Columns of a terminal that printable text takes: two for a wide character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(_columns(c) for c in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _head(text: str, width: int) -> str:
    used = 0
    for index, char in enumerate(text):
        used += _columns(char)
        if used > width:
            return text[:index]
    return text


def _tail(text: str, width: int) -> str:
    return _head(text[::-1], width)[::-1]


def shorten(text: str, width: int) -> str:
    """Printable text in at most `width` columns; what is too long loses its middle.

    >>> shorten("/model/blocks.0/conv/Conv", 15)
    '/mode.../Conv'
    """
    text = printable(text)
    if columns(text) <= width:
        return text
    if width < 5:
        return _head(text, width)
    half = (width - 3) // 2
    return f"{_head(text, half)}...{_tail(text, half)}"


def clip(text: str, width: int) -> str:
    """Printable text in at most `width` columns; what is too long loses its end."""
    text = printable(text)
    if columns(text) <= width:
        return text
    return _head(text, width - 3) + "..."


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], width: int, *, shrink: int = 0, drop: Sequence[int] = ()
) -> list[str]:
    """Lines of a plain table no wider than `width`; a column whose every cell starts like a number is set right.

    When it is too wide, the columns `drop` go, in that order, until column `shrink` keeps SHRUNK columns or all
    it needs; then that column is shortened.
    """
    cells = [list(head), *([printable(c) for c in row] for row in rows)]
    keep = list(range(len(head)))
    for column in (None, *drop):
        if column is not None:
            keep.remove(column)
        widths = {i: max(columns(row[i]) for row in cells) for i in keep}
        spare = width - sum(widths.values()) - 2 * (len(keep) - 1)
        if widths[shrink] + spare >= min(widths[shrink], SHRUNK):
            break
    widths[shrink] = max(1, min(widths[shrink], widths[shrink] + spare))
    right = {i for i in keep if cells[1:] and all(row[i][:1].isdigit() or row[i][:1] in "-+" for row in cells[1:])}
    lines = []
    for row in cells:
        parts = [shorten(row[i], widths[i]) for i in keep]
        blanks = [" " * (widths[i] - columns(part)) for i, part in zip(keep, parts, strict=True)]
        both = zip(keep, parts, blanks, strict=True)
        line = "  ".join(blank + part if i in right else part + blank for i, part, blank in both)
        lines.append(clip(line.rstrip(), width))
    return lines


def code_span(text: str, limit: int = 80) -> str:
    """A name as a Markdown code span that cannot break out of itself or of a table cell."""
    text = shorten(text, limit).replace("`", "\\x60").replace("|", "\\x7c").strip()
    return f"`{text}`" if text else "(empty)"


def markdown(text: str) -> str:
    """Free text as Markdown that shows these characters: no link, image, HTML, mention or table break."""
    return "".join(_MARKDOWN.get(c, c) for c in printable(text)).replace("://", ":\\//").replace("www.", "www\\.")


_MARKDOWN = {c: f"\\{c}" for c in "\\`*_[]|~"} | {"<": "&lt;", "&": "&amp;", "@": "@<!-- -->"}
