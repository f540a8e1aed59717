"""A trained GRU or LSTM as an ONNX graph, written node by node.

    windows [B, W, F] -> Transpose [W, B, F] -> GRU | LSTM, once a layer -> Squeeze (last state)
                      -> Gemm (linear head) -> Reshape -> forecasts [B, H, T]

torch's exporters either are deprecated or take seconds, and both import torch._dynamo. Gate order and
formulas: onnx.ai, operators GRU and LSTM; torch.nn.GRU and torch.nn.LSTM. A test holds both outputs
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from flts_assets.recipe.model import Recurrent, Window

__all__ = ["to_onnx"]

Floats = npt.NDArray[np.float32]

# Where each ONNX gate stands among torch's: ONNX GRU is z r h, torch r z n; ONNX LSTM is i o f c,
# torch i f g o.
_GATES: Final[Mapping[str, tuple[int, ...]]] = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
_OPSET: Final = 17
_IR_VERSION: Final = 8


def to_onnx(
    kind: str, weights: Mapping[str, Floats], window: Window, features: int, settings: Recurrent
) -> bytes:
    """The model with these weights, named as in `RecurrentNet.state_dict()`."""
    from onnx import TensorProto, checker, helper, numpy_helper

    constants: dict[str, npt.NDArray[np.generic]] = {
        "layer_axis": np.array([0], dtype=np.int64),
        "head.weight": weights["head.weight"],
        "head.bias": weights["head.bias"],
        "shape": np.array([-1, window.horizon, len(window.targets)], dtype=np.int64),
    }
    if settings.num_layers > 1:
        constants["direction_axis"] = np.array([1], dtype=np.int64)
    nodes = [helper.make_node("Transpose", ["windows"], ["layer_input_0"], perm=[1, 0, 2])]
    last = settings.num_layers - 1
    for layer in range(settings.num_layers):
        names = {part: f"{part}_{layer}" for part in ("W", "R", "B", "states", "last")}
        gates = _GATES[kind]
        constants[names["W"]] = _reordered(weights[f"recurrent.weight_ih_l{layer}"], gates)[None]
        constants[names["R"]] = _reordered(weights[f"recurrent.weight_hh_l{layer}"], gates)[None]
        constants[names["B"]] = np.concatenate(
            [_reordered(weights[f"recurrent.bias_{side}_l{layer}"], gates) for side in ("ih", "hh")]
        )[None]
        # torch applies the reset gate after the recurrent product.
        variant = {"linear_before_reset": 1} if kind == "GRU" else {}
        nodes.append(
            helper.make_node(
                kind,
                [f"layer_input_{layer}", names["W"], names["R"], names["B"]],
                [names["states"], names["last"]],
                hidden_size=settings.hidden_size,
                **variant,
            )
        )
        if layer < last:
            nodes.append(
                helper.make_node(
                    "Squeeze", [names["states"], "direction_axis"], [f"layer_input_{layer + 1}"]
                )
            )
    nodes += [
        helper.make_node("Squeeze", [f"last_{last}", "layer_axis"], ["state"]),
        helper.make_node("Gemm", ["state", "head.weight", "head.bias"], ["flat"], transB=1),
        helper.make_node("Reshape", ["flat", "shape"], ["forecasts"]),
    ]
    shapes = {
        "windows": ["batch", window.size, features],
        "forecasts": ["batch", window.horizon, len(window.targets)],
    }
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("windows", TensorProto.FLOAT, shapes["windows"])],
        [helper.make_tensor_value_info("forecasts", TensorProto.FLOAT, shapes["forecasts"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="flts",
    )
    checker.check_model(model)
    serialised: bytes = model.SerializeToString()
    return serialised


def _reordered(stacked: Floats, gates: tuple[int, ...]) -> Floats:
    """Blocks of rows [G * K, …] in another order of their gates."""
    blocks = np.split(stacked, len(gates))
    return np.concatenate([blocks[gate] for gate in gates])
