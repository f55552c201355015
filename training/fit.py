"""One call that trains a branch: resumes, averages weights, stops early, keeps the best, never less than the start."""

import json
import logging
import math
import shutil
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch.utils.data import DataLoader

from common.errors import MetricError
from common.files import write_json
from common.memory import keep_freed_memory
from training.config import FitConfig
from training.ranks import ranks, wait_for_all

MONITOR = "val_eer"


@dataclass(frozen=True)
class FitResult:
    """What training came to; scores are validation EERs in 0..1.

    Args:
        start_score: Of the weights training began with.
        best_score: Of the weights kept; at most `start_score`.
        best_epoch: 1-based epoch of the weights kept; 0 means the start weights.
        seconds: Wall-clock time of this call.
    """

    start_score: float
    best_score: float
    best_epoch: int
    seconds: float


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
    with the same one, training goes on after the last whole epoch; with another, it starts anew.

    Args:
        module: Holds the network as `module.network`.
        train_loader: Its batch sampler shares the batches out among the ranks.
        val_loader: The whole validation set, on every rank.
        folder: For checkpoints and logs.
        config: Length, precision, devices.
        seed: Seeds torch, numpy and Python, workers included.
        version: Fingerprint of everything that decides the result.

    Returns:
        Scores of the start and of what was kept.
    """
    began = time.perf_counter()
    keep_freed_memory()
    _own_folder(folder, version)
    pl.seed_everything(seed, workers=True, verbose=False)
    # Lightning's hints on workers and loggers are decided here already; its startup table of devices helps nobody.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*|.*num_workers.*|.*persistent_workers.*")
    warnings.filterwarnings("ignore", message=".*isinstance.treespec.*|.*LeafSpec.*|.*Checkpoint directory.*|.*logging interval.*")
    # Every rank validates on the whole set and logs the same figure.
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)

    checkpoint = ModelCheckpoint(
        folder,
        filename="best",
        monitor=MONITOR,
        mode="min",
        save_top_k=1,
        save_last=True,
        enable_version_counter=False,
    )
    callbacks = [checkpoint, EarlyStopping(MONITOR, mode="min", patience=config.patience), TQDMProgressBar(refresh_rate=5)]
    if config.ema_decay > 0:
        callbacks.append(EMAWeightAveraging(decay=config.ema_decay))
    trainer = pl.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if config.devices * config.nodes > 1 else "auto",
        precision=config.precision,
        max_epochs=config.epochs,
        gradient_clip_val=config.gradient_clip,
        use_distributed_sampler=False,  # the batch samplers know their rank
        num_sanity_val_steps=0,
        callbacks=callbacks,
        logger=[CSVLogger(folder, name="csv"), TensorBoardLogger(folder, name="", version="tensorboard")],
        log_every_n_steps=10,
        enable_model_summary=False,
    )
    start_score = _start_score(trainer, module, val_loader, folder, version)
    best_epoch, best_score = 0, start_score
    if config.epochs > 0:
        start_weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        last = folder / "last.ckpt"
        trainer.fit(module, train_loader, val_loader, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        wait_for_all()
        found = checkpoint.best_model_score
        if found is not None and float(found) < start_score:
            best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)
            best_epoch, best_score = int(best["epoch"]) + 1, float(found)
            module.load_state_dict(best["state_dict"])
        else:
            module.load_state_dict(start_weights)
    module.cpu().eval()
    return FitResult(start_score, best_score, best_epoch, time.perf_counter() - began)


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


def _start_score(trainer: pl.Trainer, module: pl.LightningModule, loader: DataLoader, folder: Path, version: str) -> float:
    """Validation EER before the first step; read back when training is resumed."""
    score = _kept_start(folder, version)
    if score is None:
        score = float(trainer.validate(module, loader, verbose=False)[0][MONITOR])
        if not math.isfinite(score):
            raise MetricError(f"validation gave {MONITOR}={score} before training; it must be finite")
        if trainer.is_global_zero:
            write_json(folder / "start.json", {"version": version, MONITOR: score})
    return score
