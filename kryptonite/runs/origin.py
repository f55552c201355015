"""What a run's fusions were fitted on, so that a folder whose parts disagree is never scored with.

A retraining replaces a run's parts one by one. Between two of them, or after a file was put there
by hand, the stored threshold belongs to other networks than those in the folder.
"""

from typing import Any

from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint, sha256_file
from kryptonite.detection.aligner import Aligner
from kryptonite.fusion.verifier import load_origin
from kryptonite.nn.train.fingerprints import model_fingerprint, strip_runtime
from kryptonite.recognition.differential import detector
from kryptonite.runs.run_dir import RunDir

BRANCHES, FINGERPRINT = "branches", "fingerprint"  # sections of fusion.json


def describe_branches(run: RunDir, aligner: Aligner) -> dict[str, Any]:
    """Hashes everything in a run's folder that its fusions depend on; JSON-able.

    Args:
        run: The folder, with its trained branches.
        aligner: Cuts the branches' crops.
    """
    config = run.read_config()
    aligned = {name: value for name, value in aligner.settings.items() if name != "revision"}
    described: dict[str, Any] = {
        "recognition": model_fingerprint(run.recognition),
        "liveness": model_fingerprint(run.liveness),
        "aligner": aligned,
        "config": fingerprint(
            [strip_runtime(config[name]) for name in ("recognition", "comparison", "liveness")]
        ),
        "images": sha256_file(run.images) if run.images.exists() else "",
    }
    if config["comparison"]["pairs"]:
        names = (detector.WEIGHTS_FILE, detector.DESCRIPTION_FILE)
        described["comparison"] = [sha256_file(run.comparison / name) for name in names]
        if detector.has_own_backbone(run.comparison):
            described["comparison"] += model_fingerprint(run.comparison)
    return described


def check_branches(run: RunDir, aligner: Aligner) -> None:
    """Checks that the folder holds what its fusions were fitted on.

    Folders of versions that did not store this are taken as they are.

    Raises:
        DataError: Names what differs, and how to mend it.
    """
    stored = load_origin(run.fusion).get(BRANCHES)
    if stored is None:
        return
    if not isinstance(stored, dict):
        raise DataError(f"{run.fusion}: not a fusion file ({BRANCHES} must be a mapping)")
    now = describe_branches(run, aligner)
    differing = [name for name in {**now, **stored} if now.get(name) != stored.get(name)]
    if differing:
        wrong = {
            "aligner": f"other aligner settings than those in {run.config.name}",
            "config": f"other training settings than those in {run.config.name}",
            "images": f"other images than those in {run.images.name}",
        }
        found = [wrong.get(name, f"another {name} model than the folder's") for name in differing]
        raise DataError(
            f"{run.fusion}: fitted on {', '.join(found)}. A training was cut short, or a file "
            "replaced; `python train.py` with the run's settings makes the parts agree again"
        )
