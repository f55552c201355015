"""From a run's folder to the trained system."""

from pathlib import Path
from typing import Any

from kryptonite.core.errors import DataError
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.fusion.verifier import load_verifiers
from kryptonite.inference.extractor import FeatureExtractor, ShardExecutor
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.origin import check_branches
from kryptonite.runs.run_dir import RunDir


def load(
    run: Path | str,
    cache: Path | str = ".cache/crops",
    device: str = "auto",
    engine: str = "torch",
    executor: ShardExecutor | None = None,
) -> Pipeline:
    """Loads a run's folder, as `train.py` leaves it.

    On a CPU under Linux, call `kryptonite.core.memory.keep_freed_memory()` once before, as the
    commands do: inference then takes less than half the time. It is left to you because it sets
    the allocator of the whole process.

    Args:
        run: The folder.
        cache: Folder of aligned crops and features, shared by runs and safe to delete.
        device: `auto`, `cpu` or `cuda`.
        engine: `torch`; `onnx` for the exports that `kryptonite export` writes; `auto` for the
            exports where there are any and the CPU computes.
        executor: Extracts shards elsewhere, for example on a Ray cluster.

    Raises:
        DataError: The folder holds no finished run, or parts that do not belong together, as a
            training leaves them that was cut short.
        ConfigError: The engine or the device cannot be had.
        WeightsError: Weights or exports are missing, damaged or do not fit.
    """
    folder = RunDir(Path(run))
    folder.check_finished()
    chosen, verifiers = load_verifiers(folder.fusion)
    config = folder.read_config()
    recogniser = Recogniser.load(folder.recognition, device, engine)
    detector = Detector.load(folder.liveness, device, engine)
    differential = None
    if config["comparison"]["pairs"]:
        differential = DifferentialDetector.load(folder.comparison, device, engine)
    # Faces must be cut as in training; only the device is this machine's own business.
    aligner = Aligner(
        _aligner_config(folder, config["aligner"], device),
        list(dict.fromkeys([recogniser.spec.template, detector.spec.template])),
    )
    check_branches(folder, aligner)
    backbone = differential and differential.backbone_or(recogniser)
    extractor = FeatureExtractor(
        recogniser, detector, FaceCache(Path(cache), aligner), backbone, executor
    )
    return Pipeline(extractor, differential, verifiers, chosen)


def _aligner_config(run: RunDir, settings: dict[str, Any], device: str) -> AlignerConfig:
    try:
        return AlignerConfig(**{**settings, "device": device})
    except TypeError as error:
        raise DataError(f"{run.config}: aligner: {error}") from error


def load_extractor(run: str, cache: str, engine: str) -> FeatureExtractor:
    """Loads the extractor of a run onto the CPU, as a worker of a cluster does; see `load`."""
    return load(run, cache, "cpu", engine).extractor
