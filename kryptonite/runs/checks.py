"""What must hold before a training starts: checked in seconds, not found out after hours."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kryptonite.core.device import choose_device
from kryptonite.core.errors import ConfigError, DataError, MetricError
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import fuser_class
from kryptonite.metrics.kinds import KINDS
from kryptonite.nn.autoencoder import RoundTrip
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.train.config import FitConfig
from kryptonite.nn.weights import build_timm
from kryptonite.recognition.backbones import build_backbone
from kryptonite.runs.config import RunConfig
from kryptonite.runs.run_dir import RunDir

_KIND_NEEDS = {
    "same": "two genuine photos of one person",
    "different": "genuine photos of two people",
    "synthetic": "a genuine photo and a k_ image of one person",
}


def check_config(config: RunConfig) -> None:
    """Checks that this machine can train as configured.

    Raises:
        ConfigError: A name is unknown, a device is not there, or the folder is a published run's.
        WeightsError: Weights cannot be had, are damaged or do not fit their network.
    """
    if RunDir(Path(config.run)).published_config.exists():
        raise ConfigError(f"{config.run}: holds a published run; train into another folder")
    fuser_class(config.fusion.name)
    choose_device(config.aligner.device)
    branches = ("recognition", "liveness", *(["comparison"] if config.comparison.pairs else []))
    for name in branches:
        _check_hardware(name, getattr(config, name).fit)
    _check_networks(config)
    if config.liveness.autoencoder:
        RoundTrip.load(Path(config.liveness.autoencoder))


def _check_networks(config: RunConfig) -> None:
    """Builds both branches' networks with their initial weights, as the training will.

    What the run was trained with and a hub gave is not asked of the hub again, so that a run can
    be finished without it.
    """
    before: dict[str, Any] = {}
    with suppress(DataError):
        before = RunDir(Path(config.run)).read_config()
    face, liveness = config.recognition, config.liveness
    builds = {
        "recognition": lambda: build_backbone(face.backbone, face.embedding_dim),
        "liveness": lambda: (
            build_encoder(liveness.backbone, liveness.template.size)
            if liveness.probe.passes
            else build_timm(liveness.backbone, 1)
        ),
    }
    with torch.random.fork_rng(devices=[]):  # training draws as if nothing had been built
        for name, build in builds.items():
            backbone = getattr(config, name).backbone
            known = before.get(name, {}).get("backbone") == asdict(backbone)
            if not (known and backbone.weights == "hub"):
                build()


def _check_hardware(branch: str, fit: FitConfig) -> None:
    place = f"{branch}.fit.accelerator {fit.accelerator}"
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = torch.backends.mps.is_available()
    usable = {"cuda": gpus, "gpu": gpus or apple}.get(fit.accelerator, True)
    if not usable:
        raise ConfigError(f"{place}: torch finds no GPU here; use auto or cpu")
    if fit.accelerator == "mps" and not apple:
        raise ConfigError(f"{place}: torch finds no Apple GPU here; use auto or cpu")
    if gpus and fit.accelerator != "cpu" and fit.devices > gpus:
        raise ConfigError(
            f"{branch}.fit.devices {fit.devices}: this machine has {gpus} "
            f"{'GPUs' if gpus > 1 else 'GPU'}"
        )


def check_kinds(kinds: Iterable[str], source: str) -> None:
    """Checks that pairs to measure are of all three kinds.

    Args:
        kinds: The pairs' kinds.
        source: Names the pairs in the message.

    Raises:
        DataError: Names the kinds that are missing.
    """
    missing = sorted(set(KINDS) - set(kinds), key=KINDS.index)
    if missing:
        needed = "; ".join(f"{kind!r} ({_KIND_NEEDS[kind]})" for kind in missing)
        raise DataError(
            f"{source}: no readable pair of kind {needed}. Error rates need pairs of the kinds "
            f"{', '.join(KINDS)}"
        )


def check_images(config: RunConfig, train: pd.DataFrame, val: pd.DataFrame) -> None:
    """Checks that both splits hold what every branch needs.

    Args:
        config: The run's configuration.
        train: Readable training images: columns label, is_synthetic, status.
        val: Readable validation images: likewise.

    Raises:
        DataError: Names the branch, the split, what is missing and what to do.
    """
    root = config.data.root
    for split, images in (("training", train), ("validation", val)):
        if (images["status"] == CENTRE_CROP).all():
            raise DataError(
                f"{root}: no face is found in any of the {len(images)} {split} images; are these "
                "photos of faces, and not smaller than aligner.retry_min_face?"
            )
        synthetic = images["is_synthetic"].astype(bool)
        if synthetic.all():
            raise DataError(f"{root}: recognition cannot be trained: no genuine {split} photo")
        if not synthetic.any():
            raise DataError(
                f"{root}: liveness cannot be trained: no synthetic (k_) {split} image among "
                f"{len(images)}; forgeries are named k_*, or marked 1 in meta.json"
            )
    bona_fide = train[~train["is_synthetic"].astype(bool)]
    if bona_fide["label"].nunique() < 2:
        raise DataError(
            f"{root}: recognition cannot be trained: all genuine training photos show one person; "
            "it needs two people or more"
        )
    both = set(bona_fide["label"]) & set(train.loc[train["is_synthetic"].astype(bool), "label"])
    paired = config.liveness.paired and not config.liveness.probe.passes
    if paired and not both:
        raise DataError(
            f"{root}: liveness cannot be trained: no training identity has both genuine and "
            "synthetic (k_) images; check the labels, or train with liveness.paired false"
        )
    if config.comparison.pairs:
        _check_pairs_of(train, ("same", "synthetic"), f"{root}: comparison", "training")
    _check_pairs_of(val, KINDS, f"{root}: validation", "validation")


def _check_pairs_of(images: pd.DataFrame, kinds: Iterable[str], part: str, split: str) -> None:
    """Checks that the images of a split give a pair of each kind."""
    synthetic = images["is_synthetic"].astype(bool)
    photos = images.loc[~synthetic, "label"].value_counts()
    there = {
        "same": bool((photos > 1).any()),
        "different": len(photos) > 1,
        "synthetic": bool(set(photos.index) & set(images.loc[synthetic, "label"])),
    }
    for kind in kinds:
        if not there[kind]:
            raise DataError(
                f"{part} is impossible: the {split} split has no pair of kind {kind!r} "
                f"({_KIND_NEEDS[kind]}) among {images['label'].nunique()} people and "
                f"{len(images)} images; add such images"
                + (", or train with comparison.pairs 0" if split == "training" else "")
            )


def check_pairs(config: RunConfig, pairs: pd.DataFrame, val: pd.DataFrame) -> None:
    """Checks that the validation pairs can choose weights and fit the fusions.

    Args:
        config: The run's configuration.
        pairs: Usable validation pairs: columns path_a, path_b, label_a, label_b, kind.
        val: Validation images: columns path, status.

    Raises:
        DataError: Names the kind of pair that is missing, or too few people for the folds.
        ConfigError: Too few folds.
    """
    status = val.set_index("path")["status"]
    acquired = np.logical_and(
        *((status[pairs[side]] != CENTRE_CROP).to_numpy() for side in ("path_a", "path_b"))
    )
    kind = pairs["kind"].to_numpy()
    for each in KINDS:
        if not (kind[acquired] == each).any():
            raise DataError(
                f"{config.data.root}: fusion cannot be fitted: no validation pair of kind {each!r} "
                f"with a face in both images ({int((kind == each).sum())} of {len(pairs)} pairs "
                f"are of this kind); it needs {_KIND_NEEDS[each]}"
            )
    blank = np.zeros(len(pairs), np.float32)
    people = pairs["label_a"].to_numpy(), pairs["label_b"].to_numpy()
    try:
        # The fusion 'none' has no parameters: this only deals the pairs into folds.
        cross_fit(
            "none",
            Evidence(blank, blank, blank, blank, acquired),
            kind,
            *people,
            folds=config.fusion.folds,
        )
    except MetricError as error:
        raise DataError(f"{config.data.root}: fusion cannot be fitted: {error}") from error
