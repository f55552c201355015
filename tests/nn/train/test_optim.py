import pytest
import torch

from kryptonite.nn.train.optim import OptimConfig, build_optimiser


def test_rates_per_batch_warm_up_then_cosine_to_zero():
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


def test_a_short_run_still_reaches_its_peak():
    built = build_optimiser(
        [{"params": [torch.nn.Parameter(torch.zeros(1, 1))]}],
        OptimConfig(lr=1.0, warmup_steps=1000),
        20,
    )
    factor = built["lr_scheduler"]["scheduler"].lr_lambdas[0]
    assert max(factor(step) for step in range(20)) == pytest.approx(1.0)


def test_biases_and_norms_are_not_decayed_and_groups_keep_their_rate():
    layer = torch.nn.Linear(3, 2)
    groups = build_optimiser(
        [{"params": layer.parameters(), "lr": 0.5}], OptimConfig(weight_decay=0.1), 10
    )["optimizer"].param_groups
    assert {(group["params"][0].ndim, group["weight_decay"]) for group in groups} == {
        (2, 0.1),
        (1, 0.0),
    }
    assert all(group["initial_lr"] == 0.5 for group in groups)


def test_frozen_parameters_are_left_out():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    built = build_optimiser([{"params": layer.parameters()}], OptimConfig(), 10)
    assert sum(len(group["params"]) for group in built["optimizer"].param_groups) == 1
