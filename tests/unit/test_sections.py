# Annotations of sections are not postponed, so this module has no `from __future__ import annotations`.
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import pytest

from sessionctl.models import JsonValue
from sessionctl.sections import Section, SettingError, filled, key_of, positive


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True, kw_only=True)
class Inner(Section):
    much_wanted: str
    count: Annotated[int, positive] = 3

    def check(self) -> None:
        if self.count > 9:
            raise ValueError("count is more than nine")


@dataclass(frozen=True, kw_only=True)
class Outer(Section):
    inner: Inner
    colour: Colour = Colour.RED
    switch: bool = False
    number: int = 0
    name: Annotated[str, filled] = "somebody"
    rest: Mapping[str, JsonValue] = field(default_factory=dict)


INNER: JsonValue = {"muchWanted": "x"}


def test_a_document_is_read_and_what_it_leaves_out_has_its_default() -> None:
    found = Outer.read({"inner": INNER, "colour": "green", "rest": {"a": [1]}})
    assert found == Outer(inner=Inner(much_wanted="x"), colour=Colour.GREEN, rest={"a": [1]})
    assert (found.inner.count, found.name, found.colour) == (3, "somebody", Colour.GREEN)
    assert found != Outer(inner=Inner(much_wanted="x"))


def test_texts_stand_for_numbers_and_flags() -> None:
    found = Outer.read({"inner": {"muchWanted": "x", "count": "7"}, "switch": "true", "number": "-12"})
    assert (found.inner.count, found.switch, found.number) == (7, True, -12)


@pytest.mark.parametrize(
    ("document", "place", "cause"),
    [
        ([], (), "should be a mapping"),
        ({}, ("inner",), "Field required"),
        ({"inner": {}}, ("inner", "muchWanted"), "Field required"),
        ({"inner": {"much_wanted": "x"}}, ("inner", "much_wanted"), "Extra inputs"),
        ({"inner": "x"}, ("inner",), "should be a mapping"),
        ({"inner": {"muchWanted": 1}}, ("inner", "muchWanted"), "should be a text, not '1'"),
        ({"inner": {"muchWanted": "x", "count": 0}}, ("inner", "count"), "should be at least 1"),
        ({"inner": {"muchWanted": "x", "count": 10}}, ("inner",), "count is more than nine"),
        ({"inner": INNER, "colour": "blue"}, ("colour",), "should be one of red, green, not 'blue'"),
        ({"inner": INNER, "colour": ["red"]}, ("colour",), "should be one of red, green"),
        ({"inner": INNER, "switch": 1}, ("switch",), "should be true or false"),
        ({"inner": INNER, "switch": "yes"}, ("switch",), "should be true or false"),
        ({"inner": INNER, "number": True}, ("number",), "should be a whole number"),
        ({"inner": INNER, "number": 1.5}, ("number",), "should be a whole number"),
        ({"inner": INNER, "number": "1_0"}, ("number",), "should be a whole number"),
        ({"inner": INNER, "number": None}, ("number",), "should be a whole number"),
        ({"inner": INNER, "name": ""}, ("name",), "should be a text that is not empty"),
        ({"inner": INNER, "rest": []}, ("rest",), "should be a mapping"),
        ({"inner": INNER, 7: 1}, ("7",), "Extra inputs"),
    ],
)
def test_a_mistake_is_named_by_its_place(document: JsonValue, place: tuple[str, ...], cause: str) -> None:
    with pytest.raises(SettingError, match=cause) as raised:
        Outer.read(document)
    assert raised.value.place == place


def test_a_section_made_by_hand_is_checked_too() -> None:
    with pytest.raises(ValueError, match="more than nine"):
        Inner(much_wanted="x", count=10)


def test_keys_are_in_camel_case() -> None:
    assert [key_of(name) for name in ("a", "ab_cd_ef")] == ["a", "abCdEf"]
