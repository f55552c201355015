"""What a run's fusions were fitted on, so that a folder whose parts disagree is never scored with.

A retraining replaces a run's parts one by one. Between two of them, or after a file was put there
by hand, the stored threshold belongs to other networks than those in the folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kryptonite.core.errors import DataError
from kryptonite.core.files import fingerprint, refuse_unknown, sha256_file
from kryptonite.detection.aligner import Aligner
from kryptonite.fusion.verifier import load_origin
from kryptonite.nn.train.fingerprints import model_fingerprint, strip_runtime
from kryptonite.recognition.differential import detector
from kryptonite.runs.run_dir import RunDir

BRANCHES, FINGERPRINT, PAIRS = "branches", "fingerprint", "pairs"  # sections of fusion.json


def describe_branches(
    run: RunDir,
    aligner: Aligner,
    config: dict[str, Any] | None = None,
    hashed: Mapping[Path, str] | None = None,
) -> dict[str, Any]:
    """Hashes everything in a run's folder that its fusions depend on; JSON-able.

    Args:
        run: The folder, with its trained branches.
        aligner: Cuts the branches' crops.
        config: The run's configuration; read unless given.
        hashed: SHA-256 of weights files that were hashed while they were loaded.
    """
    config = run.read_config() if config is None else config
    aligned = {name: value for name, value in aligner.settings.items() if name != "revision"}
    described: dict[str, Any] = {
        "recognition": model_fingerprint(run.recognition, hashed),
        "liveness": model_fingerprint(run.liveness, hashed),
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
            described["comparison"] += model_fingerprint(run.comparison, hashed)
    return described


def check_branches(
    run: RunDir,
    aligner: Aligner,
    config: dict[str, Any] | None = None,
    hashed: Mapping[Path, str] | None = None,
) -> None:
    """Checks that the folder holds what its fusions were fitted on.

    Folders of versions that did not store this are taken as they are.

    Args:
        run: As for `describe_branches`, likewise the others.
        aligner: See there.
        config: See there.
        hashed: See there.

    Raises:
        DataError: Names what differs, and how to mend it.
    """
    origin = load_origin(run.fusion)
    try:
        refuse_unknown(origin, (BRANCHES, FINGERPRINT, PAIRS))
    except ValueError as error:
        raise DataError(f"{run.fusion}: not a fusion file ({error})") from error
    stored = origin.get(BRANCHES)
    if stored is None:
        return
    if not isinstance(stored, dict):
        raise DataError(f"{run.fusion}: not a fusion file ({BRANCHES} must be a mapping)")
    now = describe_branches(run, aligner, config, hashed)
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


def own_pairs_changed(run: RunDir) -> bool:
    """Whether the frozen pairs in the folder are other ones than its fusions were fitted on.

    Scoring reads no frozen pairs, so loading does not ask. False where nothing tells: in folders of
    versions that did not store this, and where the file of the fusions is missing or damaged, which
    loading refuses.
    """
    try:
        stored = load_origin(run.fusion).get(PAIRS)
    except DataError:
        return False
    return stored is not None and run.pairs.exists() and sha256_file(run.pairs) != stored


def check_own_pairs(run: RunDir) -> None:
    """Checks that the frozen pairs in the folder are those its fusions were fitted on.

    Raises:
        DataError: They are not; see `own_pairs_changed`.
    """
    if own_pairs_changed(run):
        raise DataError(
            f"{run.pairs}: not the pairs that {run.fusion.name} was fitted on. A training was cut "
            "short, or the file changed; `python train.py` with the run's settings makes it again"
        )
