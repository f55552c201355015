"""Export a model to one ONNX file, from crops to outputs, and check it against PyTorch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import atomic_path, sha256_file
from kryptonite.nn.model import EXPORT_FILE, WEIGHTS_FILE, CropModel
from kryptonite.nn.onnx_runtime import INPUT_NAME, Export

# Largest difference from PyTorch, relative to values above one; half precision has 11 bits.
TOLERANCE = {"float32": 1e-3, "float16": 2e-3}


def write_export(model: CropModel, names: Sequence[str], facts: Mapping[str, Any]) -> float:
    """Writes a model as `EXPORT_FILE` beside its weights; it takes any number of crops.

    Args:
        model: Loaded from a folder by PyTorch on the CPU.
        names: Outputs to export.
        facts: JSON-able values to store in the file.

    Returns:
        Largest difference from PyTorch, relative to values above one, on crops of noise of several
        grain sizes.

    Raises:
        ConfigError: The model was not loaded that way.
        WeightsError: The export differs by more than `TOLERANCE`; no file is written.
    """
    import onnx

    folder = model.folder
    if folder is None or model.network is None or model.device.type != "cpu":
        raise ConfigError("only a model loaded from a run by PyTorch on the CPU can be exported")
    weights = sha256_file(folder / WEIGHTS_FILE)
    pixels = _noise(model.spec.template.size)
    with atomic_path(folder / EXPORT_FILE) as temporary, torch.inference_mode():
        torch.onnx.export(
            _Graph(model, names).eval(),
            (torch.from_numpy(pixels[:2]),),
            temporary,
            input_names=[INPUT_NAME],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        written = onnx.load(temporary, load_external_data=False)
        kept = {"weights_sha256": weights, "input": model.spec.to_dict(), **facts}
        onnx.helper.set_model_props(written, {"facts": json.dumps(kept)})
        onnx.save(written, temporary)
        export = Export(temporary, weights, model.spec)
        return max(
            _largest_difference(export, model, batch, names) for batch in (pixels, pixels[:1])
        )


class _Graph(torch.nn.Module):
    """`CropModel.forward_pixels` as a module that owns the network's weights."""

    def __init__(self, model: CropModel, names: Sequence[str]):
        super().__init__()
        self.network = model.network
        self._model, self._names = model, tuple(names)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._model.forward_pixels(pixels, self._names))


def _largest_difference(
    export: Export, model: CropModel, pixels: np.ndarray, names: Sequence[str]
) -> float:
    """Compares all outputs on one batch of crops.

    Raises:
        WeightsError: An output's shape differs, or its values by more than `TOLERANCE`.
    """
    largest = 0.0
    expected = [output.numpy() for output in model.forward_pixels(pixels, names)]
    for name, exported, original in zip(names, export(pixels, names), expected, strict=True):
        difference = np.abs(exported.astype(np.float64) - original)
        relative = float((difference / np.maximum(1, np.abs(original.astype(np.float64)))).max())
        # Written so that NaN fails.
        within = relative <= TOLERANCE[str(original.dtype)]
        if exported.shape != original.shape or not within:
            raise WeightsError(
                f"{model.folder / EXPORT_FILE}: {name} would differ from PyTorch by "
                f"{relative:.2g}; not written"
            )
        largest = max(largest, relative)
    return largest


def _noise(side: int) -> np.ndarray:
    """Eight crops, uint8, of noise with grains from one pixel to a quarter of the side.

    Coarse grains matter because a network averages fine noise to uniform grey.
    """
    generator = np.random.default_rng(0)
    crops = []
    for number in range(8):
        block = max(1, side // 4 >> (number % 4))
        coarse = generator.integers(
            0, 256, (-(-side // block), -(-side // block), 3), dtype=np.uint8
        )
        crops.append(coarse.repeat(block, 0).repeat(block, 1)[:side, :side])
    return np.stack(crops)
