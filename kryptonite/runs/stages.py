"""A run's stages from data to trained system: recognition, liveness, differential, fusion.

Stages that are done and whose inputs have not changed are skipped.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from kryptonite.core.files import write_json, write_text
from kryptonite.fusion.fusers import fuser_class
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.train.ranks import ranks, wait_for_all
from kryptonite.recognition.differential.train import DifferentialInputs, train_differential
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.recognition.train import RecognitionInputs, train_recogniser
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import prepare_training_data
from kryptonite.runs.fuse import fit_fusions
from kryptonite.runs.run_dir import RunDir

_log = logging.getLogger(__name__)


def train(config: RunConfig) -> dict[str, Any]:
    """Trains both branches, fits the fusions, and writes all that scoring needs to the run folder.

    Called again after an interruption, it resumes; finished stages with unchanged inputs are
    skipped.

    Returns:
        What metrics.json holds, on the rank that wrote it; an empty dict elsewhere.

    Raises:
        KryptoniteError: The configuration, the data or the weights are wrong.
    """
    fuser_class(config.fusion.name)  # a wrong name fails now, not after hours of training
    run = RunDir(Path(config.run))
    main = ranks()[0] == 0
    if main:
        write_text(run.config, yaml.safe_dump(asdict(config), sort_keys=False))
    data = prepare_training_data(config)
    if main:
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
    liveness = LivenessInputs.select(data.train, data.val)
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
    done = folder / "stage.json"
    if done.exists():
        stage = json.loads(done.read_text(encoding="utf-8"))
        if stage["fingerprint"] == mark:
            _log.info("%s: done already, unchanged, skipped", folder.name)
            return stage["metrics"]
    model, metrics = train(TrainingJob(read, folder / "training", mark))
    if ranks()[0] == 0:
        model.save(folder)
        write_json(done, {"fingerprint": mark, "metrics": metrics})
    wait_for_all()
    return metrics
