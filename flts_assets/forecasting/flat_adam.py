"""Adam over all parameters as one vector.

The same update as torch.optim.Adam (Kingma & Ba 2015, algorithm 1; a test holds the two side by side).
One vector means five operations a step however many parameters there are, and torch.optim would import
torch._dynamo on first use, a second on every fresh trainer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["FlatAdam"]


class FlatAdam:
    """Moves a net's parameters into one vector and steps them along their gradients."""

    def __init__(
        self,
        net: nn.Module,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.lr = lr
        self.momentum, self._second_beta = betas
        self._epsilon = epsilon
        self._steps = 0
        parameters = list(net.parameters())
        with torch.no_grad():
            self.weights = torch.cat([parameter.flatten() for parameter in parameters])
            self.gradient = torch.zeros_like(self.weights)
        self._mean = torch.zeros_like(self.weights)
        self._square = torch.zeros_like(self.weights)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, weights, gradient in zip(
            parameters,
            torch.split(self.weights, sizes),
            torch.split(self.gradient, sizes),
            strict=True,
        ):
            parameter.data = weights.view_as(parameter)
            parameter.grad = gradient.view_as(parameter)

    def zero_grad(self) -> None:
        self.gradient.zero_()

    def clip_gradient(self, largest: float) -> None:
        """Shrink the gradient to this norm if it is longer (Pascanu et al. 2013)."""
        norm = float(self.gradient.norm())
        if norm > largest:
            self.gradient.mul_(largest / norm)

    def step(self) -> None:
        """One update at `lr` and `momentum`; the gradient is kept."""
        self._steps += 1
        first, second = self.momentum, self._second_beta
        self._mean.lerp_(self.gradient, 1 - first)
        self._square.mul_(second).addcmul_(self.gradient, self.gradient, value=1 - second)
        spread = self._square.sqrt().div_(math.sqrt(1 - second**self._steps)).add_(self._epsilon)
        self.weights.addcdiv_(self._mean, spread, value=-self.lr / (1 - first**self._steps))

    def load(self, weights: Tensor) -> None:
        """Set all parameters to an earlier copy of `weights`."""
        self.weights.copy_(weights)
