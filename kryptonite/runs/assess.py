"""A finished run put to the test on pairs of known truth; `evaluate.py`, `ablate.py` and `demo.py` use it."""

import json
import platform
import shlex
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from kryptonite.core.errors import DataError
from kryptonite.core.files import sha256_file, write_json
from kryptonite.data.audit.prepare import AUDIT
from kryptonite.data.protocol import load_protocol
from kryptonite.detection.aligner import AlignerConfig
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.cross import cross_fit
from kryptonite.fusion.fuse import FUSERS, Evidence
from kryptonite.inference.pipeline import CHUNK, FeatureTable, Pipeline
from kryptonite.report.analysis import ScoredPairs, compute_findings
from kryptonite.report.html import write_report
from kryptonite.report.quality import pair_facts, quality_facts
from kryptonite.robustness.table import read_ablation
from kryptonite.runs.stages import IMAGES

PACKAGES = (
    "torch",
    "timm",
    "facenet-pytorch",
    "kornia",
    "opencv-python",
    "scikit-learn",
    "numpy",
    "pandas",
)


@dataclass(frozen=True)
class Assessment:
    """Scored pairs, and what is known of how fair the test was.

    Args:
        scored: The pairs that could be scored.
        fitted: System to the function from the `fusion.fuse.Evidence` on these very pairs to scores.
        looks: What the branches saw in each image.
        unreadable: Pairs left out because an image cannot be read; columns as the protocol.
        seen: How many of the images, by content, were in the run's `train` and `val` splits.
    """

    scored: ScoredPairs
    fitted: dict[str, Any]
    looks: FeatureTable
    unreadable: pd.DataFrame
    seen: dict[str, int]

    @property
    def cross_fitted(self) -> bool:
        """Whether the fusions were fitted anew, each without the people it scores, because the stored ones had seen these images."""
        return self.seen["val"] > 0

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before believing a figure."""
        found = []
        if self.seen["train"]:
            found.append(
                f"{self.seen['train']} of the {len(self.scored.images)} images were trained on: the figures flatter the system."
            )
        if self.cross_fitted:
            found.append(
                f"{self.seen['val']} of the {len(self.scored.images)} images are validation images of this run. The fusions are therefore "
                "cross-fitted over identities, but the branches' checkpoints were picked on these people: expect more error on others."
            )
        if len(self.unreadable):
            found.append(
                f"{len(self.unreadable)} pairs are left out because an image cannot be read (verification and submissions refuse them)."
            )
        return found


def assess(pipeline: Pipeline, run: Path | str, pairs: pd.DataFrame) -> Assessment:
    """FeatureTable at every distinct image once and scores the pairs by every fusion of the run.

    Where the run's fusions were fitted on some of these images (recognised by content), they are fitted anew on these pairs, each scoring
    only people it has not seen.

    Args:
        pipeline: Of the run.
        run: Its folder.
        pairs: Columns `data.pairs.PAIR_COLUMNS`.

    Raises:
        DataError: No pair can be scored, or the run's folder lacks its list of images.
    """
    table, looks = pipeline.evidence(pairs)
    readable = table["readable"].to_numpy()
    if not readable.any():
        raise DataError(f"none of the {len(pairs)} pairs has two readable images")
    unreadable = table.loc[~readable, list(pairs.columns)].reset_index(drop=True)
    table = table[readable].drop(columns="readable").reset_index(drop=True)

    seen = _seen(Path(run), looks)
    evidence = Evidence.of(table)
    groups = [table[name].to_numpy() for name in ("kind", "label_a", "label_b")]
    if seen["val"]:
        folds = _config(run)["fusion"]["folds"]
        fitted = {
            name: cross_fit(name, evidence, *groups, folds=folds).score
            for name in pipeline.verifiers
        }
    else:
        fitted = {name: judge.fuser.score for name, judge in pipeline.verifiers.items()}
    scores = {name: score(evidence) for name, score in fitted.items()}

    images = _images(pipeline, looks, table)
    facts = images.set_index("key")
    table = table.join(pair_facts(facts.loc[table["key_a"]], facts.loc[table["key_b"]]))
    llrs = {
        name: llr for name, score in scores.items() if (llr := FUSERS[name].llr(score)) is not None
    }
    thresholds = {name: judge.threshold for name, judge in pipeline.verifiers.items()}
    return Assessment(
        ScoredPairs(table, images, scores, llrs, thresholds, pipeline.chosen),
        fitted,
        looks,
        unreadable,
        seen,
    )


def report(
    run: Path | str,
    pairs_file: Path | str,
    data_root: Path | str,
    out: Path | str,
    cache: Path | str,
    device: str = "auto",
    resamples: int = 1000,
) -> dict[str, Any]:
    """Assesses a run and writes the report: `out` (HTML) and the same figures as JSON beside it.

    Args:
        run: Folder of a finished run.
        pairs_file: As `data.protocol.load_protocol`.
        data_root: The data's root.
        out: HTML file to write.
        cache: Folder of the crop cache.
        device: `auto`, `cpu` or `cuda`.
        resamples: Of the bootstrap.

    Returns:
        What the JSON holds.

    Raises:
        KryptoniteError: The run, the pairs or the images are not what they must be.
    """
    pairs = load_protocol(pairs_file, data_root)
    assessment = assess(Pipeline.load(run, cache, device), run, pairs)
    scored = assessment.scored
    findings = compute_findings(scored, resamples)
    origin = provenance(run, pairs_file, data_root, resamples)
    warnings = [*assessment.warnings, *shortcut_warnings(run)]
    table = Path(run) / IMAGES
    known = set(pd.read_csv(table, dtype=str, keep_default_na=False)["species"])
    withheld = sorted(set(scored.pairs["species"]) - known - {""}) if known - {""} else []
    ablation = read_ablation(Path(run) / "ablation")
    write_report(
        Path(out),
        scored,
        findings,
        origin,
        warnings,
        len(assessment.unreadable),
        withheld,
        ablation,
    )
    whole = {
        **findings,
        "withheld": withheld,
        "warnings": warnings,
        "unreadable_pairs": len(assessment.unreadable),
        "provenance": origin,
    }
    write_json(Path(out).with_suffix(".json"), whole)
    return whole


def _seen(run: Path, looks: FeatureTable) -> dict[str, int]:
    try:
        known = pd.read_csv(run / IMAGES, dtype=str, usecols=["key", "split"])
    except (OSError, ValueError) as error:
        raise DataError(
            f"{run / IMAGES}: cannot be read ({error}); `python train.py` writes it"
        ) from error
    return {
        split: int(np.isin(looks.seen.keys, known.loc[known["split"] == split, "key"]).sum())
        for split in ("train", "val")
    }


def _images(pipeline: Pipeline, looks: FeatureTable, table: pd.DataFrame) -> pd.DataFrame:
    """The distinct images of the scored pairs, by content, with all that is known of each."""
    columns = ["path", "key", "label", "is_synthetic", "species"]
    sides = [
        table[[f"path_{s}", f"key_{s}", f"label_{s}", f"synthetic_{s}", "species"]].set_axis(
            columns, axis=1
        )
        for s in "ab"
    ]
    images = pd.concat(sides).drop_duplicates("key").reset_index(drop=True)
    images["is_synthetic"] = images["is_synthetic"].astype(bool)
    images["species"] = images["species"].where(images["is_synthetic"], "")
    rows, seen = looks.rows(images["path"]), looks.seen
    images = images.assign(log_odds=seen.log_odds[rows], failed=seen.status[rows] == CENTRE_CROP)
    pipeline.cache.ensure(
        images["path"].tolist()
    )  # what was seen may be kept longer than the crops
    template, keys = pipeline.recogniser.spec.template, seen.keys[rows]
    parts = [
        quality_facts(
            pipeline.cache.read_batch(keys[start : start + CHUNK], template).pixels,
            seen.boxes[rows[start : start + CHUNK]],
            pipeline.cache.read_landmarks(keys[start : start + CHUNK]),
        )
        for start in range(0, len(keys), CHUNK)
    ]
    return images.join(pd.concat(parts, ignore_index=True))


def data_root_of(run: Path | str) -> str:
    """The data root that a run was trained on.

    Raises:
        DataError: There is no such run.
    """
    return _config(run)["data"]["root"]


def _config(run: Path | str) -> dict[str, Any]:
    """The configuration that a run was trained with, as plain data."""
    try:
        return yaml.safe_load((Path(run) / "config.yaml").read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{run}: no finished run: config.yaml missing; `python train.py` makes one"
        ) from error


def shortcut_warnings(run: Path | str) -> list[str]:
    """Whether file facts betray the run's training data, as `prepare.py` found it; nothing where it was not asked or nothing leaks."""
    audit = Path(data_root_of(run)) / AUDIT
    if not audit.exists():
        return []
    try:
        shortcuts = json.loads(audit.read_text(encoding="utf-8"))["shortcuts"]
        leaks, verdict = shortcuts["leaks"], shortcuts["verdict"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{audit}: is no audit ({error}); `python prepare.py` makes one") from error
    if not leaks:
        return []
    aligner = AlignerConfig(**_config(run)["aligner"])
    trained = "with" if aligner.common_side or aligner.common_quality else "without"
    return [
        f"Shortcuts in the training data: {verdict}. The detector may have learnt this in place of a forgery's traces; "
        f"it was trained {trained} a common size and re-encoding."
    ]


def provenance(
    run: Path | str, pairs_file: Path | str, data_root: Path | str, resamples: int
) -> dict[str, Any]:
    """What made the figures: run, data, seeds, command, versions."""
    run = Path(run)
    config = _config(run)
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return {
        "run": str(run),
        "recognition": _describe(run / "recognition"),
        "liveness": _describe(run / "liveness"),
        "pairs": str(pairs_file),
        "pairs_sha256": sha256_file(pairs_file),
        "data_root": str(data_root),
        "split_hash": metrics["split_hash"],
        "seeds": {
            "split": config["data"]["seed"],
            "pairs": config["data"]["pairs"]["seed"],
            "recognition": config["recognition"]["seed"],
            "liveness": config["liveness"]["seed"],
            "bootstrap": 0,
        },
        "resamples": resamples,
        "command": shlex.join(["python", *sys.argv]),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
        },
        "device": "CUDA" if torch.cuda.is_available() else "CPU",
    }


def _describe(branch: Path) -> str:
    kept = json.loads((branch / "model.json").read_text(encoding="utf-8"))
    template = kept["input"]["template"]
    return f"{kept['network']['name']}, crop {template['size']} px with margin {template['margin']:g}; {kept['source']}"
