"""Write a model as one ONNX file, crops in and answers out, checked against PyTorch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import atomic_path, sha256_file
from kryptonite.nn.model import CropModel
from kryptonite.nn.onnx_runtime import CROPS, EXPORT, Export

# Largest difference from PyTorch, relative to values above one; half precision holds no more than 11 bits.
TOLERANCE = {"float32": 1e-3, "float16": 2e-3}


def write_export(model: CropModel, names: Sequence[str], facts: Mapping[str, Any]) -> float:
    """Writes a model as `EXPORT` beside the weights it was loaded from; the number of crops is free.

    Args:
        model: Loaded by PyTorch, on the CPU.
        names: The outputs to export.
        facts: JSON-able, kept in the file.

    Returns:
        Largest difference from PyTorch, relative to values above one, on crops of noise of every coarseness.

    Raises:
        ConfigError: The model was not loaded so.
        WeightsError: It differs by more than `TOLERANCE`; no file is left.
    """
    import onnx

    folder = model.folder
    if folder is None or model.network is None or model.device.type != "cpu":
        raise ConfigError("only a model loaded from a run by PyTorch, on the CPU, can be exported")
    weights = sha256_file(folder / "model.safetensors")
    pixels = _noise(model.spec.template.size)
    with atomic_path(folder / EXPORT) as temporary, torch.inference_mode():
        torch.onnx.export(
            _Graph(model, names).eval(),
            (torch.from_numpy(pixels[:2]),),
            temporary,
            input_names=[CROPS],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        written = onnx.load(temporary)
        kept = {"weights_sha256": weights, "input": model.spec.to_dict(), **facts}
        onnx.helper.set_model_props(written, {"facts": json.dumps(kept)})
        onnx.save(written, temporary)
        export = Export(temporary, weights, model.spec)
        largest = 0.0
        for part in (pixels, pixels[:1]):
            for name, ours, other in zip(
                names, export(part, names), model.read(part, names), strict=True
            ):
                other = other.numpy()
                apart = float(
                    (
                        np.abs(ours.astype(np.float64) - other)
                        / np.maximum(1, np.abs(other.astype(np.float64)))
                    ).max()
                )
                largest = max(largest, apart)
                if ours.shape != other.shape or not apart <= TOLERANCE[str(other.dtype)]:
                    raise WeightsError(
                        f"{folder / EXPORT}: {name} would differ from PyTorch by {apart:.2g}; not written"
                    )
    return largest


class _Graph(torch.nn.Module):
    """`CropModel.read` as a module, with the network's weights as its own."""

    def __init__(self, model: CropModel, names: Sequence[str]):
        super().__init__()
        self.network = model.network
        self._model, self._names = model, tuple(names)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._model.read(pixels, self._names))


def _noise(side: int) -> np.ndarray:
    """Eight crops, uint8, of noise from single pixels to a quarter of the side: no network sees only grey in them."""
    generator = np.random.default_rng(0)
    crops = []
    for number in range(8):
        block = max(1, side // 4 >> (number % 4))
        coarse = generator.integers(
            0, 256, (-(-side // block), -(-side // block), 3), dtype=np.uint8
        )
        crops.append(coarse.repeat(block, 0).repeat(block, 1)[:side, :side])
    return np.stack(crops)
