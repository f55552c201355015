"""A run described in Markdown: what it is, what it was trained on, how good it is, what made it."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kryptonite.liveness.detector import Detector
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.config import RunConfig

_PACKAGES = ("torch", "timm", "facenet-pytorch", "kornia", "scikit-learn")


def model_card(
    config: RunConfig, metrics: dict[str, Any], recogniser: Recogniser, detector: Detector
) -> str:
    """Describes a run.

    Args:
        config: The run's configuration.
        metrics: What metrics.json holds.
        recogniser: The trained recognition branch.
        detector: The trained synthetic-image detector.
    """
    validation = metrics["validation"]

    def row(name: str, figures: dict[str, Any]) -> str:
        cells = []
        for metric in ("eer_challenge", "sv_eer", "spf_eer", "sasv_eer"):
            low, high = figures["intervals"][metric]
            cells.append(f"{figures[metric]:.2%} [{low:.2%}, {high:.2%}]")
        return f"| {name} | {' | '.join(cells)} |"

    pairs, failures = validation["pairs"], metrics["failures"]
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return "\n".join(
        [
            f"# Model card: {Path(config.run).name}",
            "",
            "Anti-spoof-aware face verification: a pair scores high only if both images are bona "
            "fide photos of one person.",
            "",
            f"- Recognition: `{config.recognition.backbone.name}`, {recogniser.source}, "
            f"crop {recogniser.spec.template.name}",
            f"- Liveness: `{config.liveness.backbone.name}`, {detector.source}, "
            f"crop {detector.spec.template.name}",
            f"- Differential detector: {_differential(metrics['stages'])}",
            f"- Fusion: `{config.fusion.name}`, threshold {validation['threshold']:.4f} "
            f"(FMR {100 * config.fusion.fmr:g}% on genuine validation photos)",
            f"- Data: split hash `{metrics['split_hash'][:12]}`, {failures['train']['images']} "
            f"training and {failures['val']['images']} validation images; no face found in "
            f"{failures['train']['failure_to_acquire']} and "
            f"{failures['val']['failure_to_acquire']} of them",
            *_genuine(config.data.genuine, failures),
            *_mixed_splits(metrics),
            f"- Seeds: pairs {config.data.pairs.seed}, recognition {config.recognition.seed}, "
            f"liveness {config.liveness.seed}",
            "",
            f"## Validation ({pairs['same']} same, {pairs['different']} different, "
            f"{pairs['synthetic']} synthetic pairs of {validation['identities']} people)",
            "",
            f"95% intervals from {config.fusion.resamples} bootstrap resamples over identities; "
            "fusion cross-fitted over identities.",
            "The branches' checkpoints, the offset of a probe and the threshold were chosen on "
            "these identities too, so the fused figures are somewhat optimistic.",
            "",
            "| system | EER (challenge) | SV-EER | SPF-EER | SASV-EER |",
            "| --- | --- | --- | --- | --- |",
            row("recognition alone", validation["recognition_alone"]),
            row("fused", validation["fused"]),
            "",
            f"Made with Python {platform.python_version()}, {packages}, on "
            f"{'CUDA' if torch.cuda.is_available() else 'CPU'}.",
            "Not for decisions about people without a human in the loop; the weights' own licences "
            "apply (see the README of Kryptonite).",
            "",
        ]
    )


def _genuine(roots: list[str], failures: dict[str, dict[str, int]]) -> list[str]:
    if not roots:
        return []
    train, val = (
        sum(failures[f"{split} of {root}"]["images"] for root in set(roots))
        for split in ("train", "val")
    )
    return [
        f"- Further genuine photos, of {len(roots)} other sources: {train} for training and {val} "
        "for validation"
    ]


def _mixed_splits(metrics: dict[str, Any]) -> list[str]:
    shared, alike = metrics.get("shared_identities", 0), metrics.get("alike_identities", 0)
    facts = {
        f"{shared} identities are in both splits": shared,
        f"{alike} identities are probably in both splits, under labels that differ in leading "
        "zeros or case alone": alike,
    }
    return [
        f"- **Warning**: {fact}; the validation figures flatter the system"
        for fact, number in facts.items()
        if number
    ]


def _differential(stages: dict[str, Any]) -> str:
    if "comparison" not in stages:
        return "none"
    pairs = stages["comparison"]["pairs"]
    tuned = stages["comparison"].get("validation_eer", {}).get("best_epoch")
    own = ", with a copy of the recogniser tuned on such pairs" if tuned else ""
    return (
        f"trained on {pairs['same']} pairs of genuine photos and {pairs['synthetic']} with a "
        f"k_ image{own}"
    )
