"""The GRU and LSTM nets. Only trainers import this module, and with it torch."""

from __future__ import annotations

from torch import Tensor, nn

from flts_assets.recipe.model import Recurrent, Window

__all__ = ["RecurrentNet"]


class RecurrentNet(nn.Module):
    """Recurrent layers over the window, then one linear map of the last state to all steps at once.

    scaled windows [B, W, F] -> scaled targets [B, H, T]
    """

    def __init__(self, kind: str, features: int, window: Window, settings: Recurrent) -> None:
        super().__init__()
        layers = {"GRU": nn.GRU, "LSTM": nn.LSTM}[kind]
        self.horizon = window.horizon
        self.targets = len(window.targets)
        self.recurrent = layers(
            features, settings.hidden_size, settings.num_layers, batch_first=True
        )
        self.head = nn.Linear(settings.hidden_size, self.horizon * self.targets)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.recurrent(windows)
        output: Tensor = self.head(states[:, -1])
        return output.reshape(-1, self.horizon, self.targets)
