"""A network over aligned crops together with its input contract: run, save, load. Both branches are made of it."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from kryptonite.core.crops import Crops, InputSpec, to_unit_tensor
from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import atomic_path, fingerprint, sha256_file, write_json
from kryptonite.core.memory import keep_freed_memory
from kryptonite.nn.onnx_runtime import EXPORT, Export
from kryptonite.nn.weights import load_strict, read_state_dict, rebuild_timm

ENGINES = ("torch", "onnx")
BATCH = 64  # crops per forward pass; about 0.5 GB of activations for a mobile network at 224 pixels

Self = TypeVar("Self", bound="CropModel")


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU."""
    return torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    )


class CropModel(ABC):
    """Runs a network on crops cut for it.

    Args:
        network: Gives N×outputs for normalised N×3×S×S; None where an export runs in its place.
        blueprint: As `nn.weights.LoadedNetwork`.
        spec: What the network wants to see.
        source: Where its weights came from, one line.
        device: `auto`, `cpu` or `cuda`.
        export: Runs on the CPU in the network's place.
    """

    folder: Path | None = None  # where it was loaded from
    mark = ""  # names what was loaded and what runs it

    def __init__(
        self,
        network: torch.nn.Module | None,
        blueprint: dict[str, Any],
        spec: InputSpec,
        source: str,
        device: str = "auto",
        export: Export | None = None,
    ):
        keep_freed_memory()
        self.device = choose_device(device)
        self.network = (
            None
            if network is None
            else network.to(self.device, memory_format=torch.channels_last).eval()
        )
        self.blueprint = blueprint
        self.spec = spec
        self.source = source
        self.export = export

    @property
    def engine(self) -> str:
        """What runs it: `onnx on cpu`, `torch on cpu` or `torch on cuda`."""
        return f"{'onnx' if self.export else 'torch'} on {self.device.type}"

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> torch.nn.Module:
        """Builds the network of a blueprint without weights."""
        return rebuild_timm(blueprint)

    @abstractmethod
    def forward(self, images: torch.Tensor, names: Sequence[str]) -> list[torch.Tensor]:
        """Gives the named outputs for normalised images, N×3×S×S, N rows each."""

    def read(self, pixels: np.ndarray | torch.Tensor, names: Sequence[str]) -> list[torch.Tensor]:
        """Gives the named outputs for crops, uint8 N×S×S×3, RGB; this is what is exported."""
        images = self.spec.normalise(to_unit_tensor(pixels, self.device))
        return self.forward(images.contiguous(memory_format=torch.channels_last), names)

    def outputs(self, crops: Crops, *names: str) -> list[np.ndarray]:
        """Runs the network, or its export, in batches.

        Args:
            crops: N crops.
            names: Outputs that `forward` knows.

        Returns:
            Of each name an array with N rows.

        Raises:
            InputContractError: The crops were cut for another model.
            WeightsError: The export lacks one of these outputs.
        """
        self.spec.check(crops)
        # No crops have no outputs, but their shapes have to come from somewhere.
        pixels = (
            crops.pixels if len(crops.pixels) else np.zeros((1, *crops.pixels.shape[1:]), np.uint8)
        )
        batches = [pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH)]
        if self.export:
            parts = [self.export(batch, names) for batch in batches]
        else:
            with torch.inference_mode():
                parts = [
                    [output.cpu().numpy() for output in self.read(batch, names)]
                    for batch in batches
                ]
        return [np.concatenate(part)[: len(crops.pixels)] for part in zip(*parts, strict=True)]

    def save(self, folder: Path | str) -> None:
        """Writes model.safetensors, then model.json; a folder with the latter is whole. An export of other weights goes."""
        folder = Path(folder)
        (folder / EXPORT).unlink(missing_ok=True)
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(state, temporary)
        write_json(
            folder / "model.json",
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
            engine: `torch`; `onnx` to run the export that `export.py` made, on the CPU; `auto` is `onnx` where there is an export and the
                device is the CPU, else `torch`.

        Raises:
            ConfigError: No such engine, or an export on a GPU.
            WeightsError: A file is missing, damaged, or does not fit; or the export is of other weights.
        """
        folder = Path(folder)
        weights = folder / "model.safetensors"
        if engine == "auto":
            engine = (
                "onnx"
                if (folder / EXPORT).exists() and choose_device(device).type == "cpu"
                else "torch"
            )
        if engine not in ENGINES or (engine == "onnx" and device == "cuda"):
            raise ConfigError(
                f"no engine {engine!r} on device {device!r}; there are auto, {', '.join(ENGINES)}, and onnx runs on the CPU"
            )
        try:
            kept = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            network = cls.rebuild(kept["network"]) if engine == "torch" else None
            spec, source = InputSpec.from_dict(kept["input"]), kept["source"]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{folder / 'model.json'}: describes no model ({error})") from error
        if network is not None:
            load_strict(network, read_state_dict(weights), str(weights))
        elif not weights.is_file():
            raise WeightsError(f"{weights}: no such weights file")
        hashed = sha256_file(weights)
        export = Export(folder / EXPORT, hashed, spec) if network is None else None
        model = cls(network, kept["network"], spec, source, "cpu" if export else device, export)
        model.folder = folder
        model.mark = fingerprint(
            [engine, model.device.type, hashed, kept["network"], kept["input"]]
        )
        return model
