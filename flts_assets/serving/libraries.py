"""Whether a model may be served with other library versions than it was trained with.

Its recorded forecast proves the numbers at hand; a major version may change what is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from flts_assets.errors import ArtifactError

__all__ = ["Difference", "differences"]

COUNT: Final = ("flts", "numpy", "onnxruntime")
"""What a forecast is computed with here. Trainers, and what they convert with, do not run."""


@dataclass(frozen=True)
class Difference:
    """Another minor version: served all the same, and told."""

    library: str
    trained: str
    served: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def differences(trained: Mapping[str, str]) -> tuple[Difference, ...]:
    """Where the minor version is another than in these, a manifest's `libraries`.

    Raises ArtifactError where the major version is.
    """
    found = []
    for name in COUNT:
        try:
            then, now = trained[name], version(name)
        except (KeyError, PackageNotFoundError):  # nothing to compare
            continue
        if then.split(".")[:1] != now.split(".")[:1]:
            raise ArtifactError(
                f"a model was trained with another major version of {name}",
                received=then,
                allowed=f"{now.split('.')[0]}.x, as it runs here ({now})",
                remedy=f"train it again, flts run RECIPE --force, or serve with {name} {then}",
            )
        if then.split(".")[:2] != now.split(".")[:2]:
            found.append(Difference(name, then, now))
    return tuple(found)
