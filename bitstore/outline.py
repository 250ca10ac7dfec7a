"""What a store is made of, as a tree: for people, notebooks and programs."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bitstore._support.redact import redact, text_of

__all__ = ["Outline", "outline_of", "printable"]

_STYLE = "font-family:monospace;line-height:1.4"


@dataclass(frozen=True)
class Outline:
    """A store and how it is set, without secrets; of a composite, its tiers as well. `str()` draws it as a tree.

    Attributes
    ----------
    title
        Name of the tier, or the store's own label.
    kind
        Name of the store's class.
    role
        `"source"`, `"cache"`, or `"cache, only written"` in a composite; None for a store by itself.
    facts
        The settings that matter, by name: texts, numbers, bools or None.
    parts
        The tiers in the order in which lookups ask them.
    """

    title: str
    kind: str
    role: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Outline, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The tree as plain values, such as JSON has."""
        own = {"title": self.title, "kind": self.kind, "role": self.role, "facts": dict(self.facts)}
        return {**own, "parts": [part.as_dict() for part in self.parts]}

    def text(self, *, ascii_only: bool = False) -> str:
        """The tree as lines; with `ascii_only` its branches are drawn with `|` and `-`."""
        lines = [line.rstrip() for line in self._lines()]
        text = "\n".join(lines)
        if ascii_only:
            for branch, plain in (("├─", "|-"), ("└─", "`-"), ("│", "|")):
                text = text.replace(branch, plain)
        return text

    def _lines(self) -> Iterator[str]:
        yield self._head()
        width = max(map(len, self.facts), default=0)
        trunk = "│ " if self.parts else "  "
        for name, value in self.facts.items():
            yield f"{trunk} {name:<{width}}  {_shown(value)}"
        for number, part in enumerate(self.parts, start=1):
            last = number == len(self.parts)
            first, *rest = part._lines()
            yield f"{'└─' if last else '├─'} {number}. {first}"
            for line in rest:
                yield f"{'  ' if last else '│ '}   {line}"

    def _head(self) -> str:
        role = "" if self.role is None else f"{self.role} "
        return printable(f"{role}{self.title}" + ("" if self.kind == self.title else f" ({self.kind})"))

    def html(self) -> str:
        """The tree as a piece of HTML, in which everything is escaped."""
        return f'<div class="bitstore-outline" style="{_STYLE}">{self._html(opened=True)}</div>'

    def _html(self, *, opened: bool) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left;opacity:.7">{html.escape(name)}</td>'
            f'<td style="text-align:left">{html.escape(_shown(value))}</td></tr>'
            for name, value in self.facts.items()
        )
        parts = "".join(f"<li>{part._html(opened=len(self.parts) <= 3)}</li>" for part in self.parts)
        inner = (f"<table>{rows}</table>" if rows else "") + (f"<ol>{parts}</ol>" if parts else "")
        role = "" if self.role is None else f"{html.escape(self.role)} "
        head = f"{role}<b>{html.escape(self.title)}</b> ({html.escape(self.kind)})"
        return f"<details{' open' if opened else ''}><summary>{head}</summary>{inner}</details>"

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()


def outline_of(store: Any) -> Outline:
    """The outline of any store, also of one that has no method of that name, or whose method fails."""
    try:
        made = store.outline()
    except Exception:  # a store of a user may raise anything; what it is can be told all the same
        made = None
    if not isinstance(made, Outline):
        kind = type(store).__name__
        try:
            label = text_of(getattr(store, "label", kind))
        except Exception:
            label = kind
        made = Outline(redact(label), kind)
    return replace(made, facts={"paid": True, **made.facts}) if getattr(store, "paid", False) is True else made


def printable(text: str) -> str:
    """`text` with escapes in place of what a terminal would obey, or cannot show: names of others may hold anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else printable(text_of(value))
