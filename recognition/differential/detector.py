"""Differential forgery detection: score a pair from where its features disagree.

A forger changes the inner face and keeps the rest, or keeps the face and changes the rest. Either
way, beside a bona fide photo of the same person, some of a recogniser's intermediate features agree
and some do not. The detector passes these agreements (cosines of every stage's pooled features, and
of one map cell by cell) through small networks trained on pairs of the training identities. It
reads the features of the recogniser, or of a copy fine-tuned on such pairs
(`recognition.differential.train`).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError

from kryptonite.core.chunks import map_chunks
from kryptonite.core.errors import MALFORMED, DataError, WeightsError
from kryptonite.core.files import atomic_path, read_json, refuse_unknown, sha256_file, write_json
from kryptonite.nn.model import choose_engine
from kryptonite.nn.onnx_runtime import Export
from kryptonite.recognition.differential.maps import FeatureMaps
from kryptonite.recognition.recogniser import Recogniser

if TYPE_CHECKING:  # imports torch, which an exported comparer does without
    from kryptonite.recognition.differential.comparer import Comparer

WEIGHTS_FILE, DESCRIPTION_FILE = "comparer.safetensors", "comparer.json"
EXPORT_FILE = "comparer.onnx"
LOG_ODDS = "log_odds"  # the only output
CHUNK = 256  # pairs scored at a time; the cells of more do not fit the processor's cache
_LIMIT = 30.0  # on the absolute score


def has_own_backbone(folder: Path) -> bool:
    """Whether a saved detector has a backbone of its own beside it."""
    described = read_json(folder / DESCRIPTION_FILE)
    return bool(described["own_network"])


def origin(weights: str, channels: tuple[int, ...]) -> dict[str, Any]:
    """Gives the facts that an exported comparer must hold.

    Args:
        weights: SHA-256 of its weights.
        channels: As in `FeatureMaps`.
    """
    return {"weights_sha256": weights, "channels": channels}


def pair_inputs(maps: FeatureMaps, a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """Gives the inputs of an exported comparer by name: the features of both photos of N pairs."""
    sides = {"a": maps.rows(a).arrays, "b": maps.rows(b).arrays}
    return {f"{name}_{side}": part for side, rows in sides.items() for name, part in rows.items()}


class DifferentialDetector:
    """Scores pairs that show one person, or are meant to.

    Args:
        channels: As in `FeatureMaps`.
        comparer: Compares the features of both photos; None if an export replaces it.
        backbone: Extracts the feature maps; None means the run's recogniser.
        export: Replaces the comparer.

    Attributes:
        folder: The folder it was loaded from, if any.
        weights_sha256: Of the comparer's weights file it was loaded from; empty unless it was.
    """

    folder: Path | None = None
    weights_sha256: str = ""

    def __init__(
        self,
        channels: tuple[int, ...],
        comparer: "Comparer | None",
        backbone: Recogniser | None = None,
        export: Export | None = None,
    ):
        self.channels = tuple(channels)
        self.comparer = comparer
        self.backbone = backbone
        self.export = export

    @property
    def engine(self) -> str:
        """Engine and device of the comparer, which computes on the CPU."""
        return f"{'onnx' if self.export else 'torch'} on cpu"

    def score(self, maps: FeatureMaps, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Scores pairs of rows: float32, N, log-odds limited to ±30; positive means bona fide.

        Args:
            maps: Features of the photos.
            a: N rows of `maps`, the first photo of each pair.
            b: The second; the order within a pair does not matter.

        Raises:
            DataError: The features come from another kind of recogniser.
        """
        if maps.channels != self.channels:
            raise DataError(
                "the differential detector was trained on stages of "
                f"{self.channels} channels, the recogniser has {maps.channels}"
            )

        def scored(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if self.export:
                log_odds = self.export(pair_inputs(maps, a, b), [LOG_ODDS])[0]
            else:
                log_odds = self.comparer.compare(maps, a, b)
            return log_odds.clip(-_LIMIT, _LIMIT)

        return map_chunks(scored, CHUNK, a, b)

    def backbone_or(self, recogniser: Recogniser) -> Recogniser:
        """Returns what extracts this detector's feature maps: its own backbone, or the run's."""
        return self.backbone or recogniser

    def save(self, folder: Path | str) -> None:
        """Writes comparer.safetensors, the backbone's files if it has one, and comparer.json.

        The latter comes last, so a folder that has it is complete. Exports of previous weights are
        deleted.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        (folder / EXPORT_FILE).unlink(missing_ok=True)
        state = {
            name: tensor.cpu().contiguous() for name, tensor in self.comparer.state_dict().items()
        }
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary)
        if self.backbone is not None:
            self.backbone.save(folder)
        write_json(
            folder / DESCRIPTION_FILE,
            {"channels": list(self.channels), "own_network": self.backbone is not None},
        )

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "auto", engine: str = "torch"
    ) -> "DifferentialDetector":
        """Reads what `save` wrote.

        Args:
            folder: The detector's folder in a run.
            device: As for `nn.model.CropModel.load`; the comparer itself computes on the CPU.
            engine: Likewise.

        Raises:
            WeightsError: A file is missing, damaged, or does not fit, or an export is of other
                weights.
            ConfigError: As `nn.model.choose_engine`.
        """
        folder = Path(folder)
        weights, exported = folder / WEIGHTS_FILE, folder / EXPORT_FILE
        comparer = export = None
        chosen = choose_engine(exported, device, engine)
        try:
            described = read_json(folder / DESCRIPTION_FILE)
            refuse_unknown(described, ("channels", "own_network"))
            own, channels = described["own_network"], tuple(described["channels"])
            if chosen == "torch":
                comparer = _read_comparer(weights, channels)
            hashed = sha256_file(weights)
        except (*MALFORMED, SafetensorError) as error:
            raise WeightsError(
                f"{folder}: holds no differential detector ({DESCRIPTION_FILE}, {WEIGHTS_FILE}: "
                f"{error}); `python train.py` makes one"
            ) from error
        if comparer is None:
            export = Export(exported)
            export.check(origin(hashed, channels))
        backbone = Recogniser.load(folder, device, engine) if own else None
        detector = cls(channels, comparer, backbone, export)
        detector.folder, detector.weights_sha256 = folder, hashed
        return detector


def _read_comparer(weights: Path, channels: tuple[int, ...]) -> "Comparer":
    from safetensors.torch import load_file

    from kryptonite.recognition.differential.comparer import Comparer

    return Comparer.rebuild(channels, load_file(weights))
