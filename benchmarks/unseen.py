"""What does it cost the probe when a kind of forgery, or a source of photos, is new to it?

python -m benchmarks.unseen RUN OUT --source NAME=DATA_ROOT [--source …] [--autoencoder FOLDER]
    [--mesh FILE]

RUN is a finished run whose detector is a probe. Photos and forgeries of the sources are those of
`benchmarks.transfer` with the same options; with the same OUT they are written once. The features
of the training's views lie in RUN, so only the classifier is fitted again: on everything, without
each kind of forgery (the data's `k_` images too) and without each data source, left out of the
validation images as well, on which the offset is set.

A row per classifier and source: its false alarms, which are the source's genuine photos with
log-odds above 0, and its AUC on each kind of forgery. Bold cells are held out: the classifier saw
no forgery of the kind, or no photo of the source. OUT/unseen.csv has the same figures; the last
line names the held-out cell with the lowest AUC.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from benchmarks.transfer_photos import add_options, write_sources
from kryptonite.cli.configuration import read_run_config
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import ConfigError, KryptoniteError
from kryptonite.core.files import atomic_path, fingerprint
from kryptonite.detection.cache import FaceCache
from kryptonite.liveness.config import LivenessConfig
from kryptonite.liveness.detector import Detector
from kryptonite.liveness.probe import Probe
from kryptonite.liveness.probe_training import (
    BONA_FIDE,
    Encoded,
    Encoder,
    encode_images,
    encode_views,
    fit_probe,
    kept_features,
    score,
)
from kryptonite.liveness.train import LivenessInputs
from kryptonite.metrics.error_rates import detector_metrics
from kryptonite.nn.train.datasets import CropDataset
from kryptonite.nn.train.job import TrainingJob
from kryptonite.runs.config import RunConfig
from kryptonite.runs.data import TrainingData, prepare_training_data
from kryptonite.runs.run_dir import RunDir

COLUMNS = ["left_out", "source", "forgery", "images", "auc", "bpcer", "held_out"]

Read = Callable[[str], np.ndarray]  # maps a key of a face cache to its crop


class PhotoEncoder:
    """Encodes crops as they are by a run's probe, and keeps their features.

    Args:
        config: The probe's settings.
        detector: The probe.
        folder: Where features are kept.
    """

    def __init__(self, config: LivenessConfig, detector: Detector, folder: Path):
        bf16 = "bf16" in config.fit.precision
        self._encoder = Encoder(detector.network, detector.spec, detector.device, bf16)
        self._workers, self._folder = config.fit.workers, folder
        self._mark = [detector.blueprint["encoder"], detector.source, detector.spec.to_dict(), bf16]

    def __call__(self, keys: pd.Series, read: Read) -> np.ndarray:
        """Gives the features of crops, float16 N×F."""
        crops = CropDataset(pd.DataFrame({"key": keys, "identity": 0, "is_synthetic": False}), read)
        mark = fingerprint([self._mark, list(keys)])[:16]
        return kept_features(
            self._folder / f"{mark}.safetensors",
            lambda: encode_images(self._encoder, crops, self._workers),
        )


@dataclass(frozen=True)
class Training:
    """What a run's probe was fitted on. Data sources are numbered, as in the run's tables.

    Args:
        config: The probe's settings.
        views: Training images and forgeries of them, augmented.
        val: Validation images.
        roots: The sources' data roots.
        paths: The sources' images of both splits.
    """

    config: LivenessConfig
    views: Encoded
    val: Encoded
    roots: list[str]
    paths: list[set[str]]

    @classmethod
    def read(
        cls, run: RunDir, config: RunConfig, data: TrainingData, encode: PhotoEncoder
    ) -> "Training":
        """Draws a run's views again and reads the features that its training kept.

        Raises:
            DataError: The features are gone, or of other settings or images.
        """
        inputs = LivenessInputs.select(
            config.liveness, data.with_genuine("train"), data.with_genuine("val")
        )
        mark = inputs.fingerprint(config.liveness, data.cache.aligner.search_settings)
        read = data.reader(config.liveness.template)
        job = TrainingJob(read, run.liveness / "training", mark)
        views = encode_views(config.liveness, inputs.images, job, None)
        val = Encoded.of_images(encode(inputs.val_images["key"], read), inputs.val_images)
        roots = [config.data.root, *config.data.genuine]
        images = pd.concat([inputs.images, inputs.val_images])
        paths = [_files(images.loc[images["source"] == each, "path"]) for each in range(len(roots))]
        return cls(config.liveness, views, val, roots, paths)


@dataclass(frozen=True)
class Source:
    """Encoded photos and forgeries to measure on.

    Args:
        name: What the user calls them.
        kind: N names; empty for genuine photos.
        features: float16, N×F.
        trained: Which of the training's data sources have its photos.
    """

    name: str
    kind: np.ndarray
    features: np.ndarray
    trained: frozenset[int]

    @property
    def forgeries(self) -> list[str]:
        """The kinds of forgeries."""
        return [kind for kind in pd.unique(self.kind) if kind]


def encode_sources(
    options: argparse.Namespace, training: Training, cache: FaceCache, encode: PhotoEncoder
) -> list[Source]:
    """Writes, aligns and encodes photos and forgeries.

    Args:
        options: See `transfer_photos.add_options`.
        training: Tells which photos it has.
        cache: Aligns faces.
        encode: Encodes them.
    """

    def read(key: str) -> np.ndarray:
        return cache.read(key, training.config.template)

    sources = []
    for name, images in write_sources(options):
        features = encode(cache.ensure(list(images["path"]))["key"], read)
        files = _files(images.loc[images["origin"] != "", "origin"])
        trained = {number for number, paths in enumerate(training.paths) if paths & files}
        sources.append(Source(name, images["kind"].to_numpy(), features, frozenset(trained)))
    return sources


def _files(paths: pd.Series) -> set[str]:
    return set(map(os.path.realpath, paths))


@dataclass(frozen=True)
class LeaveOut:
    """What a classifier does without: a kind of forgery, a data source, or nothing.

    Args:
        kind: The kind.
        source: The number of the source, which its validation images are left out of as well.
    """

    kind: str | None = None
    source: int | None = None

    def __call__(self, encoded: Encoded) -> Encoded:
        """Selects what remains."""
        remains = np.ones(len(encoded.kind), bool)
        if self.kind is not None:
            remains &= encoded.kind != self.kind
        if self.source is not None:
            remains &= encoded.source != self.source
        return encoded.select(remains)

    def describe(self, training: Training, sources: list[Source]) -> str:
        """Names what is left out; a source by the user's name for it if there is one."""
        if self.kind is not None:
            return f"kind {self.kind}"
        if self.source is None:
            return "nothing"
        names = [source.name for source in sources if self.source in source.trained]
        return f"source {(names or [training.roots[self.source]])[0]}"


def leave_outs(training: Training) -> Iterator[LeaveOut]:
    """Leaves out nothing, then each kind of forgery, then each source."""
    yield LeaveOut()
    for kind in pd.unique(training.views.kind):
        if kind != BONA_FIDE:
            yield LeaveOut(kind=kind)
    for source in range(len(training.roots)):
        yield LeaveOut(source=source)


def fit_without(leave_out: LeaveOut, training: Training, network: nn.Module) -> Probe | None:
    """Fits a classifier to what remains; None if that lacks bona fide images or forgeries.

    Args:
        leave_out: What not to fit on.
        training: What there is.
        network: The encoder.
    """
    views, val = leave_out(training.views), leave_out(training.val)
    kinds = set(views.kind)
    if len(kinds) < 2 or BONA_FIDE not in kinds or BONA_FIDE not in val.kind:
        return None
    return fit_probe(training.config, network, views, val)


def measure(probe: Probe, views: Encoded, source: Source) -> list[dict]:
    """Gives a row of unseen.csv, without what was left out, per kind of forgery.

    Args:
        probe: The classifier.
        views: What it was fitted on.
        source: What to measure it on.
    """
    log_odds = score(probe, source.features)
    new = not source.trained & set(views.source.tolist())
    rows = []
    for forgery in source.forgeries:
        shown = np.isin(source.kind, ["", forgery])
        figures = detector_metrics(source.kind[shown] != "", log_odds[shown])
        row = {"source": source.name, "forgery": forgery}
        row |= {"images": int((source.kind == forgery).sum())}
        row |= {name: figures[name] for name in ("auc", "bpcer")}
        rows.append({**row, "held_out": new or forgery not in views.kind})
    return rows


def line(left_out: str, rows: list[dict], forgeries: list[str]) -> str:
    """One row of the table as Markdown: a classifier on a source."""

    def cell(text: str, bold: bool) -> str:
        return f"**{text}**" if bold else text

    found = {row["forgery"]: cell(f"{row['auc']:.2f}", row["held_out"]) for row in rows}
    alarms = f"{100 * rows[0]['bpcer']:.0f}%"
    cells = [left_out, rows[0]["source"], alarms, *(found.get(each, "–") for each in forgeries)]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Writes unseen.csv to OUT and prints the table row by row; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="folder of a finished run")
    add_options(parser)
    options = parser.parse_args()
    configure_process()
    try:
        run = RunDir(options.run)
        run.check_finished()
        config = read_run_config(run.config, ["--run", str(run.path)])
        if not config.liveness.probe.passes:
            raise ConfigError(
                f"{run.config}: liveness.probe.passes is 0, so the detector is no probe, and "
                "nothing can be fitted again without training it whole"
            )
        detector = Detector.load(run.liveness)
        encode = PhotoEncoder(config.liveness, detector, options.out / "features")
        data = prepare_training_data(config)
        training = Training.read(run, config, data, encode)
        cache = FaceCache(options.out / "crops", data.cache.aligner)
        sources = encode_sources(options, training, cache, encode)
        forgeries = list(dict.fromkeys(each for source in sources for each in source.forgeries))
        head = ["left out", "source", "false alarms", *forgeries]
        print(f"| {' | '.join(head)} |", "|" + " --- |" * len(head), sep="\n", flush=True)
        table = []
        for leave_out in leave_outs(training):
            left_out = leave_out.describe(training, sources)
            probe = fit_without(leave_out, training, detector.network.encoder)
            if probe is None:
                print(f"{left_out}: cannot be left out, too little remains", file=sys.stderr)
                continue
            for source in sources:
                rows = measure(probe, leave_out(training.views), source)
                table += [{"left_out": left_out, **row} for row in rows]
                print(line(left_out, rows, forgeries), flush=True)
        frame = pd.DataFrame(table, columns=COLUMNS)
        with atomic_path(options.out / "unseen.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")
        held_out = frame[frame["held_out"]]
        worst = held_out.loc[held_out["auc"].idxmin()]
        print(
            f"Worst of {len(held_out)} held-out cells: {worst['source']}, {worst['forgery']}, "
            f"left out {worst['left_out']}: AUC {worst['auc']:.2f}, "
            f"{worst['bpcer']:.0%} false alarms."
        )
    except KryptoniteError as error:
        print(f"unseen.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
