"""The one error of the tools: a line that names the cause and the next step."""

from __future__ import annotations


class ToolError(Exception):
    """Something outside the code is missing or failed.

    Attributes:
        next_step: What the person at the keyboard does about it.
    """

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(f"{message}: {next_step}" if next_step else message)
        self.next_step = next_step
