"""Options and arguments read without Pydantic, which Typer otherwise loads for every command.

Loading it takes as long as ``--help`` does, and a text or a flag has nothing to be validated.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from typer.core import TyperCommand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typer._click import Context, Parameter  # the classes Typer vendors


class PlainValue:
    """Takes what is already of the option's type, or names a member of it; Typer judges everything else."""

    def coerce(self, value: Any, param: Any, ctx: Context) -> Any:  # noqa: ANN401 - Typer's signature
        """Return the value that the command gets; raises Typer's own error."""
        kind = param.type_descriptor.annotation
        simple = isinstance(kind, type) and not param.multiple and param.nargs == 1
        if simple and (value is None or isinstance(value, kind)):
            return value
        if simple and issubclass(kind, Enum) and value in [member.value for member in kind]:
            return kind(value)
        from typer._coercion import build_runtime_param

        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


def read_plainly(parameters: Iterable[Parameter]) -> None:
    """Have the parameters of a command read by ``PlainValue``; without effect on a Typer that works otherwise."""
    for parameter in parameters:
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = PlainValue()  # type: ignore[attr-defined]  # noqa: SLF001 - Typer has no public way


class PlainCommand(TyperCommand):
    """A command whose parameters are read without Pydantic."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the arguments."""
        read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)
