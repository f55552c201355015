"""The optimiser's parameter groups and its schedule."""

import pytest
import torch

from kryptonite.nn.train.optim import OptimConfig, build_optimiser


def test_build_optimiser_warms_up_then_decays_per_batch():
    weight = torch.nn.Parameter(torch.zeros(2, 2))
    built = build_optimiser([{"params": [weight]}], OptimConfig(lr=1.0, warmup_steps=10), 100)
    assert built["lr_scheduler"]["interval"] == "step"
    optimiser, scheduler = built["optimizer"], built["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(100):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert (
        rates[0] == pytest.approx(0.1)
        and max(rates) == pytest.approx(1.0)
        and rates[55] == pytest.approx(0.5, abs=0.01)
    )
    assert rates[-1] < 0.001


def test_build_optimiser_reaches_peak_rate_when_run_is_short():
    built = build_optimiser(
        [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}],
        OptimConfig(lr=1.0, warmup_steps=1000),
        20,
    )
    factor = built["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert max(factor(step) for step in range(20)) == pytest.approx(1.0)


def test_build_optimiser_leaves_biases_undecayed_and_keeps_group_rates():
    layer = torch.nn.Linear(3, 2)
    groups = build_optimiser(
        [{"params": layer.parameters(), "lr": 0.5}], OptimConfig(weight_decay=0.1), 10
    )["optimizer"].param_groups
    assert {(group["params"][0].ndim, group["weight_decay"]) for group in groups} == {
        (2, 0.1),
        (1, 0.0),
    }
    assert all(group["initial_lr"] == 0.5 for group in groups)


def test_build_optimiser_leaves_out_frozen_parameters():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    built = build_optimiser([{"params": layer.parameters()}], OptimConfig(), 10)
    assert sum(len(group["params"]) for group in built["optimizer"].param_groups) == 1
