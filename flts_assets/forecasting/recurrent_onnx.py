"""A trained GRU or LSTM as an ONNX graph, written node by node.

    windows_<kind> [B, W, F] -> Transpose [W, B, F] -> GRU | LSTM, once a layer -> Squeeze (last state)
        -> Gemm (linear head) -> Reshape [B, 1, H, T] -> Concat of K nets -> forecasts [B, K, H, T]

torch's exporters either are deprecated or take seconds, and both import torch._dynamo. Gate order and
formulas: onnx.ai, operators GRU and LSTM; torch.nn.GRU and torch.nn.LSTM. A test holds both outputs
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from flts_assets.recipe.model import Recurrent, Window

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["to_onnx"]

Floats = npt.NDArray[np.float32]

# Where each ONNX gate stands among torch's: ONNX GRU is z r h, torch r z n; ONNX LSTM is i o f c,
# torch i f g o.
_GATES: Final[Mapping[str, tuple[int, ...]]] = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
_OPSET: Final = 17
_IR_VERSION: Final = 8


def to_onnx(
    kind: str,
    nets: Sequence[Mapping[str, Floats]],
    window: Window,
    features: int,
    settings: Recurrent,
) -> bytes:
    """All nets of a model; their weights are named as in `RecurrentNet.state_dict()`.

    Each kind of net has its own input, and `settings.members` nets in a row see it.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    constants: dict[str, npt.NDArray[np.generic]] = {
        "layer_axis": np.array([0], dtype=np.int64),
        "shape": np.array([-1, 1, window.horizon, len(window.targets)], dtype=np.int64),
    }
    if settings.num_layers > 1:
        constants["direction_axis"] = np.array([1], dtype=np.int64)
    inputs = [f"windows_{place}" for place in range(len(settings.kinds))]
    nodes = [
        helper.make_node("Transpose", [name], [f"rows_{place}"], perm=[1, 0, 2])
        for place, name in enumerate(inputs)
    ]
    outputs = []
    for place, weights in enumerate(nets):
        own_nodes, own_constants = _net(
            kind, weights, settings, f"rows_{place // settings.members}", str(place)
        )
        nodes += own_nodes
        constants.update(own_constants)
        outputs.append(f"forecasts_{place}")
    nodes.append(helper.make_node("Concat", outputs, ["forecasts"], axis=1))
    forecasts = ["batch", len(nets), window.horizon, len(window.targets)]
    graph = helper.make_graph(
        nodes,
        kind,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", window.size, features])
            for name in inputs
        ],
        [helper.make_tensor_value_info("forecasts", TensorProto.FLOAT, forecasts)],
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


def _net(
    kind: str, weights: Mapping[str, Floats], settings: Recurrent, rows: str, net: str
) -> tuple[list[NodeProto], dict[str, npt.NDArray[np.generic]]]:
    """Nodes from `rows` to `forecasts_<net>`, and their constants."""
    from onnx import helper

    head = [f"head.weight_{net}", f"head.bias_{net}"]
    constants: dict[str, npt.NDArray[np.generic]] = {
        head[0]: weights["head.weight"],
        head[1]: weights["head.bias"],
    }
    nodes = []
    gates = _GATES[kind]
    layer_input = rows
    for layer in range(settings.num_layers):
        part = {name: f"{name}_{net}_{layer}" for name in ("W", "R", "B", "states", "last")}
        constants[part["W"]] = _reordered(weights[f"recurrent.weight_ih_l{layer}"], gates)[None]
        constants[part["R"]] = _reordered(weights[f"recurrent.weight_hh_l{layer}"], gates)[None]
        constants[part["B"]] = np.concatenate(
            [_reordered(weights[f"recurrent.bias_{side}_l{layer}"], gates) for side in ("ih", "hh")]
        )[None]
        # torch applies the reset gate after the recurrent product.
        variant = {"linear_before_reset": 1} if kind == "GRU" else {}
        nodes.append(
            helper.make_node(
                kind,
                [layer_input, part["W"], part["R"], part["B"]],
                [part["states"], part["last"]],
                hidden_size=settings.hidden_size,
                **variant,
            )
        )
        if layer < settings.num_layers - 1:
            layer_input = f"layer_input_{net}_{layer + 1}"
            nodes.append(
                helper.make_node("Squeeze", [part["states"], "direction_axis"], [layer_input])
            )
    nodes += [
        helper.make_node("Squeeze", [part["last"], "layer_axis"], [f"state_{net}"]),
        helper.make_node("Gemm", [f"state_{net}", *head], [f"flat_{net}"], transB=1),
        helper.make_node("Reshape", [f"flat_{net}", "shape"], [f"forecasts_{net}"]),
    ]
    return nodes, constants


def _reordered(stacked: Floats, gates: tuple[int, ...]) -> Floats:
    """Blocks of rows [G * K, …] in another order of their gates."""
    blocks = np.split(stacked, len(gates))
    return np.concatenate([blocks[gate] for gate in gates])
