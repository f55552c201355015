"""Run exported models with ONNX Runtime."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kryptonite.core.crops import InputSpec
from kryptonite.core.device import cpu_threads
from kryptonite.core.errors import WeightsError

INPUT_NAME = "crops"  # uint8 N×S×S×3, RGB, as the aligner cuts them


class Export:
    """Runs an exported model on the CPU.

    Args:
        file: Written by `write_export`.
        weights: SHA-256 of the weights it must be an export of.
        spec: The input it must require.

    Raises:
        WeightsError: The file is missing, damaged, or an export of other weights or for other
            input.
    """

    def __init__(self, file: Path, weights: str, spec: InputSpec):
        import onnxruntime  # takes half a second, which only runs with exports should pay

        self._file = file
        if not file.is_file():
            raise WeightsError(f"{file}: no such export; `kryptonite export` writes it")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads()
        # Idle threads would keep cores busy on which photos are decoded and faces are found.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise WeightsError(
                f"{file}: not a valid export ({error}); `kryptonite export` writes it again"
            ) from error
        if not same:
            raise WeightsError(
                f"{file}: exported from other weights or for other input; "
                "`kryptonite export` writes it again"
            )
        self._names = {output.name for output in self._session.get_outputs()}

    def __call__(self, pixels: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        """Gives the named outputs for crops, uint8 N×S×S×3, RGB.

        Raises:
            WeightsError: The export lacks one of the outputs.
        """
        if not self._names.issuperset(names):
            raise WeightsError(
                f"{self._file}: has outputs {', '.join(sorted(self._names))}, "
                f"not {', '.join(names)}; `kryptonite export` writes it again"
            )
        return self._session.run(list(names), {INPUT_NAME: np.ascontiguousarray(pixels)})
