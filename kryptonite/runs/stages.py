"""A run from data to trained system: recognition, liveness, fusion, each stage skipped when done and unchanged."""

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import DataError
from kryptonite.core.files import atomic_path, fingerprint, sha256_file, write_json, write_text
from kryptonite.data.layouts import load_images
from kryptonite.data.pairs import load_pairs, make_pairs, save_pairs
from kryptonite.data.split import split_hash
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.faces import CENTRE_CROP, UNREADABLE
from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.fuse import (
    FUSERS,
    REVISION,
    Evidence,
    Verifier,
    fit_fuser,
    fuser_class,
    save_verifiers,
)
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.train import train_detector
from kryptonite.metrics.bootstrap import measure_pairs
from kryptonite.metrics.error_rates import detector_metrics, eer_threshold
from kryptonite.nn.train.ranks import ranks, wait_for_all
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.differential.train import train_differential
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.train import train_recogniser
from kryptonite.runs.config import RunConfig

PAIRS, IMAGES = "pairs_val.csv", "images.csv"  # in a run's folder

# Settings that say where or how fast a stage runs, not what comes out of it.
_INDIFFERENT = {"workers", "devices", "nodes", "accelerator"}


@dataclass(frozen=True)
class TrainingData:
    """Usable images of both splits, frozen validation pairs, and how to read a crop.

    Args:
        train: Columns of the image table plus key and status of the crop cache.
        val: Likewise.
        all_pairs: Frozen validation pairs.
        val_pairs: Those of them with both images usable.
        failures: Counts of unreadable files and of photos without a found face, per split.
        split: Hash of who is in which split.
        cache: The crops.
    """

    train: pd.DataFrame
    val: pd.DataFrame
    all_pairs: pd.DataFrame
    val_pairs: pd.DataFrame
    failures: dict[str, dict[str, int]]
    split: str
    cache: FaceCache

    def save(self, run: Path, root: str) -> None:
        """Leaves in the run's folder what was trained and validated on: the frozen pairs, and which image contents were in which split."""
        save_pairs(run / PAIRS, self.all_pairs, root)
        images = pd.concat([self.train, self.val])[
            ["key", "label", "split", "is_synthetic", "species"]
        ]
        with atomic_path(run / IMAGES) as temporary:
            images.to_csv(temporary, index=False)

    def reader(self, template: CropTemplate) -> Callable[[str], np.ndarray]:
        """Gives the function from cache key to crop that training reads by."""
        return partial(self.cache.read, template=template)


def run_experiment(config: RunConfig) -> dict[str, Any]:
    """Trains both branches, fits the judge, and leaves in the run's folder all that scoring needs.

    Called again after an interruption it goes on where it was; stages whose inputs have not changed are skipped.

    Returns:
        What `metrics.json` holds, on the rank that wrote it; an empty dict elsewhere.
    """
    fuser_class(config.fusion.name)  # a wrong name is told now, not after hours of training
    run = Path(config.run)
    main = ranks()[0] == 0
    if main:
        write_text(run / "config.yaml", yaml.safe_dump(asdict(config), sort_keys=False))
    data = prepare_training_data(config)
    if main:
        data.save(run, config.data.root)
    # Each stage is marked by what it reads, no more: other forgeries need not train the recogniser anew that never looks at them, nor need
    # another crop for the detector, whose keys in the cache are others.
    forgeries = config.recognition.spoof_weight > 0
    faces = data.cache.aligner.search_settings
    recognition = _stage(
        run / "recognition",
        {
            "config": _settings(config.recognition),
            "faces": faces,
            "weights": _weights_fingerprint(config.recognition.backbone.weights),
            "images": _images_fingerprint(
                data.train if forgeries else data.train[~data.train["is_synthetic"]]
            ),
            "pairs": _pairs_fingerprint(
                data.val_pairs[data.val_pairs["kind"] != "synthetic"], data.val
            ),
        },
        lambda folder, mark: train_recogniser(
            config.recognition,
            data.train,
            data.val,
            data.val_pairs,
            data.reader(config.recognition.template),
            folder,
            mark,
        ),
    )
    liveness = _stage(
        run / "liveness",
        {
            "config": _settings(config.liveness),
            "faces": faces,
            "weights": _weights_fingerprint(config.liveness.backbone.weights),
            "images": _images_fingerprint(data.train),
            "val_images": _images_fingerprint(data.val),
        },
        lambda folder, mark: train_detector(
            config.liveness,
            data.train,
            data.val,
            data.reader(config.liveness.template),
            folder,
            mark,
        ),
    )
    stages = {"recognition": recognition, "liveness": liveness}
    if config.comparison.pairs:
        read = data.reader(config.recognition.template)
        stages["comparison"] = _stage(
            run / "comparison",
            {
                "config": _settings(config.comparison),
                "faces": faces,
                "recogniser": _model_fingerprint(run / "recognition"),
                "images": _images_fingerprint(data.train),
                "pairs": _pairs_fingerprint(
                    data.val_pairs[data.val_pairs["kind"] != "different"], data.val
                )
                if config.comparison.fit.epochs
                else "",
            },
            lambda folder, mark: train_differential(
                config.comparison,
                Recogniser.load(run / "recognition"),
                data.train,
                data.val,
                data.val_pairs,
                read,
                folder,
                mark,
            ),
        )
    return _fuse(run, config, data, stages) if main else {}


def crop_cache(config: RunConfig) -> FaceCache:
    """The crops that both branches of a run read."""
    aligner = Aligner(
        config.aligner, list(dict.fromkeys([config.recognition.template, config.liveness.template]))
    )
    return FaceCache(Path(config.cache), aligner)


def prepare_training_data(config: RunConfig) -> TrainingData:
    """Loads the tables, aligns what is not in the cache, drops (and counts) unreadable files, freezes the validation pairs.

    Raises:
        DataError: A table is not what it must be, or nothing usable is left.
    """
    cache = crop_cache(config)
    frames, failures = {}, {}
    for split in ("train", "val"):
        images = load_images(config.data, split)
        faces = cache.ensure(list(images["path"]))
        images = images.assign(key=faces["key"].to_numpy(), status=faces["status"].to_numpy())
        unreadable = images["status"] == UNREADABLE
        failures[split] = {
            "images": len(images),
            "unreadable": int(unreadable.sum()),
            "failure_to_acquire": int((images["status"] == CENTRE_CROP).sum()),
        }
        frames[split] = images[~unreadable].reset_index(drop=True)
        if frames[split].empty:
            raise DataError(f"{config.data.root}: no readable image in the {split} split")
    pairs = _frozen_pairs(config, frames["val"])
    usable = pairs["path_a"].isin(frames["val"]["path"]) & pairs["path_b"].isin(
        frames["val"]["path"]
    )
    return TrainingData(
        frames["train"],
        frames["val"],
        pairs,
        pairs[usable].reset_index(drop=True),
        failures,
        split_hash(pd.concat(frames.values(), ignore_index=True)),
        cache,
    )


def _frozen_pairs(config: RunConfig, val: pd.DataFrame) -> pd.DataFrame:
    """The data's own `pairs_val.csv` where `prepare.py` left one, else those frozen in the run's folder, else newly drawn."""
    root = Path(config.data.root)
    for frozen in (root / PAIRS, Path(config.run) / PAIRS):
        if frozen.exists():
            pairs = load_pairs(frozen, root)
            if pairs["path_a"].isin(val["path"]).any():
                return pairs
    return make_pairs(val, config.data.pairs)


def _settings(config: Any) -> Any:
    """A configuration as plain data, without what does not change the result."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(item) for key, item in value.items() if key not in _INDIFFERENT}
        return value

    return strip(asdict(config))


def _weights_fingerprint(weights: str) -> str:
    return sha256_file(weights) if Path(weights).is_file() else weights


def _model_fingerprint(folder: Path) -> list[str]:
    """Of the weights and of what goes into them: the same weights see another crop, or one scaled otherwise, differently."""
    return [sha256_file(folder / name) for name in ("model.safetensors", "model.json")]


def _images_fingerprint(images: pd.DataFrame) -> str:
    images = images.assign(content=images["key"].map(FaceCache.content_of))
    return fingerprint(images[["content", "label", "is_synthetic"]].astype(str).to_numpy().tolist())


def _pairs_fingerprint(pairs: pd.DataFrame, images: pd.DataFrame) -> str:
    content = images.set_index("path")["key"].map(FaceCache.content_of)
    sides = [pairs[name].map(content) for name in ("path_a", "path_b")]
    return fingerprint(
        pd.concat([*sides, pairs["label_a"], pairs["label_b"], pairs["kind"]], axis=1)
        .astype(str)
        .to_numpy()
        .tolist()
    )


def _stage(
    folder: Path, inputs: dict[str, Any], train: Callable[[Path, str], tuple[Any, dict[str, Any]]]
) -> dict[str, Any]:
    """Runs one branch's training unless its folder holds the result of the same inputs; gives its metrics."""
    mark = fingerprint(inputs)
    done = folder / "stage.json"
    if done.exists():
        stage = json.loads(done.read_text(encoding="utf-8"))
        if stage["fingerprint"] == mark:
            print(f"{folder.name}: done already, unchanged, skipped", file=sys.stderr)
            return stage["metrics"]
    model, metrics = train(folder / "training", mark)
    if ranks()[0] == 0:
        model.save(folder)
        write_json(done, {"fingerprint": mark, "metrics": metrics})
    wait_for_all()
    return metrics


def _fuse(
    run: Path, config: RunConfig, data: TrainingData, stages: dict[str, Any]
) -> dict[str, Any]:
    """Fits the judge on the frozen validation pairs and writes fusion.json, metrics.json and the model card."""
    inputs = {
        "revision": REVISION,
        "config": asdict(config.fusion),
        "recognition": _model_fingerprint(run / "recognition"),
        "liveness": _model_fingerprint(run / "liveness"),
        "comparison": sha256_file(run / "comparison/stage.json") if config.comparison.pairs else "",
        "aligner": data.cache.aligner.settings,
        "pairs": _pairs_fingerprint(data.val_pairs, data.val),
    }
    mark = fingerprint(inputs)
    metrics_file = run / "metrics.json"
    if metrics_file.exists() and (run / "fusion.json").exists():
        metrics = json.loads(metrics_file.read_text(encoding="utf-8"))
        if metrics["fingerprint"] == mark:
            print("fusion: done already, unchanged, skipped", file=sys.stderr)
            return metrics
    comparer = DifferentialDetector.load(run / "comparison") if config.comparison.pairs else None
    pipeline = Pipeline(
        Recogniser.load(run / "recognition"),
        Detector.load(run / "liveness"),
        config.aligner,
        Path(config.cache),
        comparer,
    )
    pairs, looks = pipeline.evidence(data.val_pairs)
    evidence, kind, shown = Evidence.of(pairs), pairs["kind"].to_numpy(), looks.content >= 0
    groups = [pairs[name].to_numpy() for name in ("label_a", "label_b")]
    scores = {
        name: cross_fit(name, evidence, kind, *groups, folds=config.fusion.folds).score(evidence)
        for name in FUSERS
    }
    found = evidence.acquired  # no threshold may be that of a pair that is refused in any case
    verifiers = {
        name: Verifier(
            fit_fuser(name, evidence, kind), eer_threshold(kind[found] == "same", score[found])
        )
        for name, score in scores.items()
    }
    save_verifiers(run / "fusion.json", config.fusion.name, verifiers)
    figures = {
        name: measure_pairs(
            *groups,
            kind,
            score,
            verifiers[name].threshold,
            FUSERS[name].llr(score),
            config.fusion.resamples,
        )
        for name, score in scores.items()
    }
    synthetic = dict(zip(data.val["path"], data.val["is_synthetic"], strict=True))
    metrics = {
        "fingerprint": mark,
        "validation": {
            "pairs": {
                name: int((kind == name).sum()) for name in ("same", "different", "synthetic")
            },
            "identities": int(pd.unique(np.concatenate(groups)).size),
            "recognition_alone": figures["none"],
            "fused": {**figures[config.fusion.name], "fusion": config.fusion.name},
            "fusions": figures,
            "detector": detector_metrics(
                np.array([synthetic[path] for path in looks.paths[shown]]),
                looks.seen.log_odds[looks.content[shown]],
            ),
            "threshold": verifiers[config.fusion.name].threshold,
        },
        "stages": stages,
        "failures": data.failures,
        "split_hash": data.split,
    }
    write_json(metrics_file, metrics)
    write_text(run / "model_card.md", model_card(config, metrics, pipeline))
    return metrics


def _compared(stages: dict[str, Any]) -> str:
    if "comparison" not in stages:
        return "none"
    pairs = stages["comparison"]["pairs"]
    own = stages["comparison"].get("validation_eer", {}).get("best_epoch")
    tuned = ", with a copy of the recogniser tuned on such pairs" if own else ""
    return f"trained on {pairs['same']} pairs of genuine photos and {pairs['synthetic']} with a k_ image{tuned}"


def model_card(config: RunConfig, metrics: dict[str, Any], pipeline: Pipeline) -> str:
    """A run described in Markdown: what it is, what it was trained on, how good it is, what made it."""
    validation = metrics["validation"]

    def row(name: str, figures: dict[str, Any]) -> str:
        cells = []
        for metric in ("eer_challenge", "sv_eer", "spf_eer", "sasv_eer"):
            low, high = figures["intervals"][metric]
            cells.append(f"{figures[metric]:.2%} [{low:.2%}, {high:.2%}]")
        return f"| {name} | {' | '.join(cells)} |"

    pairs, failures = validation["pairs"], metrics["failures"]
    recogniser, detector = pipeline.recogniser, pipeline.detector
    packages = ", ".join(
        f"{name} {version(name)}"
        for name in ("torch", "timm", "facenet-pytorch", "kornia", "scikit-learn")
    )
    return "\n".join(
        [
            f"# Model card: {Path(config.run).name}",
            "",
            "Anti-spoof-aware face verification: a pair scores high only if both images are bona fide photos of one person.",
            "",
            f"- Recognition: `{config.recognition.backbone.name}`, {recogniser.source}, crop {recogniser.spec.template.name}",
            f"- Liveness: `{config.liveness.backbone.name}`, {detector.source}, crop {detector.spec.template.name}",
            f"- DifferentialDetector: {_compared(metrics['stages'])}",
            f"- Fusion: `{config.fusion.name}`, threshold {validation['threshold']:.4f} (validation EER)",
            f"- Data: split hash `{metrics['split_hash'][:12]}`, {failures['train']['images']} training and "
            f"{failures['val']['images']} validation images; no face found in {failures['train']['failure_to_acquire']} and "
            f"{failures['val']['failure_to_acquire']} of them (centre crop)",
            f"- Seeds: pairs {config.data.pairs.seed}, recognition {config.recognition.seed}, liveness {config.liveness.seed}",
            "",
            f"## Validation ({pairs['same']} same, {pairs['different']} different, {pairs['synthetic']} synthetic pairs of "
            f"{validation['identities']} people)",
            "",
            f"95% intervals from {config.fusion.resamples} bootstrap resamples over identities; fusion cross-fitted over identities.",
            "The detector's checkpoint was chosen on these identities too, so the fused figures are somewhat optimistic.",
            "",
            "| system | EER (challenge) | SV-EER | SPF-EER | SASV-EER |",
            "| --- | --- | --- | --- | --- |",
            row("recognition alone", validation["recognition_alone"]),
            row("fused", validation["fused"]),
            "",
            f"Made with Python {platform.python_version()}, {packages}, on {'CUDA' if torch.cuda.is_available() else 'CPU'}.",
            "Not for decisions about people without a human in the loop; the weights' own licences apply (see README).",
            "",
        ]
    )
