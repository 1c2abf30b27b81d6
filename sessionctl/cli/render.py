"""Answers as tables, JSON or YAML. JSON is the contract; tables are for people and may change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import yaml

from sessionctl.cli.options import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel


def show(answer: BaseModel | Mapping[str, object], output: Output, rows: Sequence[Sequence[str]]) -> None:
    """Print ``answer``; ``rows`` is its table, the first row the heading."""
    match output:
        case Output.JSON:
            print(json.dumps(_document(answer), indent=2, ensure_ascii=False))
        case Output.YAML:
            print(yaml.safe_dump(_document(answer), sort_keys=False, allow_unicode=True), end="")
        case Output.TABLE:
            print(table(rows))


def _document(answer: BaseModel | Mapping[str, object]) -> Mapping[str, object]:
    return answer if isinstance(answer, Mapping) else answer.model_dump(mode="json")


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns by two spaces, as kubectl does; a cell cannot break a line."""
    clean = [["".join(c if c.isprintable() else "?" for c in cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in clean) for column in range(len(clean[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in clean
    )


def facts(pairs: Sequence[tuple[str, str | None]]) -> list[list[str]]:
    """Return rows of a two-column table, without those that have nothing to say."""
    return [[name, value] for name, value in pairs if value is not None]


def moment(value: datetime | None) -> str | None:
    """Return a time to the second, in UTC."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value else None
