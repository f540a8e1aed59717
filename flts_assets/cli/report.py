"""`flts report`: the verification report of a recipe, on the terminal, as a file or in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flts_assets.errors import FltsError, PromotionError, UpstreamMissingError

if TYPE_CHECKING:
    from flts_assets.assets.platform import Platform
    from flts_assets.stores.artifacts import Manifest

__all__ = ["report"]


def report(
    recipe: Annotated[str, typer.Argument(help="A registered name or hash, or a YAML file.")],
    html: Annotated[
        Path | None, typer.Option(help="Write the page, with its pictures inside, to this file.")
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Write the page and open it in the browser.")
    ] = False,
) -> None:
    """Print the newest report of the recipe. Exit code 1 if it holds a claim that FAILED.

    Where another model is champion by now, a warning says so.
    """
    from flts_assets.assets.stage import latest_place
    from flts_assets.assets.verification_report import HTML_FILE, MARKDOWN_FILE, REPORT
    from flts_assets.cli.platform import open_instance, open_platform
    from flts_assets.cli.recipes import find_recipe

    platform = open_platform()
    found = find_recipe(recipe, platform)
    with open_instance(platform) as instance:
        place = latest_place(instance, REPORT, found.config_hash)
    if place is None:
        raise UpstreamMissingError(
            f"no report of recipe {found.name!r} was written yet",
            received=found.config_hash,
            remedy=f"flts run {recipe}",
        )
    manifest = platform.artifacts.get(place)
    if _is_overtaken(manifest, platform, found.config_hash):
        typer.echo(
            "flts: warning: the champion has changed since this report was written;"
            f" remedy: flts run {recipe} writes it anew, and so does Dagster's daemon",
            err=True,
        )
    if open_page and html is None:
        html = platform.settings.home / "reports" / f"{found.config_hash[:12]}.html"
        html.parent.mkdir(exist_ok=True)
    if html is None:
        typer.echo(platform.artifacts.read(manifest, MARKDOWN_FILE).decode(), nl=False)
    else:
        try:
            html.write_bytes(platform.artifacts.read(manifest, HTML_FILE))
        except OSError as error:
            raise FltsError(
                f"the report cannot be written to {html}: {error.strerror}",
                remedy="name a file in a folder that exists and can be written to",
            ) from error
        typer.echo(html)
    if open_page and html is not None:
        typer.launch(html.resolve().as_uri())
    if manifest.facts["failed"]:
        raise typer.Exit(1)


def _is_overtaken(report: Manifest, platform: Platform, config_hash: str) -> bool:
    """Whether the pointer has moved on from the promotion that the report speaks of."""
    from flts_assets.assets.verification_report import PROMOTION_FACT

    pointer = platform.pointer(config_hash)
    try:
        current = pointer.read()
    except PromotionError:  # a claim of the next report; this one is printed all the same
        return False
    told = report.facts.get(PROMOTION_FACT)
    return told is not None and current is not None and pointer.key_of(current[0]) != told
