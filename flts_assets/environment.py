"""Environment variables, read and checked: one that is empty or malformed is an error that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from flts_assets.errors import EnvironmentValueError

__all__ = ["Environment"]


@dataclass(frozen=True)
class Environment:
    """Variables by name. Every method raises EnvironmentValueError."""

    variables: Mapping[str, str]

    @overload
    def text(self, name: str) -> str | None: ...
    @overload
    def text(self, name: str, default: str) -> str: ...
    def text(self, name: str, default: str | None = None) -> str | None:
        """Without the space around it; the default where it is unset. Empty is no text."""
        text = self.variables.get(name)
        if text is None:
            return default
        if not text.strip():
            raise EnvironmentValueError(
                f"environment variable {name} is empty",
                received=text,
                allowed="any text",
                remedy=f"set a value, or unset {name}"
                + (f" for the default {default!r}" if default else ""),
            )
        return text.strip()

    def choice(self, name: str, *allowed: str) -> str:
        """One of the allowed words; the first where none is given."""
        text = self.text(name, allowed[0])
        if text not in allowed:
            raise _unusable(name, text, ", ".join(allowed))
        return text

    def switch(self, name: str, default: bool) -> bool:
        """`on` or `off`."""
        text = self.text(name)
        if text not in (None, "on", "off"):
            raise _unusable(name, text, "on or off")
        return default if text is None else text == "on"

    def count(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        text = self.text(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", text) or not low <= int(text) <= high:
            raise _unusable(name, text, f"a whole number from {low} to {high}")
        return int(text)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        text = self.text(name)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise _unusable(name, text, f"a number from {low:g} to {high:g}")
        return number

    def matching(self, name: str, pattern: str, allowed: str) -> str:
        """A text of this pattern, "" where it is unset; `allowed` tells it to people."""
        text = self.text(name, "")
        if text and not re.fullmatch(pattern, text):
            raise _unusable(name, text, allowed)
        return text

    def path(self, name: str, default: Path) -> Path:
        """Absolute; whether anything stands there is not looked at."""
        return Path(self.text(name, str(default))).expanduser().resolve()

    def file(self, name: str) -> Path | None:
        """An existing file."""
        text = self.text(name)
        if text is None:
            return None
        path = Path(text).expanduser().resolve()
        if not path.is_file():
            raise _unusable(name, text, "the path of an existing file")
        return path


def _unusable(name: str, received: str | None, allowed: str) -> EnvironmentValueError:
    return EnvironmentValueError(
        f"environment variable {name} is not usable",
        received=received,
        allowed=allowed,
        remedy=f"correct it, or unset {name}",
    )
