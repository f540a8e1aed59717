from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from flts_assets.forecasting.flat_adam import FlatAdam


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(x)
        return self.head(states[:, -1])


def loss_of(net: Net, x: Tensor, y: Tensor) -> Tensor:
    return nn.functional.mse_loss(net(x), y)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(16, 7, 3, generator=generator), torch.randn(16, 2, generator=generator)


def test_weights_take_the_same_way_as_with_the_adam_of_torch() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = Net()
    reference = copy.deepcopy(net)
    ours = FlatAdam(net, lr=1e-2)
    theirs = torch.optim.Adam(reference.parameters(), lr=1e-2)
    x, y = data()
    started = loss_of(net, x, y).item()
    for _ in range(50):
        ours.zero_grad()
        loss_of(net, x, y).backward()
        ours.step()
        theirs.zero_grad()
        loss_of(reference, x, y).backward()
        theirs.step()
        for mine, other in zip(net.parameters(), reference.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)
    assert loss_of(net, x, y).item() < started / 2


@pytest.mark.parametrize("largest", [1e-3, 0.1, 1e3])
def test_gradient_is_clipped_as_by_torch(largest: float) -> None:
    torch.manual_seed(0)
    net = Net()
    reference = copy.deepcopy(net)
    optimizer = FlatAdam(net, lr=1e-2)
    for one in (net, reference):
        loss_of(one, *data()).backward()
    before = optimizer.gradient.clone()
    optimizer.clip_gradient(largest)
    torch.nn.utils.clip_grad_norm_(reference.parameters(), largest)
    for mine, other in zip(net.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-9)
    assert torch.equal(optimizer.gradient, before) == (largest == 1e3)


def test_gradient_of_zero_stays_zero_when_clipped() -> None:
    optimizer = FlatAdam(Net(), lr=1e-2)
    optimizer.clip_gradient(0.1)
    assert not optimizer.gradient.any()


def test_net_says_the_same_before_and_after_its_parameters_are_moved_into_one_vector() -> None:
    net = Net()
    x, _ = data()
    before = net(x)
    optimizer = FlatAdam(net, lr=1e-2)
    torch.testing.assert_close(net(x), before, rtol=0, atol=0)
    assert len(optimizer.weights) == sum(weights.numel() for weights in net.parameters())


def test_loaded_weights_are_those_that_were_copied_before() -> None:
    net = Net()
    optimizer = FlatAdam(net, lr=1e-2)
    x, y = data()
    kept, said = optimizer.weights.clone(), net(x).detach()
    loss_of(net, x, y).backward()
    optimizer.step()
    assert not torch.equal(net(x), said)
    optimizer.load(kept)
    assert torch.equal(net(x), said)
    assert torch.equal(optimizer.weights, kept)


def test_gradient_is_kept_by_a_step_and_removed_by_zero_grad() -> None:
    net = Net()
    optimizer = FlatAdam(net, lr=1e-2)
    loss_of(net, *data()).backward()
    gradient = optimizer.gradient.clone()
    assert gradient.any()
    optimizer.step()
    assert torch.equal(optimizer.gradient, gradient)
    optimizer.zero_grad()
    assert all(not weights.grad.any() for weights in net.parameters() if weights.grad is not None)
