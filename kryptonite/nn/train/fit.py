"""Trains a branch in one call: resumes, averages weights, stops early and keeps the best weights.

The weights kept are never worse on the validation set than those training started with.
"""

import io
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
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
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch.utils.data import DataLoader

from kryptonite.core.device import state_device
from kryptonite.core.errors import KryptoniteError, MetricError, TrainingError
from kryptonite.core.files import atomic_path, read_json, write_json
from kryptonite.nn.train.batches import RankedBatches
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.train.datasets import Loaders
from kryptonite.nn.train.module import MONITOR
from kryptonite.nn.train.ranks import ranks, wait_for_all

Weights = dict[str, torch.Tensor]

_CHECK_EVERY = 10  # steps; reading a value back from a GPU at every step would slow it down

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitResult:
    """Result of a training; scores are validation EERs in 0..1.

    Args:
        start_score: Score of the initial weights.
        best_score: Score of the weights kept; at most `start_score`.
        best_epoch: 1-based epoch of the weights kept, for a soup the latest epoch among its parts;
            0 means the initial weights.
        averaged: Number of trainings whose mean the weights kept are.
    """

    start_score: float
    best_score: float
    best_epoch: int
    averaged: int


class _BeginEpoch(Callback):
    """Makes every epoch depend on nothing but the seed and its number.

    An interrupted training then continues exactly as it would have without the interruption.
    Lightning calls `set_epoch` on samplers only, not on batch samplers, and starts reading a
    resumed training before its first hook for the epoch.

    Args:
        seed: Seeds the training.
        batches: The training loader's batch sampler.
    """

    def __init__(self, seed: int, batches: RankedBatches):
        self._seed, self._batches = seed, batches

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Selects the epoch after the last complete one."""
        self._batches.set_epoch(checkpoint["epoch"] + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Selects the epoch to draw."""
        self._batches.set_epoch(trainer.current_epoch)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds torch, numpy and Python before the first step.

        Any earlier is too early: a loader draws a random number when it starts reading.
        """
        if batch_idx == 0:
            seed = int(
                np.random.SeedSequence([self._seed, trainer.current_epoch]).generate_state(1)[0]
            )
            pl.seed_everything(seed, workers=True, verbose=False)


class _StopIfDiverged(Callback):
    """Stops a training whose loss or weights are no longer finite.

    It does so before validation and before a checkpoint is written, so that the last checkpoint
    holds the weights of the last good epoch.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forgets the last epoch."""
        self._first = torch.full((), math.inf, device=pl_module.device)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Notes the first step whose loss is not finite, without waiting for a GPU.

        Weights are looked at after the last step only: a step that spoils them spoils the next
        step's loss.
        """
        step = torch.full_like(self._first, batch_idx + 1)
        finite = torch.isfinite(outputs["loss"].detach()).all()
        last = batch_idx + 1 >= trainer.num_training_batches
        if last:
            weights = pl_module.state_dict().values()
            whole = [torch.isfinite(each).all() for each in weights if each.is_floating_point()]
            finite = finite & torch.stack(whole).all()
        self._first = torch.where(finite, self._first, torch.minimum(self._first, step))
        if not last and (batch_idx + 1) % _CHECK_EVERY:
            return
        first = float(trainer.strategy.reduce(self._first.clone(), reduce_op="min"))
        if math.isfinite(first):
            epoch = trainer.current_epoch
            kept = f"those of epoch {epoch}" if epoch else "the initial ones"
            raise TrainingError(
                f"the training has diverged: the loss or the weights are not finite in epoch "
                f"{epoch + 1}, step {int(first)}; the last good weights ({kept}) are kept. Lower "
                "the learning rate (optim.lr), or train with fit.precision 32-true"
            )


class _AtomicCheckpoints(TorchCheckpointIO):
    """Replaces a checkpoint by a whole one or not at all."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint."""
        # torch reports a full disk as a RuntimeError; a plain write names the cause.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_path(path) as temporary:
            temporary.write_bytes(content.getbuffer())


class _Candidate(NamedTuple):
    score: float
    epoch: int
    averaged: int
    weights: Weights


def fit(
    module: pl.LightningModule,
    loaders: Loaders,
    config: FitConfig,
    seed: int,
    folder: Path,
    fingerprint: str,
) -> FitResult:
    """Trains `module`, leaving the best weights in it, in eval mode on the CPU.

    Called again with the same fingerprint, training continues after the last complete epoch; the
    checkpoints of another fingerprint are removed first. A soup's mean weights, over all trainings
    that improved on the initial weights, are kept unless they score worse than these trainings do
    on average; then the best of them is.

    Args:
        module: Logs `val_eer` in validation, the same on every rank, as `EERModule` does.
        loaders: Training batches and the whole validation set.
        config: Length, precision, devices.
        seed: Seeds torch, numpy and Python, including worker processes; the further trainings of a
            soup use the seeds that follow.
        folder: Holds checkpoints and logs.
        fingerprint: Identifies everything that decides the result.

    Returns:
        Scores of the initial weights and of those kept.

    Raises:
        MetricError: The initial weights have no finite validation EER.
        TrainingError: The loss or the weights have become infinite or not a number.
    """
    _claim_folder(folder, fingerprint)
    pl.seed_everything(seed, workers=True, verbose=False)
    start = _Candidate(
        _start_score(module, loaders.val, config, folder, fingerprint), 0, 1, _copied(module)
    )
    trained = []
    for number in range(config.soup if config.epochs else 0):
        if number:
            module.load_state_dict(start.weights)
            loaders.train.batch_sampler.seed = seed + number
            pl.seed_everything(seed + number, workers=True, verbose=False)
        trained.append(_trained(module, loaders, config, seed + number, folder / f"{number}"))
    parts = [each for each in trained if each.score < start.score]
    best = min([start, *parts], key=lambda each: (each.score, each.epoch > 0))
    if len(parts) > 1:
        module.load_state_dict(_mean([each.weights for each in parts]))
        score = _validated(module, loaders.val, config)
        # The best part owes some of its score to chance, so the mean need not reach it.
        if score <= fmean(each.score for each in parts):
            epoch = max(each.epoch for each in parts)
            best = _Candidate(score, epoch, len(parts), _copied(module))
    module.load_state_dict(best.weights)
    module.cpu().eval()
    return FitResult(start.score, best.score, best.epoch, best.averaged)


def _trainer(config: FitConfig, **settings: Any) -> pl.Trainer:
    trainer = pl.Trainer(
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
    if trainer.is_global_zero:
        state_device("training", trainer.strategy.root_device)
    return trainer


def _trained(
    module: pl.LightningModule, loaders: Loaders, config: FitConfig, seed: int, folder: Path
) -> _Candidate:
    """Trains from the weights in `module`, or resumes from `folder`; returns the best epoch.

    Where a checkpoint is damaged it trains again from the start, to the same weights.
    """
    last, ended = folder / "last.ckpt", folder / "ended.json"
    if (damaged := _damaged(folder)) is not None:
        _LOG.warning("%s: damaged; this training starts again", damaged)
        if ranks()[0] == 0:
            _remove(folder)
    checkpoint = ModelCheckpoint(
        folder,
        filename="best",
        monitor=MONITOR,
        mode="min",
        save_top_k=1,
        enable_version_counter=False,
    )
    # Lightning's own `save_last` only copies the last checkpoint that was a best one.
    latest = ModelCheckpoint(
        folder,
        filename="last",
        save_top_k=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks = [
        _BeginEpoch(seed, loaders.train.batch_sampler),
        _StopIfDiverged(),
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
        plugins=[_AtomicCheckpoints()],
    )
    # Lightning would add an epoch if asked to resume a training that stopped early.
    if not ended.exists() and (score := _stopped_score(last)) is not None:
        if ranks()[0] == 0:
            write_json(ended, {MONITOR: score})
    elif not ended.exists():
        with _explained(folder):
            trainer.fit(
                module,
                *loaders,
                ckpt_path=str(last) if last.exists() else None,
                weights_only=True,
            )
        if ranks()[0] == 0:
            write_json(ended, {MONITOR: float(checkpoint.best_model_score)})
        wait_for_all()
    best = _load(folder / "best.ckpt")
    score = read_json(ended)[MONITOR]
    # A soup's next training starts reading before its first hook, with the sampler as this training
    # left it, whether it ran in this process or in one that was killed.
    loaders.train.batch_sampler.set_epoch(_load(last)["epoch"])
    return _Candidate(score, int(best["epoch"]) + 1, 1, best["state_dict"])


def _load(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _stopped_score(last: Path) -> float | None:
    """Returns the best score of a training that stopped early and was killed before it said so."""
    if not last.exists():
        return None
    states = _load(last)["callbacks"]
    stopped = any(
        state["wait_count"] >= state["patience"]
        for name, state in states.items()
        if name.startswith("EarlyStopping")
    )
    scores = [
        float(state["best_model_score"])
        for state in states.values()
        if state.get("monitor") == MONITOR and state.get("best_model_score") is not None
    ]
    return scores[0] if stopped and scores else None


def _damaged(folder: Path) -> Path | None:
    """Returns the first file of a training's progress that cannot be read, if there is one."""
    last, best, ended = (folder / name for name in ("last.ckpt", "best.ckpt", "ended.json"))
    if not last.exists() and not ended.exists():
        return None
    file = ended
    try:
        if ended.exists():
            float(read_json(ended)[MONITOR])
        for file in (best, last):
            _ = _load(file)["state_dict"]
    except Exception:  # torch raises half a dozen kinds for a torn file
        return file
    return None


def _remove(folder: Path) -> None:
    """Removes a folder at once for other processes: renamed first, then emptied."""
    away = folder.with_name(f".{folder.name}-removed")
    shutil.rmtree(away, ignore_errors=True)
    if folder.exists():
        folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Makes errors of reading processes and of loggers fit for one line.

    A DataLoader raises a process's error again with its traceback as text; a logger's full disk
    names no file.
    """
    try:
        yield
    except KryptoniteError as error:
        if "Original Traceback" not in str(error):
            raise
        cause = str(error).rstrip().rpartition("\n")[2]
        raise type(error)(cause.partition(": ")[2] or cause) from error
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


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
    """Averages every floating-point tensor; counters are taken from the first."""
    return {
        name: torch.stack([each[name] for each in weights]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in weights[0].items()
    }


def _claim_folder(folder: Path, fingerprint: str) -> None:
    """Removes checkpoints and logs of another fingerprint.

    Rank 0 does so alone; other ranks need not wait, since `_start_score` checks the fingerprint.
    """
    if ranks()[0] == 0 and _kept_start(folder, fingerprint) is None:
        _remove(folder)


def _kept_start(folder: Path, fingerprint: str) -> float | None:
    kept = folder / "start.json"
    if not kept.exists():
        return None
    try:
        start = read_json(kept)
        return float(start[MONITOR]) if start["version"] == fingerprint else None
    except (OSError, ValueError, KeyError, TypeError):
        _LOG.warning("%s: damaged; this stage starts again", kept)
        return None


def _start_score(
    module: pl.LightningModule,
    loader: DataLoader,
    config: FitConfig,
    folder: Path,
    fingerprint: str,
) -> float:
    """Returns the validation EER before the first step; a resumed training reads it back."""
    score = _kept_start(folder, fingerprint)
    if score is None:
        score = _validated(module, loader, config)
        if not math.isfinite(score):
            raise MetricError(
                f"validation gave {MONITOR}={score} before training; it must be finite"
            )
        if ranks()[0] == 0:
            write_json(folder / "start.json", {"version": fingerprint, MONITOR: score})
    return score
