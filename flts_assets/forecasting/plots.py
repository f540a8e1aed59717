"""PNG pictures for the lineage graph, the report and the experiment tracker.

Colours stay readable on light and dark pages: pictures carry their own white ground. Each target has a
panel of its own, whose axis names the unit; the legend stands above, where no data lies.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from flts_assets.forecasting.leaderboard import Leaderboard
from flts_assets.forecasting.progress import Epoch
from flts_assets.recipe.columns import UNITS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "drift_picture",
    "error_by_hour_picture",
    "forecast_picture",
    "leaderboard_picture",
    "loss_picture",
    "residual_picture",
    "small",
]

Floats = npt.NDArray[np.float64]

DPI = 160
SMALL_DPI = 96
MODEL_COLOR, BASELINE_COLOR, ACTUAL_COLOR = "#1f6feb", "#9aa4b2", "#24292f"
SERIES_COLORS = ("#d9480f", "#1f6feb", "#2b8a3e", "#862e9c")
_PAIR = (MODEL_COLOR, BASELINE_COLOR)


def loss_picture(epochs: Sequence[Epoch], best_epochs: Sequence[int], loss: str) -> bytes:
    """Train and validation loss by epoch, net by net; each net's kept epoch is marked."""
    from matplotlib.ticker import MaxNLocator

    figure = _figure(6, 3)
    axes = figure.subplots()
    for net, best in enumerate(best_epochs, start=1):
        of_net = [
            epoch for epoch in epochs if epoch.net == net and epoch.validation_loss is not None
        ]
        numbers = range(1, len(of_net) + 1)
        first = net == 1
        axes.plot(
            numbers,
            [epoch.train_loss for epoch in of_net],
            label="train" if first else None,
            color=BASELINE_COLOR,
        )
        axes.plot(
            numbers,
            [epoch.validation_loss or np.nan for epoch in of_net],
            label="validation" if first else None,
            color=MODEL_COLOR,
            marker="o",
            markersize=3,
        )
        axes.axvline(
            best,
            color=SERIES_COLORS[0],
            linewidth=1,
            label=f"kept: epoch {best}" if first else None,
        )
    unit = {"mse": "mean squared error", "score": "0.5 RMSE + 0.3 MAE"}[loss]
    axes.set(xlabel="epoch", ylabel=f"{unit}, scaled", yscale="log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(axes)
    return _png(figure)


def forecast_picture(
    times: npt.NDArray[np.datetime64],
    actuals: Floats,
    forecasts: Mapping[str, Floats],
    targets: Sequence[str],
    title: str,
    band: tuple[Floats, Floats] | None = None,
    last: int = 720,
) -> bytes:
    """Forecast against actual over the last rows: arrays [M, T] at times [M], raw units.

    `band`: lower and upper end of the forecast's interval.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    figure, panels = _panels(9, targets)
    for place, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        if band is not None:
            low, high = (end[-last:, place] for end in band)
            axes.fill_between(times[-last:], low, high, color=SERIES_COLORS[0], alpha=0.18, lw=0)
        lines = {"actual": actuals, **forecasts}
        for color, (name, values) in zip(
            (ACTUAL_COLOR, *SERIES_COLORS), lines.items(), strict=False
        ):
            shown = values[-last:, place]
            axes.plot(times[-last:], shown, color=color, linewidth=0.9, alpha=0.85, label=name)
        _measure(axes.yaxis, target, target)
    panels[0].set_title(title, loc="left", fontsize="medium")
    panels[-1].set(xlabel="time")
    dates = AutoDateLocator()  # type: ignore[no-untyped-call]
    panels[-1].xaxis.set_major_locator(dates)
    panels[-1].xaxis.set_major_formatter(ConciseDateFormatter(dates))  # type: ignore[no-untyped-call]
    _legend_above(panels[0], right=True)
    return _png(figure)


def error_by_hour_picture(
    times: npt.NDArray[np.datetime64], errors: Mapping[str, Floats], targets: Sequence[str]
) -> bytes:
    """Mean absolute error by hour of day of each name's errors [M, T] at times [M], raw units."""
    hours = times.astype("datetime64[h]").astype(np.int64) % 24
    figure, panels = _panels(6, targets)
    for place, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        for shift, color, (name, values) in zip((-0.2, 0.2), _PAIR, errors.items(), strict=False):
            means = _means_by(hours, np.abs(values[:, place]))
            axes.bar(np.arange(24) + shift, means, width=0.4, color=color, label=name)
        _measure(axes.yaxis, target, f"mean |error|\n{target}")
    panels[-1].set(xlabel="hour of day", xlim=(-0.7, 23.7))
    panels[-1].set_xticks(range(0, 24, 3))
    _legend_above(panels[0])
    return _png(figure)


def _means_by(hours: npt.NDArray[np.int64], values: Floats) -> list[float]:
    """Of what is finite at each hour of the day; NaN where nothing is."""
    of_hours = [values[(hours == hour) & np.isfinite(values)] for hour in range(24)]
    return [float(of_hour.mean()) if len(of_hour) else np.nan for of_hour in of_hours]


def residual_picture(errors: Mapping[str, Floats], targets: Sequence[str]) -> bytes:
    """How each name's errors [M, T] (forecast - actual, raw units) are spread.

    The outermost hundredth on either side counts in the outermost bars.
    """
    figure, panels = _panels(6, targets, share=False)
    for place, (axes, target) in enumerate(zip(panels, targets, strict=True)):
        _histogram(axes, {name: values[:, place] for name, values in errors.items()})
        axes.set(ylabel="test windows")
        _measure(axes.xaxis, target, f"forecast - actual of {target}")
    _legend_above(panels[0])
    return _png(figure)


def _histogram(axes: Axes, errors: Mapping[str, Floats]) -> None:
    measured = {name: values[np.isfinite(values)] for name, values in errors.items()}
    everything = np.concatenate([*measured.values()])
    low, high = np.quantile(everything, [0.01, 0.99]) if len(everything) else (0.0, 0.0)
    if low == high:
        reach = max(0.5, abs(low) / 100)
        low, high = low - reach, high + reach
    edges = np.linspace(low, high, 41).tolist()
    for color, (name, values) in zip(_PAIR, measured.items(), strict=False):
        axes.hist(np.clip(values, low, high), edges, color=color, alpha=0.6, label=name)
    axes.axvline(0, color=ACTUAL_COLOR, linewidth=1)


def small(png: bytes) -> bytes:
    """The same picture for a page's own text: SMALL_DPI, at most 128 colours, tens of kB."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as picture:
        scale = min(1.0, SMALL_DPI / picture.info.get("dpi", (SMALL_DPI,))[0])
        width, height = (round(side * scale) for side in picture.size)
        reduced = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    reduced.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
        buffer, format="png", optimize=True
    )
    return buffer.getvalue()


def leaderboard_picture(board: Leaderboard) -> bytes:
    """One bar an entry, the best on top; baselines are grey.

    Entries more than three times as bad as persistence are cut off there, with their value written.
    """
    entries = board.entries[::-1]
    values = [entry.ranked_by(board).by(board.rank_by) for entry in entries]
    limit = 3 * board.entry("persistence").ranked_by(board).by(board.rank_by)
    widths = [min(value, limit) if limit > 0 else value for value in values]
    figure = _figure(6, 0.35 * len(entries) + 0.8)
    axes = figure.subplots()
    bars = axes.barh(
        [entry.name for entry in entries],
        [width if np.isfinite(width) else 0.0 for width in widths],
        color=[MODEL_COLOR if entry.kind == "model" else BASELINE_COLOR for entry in entries],
    )
    axes.bar_label(bars, labels=[f"{value:.4g}" for value in values], padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.set(xlabel=f"{board.rank_by} on the {board.rank_on} rows (lower is better)")
    return _png(figure, grid="x")


def drift_picture(indices: Mapping[str, float], limits: Sequence[float]) -> bytes:
    """Each column's Population Stability Index, and the limits it is read by."""
    figure = _figure(6, 0.3 * len(indices) + 0.8)
    axes = figure.subplots()
    bars = axes.barh(list(indices)[::-1], list(indices.values())[::-1], color=MODEL_COLOR)
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    for limit in limits:
        axes.axvline(limit, color=SERIES_COLORS[0], linewidth=1, linestyle="--")
    axes.margins(x=0.15)
    told = ", ".join(f"{limit:g}" for limit in limits)
    axes.set(xlabel=f"PSI against the train rows (dashed: {told})")
    return _png(figure, grid="x")


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def _panels(
    width: float, targets: Sequence[str], share: bool = True
) -> tuple[Figure, Sequence[Axes]]:
    """One below the other. `share`: the horizontal axis, which the lowest tells."""
    figure = _figure(width, 1 + 2 * len(targets))
    panels = figure.subplots(len(targets), 1, sharex=share, squeeze=False)[:, 0]
    return figure, panels.tolist()


def _measure(axis: Axis, column: str, what: str) -> None:
    """Label the axis with this and the column's unit; bits are counted in k, M, G."""
    from matplotlib.ticker import EngFormatter

    unit = UNITS[column]
    axis.set_label_text(f"{what}, {unit}")
    if unit.startswith("bits"):
        axis.set_major_formatter(EngFormatter())


def _legend_above(axes: Axes, *, right: bool = False) -> None:
    """`right`: beside a title that stands on the left."""
    axes.legend(
        frameon=False,
        ncols=4,
        loc="lower right" if right else "lower left",
        bbox_to_anchor=(1 if right else 0, 1),
        borderaxespad=0.1,
    )


def _png(figure: Figure, grid: Literal["both", "x"] = "both") -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(alpha=0.25, axis=grid)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
