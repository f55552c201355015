"""A run's folder: the one place that knows what its files are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from kryptonite.core.errors import DataError
from kryptonite.core.files import read_json
from kryptonite.data.references import RECORDING
from kryptonite.nn.model import DESCRIPTION_FILE

# Sections of a run's configuration, in the order they are written.
_SECTIONS = ("data", "aligner", "recognition", "comparison", "liveness", "fusion")


@dataclass(frozen=True)
class RunDir:
    """Paths in a run's folder.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The configuration the run was trained with: YAML, or JSON in a published folder."""
        published = self.published_config
        return published if published.exists() else self.path / "config.yaml"

    @property
    def published_config(self) -> Path:
        """The configuration in a folder that `runs.publish` wrote; a trained run has none."""
        return self.path / "config.json"

    @property
    def lock(self) -> Path:
        """Held by the process that writes to the folder; see `runs.lock`."""
        return self.path / ".lock"

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
    def faces(self) -> Path:
        """Folder of the face finder's exported networks; missing before `kryptonite export`."""
        return self.path / "faces"

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
        """The run described in Markdown; README.md in a published folder, as the hub asks."""
        return self.path / ("README.md" if self.published_config.exists() else "model_card.md")

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

    @property
    def demo(self) -> Path:
        """Where `kryptonite demo` puts its people; missing in other runs."""
        return self.path / "data-root"

    def read_config(self) -> dict[str, Any]:
        """Reads the configuration as plain data.

        Raises:
            DataError: The folder holds no run, or its configuration is damaged.
        """
        try:
            # YAML's reader takes a float such as 1e-05, which JSON writes, for a string.
            if self.config.suffix == ".json":
                config = read_json(self.config)
            else:
                config = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(
                f"{self.path}: no finished run: {self.config.name} missing; "
                "`python train.py` makes one"
            ) from error
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise DataError(f"{self.config}: cannot be read ({_line(error)})") from error
        missing = [
            name
            for name in _SECTIONS
            if not isinstance(config, dict) or not isinstance(config.get(name), dict)
        ]
        if missing or "folds" not in config["fusion"] or "pairs" not in config["comparison"]:
            raise DataError(
                f"{self.config}: damaged: not the whole configuration of a run "
                f"({', '.join(missing) or 'the end'} missing); `python train.py` with the run's "
                "settings writes it again"
            )
        return config

    def read_metrics(self) -> dict[str, Any]:
        """Reads the validation figures.

        Raises:
            DataError: They are missing or damaged.
        """
        try:
            metrics = read_json(self.metrics)
            if not isinstance(metrics["split_hash"], str):
                raise TypeError("split_hash is not a string")
            return metrics
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.metrics}: missing or damaged ({_line(error)}); `python train.py` with the "
                "run's settings writes it again"
            ) from error

    def read_images(self) -> pd.DataFrame:
        """Reads which image contents were in which split.

        Returns:
            Columns key, split, species and, where the data tell, recording, of strings.

        Raises:
            DataError: The list is missing or damaged.
        """
        try:
            images = pd.read_csv(self.images, dtype=str, keep_default_na=False)
            optional = [RECORDING] if RECORDING in images else []
            return images[["key", "split", "species", *optional]]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{self.images}: cannot be read ({_line(error)}); `python train.py` writes it"
            ) from error

    def count_seen(self, keys: np.ndarray) -> dict[str, int]:
        """Counts the images, by content, that the run's training saw.

        Args:
            keys: N distinct, as `read_images` gives them.

        Returns:
            How many are in the splits `train` and `val`.

        Raises:
            DataError: As for `read_images`.
        """
        known = self.read_images()
        return {
            split: int(np.isin(keys, known.loc[known["split"] == split, "key"]).sum())
            for split in ("train", "val")
        }

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


def seen_warnings(seen: Mapping[str, int], images: int, judged: str) -> list[str]:
    """Says what images that a run's training saw mean for figures of them.

    Args:
        seen: As `RunDir.count_seen` gives it.
        images: Number of all images.
        judged: What the figures are of.
    """
    found = []
    if seen["train"]:
        found.append(
            f"{seen['train']} of the {images} images were trained on by the run: the figures "
            f"flatter the {judged}."
        )
    if seen["val"]:
        found.append(
            f"{seen['val']} of the {images} images are validation images of the run, whose "
            "checkpoints were picked on these people: expect more error on others."
        )
    return found


def _line(error: Exception) -> str:
    """Gives an error's message in one line; YAML's take several."""
    return " ".join(str(error).split())
