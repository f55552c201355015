"""A network over aligned crops with its input contract; both branches build on it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops, InputSpec, to_unit_tensor
from kryptonite.core.device import choose_device, only_cpu
from kryptonite.core.errors import MALFORMED, ConfigError, WeightsError
from kryptonite.core.files import (
    atomic_path,
    fingerprint,
    read_json,
    refuse_unknown,
    sha256_file,
    write_json,
)
from kryptonite.nn.onnx_runtime import Export

if TYPE_CHECKING:  # torch takes seconds to import, and exported networks do without it
    import torch

# The files of a model's folder.
WEIGHTS_FILE = "model.safetensors"
DESCRIPTION_FILE = "model.json"
EXPORT_FILE = "model.onnx"

INPUT_NAME = "crops"  # of an export: uint8 N×S×S×3, RGB, as the aligner cuts them

ENGINES = ("torch", "onnx")
BATCH = 64  # crops per forward pass; about 0.5 GB of activations for a mobile network at 224 pixels
_LARGE = 50_000_000  # weights of a network that takes half as many on a GPU, to stay within 1 GB

Self = TypeVar("Self", bound="CropModel")


class CropModel(ABC):
    """Runs a network on crops cut for it.

    Args:
        network: Maps normalised images, N×3×S×S, to N×outputs; None if an export replaces it.
        blueprint: As `nn.weights.LoadedNetwork`.
        spec: The input the network requires.
        source: One line that says where the weights came from.
        device: `auto`, `cpu` or `cuda`.
        export: Replaces the network; runs on the CPU.

    Attributes:
        folder: The folder it was loaded from, if any.
        weights_sha256: Of the weights file it was loaded from; empty unless it was.
        fingerprint: Identifies the loaded files and the engine; empty unless it was loaded.
    """

    folder: Path | None = None
    weights_sha256: str = ""
    fingerprint: str = ""

    def __init__(
        self,
        network: "torch.nn.Module | None",
        blueprint: dict[str, Any],
        spec: InputSpec,
        source: str,
        device: str = "auto",
        export: Export | None = None,
    ):
        self._device = device
        self.network = None if network is None else _placed(network, self.device)
        self.blueprint = blueprint
        self.spec = spec
        self.source = source
        self.export = export

    @cached_property
    def device(self) -> "torch.device":
        """Where the network computes."""
        return choose_device(self._device)

    @cached_property
    def _batch(self) -> int:
        """Crops per forward pass by torch."""
        if self.device.type == "cpu":
            return BATCH
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        return BATCH // 2 if weights > _LARGE else BATCH

    @property
    def engine(self) -> str:
        """Engine and device: `onnx on cpu`, `torch on cpu` or `torch on cuda`."""
        return "onnx on cpu" if self.export else f"torch on {self.device.type}"

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> "torch.nn.Module":
        """Builds the network of a blueprint without weights."""
        from kryptonite.nn.weights import rebuild_timm

        return rebuild_timm(blueprint)

    @abstractmethod
    def forward(self, images: "torch.Tensor", names: Sequence[str]) -> "list[torch.Tensor]":
        """Gives the named outputs for normalised images, N×3×S×S, N rows each."""

    def forward_pixels(
        self, pixels: "np.ndarray | torch.Tensor", names: Sequence[str]
    ) -> "list[torch.Tensor]":
        """Gives the named outputs for crops, uint8 N×S×S×3, RGB; exports contain this function."""
        import torch

        images = self.spec.normalise(to_unit_tensor(pixels, self.device))
        return self.forward(images.contiguous(memory_format=torch.channels_last), names)

    def outputs(self, crops: Crops, *names: str) -> list[np.ndarray]:
        """Runs the network, or its export, in batches.

        Args:
            crops: N crops.
            names: Outputs known to `forward`.

        Returns:
            One array of N rows per name.

        Raises:
            InputContractError: The crops were cut for another model.
            WeightsError: The export lacks one of the outputs.
        """
        self.spec.check(crops)
        # Run one dummy crop to get output shapes for an empty batch.
        pixels = (
            crops.pixels if len(crops.pixels) else np.zeros((1, *crops.pixels.shape[1:]), np.uint8)
        )
        if self.export:
            parts = [self.export({INPUT_NAME: batch}, names) for batch in chunked(pixels, BATCH)]
        else:
            import torch

            with torch.inference_mode():
                parts = [
                    [output.cpu().numpy() for output in self.forward_pixels(batch, names)]
                    for batch in chunked(pixels, self._batch)
                ]
        return [np.concatenate(part)[: len(crops.pixels)] for part in zip(*parts, strict=True)]

    def save(self, folder: Path | str) -> None:
        """Writes the weights, then the description, whose presence marks a complete folder.

        An export of the previous weights is deleted.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        (folder / EXPORT_FILE).unlink(missing_ok=True)
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file(state, temporary)
        write_json(
            folder / DESCRIPTION_FILE,
            {"network": self.blueprint, "input": self.spec.to_dict(), "source": self.source},
        )

    @classmethod
    def load(
        cls: type[Self], folder: Path | str, device: str = "auto", engine: str = "torch"
    ) -> Self:
        """Reads what `save` wrote.

        Args:
            folder: The branch's folder of a run.
            device: `auto`, `cpu` or `cuda`.
            engine: As for `choose_engine`.

        Raises:
            ConfigError: As `choose_engine`.
            WeightsError: A file is missing, damaged or does not fit, or the export is of other
                weights.
        """
        folder = Path(folder)
        weights, exported = folder / WEIGHTS_FILE, folder / EXPORT_FILE
        engine = choose_engine(exported, device, engine)
        description = folder / DESCRIPTION_FILE
        try:
            kept = read_json(description)
            refuse_unknown(kept, ("network", "input", "source"))
            network = cls.rebuild(kept["network"]) if engine == "torch" else None
            spec, source = InputSpec.from_dict(kept["input"]), kept["source"]
        except (*MALFORMED, AssertionError) as error:
            raise WeightsError(f"{description}: not a model description ({error})") from error
        if network is not None:
            from kryptonite.nn.weights import load_strict, read_state_dict

            load_strict(network, read_state_dict(weights), str(weights))
        elif not weights.is_file():
            raise WeightsError(f"{weights}: no such weights file")
        export = None
        with ThreadPoolExecutor(1) as thread:
            # Beside the opening of the export: for a vision transformer both take long.
            hashing = thread.submit(sha256_file, weights)
            if network is None:
                export = Export(exported)
            hashed = hashing.result()
        if export is not None:
            export.check(origin(hashed, spec))
        model = cls(network, kept["network"], spec, source, "cpu" if export else device, export)
        model.folder, model.weights_sha256 = folder, hashed
        model.fingerprint = fingerprint(
            [*model.engine.split(" on "), hashed, kept["network"], kept["input"]]
        )
        return model


def choose_engine(export: Path, device: str, engine: str) -> str:
    """Decides what computes a network, `torch` or `onnx`.

    Args:
        export: Where the network's export would lie.
        device: `auto`, `cpu` or `cuda`.
        engine: `torch`; `onnx` for the export, on the CPU; or `auto`: `onnx` if there is an export
            and the device is the CPU, else `torch`.

    Raises:
        ConfigError: Unknown engine, or an export on a GPU.
    """
    if engine == "auto":
        engine = "onnx" if export.exists() and only_cpu(device) else "torch"
    if engine not in ENGINES or (engine == "onnx" and device == "cuda"):
        raise ConfigError(
            f"cannot run engine {engine!r} on device {device!r}; "
            f"engines are auto, {', '.join(ENGINES)}, and onnx runs on the CPU only"
        )
    return engine


def origin(weights: str, spec: InputSpec) -> dict[str, Any]:
    """What an export of a `CropModel` must hold as facts.

    Args:
        weights: SHA-256 of the weights.
        spec: The input they require.
    """
    return {"weights_sha256": weights, "input": spec.to_dict()}


def _placed(network: "torch.nn.Module", device: "torch.device") -> "torch.nn.Module":
    import torch

    return network.to(device, memory_format=torch.channels_last).eval()
