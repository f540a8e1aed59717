from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch

from flts_assets.forecasting.recurrent_net import RecurrentNet
from flts_assets.forecasting.recurrent_onnx import to_onnx
from flts_assets.recipe.model import Recurrent, Variant, Window

FEATURES = 5
SIZE = 6


def converted(
    kind: str,
    layers: int,
    horizon: int = 1,
    targets: tuple[str, ...] = ("down",),
    members: int = 1,
    kinds: int = 1,
) -> tuple[list[RecurrentNet], bytes]:
    """Nets with weights large enough to reach the bends of their gates, and the same as ONNX."""
    window = Window.model_validate({"size": SIZE, "horizon": horizon, "targets": targets})
    variants = tuple(Variant(predict="change", change_decay=0.1 * place) for place in range(kinds))
    settings = Recurrent(hidden_size=7, num_layers=layers, members=members, variants=variants)
    torch.manual_seed(0)
    nets = [RecurrentNet(kind, FEATURES, window, settings).eval() for _ in range(settings.nets)]
    with torch.no_grad():
        for weights in chain.from_iterable(net.parameters() for net in nets):
            weights.mul_(3)
    by_name = [{name: value.numpy() for name, value in net.state_dict().items()} for net in nets]
    return nets, to_onnx(kind, by_name, window, FEATURES, settings)


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
    (net,), onnx = converted(kind, layers, horizon, targets)
    session = session_of(onnx)
    for batch in (1, 2, 130):
        windows = windows_of(batch)
        with torch.inference_mode():
            expected = net(torch.from_numpy(windows)).numpy()
        (forecasts,) = session.run(["forecasts"], {"windows_0": windows})
        assert forecasts.shape == (batch, 1, horizon, len(targets))
        np.testing.assert_allclose(forecasts[:, 0], expected, rtol=0, atol=1e-5)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_several_nets_in_one_graph_each_see_the_windows_of_their_kind(
    kind: str, layers: int
) -> None:
    nets, onnx = converted(kind, layers, 3, ("down", "up"), members=3, kinds=2)
    windows = [windows_of(7), 2 * windows_of(7)]
    seen = {f"windows_{place}": one for place, one in enumerate(windows)}
    (forecasts,) = session_of(onnx).run(None, seen)
    with torch.inference_mode():
        said = [net(torch.from_numpy(windows[n // 3])).numpy() for n, net in enumerate(nets)]
    assert forecasts.shape == (7, 6, 3, 2)
    np.testing.assert_allclose(forecasts, np.stack(said, axis=1), rtol=0, atol=1e-5)
    assert np.std(said, axis=0).max() > 0.1, "the nets differ"


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_same_weights_give_the_same_bytes(kind: str) -> None:
    assert converted(kind, 2)[1] == converted(kind, 2)[1]


def test_graph_tells_the_shapes_of_what_goes_in_and_comes_out() -> None:
    session = session_of(converted("GRU", 2, 3, ("down", "up"))[1])
    (windows,), (forecasts,) = session.get_inputs(), session.get_outputs()
    assert (windows.name, windows.shape) == ("windows_0", ["batch", SIZE, FEATURES])
    assert (forecasts.name, forecasts.shape) == ("forecasts", ["batch", 1, 3, 2])
