"""Export networks to ONNX, one file each, and check them against PyTorch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kryptonite.core.errors import ConfigError, WeightsError
from kryptonite.core.files import atomic_path
from kryptonite.nn.model import EXPORT_FILE, INPUT_NAME, CropModel, origin
from kryptonite.nn.onnx_runtime import Export

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
        WeightsError: As `write_graph`.
    """
    if model.folder is None or model.network is None or model.device.type != "cpu":
        raise ConfigError("only a model loaded from a run by PyTorch on the CPU can be exported")
    return write_graph(
        model.folder / EXPORT_FILE,
        _Graph(model, names),
        {INPUT_NAME: noise_crops(model.spec.template.size)},
        names,
        {**origin(model.weights_sha256, model.spec), **facts},
    )


def write_graph(
    file: Path,
    graph: torch.nn.Module,
    inputs: Mapping[str, np.ndarray],
    names: Sequence[str],
    facts: Mapping[str, Any],
) -> float:
    """Writes a module as ONNX; the export takes any number of rows.

    Args:
        file: The file to write.
        graph: Maps tensors of N rows to a tuple of tensors of N rows.
        inputs: The module's arguments by the names they are to have, at least two rows each: what
            the export is checked on, as a whole and by its first row.
        names: Of the outputs.
        facts: JSON-able values to store in the file, among them `weights_sha256`.

    Returns:
        Largest difference from PyTorch, relative to values above one.

    Raises:
        WeightsError: The export differs by more than `TOLERANCE`; no file is written.
    """
    import onnx

    graph = graph.eval()
    with atomic_path(file) as temporary, torch.inference_mode():
        torch.onnx.export(
            graph,
            tuple(torch.from_numpy(array[:2]) for array in inputs.values()),
            temporary,
            input_names=list(inputs),
            output_names=list(names),
            dynamic_shapes=tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        written = onnx.load(temporary, load_external_data=False)
        onnx.helper.set_model_props(written, {"facts": json.dumps(dict(facts))})
        onnx.save(written, temporary)
        export = Export(temporary)
        first = {name: array[:1] for name, array in inputs.items()}
        apart = []
        for given in (inputs, first):
            expected = graph(*map(torch.from_numpy, given.values()))
            for name, found, wanted in zip(names, export(given, names), expected, strict=True):
                difference, within = _difference(found, wanted.numpy())
                if not within:
                    raise WeightsError(
                        f"{file}: {name} would differ from PyTorch by {difference:.2g}; not written"
                    )
                apart.append(difference)
        return max(apart)


class _Graph(torch.nn.Module):
    """`CropModel.forward_pixels` as a module that owns the network's weights."""

    def __init__(self, model: CropModel, names: Sequence[str]):
        super().__init__()
        self.network = model.network
        self._model, self._names = model, tuple(names)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._model.forward_pixels(pixels, self._names))


def _difference(found: np.ndarray, wanted: np.ndarray) -> tuple[float, bool]:
    """Gives the largest difference, relative to values above one, and whether it is tolerable."""
    if found.shape != wanted.shape:
        return float("inf"), False
    scale = np.maximum(1, np.abs(wanted.astype(np.float64)))
    largest = float((np.abs(found.astype(np.float64) - wanted) / scale).max())
    return largest, largest <= TOLERANCE[str(wanted.dtype)]  # False for NaN


def noise_crops(side: int) -> np.ndarray:
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
