"""The GRU and LSTM nets. Only trainers import this module, and with it torch."""

from __future__ import annotations

import torch
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
        if settings.initial_weights == "published":
            self._draw_as_published(window)

    def forward(self, windows: Tensor) -> Tensor:
        states, _ = self.recurrent(windows)
        output: Tensor = self.head(states[:, -1])
        return output.reshape(-1, self.horizon, self.targets)

    @torch.no_grad()
    def _draw_as_published(self, window: Window) -> None:
        """The weights that the code of Perifanis et al. 2022 (arXiv 2211.15220) draws from this seed.

        Its head is Xavier-uniform without bias, it lists the input columns in reverse, and `down` and
        `up` are its last targets.
        """
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        of_inputs = self.recurrent.weight_ih_l0
        of_inputs.copy_(of_inputs.flip(1))
        drawn = sorted(window.targets, key=lambda target: target in ("down", "up"))
        rows = [
            step * self.targets + drawn.index(target)
            for step in range(self.horizon)
            for target in window.targets
        ]
        self.head.weight.copy_(self.head.weight[rows])
