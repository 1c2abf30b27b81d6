"""Trees of settings: classes say what there is, documents are read into them, a mistake is named by its place.

Neither Pydantic nor dataclasses: every command reads settings before it can begin, and both take long to make classes
(docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from inspect import get_annotations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self, dataclass_transform, get_args, get_origin

if TYPE_CHECKING:
    from sessionctl.models import JsonValue


class SettingError(ValueError):
    """A setting that cannot be used; ``place`` is the way to it, outermost key first."""

    def __init__(self, message: str, *place: str) -> None:
        super().__init__(message)
        self.place = place


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Section:
    """Base of the sections, declared like frozen dataclasses; defaults must be values that cannot change.

    A field of the kind ``Annotated[kind, step, ...]`` is read by its steps, functions that raise ValueError; a bare
    kind has a step of its own. A section made by hand is not read. The module of a subclass must not postpone its
    annotations.
    """

    kinds: ClassVar[Mapping[str, Any]] = {}
    """The annotation of each field."""

    def __init_subclass__(cls) -> None:
        cls.kinds = get_annotations(cls)

    def __init__(self, **values: object) -> None:
        for name in self.kinds.keys() ^ values.keys():
            if name in values or not hasattr(self, name):
                raise TypeError(f"{type(self).__name__} {'has no' if name in values else 'needs a'} {name}")
        self.__dict__.update(values)
        self.check()

    def check(self) -> None:
        """Raise ValueError when fields do not fit each other."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(getattr(self, name) == getattr(other, name) for name in self.kinds)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.kinds)})"

    @classmethod
    def read(cls, document: JsonValue) -> Self:
        """Read a document, whose keys are the names in camel case; raises SettingError for its first mistake."""
        names = {key_of(name): name for name in cls.kinds}
        values = {}
        for key, value in mapping(document).items():
            if key not in names:
                raise SettingError("Extra inputs are not permitted", str(key))
            values[names[key]] = _read(key, cls.kinds[names[key]], value)
        for key, name in names.items():
            if name not in values and not hasattr(cls, name):
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
