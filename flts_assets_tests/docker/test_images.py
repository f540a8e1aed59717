"""The Dockerfile, and the versions that go into its images."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
from importlib.metadata import distribution
from pathlib import Path
from unittest import mock

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flts_assets.settings import PROJECT
from flts_assets_tests.docker.containers import DOCKER
from flts_assets_tests.servers.process import program

DOCKERFILE = DOCKER / "Dockerfile"


def pinned() -> dict[str, str]:
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def required(*extras: str) -> list[Requirement]:
    """What setup.py asks for, with these extras."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(PROJECT / "setup.py"))
    given = setup.call_args.kwargs
    lines, optional = given["install_requires"], given["extras_require"]
    return [Requirement(line) for line in [*lines, *(x for e in extras for x in optional[e])]]


def test_dockerfile_passes_hadolint() -> None:
    done = subprocess.run(
        [program("hadolint"), str(DOCKERFILE)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_images_run_as_a_numbered_user_that_is_not_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE.read_text(), flags=re.MULTILINE)
    for name in ("serving", "platform"):
        (stage,) = [one for one in stages if re.match(rf"\S+ AS {name}\n", one)]
        assert re.findall(r"^USER (.+)$", stage, re.MULTILINE) == ["10001:10001"], name
        assert "HEALTHCHECK" in stage, name


def test_pinned_versions_are_among_those_that_setup_and_each_other_admit() -> None:
    versions = pinned()
    extras = re.search(r"'\.\[(.+)\]'", DOCKERFILE.read_text())
    assert extras is not None
    waiting = [("setup.py", one) for one in required(*extras[1].split(","))]
    seen = set()
    while waiting:
        asker, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in docker/constraints.txt"
        assert requirement.specifier.contains(versions[name]), f"{asker} asks for {requirement}"
        for extra in {"", *requirement.extras} - {one for known, one in seen if known == name}:
            seen.add((name, extra))
            waiting += [(f"{name}=={versions[name]}", one) for one in asked_by(name, extra)]


def asked_by(name: str, extra: str) -> list[Requirement]:
    """What the installed version of a package needs here; nothing if another one is pinned."""
    found = distribution(name)
    if found.version.partition("+")[0] != pinned()[name]:
        return []
    lines = [Requirement(line) for line in found.requires or ()]
    return [one for one in lines if one.marker is None or one.marker.evaluate({"extra": extra})]


def test_constraints_pin_one_version_a_line_and_name_no_place() -> None:
    for line in (DOCKER / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), line


def test_everything_that_an_image_copies_is_let_into_its_build() -> None:
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    copies = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copies for source in line.split()[:-1]}
    assert sources <= set(allowed)
    assert {source for source in sources if not (PROJECT / source).exists()} == set()


def test_shell_scripts_are_sound_and_may_be_executed() -> None:
    scripts: list[Path] = sorted(DOCKER.glob("*.sh"))
    assert {path.name for path in scripts} == {
        *("backup.sh", "bootstrap.sh", "postgres-init.sh", "restore.sh", "servers.sh", "smoke.sh")
    }
    for path in scripts:
        subprocess.run(["bash", "-n", str(path)], check=True, timeout=300)
        assert os.access(path, os.X_OK), path
