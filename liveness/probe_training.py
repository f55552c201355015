"""Training of a probe: views of the images are encoded once, then a classifier is fitted on them.

The encoder stays frozen, so a view's features never change: they are kept on disk, and an
interrupted training goes on where it stopped.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from torch import nn
from tqdm import tqdm

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import InputSpec
from kryptonite.core.device import choose_device, state_device
from kryptonite.core.errors import DataError, TrainingError
from kryptonite.core.tensors import load_tensors, save_tensors
from kryptonite.liveness.config import LivenessConfig, ProbeConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.forgeries import Draw, ForgedCrops, draw_forgeries
from kryptonite.liveness.probe import BONA_FIDE, KNOWN, Probe
from kryptonite.metrics.error_rates import eer
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.train.augment import Augment
from kryptonite.nn.train.datasets import VAL_BATCH, CropDataset, crop_loader
from kryptonite.nn.train.job import TrainingJob

_MASS = {BONA_FIDE: 0.4, KNOWN: 0.4}  # of the weight of all views
_FORGED = 0.2  # what remains, shared evenly by the kinds made here
_CHUNK = 1024  # views per file

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """An image to encode.

    Args:
        draw: The crop, or a forgery of it.
        kind: What it shows.
    """

    draw: Draw
    kind: str


@dataclass(frozen=True)
class Encoded:
    """Features of images, and what the images show.

    Args:
        features: float16, or float32 of that precision, N×F.
        kind: N names of kinds of images.
        source: N names of data sources.
    """

    features: np.ndarray
    kind: np.ndarray
    source: np.ndarray

    @classmethod
    def of_images(cls, features: np.ndarray, images: pd.DataFrame) -> "Encoded":
        """Describes images that are as they were read: columns is_synthetic, source."""
        kind = np.where(images["is_synthetic"], KNOWN, BONA_FIDE)
        return cls(features, kind, images["source"].to_numpy())

    def select(self, chosen: np.ndarray) -> "Encoded":
        """Selects images by a mask, N bool."""
        return Encoded(self.features[chosen], self.kind[chosen], self.source[chosen])


def draw_views(config: LivenessConfig, forged: ForgedCrops, synthetic: np.ndarray) -> list[View]:
    """Draws what is encoded: in every pass each image once, and forgeries of the bona fide ones.

    Args:
        config: Passes, forgeries, seed.
        forged: Knows which kind of forgery a draw gives.
        synthetic: N bool, which rows are.
    """
    generator = np.random.default_rng(config.seed)
    bona_fide = np.flatnonzero(~synthetic)
    views = []
    for _ in range(config.probe.passes):
        views += [
            View(Draw(row), KNOWN if synthetic[row] else BONA_FIDE) for row in range(len(synthetic))
        ]
        for _ in range(config.probe.forgeries):
            draws = draw_forgeries(bona_fide, len(synthetic), generator)
            views += [View(draw, forged.kind(draw)) for draw in draws]
    return [views[index] for index in generator.permutation(len(views))]


def train_probe(
    config: LivenessConfig, images: pd.DataFrame, val_images: pd.DataFrame, job: TrainingJob
) -> tuple[Detector, dict[str, Any]]:
    """Encodes views, fits the classifier and sets its offset on the validation images.

    One device does it. In a distributed run every rank does the same, and none waits for another.

    Args:
        config: Settings; `probe.passes` is at least 1.
        images: Columns key, identity, is_synthetic, source.
        val_images: Likewise.
        job: Reads crops of `config.template`; holds the features.

    Returns:
        The detector and its figures.

    Raises:
        TrainingError: The encoder gives features that are not finite.
    """
    pl.seed_everything(config.seed, workers=True, verbose=False)
    loaded = build_encoder(config.backbone, config.template.size)
    _LOG.info("liveness: probe on %s, %s", config.backbone.name, loaded.source)
    spec = InputSpec(config.template, "RGB", loaded.mean, loaded.std)
    device = choose_device("cpu" if config.fit.accelerator == "cpu" else "auto")
    state_device("encoding views for the probe", device)
    unfitted = Probe(loaded.network, [BONA_FIDE]).to(device).eval()
    encoder = Encoder(unfitted, spec, device, "bf16" in config.fit.precision)
    views = encode_views(config, images, job, encoder)
    # In full precision, as the detector runs: the offset must hold for the log-odds it will give.
    precise = replace(encoder, bf16=False)
    shown = encode_images(precise, CropDataset(val_images, job.read), config.fit.workers)
    val = Encoded.of_images(shown, val_images)
    probe = fit_probe(config, loaded.network, views, val)
    kinds = _kinds(config, views)
    blueprint = {"encoder": loaded.blueprint, "kinds": kinds}
    return Detector(probe, blueprint, spec, loaded.source), {
        "validation_eer": {"best_score": eer(val.kind != BONA_FIDE, score(probe, val.features))},
        "views": {kind: int((views.kind == kind).sum()) for kind in kinds},
    }


def fit_probe(config: LivenessConfig, network: nn.Module, views: Encoded, val: Encoded) -> Probe:
    """Fits the classifier and sets its offset on the validation images.

    Args:
        config: Settings.
        network: The encoder.
        views: What to fit on: bona fide images, and one kind of forgery at least. Features in
            float32 are overwritten.
        val: Validation images, some of them bona fide.
    """
    kinds = _kinds(config, views)
    _LOG.info("liveness: fitting %d kinds on %d views", len(kinds), len(views.kind))
    probe = Probe(network, kinds)
    kind = np.array([kinds.index(each) for each in views.kind])
    weights = view_weights(views.kind, views.source)
    fit_head(probe.head, views.features, kind, weights, config.probe)
    log_odds = score(probe, val.features)
    offset = alarm_offset(log_odds, val.kind != BONA_FIDE, val.source, config.probe.alarms)
    with torch.no_grad():
        probe.head.bias[0] += offset
    return probe


def score(probe: Probe, features: np.ndarray) -> np.ndarray:
    """Maps features, float16 N×F, to log-odds, float32 N, where the head is."""
    with torch.no_grad():
        there = torch.from_numpy(features).float().to(probe.head.weight.device)
        return probe.log_odds(there).cpu().numpy()


def _kinds(config: LivenessConfig, views: Encoded) -> list[str]:
    """Lists the kinds that a classifier tells apart, bona fide first."""
    shown = set(views.kind)
    return [kind for kind in (BONA_FIDE, KNOWN, *config.made_kinds) if kind in shown]


def view_weights(kind: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Weighs views so that kinds have fixed masses and sources within a kind equal ones.

    Args:
        kind: N names.
        source: N names of data sources.

    Returns:
        N weights with a sum of 1.
    """
    weights, names = np.zeros(len(kind)), set(kind)
    for name in names:
        mass = _MASS[name] if name in _MASS else _FORGED / len(names - set(_MASS))
        sources = np.unique(source[kind == name])
        for each in sources:
            rows = (kind == name) & (source == each)
            weights[rows] = mass / len(sources) / rows.sum()
    return weights / weights.sum()


def fit_head(
    head: torch.nn.Linear,
    features: np.ndarray,
    kind: np.ndarray,
    weights: np.ndarray,
    config: ProbeConfig,
) -> None:
    """Fits a linear layer by multinomial logistic regression, in place.

    Args:
        head: F inputs, K outputs.
        features: N×F; overwritten if float32.
        kind: N integers below K.
        weights: N, with a sum of 1.
        config: Weight decay.
    """
    # Imported here because scoring, which fits nothing, starts a second sooner without it.
    from sklearn.linear_model import LogisticRegression

    # In place, with sums in double precision: further copies of the matrix would take gigabytes.
    scaled = features.astype(np.float32, copy=False)
    centre = scaled.mean(0, dtype=np.float64).astype(np.float32)
    scaled -= centre
    squares = np.einsum("nf,nf->f", scaled, scaled, dtype=np.float64) / len(scaled)
    spread = np.maximum(np.sqrt(squares), 1e-6).astype(np.float32)
    spread *= np.sqrt(features.shape[1]).astype(np.float32)  # makes the decay independent of F
    scaled /= spread
    model = LogisticRegression(C=1 / (2 * config.decay), max_iter=500)
    model.fit(scaled, kind, sample_weight=weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(coefficients) == 1:  # two classes share one row
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    slopes = coefficients / spread
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(slopes))
        head.bias.copy_(torch.from_numpy(intercepts - slopes @ centre))


def alarm_offset(
    log_odds: np.ndarray, synthetic: np.ndarray, source: np.ndarray, alarms: float
) -> float:
    """Finds what to subtract so that bona fide images are rarely called synthetic at 0.

    Args:
        log_odds: N validation log-odds.
        synthetic: N bool.
        source: N names of data sources.
        alarms: Fraction of bona fide images above 0 in the source that has most of them, 0..1.
    """
    bona_fide = ~synthetic
    return max(
        float(np.quantile(log_odds[bona_fide & (source == each)], 1 - alarms))
        for each in np.unique(source[bona_fide])
    )


@dataclass(frozen=True)
class Encoder:
    """Extracts features of a batch: float32 N×3×S×S in 0..1 to float16 N×F."""

    probe: Probe
    spec: InputSpec
    device: torch.device
    bf16: bool

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> np.ndarray:
        images = self.spec.normalise(images.to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            features = self.probe.features(images)
        if not torch.isfinite(features).all():
            raise TrainingError("the encoder gives features that are not finite")
        return features.cpu().numpy().astype(np.float16)


def encode_images(encoder: Encoder, crops: CropDataset, workers: int) -> np.ndarray:
    """Encodes crops as they are: float16 N×F.

    Args:
        encoder: Extracts the features.
        crops: N crops.
        workers: Number of processes that read them.
    """
    loader = crop_loader(crops, workers, batch_size=VAL_BATCH)
    return np.concatenate([encoder(batch.crop.float() / 255) for batch in tqdm(loader, "encode")])


def encode_views(
    config: LivenessConfig, images: pd.DataFrame, job: TrainingJob, encoder: Encoder | None
) -> Encoded:
    """Draws and encodes views of training images; takes the features that an earlier call kept.

    Args:
        config: Settings.
        images: Columns key, identity, is_synthetic, source.
        job: Reads crops of `config.template`; holds the features.
        encoder: Extracts features that were not kept; None refuses to.

    Raises:
        DataError: There is no encoder, and features are missing or damaged.
    """
    crops, source = CropDataset(images, job.read), images["source"].to_numpy()
    forged = ForgedCrops(crops, config, source)
    views = draw_views(config, forged, crops.synthetic)
    # At once in the precision that the classifier is fitted in, so that it takes no copy.
    features = np.empty((len(views), 0), np.float32)
    for number, chunk in enumerate(tqdm(list(chunked(views, _CHUNK)), "encode views")):
        file = job.folder / f"views-{job.fingerprint[:16]}-{number:04d}.safetensors"
        encode = encoder and partial(_encode_chunk, config, encoder, forged, chunk, number)
        part = kept_features(file, encode)
        if not number:
            features = np.empty((len(views), part.shape[1]), np.float32)
        features[number * _CHUNK :][: len(part)] = part
    kind = np.array([view.kind for view in views])
    return Encoded(features, kind, source[[view.draw.row for view in views]])


def kept_features(file: Path, encode: Callable[[], np.ndarray] | None) -> np.ndarray:
    """Reads features from a file, or computes them and keeps them there.

    Args:
        file: Where an earlier call kept them.
        encode: Computes them; None refuses to.

    Raises:
        DataError: The file is missing or damaged, and nothing computes the features.
    """
    try:
        return load_tensors(file, ["features"]).tensors["features"]
    except DataError:
        if encode is None:
            raise
    features = encode()
    save_tensors(file, {"features": features})
    return features


def _encode_chunk(
    config: LivenessConfig,
    encoder: Encoder,
    forged: ForgedCrops,
    views: Iterable[View],
    number: int,
) -> np.ndarray:
    augment = Augment(config.augment)
    torch.manual_seed(config.seed + number)  # the same augmentation after an interruption
    return np.concatenate([encoder(augment(batch)) for batch in _batches(config, forged, views)])


def _batches(
    config: LivenessConfig, forged: ForgedCrops, views: Iterable[View]
) -> Iterator[torch.Tensor]:
    draws = [view.draw for view in views]
    batches = list(chunked(draws, 2 * config.pairs_per_batch))
    loader = crop_loader(forged, config.fit.workers, batch_sampler=batches)
    for batch in loader:
        yield batch.crop.float() / 255
