"""Gradient-boosted trees over the window, one ensemble a target and step (Friedman 2001).

scikit-learn's histogram boosting, kept as one ONNX graph: a served model needs neither scikit-learn nor
a pickle.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flts_assets.forecasting.progress import FitCounter, Report
from flts_assets.forecasting.split import FitAndValidation, Split
from flts_assets.forecasting.tree_features import tree_features
from flts_assets.recipe.model import Recipe

if TYPE_CHECKING:
    from sklearn.ensemble import HistGradientBoostingRegressor

__all__ = ["TrainedTrees", "train_trees"]


@dataclass(frozen=True)
class TrainedTrees:
    """What is kept, and what was validated."""

    onnx: bytes
    validated_onnx: bytes
    """fitted on the fit windows alone"""
    fit_s: float
    """of the trees that are kept"""


def train_trees(
    train: Split, target_places: Sequence[int], recipe: Recipe, threads: int, report: Report
) -> TrainedTrees:
    """Fit once on the fit windows to be validated, once on all train windows to be kept.

    The trees forecast the scaled target's change from the window's last row.
    """
    from threadpoolctl import threadpool_limits

    parts = FitAndValidation.of(train.windows, recipe.window, recipe.recurrent)
    counter = FitCounter(2 * recipe.window.horizon * len(target_places), report)
    with threadpool_limits(threads):
        validated = _fitted(train, target_places, parts.fit_end, recipe, counter)
        started = time.monotonic()
        kept = _fitted(train, target_places, train.windows, recipe, counter)
        return TrainedTrees(kept, validated, fit_s=time.monotonic() - started)


def _fitted(
    train: Split, target_places: Sequence[int], count: int, recipe: Recipe, counter: FitCounter
) -> bytes:
    """Trees for every step and target, fitted on the first so many windows: one ONNX model."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    windows = train.inputs()[:count]
    fitted: dict[tuple[int, int], HistGradientBoostingRegressor] = {}
    sizes = []
    for place, column in enumerate(target_places):
        features = tree_features(windows, column)
        sizes.append(features.shape[1])
        changes = train.ahead(train.features[:, [column]])[:count, :, 0] - windows[:, -1:, column]
        for step in range(recipe.window.horizon):
            trees = HistGradientBoostingRegressor(
                **recipe.trees.model_dump(), early_stopping=False, random_state=recipe.seed
            )
            counter.start()
            trees.fit(features, changes[:, step])
            counter.finish()
            fitted[step, place] = trees
    return _to_onnx([(place, fitted[step, place]) for step, place in sorted(fitted)], sizes)


def _to_onnx(
    fitted: Sequence[tuple[int, HistGradientBoostingRegressor]], sizes: Sequence[int]
) -> bytes:
    """One graph: features_<target> [M, K] -> changes [M, H * T], in the order of `fitted`."""
    from onnx import TensorProto, checker, compose, helper
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    nodes, constants, outputs, opsets = [], [], [], {}
    for number, (place, trees) in enumerate(fitted):
        with warnings.catch_warnings():
            # skl2onnx 1.20 hands flags as booleans to protobuf, which wants integers.
            warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints", DeprecationWarning)
            own = to_onnx(trees, initial_types=[("X", FloatTensorType([None, sizes[place]]))])
        own = compose.add_prefix(own, f"{number}_")
        for node in own.graph.node:
            node.input[:] = [
                f"features_{place}" if name == f"{number}_X" else name for name in node.input
            ]
        nodes += own.graph.node
        constants += own.graph.initializer
        outputs.append(own.graph.output[0].name)
        opsets.update({one.domain: one for one in own.opset_import})
    nodes.append(helper.make_node("Concat", outputs, ["changes"], axis=1))
    opsets.setdefault("", helper.make_opsetid("", 17))
    graph = helper.make_graph(
        nodes,
        "TREES",
        [
            helper.make_tensor_value_info(f"features_{place}", TensorProto.FLOAT, ["batch", size])
            for place, size in enumerate(sizes)
        ],
        [helper.make_tensor_value_info("changes", TensorProto.FLOAT, ["batch", len(outputs)])],
        constants,
    )
    model = helper.make_model(
        graph, opset_imports=list(opsets.values()), ir_version=8, producer_name="flts"
    )
    checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised
