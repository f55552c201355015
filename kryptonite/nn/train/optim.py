"""AdamW with linear warm-up and cosine decay, stepped per batch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class OptimConfig:
    """Optimiser and learning-rate schedule.

    Args:
        lr: Peak learning rate.
        weight_decay: AdamW's decoupled weight decay (Loshchilov & Hutter 2019); applies to
            matrices and kernels only, not to biases and norms.
        warmup_steps: Batches of linear warm-up, at most a tenth of the run, so that a short run
            still reaches the peak.
    """

    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 100


def build_optimiser(
    groups: Iterable[dict[str, Any]], config: OptimConfig, total_steps: int
) -> dict[str, Any]:
    """Builds what Lightning's `configure_optimizers` returns.

    Args:
        groups: Dicts with `params` (iterable of tensors) and, where it differs from `config.lr`,
            `lr`. One-dimensional parameters (biases, norms) are split off and not decayed.
        config: Learning rate, decay and warm-up.
        total_steps: Optimiser steps in the whole run.

    Returns:
        The optimiser and a scheduler with `interval: step`, because its milestones count batches.
    """
    split: list[dict[str, Any]] = []
    for group in groups:
        tensors = [tensor for tensor in group["params"] if tensor.requires_grad]
        lr = group.get("lr", config.lr)
        for decay, chosen in (
            (config.weight_decay, [t for t in tensors if t.ndim > 1]),
            (0.0, [t for t in tensors if t.ndim <= 1]),
        ):
            if chosen:
                split.append({"params": chosen, "lr": lr, "weight_decay": decay})
    optimiser = torch.optim.AdamW(split, lr=config.lr)
    warmup = max(1, min(config.warmup_steps, total_steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (
            1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total_steps - warmup)))
        )

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    return {"optimizer": optimiser, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
