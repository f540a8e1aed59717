from __future__ import annotations

import re

import pytest

from flts_assets import errors
from flts_assets.errors import FltsError, RawDataError


def drawn_tree() -> dict[str, str | None]:
    """Each error of the module docstring's drawing, and the one it hangs on."""
    above: list[str] = []
    tree: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"([│├└─ ]*)([A-Z]\w+Error)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        tree[found[2]] = above[depth - 1] if depth else None
        above[depth:] = [found[2]]
    return tree


def real_tree() -> dict[str, str | None]:
    classes = {
        name: one
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, Exception)
    }
    return {
        name: None if one is FltsError else one.__bases__[0].__name__
        for name, one in classes.items()
    }


def test_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    assert drawn_tree() == real_tree()
    assert "UnknownRecipeError" in drawn_tree()


def test_every_error_hangs_on_one_base_only() -> None:
    for name in real_tree():
        assert len(getattr(errors, name).__bases__) == 1


def test_message_tells_what_failed_what_came_what_is_allowed_and_what_to_do() -> None:
    error = FltsError("it broke.", received="", allowed="any text", remedy="set it")
    assert str(error) == "it broke; received: ''; allowed: any text; remedy: set it"
    assert (error.what, error.received) == ("it broke.", "")
    assert (error.allowed, error.remedy) == ("any text", "set it")


def test_place_on_this_machine_is_in_the_text_and_not_in_what_others_are_told() -> None:
    error = FltsError("it broke", remedy="mend it", local="/var/x")
    assert str(error) == "it broke; remedy: mend it; here: /var/x"
    assert error.told == "it broke; remedy: mend it"


def test_message_leaves_out_what_is_not_known() -> None:
    assert str(FltsError("it broke")) == "it broke"


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "Cell.csv: it broke"),
        ({"column": "up"}, "Cell.csv, column 'up': it broke"),
        ({"row": 3}, "Cell.csv, data row 3: it broke"),
        ({"column": "up", "row": 3}, "Cell.csv, column 'up', data row 3: it broke"),
    ],
)
def test_raw_data_error_begins_with_the_place_as_far_as_it_is_known(
    place: dict[str, str | int], text: str
) -> None:
    error = RawDataError("Cell.csv", "it broke", **place)  # type: ignore[arg-type]
    assert str(error) == text
    assert (error.file, error.column, error.row) == (
        *("Cell.csv", place.get("column"), place.get("row")),
    )
