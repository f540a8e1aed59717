"""Run something as in the serving image: what serving-requirements.txt does not bring is not there.

python -m flts_assets_tests.docker.only_serving MODULE[:FUNCTION] ARGUMENTS…
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[2] / "docker" / "serving-requirements.txt"


def requirements() -> list[Requirement]:
    lines = REQUIREMENTS.read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def installed_with(wanted: list[Requirement]) -> set[str]:
    """The distributions that pip would install, named canonically."""
    found: set[str] = set()
    looked_at: set[tuple[str, frozenset[str]]] = set()
    waiting = list(wanted)
    while waiting:
        one = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        if key in looked_at:
            continue
        looked_at.add(key)
        try:
            needs = distribution(one.name).requires or []
        except PackageNotFoundError:  # for another platform or Python
            continue
        found.add(key[0])
        for need in map(Requirement, needs):
            extras = one.extras or {""}
            if need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras):
                waiting.append(need)
    return found


class Refused(MetaPathFinder):
    """Finds nothing that another distribution brings."""

    def __init__(self, allowed: set[str]) -> None:
        self._refused = {
            package
            for package, owners in packages_distributions().items()
            if not {canonicalize_name(owner) for owner in owners} & allowed
        } - {"flts_assets", "flts_assets_tests"}

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in self._refused:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


if __name__ == "__main__":
    sys.meta_path.insert(0, Refused(installed_with(requirements())))
    for loaded in [name for name in sys.modules if name.partition(".")[0] == "packaging"]:
        del sys.modules[loaded]
    sys.argv = sys.argv[1:]
    module, _, function = sys.argv[0].partition(":")
    if function:
        getattr(import_module(module), function)()
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
