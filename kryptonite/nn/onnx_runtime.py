"""Run exported networks with ONNX Runtime."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kryptonite.core.device import cpu_threads
from kryptonite.core.errors import WeightsError


class Export:
    """Runs an exported network on the CPU.

    Args:
        file: Written by `onnx_export.write_graph`.

    Attributes:
        facts: What the file says of itself.

    Raises:
        WeightsError: The file is missing or damaged.
    """

    def __init__(self, file: Path):
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
            kept = self._session.get_modelmeta().custom_metadata_map["facts"]
            self.facts: dict[str, Any] = dict(json.loads(kept))
        except Exception as error:  # ONNX Runtime's exceptions share no public base
            raise WeightsError(
                f"{file}: not a valid export ({error}); `kryptonite export` writes it again"
            ) from error
        self._names = {output.name for output in self._session.get_outputs()}

    def check(self, origin: Mapping[str, Any]) -> None:
        """Checks that the file is an export of certain weights.

        Args:
            origin: Facts it must hold, JSON-able: the hash of the weights, and what else decides
                the outputs.

        Raises:
            WeightsError: It is another's.
        """
        held = {name: self.facts.get(name) for name in origin}
        if held != json.loads(json.dumps(dict(origin))):
            raise WeightsError(
                f"{self._file}: exported from other weights or for other input; "
                "`kryptonite export` writes it again"
            )

    def __call__(self, inputs: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        """Gives the named outputs.

        Args:
            inputs: Every input by name, of the types and shapes that were exported.
            names: Outputs.

        Raises:
            WeightsError: The export lacks one of the outputs.
        """
        if not self._names.issuperset(names):
            raise WeightsError(
                f"{self._file}: has outputs {', '.join(sorted(self._names))}, "
                f"not {', '.join(names)}; `kryptonite export` writes it again"
            )
        given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        return self._session.run(list(names), given)
