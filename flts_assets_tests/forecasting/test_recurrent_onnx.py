from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.recurrent_onnx import to_onnx
from flts_assets.recipe.model import Recurrent, Window

FEATURES = 5
SIZE = 6


def converted(
    kind: str, layers: int, horizon: int = 1, targets: tuple[str, ...] = ("down",)
) -> tuple[RecurrentNet, bytes]:
    """A net with weights large enough to reach the bends of its gates, and the same as ONNX."""
    window = Window.model_validate({"size": SIZE, "horizon": horizon, "targets": targets})
    settings = Recurrent(hidden_size=7, num_layers=layers)
    torch.manual_seed(0)
    net = RecurrentNet(kind, FEATURES, window, settings).eval()
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(3)
    weights_by_name = {name: value.numpy() for name, value in net.state_dict().items()}
    return net, to_onnx(kind, weights_by_name, window, FEATURES, settings)


def session_of(onnx: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])


def windows_of(batch: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(batch).normal(size=(batch, SIZE, FEATURES)).astype(np.float32)


@pytest.mark.parametrize("targets", [("down",), ("down", "up", "rb_up")], ids=len)
@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_onnx_says_what_torch_says_for_any_number_of_windows(
    kind: str, layers: int, horizon: int, targets: tuple[str, ...]
) -> None:
    net, onnx = converted(kind, layers, horizon, targets)
    session = session_of(onnx)
    for batch in (1, 2, 130):
        windows = windows_of(batch)
        with torch.inference_mode():
            expected = net(torch.from_numpy(windows)).numpy()
        (forecasts,) = session.run(["forecasts"], {"windows": windows})
        assert forecasts.shape == (batch, horizon, len(targets))
        np.testing.assert_allclose(forecasts, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_same_weights_give_the_same_bytes(kind: str) -> None:
    assert converted(kind, 2)[1] == converted(kind, 2)[1]


def test_graph_tells_the_shapes_of_what_goes_in_and_comes_out() -> None:
    session = session_of(converted("GRU", 2, 3, ("down", "up"))[1])
    (windows,), (forecasts,) = session.get_inputs(), session.get_outputs()
    assert (windows.name, windows.shape) == ("windows", ["batch", SIZE, FEATURES])
    assert (forecasts.name, forecasts.shape) == ("forecasts", ["batch", 3, 2])
