"""Trees of settings: classes say what there is, documents are read into them, a mistake is named by its place.

Without Pydantic: every command reads settings before it can begin, and loading it takes as long as `--help`
(docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final, Self, get_args, get_origin

if TYPE_CHECKING:
    from sessionctl.models import JsonValue


class SettingError(ValueError):
    """A setting that cannot be used; ``place`` is the way to it, outermost key first."""

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass(frozen=True, kw_only=True)
class Section:
    """Base of the sections, which are frozen dataclasses.

    A field of the kind ``Annotated[kind, step, ...]`` is read by its steps, functions that raise ValueError; a bare
    kind has a step of its own. A section made by hand is not read. The module of a subclass must not postpone its
    annotations.
    """

    def __post_init__(self) -> None:
        """See whether the fields fit each other."""
        self.check()

    def check(self) -> None:
        """Raise ValueError when fields do not fit each other."""

    @classmethod
    def read(cls, document: JsonValue) -> Self:
        """Read a document, whose keys are the names in camel case; raises SettingError for its first mistake."""
        known = {key_of(field.name): field for field in fields(cls)}
        values = {}
        for key, value in mapping(document).items():
            if key not in known:
                raise SettingError("Extra inputs are not permitted", str(key))
            values[known[key].name] = _read(key, known[key].type, value)
        for key, field in known.items():
            if field.name not in values and field.default is field.default_factory is MISSING:
                raise SettingError("Field required", key)
        try:
            return cls(**values)
        except ValueError as error:
            raise SettingError(str(error)) from None


def key_of(name: str) -> str:
    """Return the key of a field in documents."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def mapping(value: JsonValue) -> Mapping[str, JsonValue]:
    """Take a mapping."""
    return value if isinstance(value, dict) else _refuse("a mapping", value)


def text(value: JsonValue) -> str:
    """Take a text."""
    return value if isinstance(value, str) else _refuse("a text", value)


def filled(value: JsonValue) -> str:
    """Take a text that is not empty."""
    return text(value) or _refuse("a text that is not empty", value)


def flag(value: JsonValue) -> bool:
    """Take true or false, also spelled out: the environment has nothing but texts."""
    found = {"true": True, "false": False}.get(value) if isinstance(value, str) else value
    return found if isinstance(found, bool) else _refuse("true or false", value)


def whole(value: JsonValue) -> int:
    """Take a whole number, also spelled out."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else _refuse("a whole number", value)


def positive(value: JsonValue) -> int:
    """Take a whole number that is at least 1."""
    return found if (found := whole(value)) >= 1 else _refuse("at least 1", value)


def texts(value: JsonValue) -> tuple[str, ...]:
    """Take a list of texts; the environment writes it with commas."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return tuple(filled(item) for item in value) if isinstance(value, list) else _refuse("a list of texts", value)


def count(value: JsonValue) -> int:
    """Take a whole number that is not negative."""
    return found if (found := whole(value)) >= 0 else _refuse("at least 0", value)


_STEPS: Final[Mapping[Any, Callable[[JsonValue], object]]] = {str: text, bool: flag, int: whole, Mapping: mapping}


def _read(key: str, kind: Any, value: JsonValue) -> object:  # noqa: ANN401 - an annotation
    try:
        if get_origin(kind) is Annotated:
            found: Any = value
            for step in get_args(kind)[1:]:
                found = step(found)
            return found
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind.read(value)
        if isinstance(kind, type) and issubclass(kind, Enum):
            known = [member.value for member in kind]
            return kind(value) if value in known else _refuse(f"one of {', '.join(known)}", value)
        return _STEPS[get_origin(kind) or kind](value)
    except SettingError as error:
        raise SettingError(str(error), key, *error.place) from None
    except ValueError as error:
        raise SettingError(str(error), key) from None


def _refuse(wanted: str, value: JsonValue) -> Any:  # noqa: ANN401 - never returns
    raise SettingError(f"should be {wanted}, not {str(value)[:80]!r}")
