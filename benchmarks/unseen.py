"""Measure what a generator left out of training costs the detector, and what reduces it.

python -m benchmarks.unseen TABLES WEIGHTS CACHE OUT [--epochs 2]

TABLES is what `kryptonite prepare` wrote for data in the challenge's layout; WEIGHTS and CACHE are
those of `benchmarks/real.sh`.

Nobody labelled the generators of real deepfakes, so the project's own forgeries stand in for unseen
ones. One of each kind is made from every genuine crop of the validation people. Detectors have to
distinguish them from those crops, having been trained on the data's k_ images alone, with forgeries
of all kinds instead of half of them, and with one kind left out. Each training is resumed or
skipped as in any run; a few epochs show the differences.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.cli.configuration import find_config, read_run_config
from kryptonite.cli.process import configure_process
from kryptonite.core.crops import Crops
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.files import fingerprint
from kryptonite.data.forgery import FORGERIES
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.forgeries import ForgedCrops, draw_forgeries
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.metrics.bootstrap import detector_intervals
from kryptonite.metrics.error_rates import eer
from kryptonite.nn.train.datasets import CropDataset
from kryptonite.nn.train.job import TrainingJob
from kryptonite.runs.data import prepare_training_data

FRACTION, RESAMPLES = 0.5, 500


def trainings() -> dict[str, dict[str, Any]]:
    """Maps the name of each training to the detector's settings that it changes."""
    found: dict[str, dict[str, Any]] = {
        "k_ images alone": {"forgeries": 0.0},
        "and all kinds": {"forgeries": FRACTION, "forgery_kinds": list(FORGERIES)},
    }
    for kind in FORGERIES:
        found[f"and all but {kind}"] = {
            "forgeries": FRACTION,
            "forgery_kinds": [each for each in FORGERIES if each != kind],
        }
    return found


def forge(
    config: LivenessConfig, images: pd.DataFrame, read: Callable[[str], np.ndarray], kind: str
) -> np.ndarray:
    """Makes one forgery from each bona fide image: uint8 N×S×S×3, RGB.

    Args:
        config: Has the crops' template.
        images: Columns key, identity, is_synthetic.
        read: Maps a key to its crop.
        kind: Name from `data.forgery.FORGERIES`.
    """
    crops = CropDataset(images, read)
    forged = ForgedCrops(crops, config.template, [kind])
    sources = np.flatnonzero(~crops.synthetic)
    draws = draw_forgeries(sources, len(images), np.random.default_rng(0))
    return np.stack([forged.forge(draw) for draw in draws])


def measure(
    detector: Detector, images: pd.DataFrame, bona_fide: np.ndarray, attacks: dict[str, np.ndarray]
) -> dict[str, str]:
    """Maps each kind of attack to its EER against the bona fide images, with its interval.

    Args:
        detector: The trained detector.
        images: Columns label, is_synthetic.
        bona_fide: Crops of the bona fide images.
        attacks: `k_` has the crops of the synthetic images, every other kind one forgery from each
            bona fide image.
    """
    identity = images.loc[~images["is_synthetic"], "label"].to_numpy()
    imitated = images.loc[images["is_synthetic"], "label"].to_numpy()
    template, found = detector.spec.template, {}
    bona_fide_log_odds = detector.log_odds(Crops(bona_fide, template))
    for kind, pixels in attacks.items():
        log_odds = np.concatenate([bona_fide_log_odds, detector.log_odds(Crops(pixels, template))])
        synthetic = np.arange(len(log_odds)) >= len(bona_fide_log_odds)
        identities = np.concatenate([identity, imitated if kind == "k_" else identity])
        low, high = detector_intervals(identities, synthetic, log_odds, resamples=RESAMPLES)["eer"]
        found[kind] = f"{eer(synthetic, log_odds):.1%} [{100 * low:.1f}, {100 * high:.1f}]"
    return found


def main() -> int:
    """Prints a Markdown table row by row; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("tables", "weights", "cache", "out"):
        parser.add_argument(name, metavar=name.upper())
    parser.add_argument(
        "--config", default="configs/edgeface-cpu.yaml", help="as for `kryptonite train`"
    )
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each training")
    options = parser.parse_args()
    configure_process()
    places = {
        "--data.root": options.tables,
        "--cache": options.cache,
        "--recognition.backbone.weights": options.weights,
        "--run": options.out,
    }
    try:
        words = [word for option in places.items() for word in option]
        config = read_run_config(find_config(options.config), words)
        data = prepare_training_data(config)
        read = data.reader(config.liveness.template)
        inputs = LivenessInputs.select(data.train, data.val)
        images = inputs.val_images
        bona_fide, k_images = (
            np.stack([read(key) for key in images.loc[chosen, "key"]])
            for chosen in (~images["is_synthetic"], images["is_synthetic"])
        )
        forged = {kind: forge(config.liveness, images, read, kind) for kind in FORGERIES}
        attacks = {"k_": k_images, **forged}
        print(
            f"| trained on | {' | '.join(attacks)} |\n|{' --- |' * (1 + len(attacks))}", flush=True
        )
        for name, changes in trainings().items():
            settings = replace(
                config.liveness,
                fit=replace(config.liveness.fit, epochs=options.epochs),
                **changes,
            )
            job = TrainingJob(
                read,
                Path(options.out) / name.replace(" ", "-"),
                fingerprint([repr(settings), options.tables]),
            )
            with redirect_stdout(sys.stderr):  # keeps Lightning's progress out of the table
                detector, _ = train_detector(settings, inputs, job)
            row = measure(detector, images, bona_fide, attacks)
            print(f"| {name} | {' | '.join(row.values())} |", flush=True)
    except KryptoniteError as error:
        print(f"unseen.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
