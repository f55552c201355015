"""One call that trains a branch: resumes, averages weights, stops early, keeps the best, never less than the start."""

import json
import logging
import math
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    Callback,
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    TQDMProgressBar,
)
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from kryptonite.core.errors import MetricError
from kryptonite.core.files import write_json
from kryptonite.core.memory import keep_freed_memory
from kryptonite.nn.train.batches import RankedBatches
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.train.ranks import ranks, wait_for_all

MONITOR = "val_eer"

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class FitResult:
    """What training came to; scores are validation EERs in 0..1.

    Args:
        start_score: Of the weights training began with.
        best_score: Of the weights kept; at most `start_score`.
        best_epoch: 1-based epoch of the weights kept, of a soup the last epoch of its parts; 0 means the start weights.
        averaged: Of how many trainings the weights kept are the mean.
        seconds: Wall-clock time of this call.
    """

    start_score: float
    best_score: float
    best_epoch: int
    averaged: int
    seconds: float


class _BeginEpoch(Callback):
    """Makes an epoch a function of the seed and its number, so that a training that was interrupted goes on as it would have without.

    Lightning tells the epoch to samplers only, not to batch samplers, and starts reading before it announces a training that goes on.

    Args:
        seed: Of the training.
        batches: What is read.
    """

    def __init__(self, seed: int, batches: RankedBatches):
        self._seed, self._batches = seed, batches

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Chooses the epoch after the last whole one."""
        self._batches.set_epoch(checkpoint["epoch"] + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Chooses the epoch that is drawn."""
        self._batches.set_epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds torch, numpy and Python before the first step: a loader that starts reading draws a number of its own."""
        if batch_idx == 0:
            seed = int(
                np.random.SeedSequence([self._seed, trainer.current_epoch]).generate_state(1)[0]
            )
            pl.seed_everything(seed, workers=True, verbose=False)


class _Candidate(NamedTuple):
    score: float
    epoch: int
    averaged: int
    weights: Weights


def fit(
    module: pl.LightningModule,
    train_loader: DataLoader,
    val_loader: DataLoader,
    folder: Path,
    config: FitConfig,
    seed: int,
    version: str,
) -> FitResult:
    """Trains `module`, leaving the best weights in it, in eval mode.

    The module logs `val_eer` in validation, the same on every rank. The checkpoints in `folder` belong to one `version`: called again
    with the same one, training goes on after the last whole epoch; with another, it starts anew. Of a soup the mean of all trainings that
    improved on the start is kept, unless one of them alone is better on the validation set.

    Args:
        module: Holds the network as `module.network`.
        train_loader: Its batch sampler is a `nn.train.batches.RankedBatches`.
        val_loader: The whole validation set, on every rank.
        folder: For checkpoints and logs.
        config: Length, precision, devices.
        seed: Seeds torch, numpy and Python, workers included; the further trainings of a soup take those that follow.
        version: Fingerprint of everything that decides the result.

    Returns:
        Scores of the start and of what was kept.
    """
    began = time.perf_counter()
    keep_freed_memory()
    _own_folder(folder, version)
    pl.seed_everything(seed, workers=True, verbose=False)
    # Lightning's hints on workers and loggers are decided here already; its startup table of devices helps nobody.
    warnings.filterwarnings(
        "ignore", message=".*does not have many workers.*|.*num_workers.*|.*persistent_workers.*"
    )
    warnings.filterwarnings(
        "ignore",
        message=".*isinstance.treespec.*|.*LeafSpec.*|.*Checkpoint directory.*|.*logging interval.*",
    )
    # Every rank validates on the whole set and logs the same figure.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)

    start = _Candidate(
        _start_score(module, val_loader, folder, config, version), 0, 1, _copied(module)
    )
    trained = []
    for number in range(config.soup if config.epochs else 0):
        if number:
            module.load_state_dict(start.weights)
            train_loader.batch_sampler.seed = seed + number
            pl.seed_everything(seed + number, workers=True, verbose=False)
        trained.append(
            _trained(module, train_loader, val_loader, folder / f"{number}", config, seed + number)
        )
    candidates = [start, *(each for each in trained if each.score < start.score)]
    if len(candidates) > 2:
        parts = candidates[1:]
        module.load_state_dict(_mean([each.weights for each in parts]))
        score = _validated(module, val_loader, config)
        candidates.append(
            _Candidate(score, max(each.epoch for each in parts), len(parts), _copied(module))
        )
    # Of equals the start, then the mean of most trainings, which is less of an accident.
    best = min(candidates, key=lambda each: (each.score, each.epoch > 0, -each.averaged))
    module.load_state_dict(best.weights)
    module.cpu().eval()
    return FitResult(
        start.score, best.score, best.epoch, best.averaged, time.perf_counter() - began
    )


def _trainer(config: FitConfig, **settings: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
        precision=config.precision,
        use_distributed_sampler=False,  # the batch samplers know their rank
        num_sanity_val_steps=0,
        enable_model_summary=False,
        **settings,
    )


def _trained(
    module: pl.LightningModule,
    train_loader: DataLoader,
    val_loader: DataLoader,
    folder: Path,
    config: FitConfig,
    seed: int,
) -> _Candidate:
    """Trains from the weights in `module`, or goes on with what `folder` holds; gives the best of all epochs."""
    checkpoint = ModelCheckpoint(
        folder,
        filename="best",
        monitor=MONITOR,
        mode="min",
        save_top_k=1,
        enable_version_counter=False,
    )
    # Lightning's own `save_last` is the last of the best.
    latest = ModelCheckpoint(
        folder,
        filename="last",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks = [
        _BeginEpoch(seed, train_loader.batch_sampler),
        checkpoint,
        latest,
        EarlyStopping(MONITOR, mode="min", patience=config.patience),
        TQDMProgressBar(refresh_rate=5),
    ]
    if config.ema_decay > 0:
        callbacks.append(EMAWeightAveraging(decay=config.ema_decay))
    trainer = _trainer(
        config,
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip,
        callbacks=callbacks,
        logger=[
            CSVLogger(folder, name="csv"),
            TensorBoardLogger(folder, name="", version="tensorboard"),
        ],
        log_every_n_steps=10,
    )
    # Lightning, asked to go on with a training that stopped early, would add an epoch.
    last, ended = folder / "last.ckpt", folder / "ended.json"
    if not ended.exists():
        trainer.fit(
            module,
            train_loader,
            val_loader,
            ckpt_path=str(last) if last.exists() else None,
            weights_only=True,
        )
        if ranks()[0] == 0:
            write_json(ended, {MONITOR: float(checkpoint.best_model_score)})
        wait_for_all()
    best = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
    score = json.loads(ended.read_text(encoding="utf-8"))[MONITOR]
    return _Candidate(score, int(best["epoch"]) + 1, 1, best["state_dict"])


def _validated(module: pl.LightningModule, loader: DataLoader, config: FitConfig) -> float:
    trainer = _trainer(
        config,
        callbacks=[TQDMProgressBar(refresh_rate=5)],
        logger=False,
        enable_checkpointing=False,
    )
    return float(trainer.validate(module, loader, verbose=False)[0][MONITOR])


def _copied(module: pl.LightningModule) -> Weights:
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def _mean(weights: list[Weights]) -> Weights:
    """Of every tensor the mean; counters are those of the first."""
    return {
        name: torch.stack([each[name] for each in weights]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in weights[0].items()
    }


def _own_folder(folder: Path, version: str) -> None:
    """Removes another version's checkpoints and logs; one process does it, and the others' `_start_score` trusts only its own version."""
    if ranks()[0] == 0 and _kept_start(folder, version) is None:
        shutil.rmtree(folder, ignore_errors=True)


def _kept_start(folder: Path, version: str) -> float | None:
    kept = folder / "start.json"
    if not kept.exists():
        return None
    start = json.loads(kept.read_text(encoding="utf-8"))
    return float(start[MONITOR]) if start["version"] == version else None


def _start_score(
    module: pl.LightningModule, loader: DataLoader, folder: Path, config: FitConfig, version: str
) -> float:
    """Validation EER before the first step; read back when training is resumed."""
    score = _kept_start(folder, version)
    if score is None:
        score = _validated(module, loader, config)
        if not math.isfinite(score):
            raise MetricError(
                f"validation gave {MONITOR}={score} before training; it must be finite"
            )
        if ranks()[0] == 0:
            write_json(folder / "start.json", {"version": version, MONITOR: score})
    return score
