"""A network over aligned crops together with its input contract: run, save, load. Both branches are made of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file

from common.errors import WeightsError
from common.files import atomic_path, write_json
from common.inputs import Crops, InputSpec, to_unit_tensor
from common.memory import keep_freed_memory
from common.weights import load_strict, read_state_dict, rebuild_timm

BATCH = 64  # crops per forward pass; about 0.5 GB of activations for a mobile network at 224 pixels

Self = TypeVar("Self", bound="CropModel")


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


class CropModel:
    """Runs a network on crops cut for it.

    Args:
        network: Gives N×outputs for normalised N×3×S×S.
        blueprint: As `common.weights.LoadedNetwork`.
        spec: What the network wants to see.
        source: Where its weights came from, one line.
        device: `auto`, `cpu` or `cuda`.
    """

    def __init__(self, network: torch.nn.Module, blueprint: dict[str, Any], spec: InputSpec, source: str, device: str = "auto"):
        keep_freed_memory()
        self.device = choose_device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()
        self.blueprint = blueprint
        self.spec = spec
        self.source = source

    @staticmethod
    def rebuild(blueprint: dict[str, Any]) -> torch.nn.Module:
        """Builds the network of a blueprint without weights."""
        return rebuild_timm(blueprint)

    @torch.inference_mode()
    def outputs(self, crops: Crops) -> torch.Tensor:
        """Runs the network in batches: float32, N×outputs, on the CPU.

        Raises:
            InputContractError: The crops were cut for another model.
        """
        none = torch.zeros((0, self.blueprint["outputs"]))
        return torch.cat([none, *(self.network(images).float().cpu() for images in self.batches(crops))])

    def batches(self, crops: Crops) -> Iterator[torch.Tensor]:
        """Normalised batches on the model's device.

        Raises:
            InputContractError: The crops were cut for another model.
        """
        self.spec.check(crops)
        for start in range(0, len(crops.pixels), BATCH):
            images = self.spec.normalise(to_unit_tensor(crops.pixels[start : start + BATCH], self.device))
            yield images.contiguous(memory_format=torch.channels_last)

    def save(self, folder: Path | str) -> None:
        """Writes model.safetensors, then model.json; a folder with the latter is whole."""
        folder = Path(folder)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        with atomic_path(folder / "model.safetensors") as temporary:
            save_file(state, temporary)
        write_json(folder / "model.json", {"network": self.blueprint, "input": self.spec.to_dict(), "source": self.source})

    @classmethod
    def load(cls: type[Self], folder: Path | str, device: str = "auto") -> Self:
        """Reads what `save` wrote.

        Raises:
            WeightsError: A file is missing, damaged, or does not fit.
        """
        folder = Path(folder)
        try:
            kept = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            network = cls.rebuild(kept["network"])
            spec, source = InputSpec.from_dict(kept["input"]), kept["source"]
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise WeightsError(f"{folder / 'model.json'}: describes no model ({error})") from error
        load_strict(network, read_state_dict(folder / "model.safetensors"), str(folder / "model.safetensors"))
        return cls(network, kept["network"], spec, source, device)
