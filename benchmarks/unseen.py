"""What a generator left out of training costs the detector, and what reduces it.

python -m benchmarks.unseen TABLES WEIGHTS CACHE OUT [--epochs 2]

TABLES is what `prepare.py` left of data in the challenge's layout, WEIGHTS and CACHE as for `benchmarks/real.sh`. Nobody labelled the
generators of real deepfakes, so the project's own forgeries stand in for unseen ones: made of the validation people's genuine crops, one
each, and told from these crops by detectors that were trained on the data's k_ images alone, with all kinds of forgery in the place of
half of them, and with one kind left out. Each way of training is resumed or skipped like any run's; a few epochs show the differences.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import auto_cli

from kryptonite.core.crops import Crops
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.files import fingerprint
from kryptonite.data.forgery import FORGERIES
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.forgeries import ForgedCrops, forgery_numbers
from kryptonite.liveness.train import train_detector
from kryptonite.metrics.bootstrap import detector_intervals
from kryptonite.metrics.error_rates import eer
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import prepare_training_data

SHARE, RESAMPLES = 0.5, 500


def ways() -> dict[str, dict]:
    """Ways of training: changes of the detector's settings by name."""
    found = {
        "k_ images alone": {"forgeries": 0.0},
        "and all kinds": {"forgeries": SHARE, "forgery_kinds": list(FORGERIES)},
    }
    for kind in FORGERIES:
        found[f"and all but {kind}"] = {
            "forgeries": SHARE,
            "forgery_kinds": [each for each in FORGERIES if each != kind],
        }
    return found


def forged(
    config: LivenessConfig, val: pd.DataFrame, read: Callable[[str], np.ndarray], kind: str
) -> np.ndarray:
    """One forgery of that kind of each genuine validation photo, uint8 N×S×S×3."""
    synthetic = val["is_synthetic"].to_numpy()
    crops = ForgedCrops(
        val["key"], read, val["label"].to_numpy(), synthetic, config.template, [kind]
    )
    numbers = forgery_numbers(np.flatnonzero(~synthetic), len(val), np.random.default_rng(0))
    return np.stack([crops.pixels(int(number)) for number in numbers])


def cells(
    detector: Detector, val: pd.DataFrame, attacks: dict[str, np.ndarray], genuine: np.ndarray
) -> dict[str, str]:
    """By kind of attack the EER against the genuine photos, with its interval."""
    people = val.loc[~val["is_synthetic"], "label"].to_numpy()
    forgers = val.loc[val["is_synthetic"], "label"].to_numpy()
    template, found = detector.spec.template, {}
    innocent = detector.log_odds(Crops(genuine, template))
    for kind, pixels in attacks.items():
        log_odds = np.concatenate([innocent, detector.log_odds(Crops(pixels, template))])
        synthetic = np.arange(len(log_odds)) >= len(innocent)
        identity = np.concatenate([people, forgers if kind == "k_" else people])
        low, high = detector_intervals(identity, synthetic, log_odds, resamples=RESAMPLES)["eer"]
        found[kind] = f"{eer(synthetic, log_odds):.1%} [{100 * low:.1f}, {100 * high:.1f}]"
    return found


def main() -> int:
    """Prints a Markdown table as it grows; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("tables", "weights", "cache", "out"):
        parser.add_argument(name)
    parser.add_argument("--config", default="configs/edgeface-cpu.yaml")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    places = [
        "--data.root",
        arguments.tables,
        "--cache",
        arguments.cache,
        "--recognition.backbone.weights",
        arguments.weights,
    ]
    try:
        config = auto_cli(
            RunConfig,
            as_positional=False,
            args=["--config", arguments.config, *places, "--run", arguments.out],
        )
        data = prepare_training_data(config)
        read = data.reader(config.liveness.template)
        attacks = {kind: forged(config.liveness, data.val, read, kind) for kind in FORGERIES}
        synthetic = data.val["is_synthetic"]
        genuine, k_images = (
            np.stack([read(key) for key in data.val.loc[chosen, "key"]])
            for chosen in (~synthetic, synthetic)
        )
        attacks = {"k_": k_images, **attacks}
        print(
            f"| trained on | {' | '.join(attacks)} |\n|{' --- |' * (1 + len(attacks))}", flush=True
        )
        for name, changes in ways().items():
            settings = replace(
                config.liveness,
                fit=replace(config.liveness.fit, epochs=arguments.epochs),
                **changes,
            )
            folder = Path(arguments.out) / name.replace(" ", "-")
            mark = fingerprint([repr(settings), arguments.tables])
            with redirect_stdout(sys.stderr):  # Lightning's progress, in the midst of the table
                detector, _ = train_detector(settings, data.train, data.val, read, folder, mark)
            row = cells(detector, data.val, attacks, genuine)
            print(f"| {name} | {' | '.join(row.values())} |", flush=True)
    except KryptoniteError as error:
        print(f"unseen.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
