"""What made a run's figures, and what its training data warns of."""

from pathlib import Path
from typing import Any

import torch

from kryptonite.core.errors import DataError
from kryptonite.core.files import read_json, sha256_file
from kryptonite.data.audit.prepare import AUDIT
from kryptonite.detection.aligner import AlignerConfig
from kryptonite.fusion.verifier import load_origin
from kryptonite.nn.model import DESCRIPTION_FILE
from kryptonite.runs.circumstances import circumstances
from kryptonite.runs.origin import FINGERPRINT
from kryptonite.runs.run_dir import RunDir

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


def shortcut_warnings(run: RunDir) -> list[str]:
    """Warns where file facts betray the training data's `k_` images, as `kryptonite prepare` found.

    Returns:
        At most one warning; none where the data was not audited or nothing leaks.

    Raises:
        DataError: The audit is damaged.
    """
    config = run.read_config()
    audit = Path(config["data"]["root"]) / AUDIT
    if not audit.exists():
        return []
    try:
        shortcuts = read_json(audit)["shortcuts"]
        leaks, verdict = shortcuts["leaks"], shortcuts["verdict"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{audit}: not an audit ({error}); `kryptonite prepare` makes one"
        ) from error
    if not leaks:
        return []
    aligner = AlignerConfig(**config["aligner"])
    trained = "with" if aligner.common_side or aligner.common_quality else "without"
    return [
        f"Shortcuts in the training data: {verdict}. The detector may have learnt this in place of "
        f"a forgery's traces; it was trained {trained} a common size and re-encoding."
    ]


def split_warnings(run: RunDir) -> list[str]:
    """Warns where the run was validated on identities it was trained on, or probably was.

    Raises:
        DataError: The run's figures are damaged.
    """
    metrics = run.read_metrics()
    shared, alike = metrics.get("shared_identities", 0), metrics.get("alike_identities", 0)
    facts = {
        f"{shared} identities were in both the training and the validation split": shared,
        f"{alike} identities were probably in both the training and the validation split, under "
        "labels that differ in leading zeros or case alone": alike,
    }
    return [
        f"{fact}: the validation figures, and the threshold chosen on them, flatter the system."
        for fact, number in facts.items()
        if number
    ]


def provenance(
    run: RunDir, pairs_file: Path | str, data_root: Path | str, resamples: int
) -> dict[str, Any]:
    """Collects what made the figures: run, data, seeds, command, versions.

    Args:
        run: Folder of the run.
        pairs_file: The pairs that were scored.
        data_root: Folder of their photos.
        resamples: Bootstrap resamples behind the intervals.

    Raises:
        DataError: A file of the run is damaged or belongs to another.
    """
    config = run.read_config()
    metrics = run.read_metrics()
    fitted = load_origin(run.fusion).get(FINGERPRINT)
    if fitted is not None and fitted != metrics.get(FINGERPRINT):
        raise DataError(
            f"{run.metrics}: not the figures of {run.fusion.name}; `python train.py` with the "
            "run's settings writes both again"
        )
    return {
        "run": str(run.path),
        "recognition": _describe(run.recognition),
        "liveness": _describe(run.liveness),
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
        **circumstances(resamples, PACKAGES),
        "device": "CUDA" if torch.cuda.is_available() else "CPU",
    }


def _describe(branch: Path) -> str:
    kept = read_json(branch / DESCRIPTION_FILE)
    template = kept["input"]["template"]
    network = kept["network"].get("encoder", kept["network"])  # of a probe, or the network itself
    return (
        f"{network['name']}, crop {template['size']} px with margin "
        f"{template['margin']:g}; {kept['source']}"
    )
