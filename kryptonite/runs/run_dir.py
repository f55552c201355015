"""A run's folder: the one place that knows what its files are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kryptonite.core.errors import DataError
from kryptonite.nn.model import DESCRIPTION_FILE


@dataclass(frozen=True)
class RunDir:
    """Paths in a run's folder.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration the run was trained with, as YAML."""
        return self.path / "config.yaml"

    @property
    def pairs(self) -> Path:
        """Frozen validation pairs."""
        return self.path / "pairs_val.csv"

    @property
    def images(self) -> Path:
        """Which image contents were in which split."""
        return self.path / "images.csv"

    @property
    def recognition(self) -> Path:
        """Folder of the recogniser."""
        return self.path / "recognition"

    @property
    def liveness(self) -> Path:
        """Folder of the synthetic-image detector."""
        return self.path / "liveness"

    @property
    def comparison(self) -> Path:
        """Folder of the differential detector; missing in runs without one."""
        return self.path / "comparison"

    @property
    def fusion(self) -> Path:
        """Every fitted fusion with its threshold, and which of them is used."""
        return self.path / "fusion.json"

    @property
    def metrics(self) -> Path:
        """Validation figures of the run."""
        return self.path / "metrics.json"

    @property
    def model_card(self) -> Path:
        """The run described in Markdown."""
        return self.path / "model_card.md"

    @property
    def submission(self) -> Path:
        """Where `make_submission.py` writes unless told otherwise."""
        return self.path / "submission.csv"

    @property
    def report(self) -> Path:
        """Where `kryptonite evaluate` writes unless told otherwise."""
        return self.path / "report.html"

    @property
    def ablation(self) -> Path:
        """Folder of the ablation: its table, its page, its variants' runs."""
        return self.path / "ablation"

    def read_config(self) -> dict[str, Any]:
        """Reads the configuration as plain data.

        Raises:
            DataError: The folder holds no run.
        """
        try:
            return yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(
                f"{self.path}: no finished run: {self.config.name} missing; "
                "`python train.py` makes one"
            ) from error

    def check_finished(self) -> None:
        """Checks that scoring finds all it needs.

        Raises:
            DataError: Names what is missing.
        """
        parts = [
            self.config,
            self.recognition / DESCRIPTION_FILE,
            self.liveness / DESCRIPTION_FILE,
            self.fusion,
        ]
        missing = [str(part.relative_to(self.path)) for part in parts if not part.exists()]
        if missing:
            raise DataError(
                f"{self.path}: no finished run: {', '.join(missing)} missing; "
                "`python train.py` makes one"
            )
