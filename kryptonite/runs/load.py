"""From a run's folder, or a published one, to the trained system."""

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kryptonite.core.device import cpu_threads, state_device
from kryptonite.core.errors import ConfigError, DataError, WeightsError
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.cache import FaceCache
from kryptonite.detection.cascade_onnx import has_cascade
from kryptonite.fusion.verifier import load_several, load_verifiers
from kryptonite.inference.extractor import FeatureExtractor, ShardExecutor
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.nn.model import WEIGHTS_FILE, CropModel
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.recognition.recogniser import Recogniser
from kryptonite.runs.origin import check_branches
from kryptonite.runs.run_dir import RunDir

if TYPE_CHECKING:  # imports torch, which exported networks do without
    from kryptonite.detection.processes import FaceProcesses

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunPipeline(Pipeline):
    """A pipeline with the run it was loaded from.

    Args:
        run: The run's folder.
    """

    run: RunDir

    def save_pretrained(self, folder: Path | str, license_id: str = "other") -> None:
        """Writes the run as a folder to give away, in the Hugging Face hub's layout.

        The folder holds safetensors, JSON and a model card, none of the training data and no path
        of this machine; `kryptonite.from_pretrained` reads it and scores the same to the bit.

        Args:
            folder: Folder to make; may exist if it is empty.
            license_id: Licence of the weights as the hub abbreviates it, such as `apache-2.0`.

        Raises:
            ConfigError: The folder holds files, or the run is a published one already.
            DataError: The run lacks its figures or its card, or was changed since it was loaded.
        """
        from kryptonite.runs.publish import publish  # imports torch, as the others below

        publish(self.run, self.extractor.cache.aligner, folder, license_id)


def load(
    run: Path | str,
    cache: Path | str = ".cache/crops",
    device: str = "auto",
    engine: str = "torch",
    executor: ShardExecutor | None = None,
    keep_crops: bool = True,
) -> RunPipeline:
    """Loads a run's folder, as `train.py` leaves it.

    On a CPU under Linux, call `kryptonite.core.memory.keep_freed_memory()` once before, as the
    commands do: inference then takes less than half the time. It is left to you because it sets
    the allocator of the whole process.

    Args:
        run: The folder.
        cache: Folder of aligned crops and features, shared by runs and safe to delete.
        device: `auto`, `cpu` or `cuda`.
        engine: `torch`; `onnx` for the exports that `kryptonite export` writes; `auto` for the
            exports where there are any and the CPU computes. On a GPU, `auto` finds the faces of
            long lists in processes of their own, see `detection.processes`.
        executor: Extracts shards elsewhere, for example on a Ray cluster.
        keep_crops: Whether the cache keeps crops that are cut, for other networks, or features
            alone.

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
        folder.faces if recogniser.export and has_cascade(folder.faces) else None,
    )
    backbone = differential.backbone_or(recogniser) if differential else None
    networks: list[CropModel] = [recogniser, detector, *([backbone] if backbone else [])]
    hashed = {
        network.folder / WEIGHTS_FILE: network.weights_sha256
        for network in networks
        if network.folder
    }
    check_branches(folder, aligner, config, hashed)
    faces = FaceCache(Path(cache), aligner, keep_crops)
    extractor = FeatureExtractor(
        recogniser,
        detector,
        faces,
        backbone,
        executor,
        _face_processes(folder, faces, recogniser) if engine == "auto" else None,
    )
    _state_devices(extractor, differential)
    several = load_several(folder.fusion)
    return RunPipeline(extractor, differential, verifiers, chosen, several, folder)


def _face_processes(
    folder: RunDir, cache: FaceCache, recogniser: Recogniser
) -> "FaceProcesses | None":
    """A process for each core where a GPU computes the rest and MTCNN is exported, else None.

    Linux alone starts them without importing everything anew in each.
    """
    many = cpu_threads() >= 4 and sys.platform == "linux"
    if "cuda" not in recogniser.engine or not many or not has_cascade(folder.faces):
        return None
    from kryptonite.detection.processes import FaceProcesses

    return FaceProcesses(cache, folder.faces, cpu_threads())


def from_pretrained(
    source: Path | str,
    revision: str | None = None,
    cache: Path | str = ".cache/crops",
    device: str = "auto",
) -> RunPipeline:
    """Loads a published run, from a folder or from the Hugging Face hub.

    Every file is compared with the hashes that were published with it. The networks compute in
    PyTorch: a published folder holds no exports.

    Args:
        source: A folder that `save_pretrained` wrote, or a repository of the hub, `owner/name`.
        revision: For a repository: the commit to load. A branch or a tag is accepted too, and the
            commit it stands for is logged; there is no default, because a branch that moves would
            change a system's decisions unseen.
        cache: As `load`.
        device: As `load`.

    Raises:
        ConfigError: A repository without a revision, or a folder with one.
        DataError: A file is missing or is not the published one, or another version of this package
            wrote the folder in another format.
        WeightsError: The repository cannot be had, or weights do not fit.
    """
    from kryptonite.runs.publish import check_published

    folder = Path(source)
    if os.path.isdir(source):  # unlike Path's, it takes a name of any length
        if revision is not None:
            raise ConfigError(f"{source}: a folder has no revisions; leave revision out")
    elif isinstance(source, str) and re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source):
        folder = _download(source, revision)
    else:
        raise DataError(f"{source}: neither a folder nor a repository's name, owner/name")
    check_published(folder)
    return load(folder, cache, device)


def _download(repository: str, revision: str | None) -> Path:
    if revision is None:
        raise ConfigError(
            f"{repository}: pass the commit to load as revision, 40 hexadecimal digits from the "
            "repository's list of commits; a branch such as 'main' follows what is pushed to it"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    from kryptonite.runs.publish import PATTERNS

    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(
            f"{repository} at {revision}: cannot be had from the hub ({error})"
        ) from error
    _logger.info("%s at %s: commit %s", repository, revision, folder.name)
    return folder


def _state_devices(extractor: FeatureExtractor, differential: DifferentialDetector | None) -> None:
    """Says what computes, each engine and device with its work; a cluster's workers are silent."""
    aligner = extractor.cache.aligner
    place = "onnx on cpu" if aligner.exports else f"torch on {aligner.device.type}"
    places = {
        "finding faces": place,
        "recognition": extractor.recogniser.engine,
        "liveness": extractor.detector.engine,
    }
    if differential is not None:
        if differential.backbone is not None:
            places["the differential detector's backbone"] = differential.backbone.engine
        places["the differential detector"] = differential.engine
    for place in dict.fromkeys(places.values()):
        work = [part for part in places if places[part] == place]
        engine, device = place.split(" on ")
        state_device(", ".join(work), device, engine)
    if extractor.processes:
        processes = f"cpu ({extractor.processes.count} processes)"
        state_device("finding faces of long lists", processes, "onnx")


def _aligner_config(run: RunDir, settings: dict[str, Any], device: str) -> AlignerConfig:
    try:
        return AlignerConfig(**{**settings, "device": device})
    except TypeError as error:
        raise DataError(f"{run.config}: aligner: {error}") from error


def load_extractor(run: str, cache: str, engine: str, keep_crops: bool) -> FeatureExtractor:
    """Loads the extractor of a run onto the CPU, as a worker of a cluster does; see `load`."""
    return load(run, cache, "cpu", engine, keep_crops=keep_crops).extractor
