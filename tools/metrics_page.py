"""docs/reference/metrics.md, from the registry itself; `python -m tools.docs` writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.prometheus import LABEL_VALUES, PrometheusMetrics
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE: Final = ROOT / "docs" / "reference" / "metrics.md"
_HEAD: Final = """\
# Metrics

Written by `python -m tools.docs` from the registry; do not edit.

Every manager answers `GET /metrics` in the format of Prometheus. Where a metric tells of all sessions, take the `max`
over the managers; what is counted or measured is added up with `sum`. [Alerts](../how-to/alerts.md) has rules.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def render() -> str:
    """Return the page."""
    return _HEAD + "\n".join(_rows()) + "\n\n" + "\n".join(_values()) + "\n"


def _rows() -> Iterator[str]:
    metrics = PrometheusMetrics(SystemClock())
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metrics.labels[family.name])
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


def _values() -> Iterator[str]:
    yield "| label | values |"
    yield "|---|---|"
    for label, values in LABEL_VALUES.items():
        yield f"| `{label}` | {', '.join(f'`{value}`' for value in values)} |"
    yield "| `route` | the template of the path, such as `/session/{uuid}/wake` |"
    yield "| `status` of requests | the HTTP status |"
