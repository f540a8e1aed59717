from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flts_assets.forecasting.schedules import learning_rate, momentum


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 10, 37, 400])
@pytest.mark.parametrize("highest", [1.0, 2e-3])
def test_one_cycle_takes_the_rates_and_momenta_of_torch(steps: int, highest: float) -> None:
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=steps, anneal_strategy="cos"
    )
    for step in range(steps):
        (group,) = optimizer.param_groups
        rate = learning_rate("one_cycle", highest, step, steps)
        assert rate == pytest.approx(group["lr"], rel=1e-9, abs=0)
        assert momentum("one_cycle", step, steps) == pytest.approx(group["betas"][0], rel=1e-9)
        if step < steps - 1:
            optimizer.step()
            reference.step()


@given(steps=st.integers(1, 500), highest=st.floats(1e-6, 1.0), data=st.data())
@settings(max_examples=60, deadline=None)
def test_rate_is_above_zero_and_never_above_the_highest(
    steps: int, highest: float, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    assert learning_rate("constant", highest, step, steps) == highest
    assert momentum("constant", step, steps) == 0.9
    assert 0 < learning_rate("one_cycle", highest, step, steps) <= highest * (1 + 1e-12)
