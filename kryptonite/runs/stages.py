"""A run's stages from data to trained system: recognition, liveness, differential, fusion.

Stages that are done and whose inputs have not changed are skipped.
"""

import logging
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import SafetensorError, safe_open

from kryptonite.core.errors import MetricError, TrainingError
from kryptonite.core.files import read_json, sha256_file, write_json, write_text
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.train.ranks import ranks, wait_for_all
from kryptonite.recognition.differential.train import DifferentialInputs, train_differential
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.train import RecognitionInputs, train_recogniser
from kryptonite.runs.checks import check_config
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.fuse import fit_fusions
from kryptonite.runs.lock import lock_run
from kryptonite.runs.run_dir import RunDir

STAGE_FILE = "stage.json"

_log = logging.getLogger(__name__)


def train(config: RunConfig) -> dict[str, Any]:
    """Trains both branches, fits the fusions, and writes all that scoring needs to the run folder.

    Called again after an interruption, it resumes; finished stages with unchanged inputs are
    skipped. Nothing in the folder changes before the data is loaded and checked.

    Returns:
        What metrics.json holds, on the rank that wrote it; an empty dict elsewhere.

    Raises:
        KryptoniteError: The configuration, the data or the weights are wrong, a training diverges,
            or another process is training this run.
    """
    run = RunDir(Path(config.run))
    check_config(config)
    with lock_run(run) if ranks()[0] == 0 else nullcontext():
        return _train(run, config)


def _train(run: RunDir, config: RunConfig) -> dict[str, Any]:
    data = prepare_training_data(config)
    main = ranks()[0] == 0
    if main:
        # Absolute, so that the run finds its data and cache from any working folder.
        placed = replace(
            config,
            cache=os.path.abspath(config.cache),
            data=replace(
                config.data,
                root=os.path.abspath(config.data.root),
                genuine=[os.path.abspath(root) for root in config.data.genuine],
            ),
        )
        write_text(run.config, yaml.safe_dump(asdict(placed), sort_keys=False))
        data.save(run, config.data.root)
    # A fingerprint covers only the stage's own inputs: other forgeries, or another crop for the
    # detector, need not retrain a recogniser that never sees them.
    tables = data.train, data.val, data.val_pairs
    faces = data.cache.aligner.search_settings
    read_recognition = data.reader(config.recognition.template)
    recognition = RecognitionInputs.select(config.recognition, *tables)
    stages = {
        "recognition": _stage(
            run.recognition,
            recognition.fingerprint(config.recognition, faces),
            read_recognition,
            partial(train_recogniser, config.recognition, recognition),
        )
    }
    liveness = LivenessInputs.select(
        config.liveness, data.with_genuine("train"), data.with_genuine("val")
    )
    stages["liveness"] = _stage(
        run.liveness,
        liveness.fingerprint(config.liveness, faces),
        data.reader(config.liveness.template),
        partial(train_detector, config.liveness, liveness),
    )
    if config.comparison.pairs:
        comparison = DifferentialInputs.select(config.comparison, *tables)
        stages["comparison"] = _stage(
            run.comparison,
            comparison.fingerprint(config.comparison, faces, run.recognition),
            read_recognition,
            lambda job: train_differential(
                config.comparison, Recogniser.load(run.recognition), comparison, job
            ),
        )
    return fit_fusions(run, config, data, stages) if main else {}


def _stage(
    folder: Path,
    mark: str,
    read: Callable[[str], np.ndarray],
    train: Callable[[TrainingJob], tuple[Any, dict[str, Any]]],
) -> dict[str, Any]:
    """Trains one stage and returns its metrics; skips training if the folder has the result.

    Args:
        folder: The stage's folder in the run.
        mark: Fingerprint of the stage's inputs.
        read: Reads the stage's crops by key.
        train: Returns the trained model and its metrics.
    """
    done = folder / STAGE_FILE
    if done.exists():
        try:
            stage = read_json(done)
            kept, metrics = stage["fingerprint"], dict(stage["metrics"])
            _check_files(folder, stage.get("files"))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("%s: damaged (%s); this stage runs again", folder, error)
        else:
            if kept == mark:
                _log.info("%s: done already, unchanged, skipped", folder.name)
                return metrics
    try:
        model, metrics = train(TrainingJob(read, folder / "training", mark))
    except (MetricError, TrainingError) as error:
        raise type(error)(f"{folder.name}: {error}") from error
    if ranks()[0] == 0:
        done.unlink(missing_ok=True)  # must not vouch for the files that follow
        model.save(folder)
        files = {file.name: sha256_file(file) for file in _files(folder)}
        write_json(done, {"fingerprint": mark, "metrics": metrics, "files": files})
    wait_for_all()
    return metrics


def _files(folder: Path) -> list[Path]:
    """Lists the files of a stage's model, without unfinished ones of a killed process."""
    found = sorted([*folder.glob("[!.]*.safetensors"), *folder.glob("[!.]*.json")])
    return [file for file in found if file.name != STAGE_FILE]


def _check_files(folder: Path, hashes: dict[str, str] | None) -> None:
    """Checks that a stage's model is as it was saved, or at least readable without hashes.

    Raises:
        ValueError: Names the file that is not.
        OSError: A file is missing.
    """
    if hashes is None:  # written by an older version
        for file in _files(folder):
            try:
                if file.suffix == ".json":
                    read_json(file)
                else:
                    safe_open(file, framework="np")
            except (ValueError, SafetensorError) as error:
                raise ValueError(f"{file.name}: {error}") from error
        return
    for name, sha256 in hashes.items():
        if sha256_file(folder / name) != sha256:
            raise ValueError(f"{name} has changed")
