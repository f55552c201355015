"""What does it cost when a kind of forgery, or a source of photos, is new to detector and fusion?

python -m benchmarks.unseen RUN OUT --source NAME=DATA_ROOT [--source …] [--autoencoder FOLDER]
    [--mesh FILE]

RUN is a finished run whose detector is a probe. Photos and forgeries of the sources are those of
`benchmarks.transfer` with the same options; with the same OUT they are written once. The features
of the training's views lie in RUN, so only the classifier is fitted again: on everything, without
each kind of forgery (the data's `k_` images too) and without each data source, left out of the
validation images as well, on which the offset is set. Then the fusion, its guard and its thresholds
are fitted again, as in training, with that classifier's log-odds and on the validation images that
remain. All forgeries of the frozen pairs are `k_` images of the run's own data, so without the one
or the other no fusion can be fitted. Recogniser and differential detector stay as trained: they
have seen the run's own data alone, so they know nothing of what is left out of the fusions.

Detector: a row per classifier and source: its false alarms, which are the source's genuine photos
with log-odds above 0, and its AUC on each kind of forgery. Bold cells are held out: the classifier
saw no forgery of the kind, or no photo of the source. OUT/unseen.csv has the same figures; the line
below names the held-out cell with the lowest AUC.

Fusion: a row per fusion, source and kind of forgery, on the pairs of `benchmarks.transfer`: SPF-EER
of recognition alone and fused, the gain with its 95% interval over identities, and the share of
genuine mated pairs that each refuses at its threshold. OUT/unseen_pairs.csv has the columns of
transfer.csv. The last lines name the held-out cell with the lowest gain, and the cells in which
fusion is worse than recognition alone.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from benchmarks import unseen_pairs
from benchmarks.transfer import make_pairs, measure_pairs
from benchmarks.transfer_photos import add_options, write_sources
from benchmarks.unseen_pairs import refit_fusion, with_log_odds
from kryptonite.cli.configuration import read_run_config
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import ConfigError, KryptoniteError
from kryptonite.core.files import atomic_path, fingerprint
from kryptonite.detection.cache import FaceCache
from kryptonite.fusion.verifier import Verifier
from kryptonite.inference.evidence import extract_pairs
from kryptonite.inference.extractor import FeatureExtractor
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
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.runs.config import FusionConfig, RunConfig
from kryptonite.runs.data import TrainingData, prepare_training_data
from kryptonite.runs.fuse import ValidationPairs, load_branches
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
        val_keys: Their keys in the run's face cache.
        roots: The sources' data roots.
        paths: The sources' images of both splits.
    """

    config: LivenessConfig
    views: Encoded
    val: Encoded
    val_keys: np.ndarray
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
        keys = inputs.val_images["key"]
        val = Encoded.of_images(encode(keys, read), inputs.val_images)
        roots = [config.data.root, *config.data.genuine]
        images = pd.concat([inputs.images, inputs.val_images])
        paths = [_files(images.loc[images["source"] == each, "path"]) for each in range(len(roots))]
        return cls(config.liveness, views, val, keys.to_numpy(), roots, paths)


@dataclass(frozen=True)
class Source:
    """Encoded photos and forgeries to measure on.

    Args:
        name: What the user calls them.
        images: Columns kind, empty for genuine photos, and key; N rows.
        features: float16, N×F.
        pairs: Of `transfer.make_pairs`, with the evidence of the run's branches.
        trained: Which of the training's data sources have its photos.
    """

    name: str
    images: pd.DataFrame
    features: np.ndarray
    pairs: pd.DataFrame
    trained: frozenset[int]

    @property
    def kind(self) -> np.ndarray:
        """N names; empty for genuine photos."""
        return self.images["kind"].to_numpy()

    @property
    def forgeries(self) -> list[str]:
        """The kinds of forgeries."""
        return [kind for kind in pd.unique(self.kind) if kind]


def encode_sources(
    options: argparse.Namespace,
    training: Training,
    encode: PhotoEncoder,
    extractor: FeatureExtractor,
    differential: DifferentialDetector | None,
) -> list[Source]:
    """Writes, aligns and encodes photos and forgeries, and computes the evidence on pairs.

    Args:
        options: See `transfer_photos.add_options`.
        training: Tells which photos it has.
        encode: Encodes aligned faces.
        extractor: Aligns faces, and extracts what pairs need.
        differential: Compares both photos of a pair.
    """
    cache = extractor.cache

    def read(key: str) -> np.ndarray:
        return cache.read(key, training.config.template)

    sources = []
    for name, images in write_sources(options):
        images = images.assign(key=cache.ensure(list(images["path"]))["key"].to_numpy())
        features = encode(images["key"], read)
        files = _files(images.loc[images["origin"] != "", "origin"])
        trained = {number for number, paths in enumerate(training.paths) if paths & files}
        pairs, _ = extract_pairs(extractor, differential, make_pairs(images))
        sources.append(Source(name, images, features, pairs, frozenset(trained)))
    return sources


def _files(paths: pd.Series) -> set[str]:
    return set(map(os.path.realpath, paths))


@dataclass(frozen=True)
class LeaveOut:
    """What classifier and fusion do without: a kind of forgery, a data source, or nothing.

    Args:
        kind: The kind.
        source: The number of the source, which its validation images are left out of as well.
    """

    kind: str | None = None
    source: int | None = None

    def __call__(self, encoded: Encoded) -> Encoded:
        """Selects what remains."""
        return encoded.select(self.remaining(encoded))

    def remaining(self, encoded: Encoded) -> np.ndarray:
        """Tells of N images which remain, N bool."""
        remains = np.ones(len(encoded.kind), bool)
        if self.kind is not None:
            remains &= encoded.kind != self.kind
        if self.source is not None:
            remains &= encoded.source != self.source
        return remains

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


@dataclass(frozen=True)
class Refit:
    """A classifier fitted without something.

    Args:
        left_out: The user's name for what it did without.
        leave_out: What it did without.
        probe: The classifier.
        kinds: Kinds of images that it was fitted on.
        trained: Data sources that it was fitted on.
    """

    left_out: str
    leave_out: LeaveOut
    probe: Probe
    kinds: frozenset[str]
    trained: frozenset[int]

    def holds_out(self, source: Source, forgery: str) -> bool:
        """Whether it saw no photo of the source, or no forgery of the kind."""
        return not source.trained & self.trained or forgery not in self.kinds

    def measure(self, source: Source) -> list[dict]:
        """Gives a row of unseen.csv per kind of forgery of a source."""
        log_odds = score(self.probe, source.features)
        rows = []
        for forgery in source.forgeries:
            shown = np.isin(source.kind, ["", forgery])
            figures = detector_metrics(source.kind[shown] != "", log_odds[shown])
            row = {"left_out": self.left_out, "source": source.name, "forgery": forgery}
            row |= {"images": int((source.kind == forgery).sum())}
            row |= {name: figures[name] for name in ("auc", "bpcer")}
            rows.append({**row, "held_out": self.holds_out(source, forgery)})
        return rows

    def refit_fusion(
        self, training: Training, val: ValidationPairs, config: FusionConfig
    ) -> dict[str, Verifier] | None:
        """Fits the fusion on the validation images that remain; see `unseen_pairs.refit_fusion`."""
        log_odds = score(self.probe, self.leave_out(training.val).features)
        keys = training.val_keys[self.leave_out.remaining(training.val)]
        return refit_fusion(pd.Series(log_odds, keys), val, config)

    def measure_pairs(self, source: Source, systems: dict[str, Verifier]) -> list[dict]:
        """Gives a row of unseen_pairs.csv per kind of forgery that pairs of a source show."""
        log_odds = score(self.probe, source.features)
        pairs = with_log_odds(source.pairs, pd.Series(log_odds, source.images["key"]))
        rows = measure_pairs(source.name, source.images.assign(log_odds=log_odds), pairs, systems)
        return [
            {
                "left_out": self.left_out,
                **row,
                "held_out": self.holds_out(source, row["forgery"]),
            }
            for row in rows
            if row["pairs"]
        ]


def refit_all(training: Training, network: nn.Module, sources: list[Source]) -> Iterator[Refit]:
    """Fits a classifier without each of `leave_outs`; says which of them cannot be left out.

    Args:
        training: What there is.
        network: The encoder.
        sources: Tell what the user calls a source.
    """
    for leave_out in leave_outs(training):
        left_out = leave_out.describe(training, sources)
        probe = fit_without(leave_out, training, network)
        if probe is None:
            print(f"{left_out}: cannot be left out, too little remains", file=sys.stderr)
            continue
        remains = leave_out.remaining(training.views)
        kinds, trained = (each[remains] for each in (training.views.kind, training.views.source))
        yield Refit(left_out, leave_out, probe, frozenset(kinds), frozenset(trained))


def line(rows: list[dict], forgeries: list[str]) -> str:
    """One row of the detector's table as Markdown: a classifier on a source."""

    def cell(text: str, bold: bool) -> str:
        return f"**{text}**" if bold else text

    found = {row["forgery"]: cell(f"{row['auc']:.2f}", row["held_out"]) for row in rows}
    alarms = f"{100 * rows[0]['bpcer']:.0f}%"
    named = [rows[0]["left_out"], rows[0]["source"], alarms]
    return f"| {' | '.join([*named, *(found.get(each, '–') for each in forgeries)])} |"


def measure_detectors(refits: Iterable[Refit], sources: list[Source]) -> list[dict]:
    """Prints the detector's table row by row; returns the rows of unseen.csv."""
    forgeries = list(dict.fromkeys(each for source in sources for each in source.forgeries))
    print_head(f"| {' | '.join(['left out', 'source', 'false alarms', *forgeries])} |")
    table = []
    for refit in refits:
        for source in sources:
            rows = refit.measure(source)
            table += rows
            print(line(rows, forgeries), flush=True)
    held_out = [row for row in table if row["held_out"]]
    worst = min(held_out, key=lambda row: row["auc"])
    print(
        f"Worst of {len(held_out)} held-out cells: {worst['source']}, {worst['forgery']}, "
        f"left out {worst['left_out']}: AUC {worst['auc']:.2f}, "
        f"{worst['bpcer']:.0%} false alarms.\n"
    )
    return table


def measure_fusions(
    refits: list[Refit],
    training: Training,
    val: ValidationPairs,
    config: FusionConfig,
    sources: list[Source],
) -> list[dict]:
    """Prints the fusion's table row by row; returns the rows of unseen_pairs.csv.

    Args:
        refits: Classifiers.
        training: Has the features of the validation images.
        val: Their pairs.
        config: The run's fusion.
        sources: What to measure on.
    """
    print_head(unseen_pairs.HEAD)
    table = []
    for refit in refits:
        systems = refit.refit_fusion(training, val, config)
        if systems is None:
            print(
                f"{refit.left_out}: no fusion can be fitted without it, for the remaining "
                "validation pairs lack a kind",
                file=sys.stderr,
            )
            continue
        for source in sources:
            for row in refit.measure_pairs(source, systems):
                table.append(row)
                print(unseen_pairs.line(row), flush=True)
    print(unseen_pairs.summary(table))
    return table


def print_head(head: str) -> None:
    """Prints the head of a Markdown table."""
    print(head, "|" + " --- |" * (head.count("|") - 1), sep="\n", flush=True)


def save(table: list[dict], columns: list[str], path: Path) -> None:
    """Writes a table as CSV."""
    with atomic_path(path) as temporary:
        frame = pd.DataFrame(table, columns=columns)
        frame.to_csv(temporary, index=False, float_format="%.6g")


def main() -> int:
    """Writes unseen.csv and unseen_pairs.csv to OUT, prints both; returns the exit status."""
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
        data = prepare_training_data(config)
        extractor, differential = load_branches(run, config, data.cache)
        detector = extractor.detector
        encode = PhotoEncoder(config.liveness, detector, options.out / "features")
        training = Training.read(run, config, data, encode)
        val = ValidationPairs.extract(extractor, differential, data)
        own = replace(extractor, cache=FaceCache(options.out / "crops", data.cache.aligner))
        sources = encode_sources(options, training, encode, own, differential)
        refits = list(refit_all(training, detector.network.encoder, sources))
        save(measure_detectors(refits, sources), COLUMNS, options.out / "unseen.csv")
        fused = measure_fusions(refits, training, val, config.fusion, sources)
        save(fused, unseen_pairs.COLUMNS, options.out / "unseen_pairs.csv")
    except KryptoniteError as error:
        print(f"unseen.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
