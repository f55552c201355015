"""Run a model's export by ONNX Runtime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kryptonite.core.crops import InputSpec
from kryptonite.core.errors import WeightsError

EXPORT = "model.onnx"  # beside model.safetensors
CROPS = "crops"  # the input: uint8 N×S×S×3, RGB, as the aligner cuts them


class Export:
    """Runs an exported model on the CPU.

    Args:
        file: As `write_export` left it.
        weights: SHA-256 of the weights that it must be an export of.
        spec: What the network must want to see.

    Raises:
        WeightsError: There is none, it is damaged, or it is of other weights or for other input.
    """

    def __init__(self, file: Path, weights: str, spec: InputSpec):
        import onnxruntime  # half a second that runs without exports need not pay

        self._file = file
        if not file.is_file():
            raise WeightsError(f"{file}: not there; `python export.py` makes it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(
                str(file), options, providers=["CPUExecutionProvider"]
            )
            self.facts: dict[str, Any] = json.loads(
                self._session.get_modelmeta().custom_metadata_map["facts"]
            )
            same = (
                self.facts["weights_sha256"] == weights
                and InputSpec.from_dict(self.facts["input"]) == spec
            )
        except Exception as error:  # ONNX Runtime's own exceptions share no public base
            raise WeightsError(
                f"{file}: is no export ({error}); `python export.py` makes one"
            ) from error
        if not same:
            raise WeightsError(
                f"{file}: is an export of other weights or for other input; `python export.py` makes it anew"
            )
        self._names = {output.name for output in self._session.get_outputs()}

    def __call__(self, pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        """Gives the named outputs for crops, uint8 N×S×S×3, RGB.

        Raises:
            WeightsError: It was exported without one of them.
        """
        if not self._names.issuperset(names):
            raise WeightsError(
                f"{self._file}: gives {', '.join(sorted(self._names))}, not {', '.join(names)}; `python export.py` makes it anew"
            )
        return self._session.run(list(names), {CROPS: np.ascontiguousarray(pixels)})
