"""Measure scoring against the usual pipeline, in turn on the same pairs.

python -m benchmarks.throughput [--run runs/demo]

Needs the run that `make demo` leaves, and exports its networks if `kryptonite export` has not.

There are two lists of pairs: the demo's own test pairs, in which images recur, and pairs made of
all the demo's photos, in which every image is distinct. Images/s counts both photos of every pair,
whether or not they are processed again. The first run of each list starts from an empty cache, the
second finds the features in it, the third only the crops. Some identities of the second list were
trained on: its EER serves to compare the two pipelines and nothing else.

The networks were trained on crops from the aligner's own passes, so the usual pipeline's crops cost
accuracy. What our speed costs is therefore the difference in error to the usual pipeline with the
aligner's passes (`usual, our passes`, which runs once).
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.stages import Stages, Watched
from benchmarks.usual_pipeline import UsualPipeline
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.files import sha256_file
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.protocol import load_protocol
from kryptonite.data.submission import write_submission
from kryptonite.detection import aligner as aligner_module
from kryptonite.detection import cache as cache_module
from kryptonite.detection.aligner import Aligner
from kryptonite.detection.cascade_onnx import has_cascade
from kryptonite.detection.mtcnn_export import export_cascade
from kryptonite.inference.pipeline import Pipeline
from kryptonite.metrics.error_rates import eer_challenge
from kryptonite.nn.model import ENGINES, EXPORT_FILE
from kryptonite.recognition.differential.detector import EXPORT_FILE as COMPARER_FILE
from kryptonite.recognition.differential.detector import DifferentialDetector
from kryptonite.runs.export import export_networks
from kryptonite.runs.load import load
from kryptonite.runs.run_dir import RunDir

OUR_PASSES = "usual, our passes"
SECOND_RUN, FROM_CROPS = ", second run", ", from crops"


def recurring(root: Path, count: int) -> pd.DataFrame:
    """The first of the demo's test pairs: columns pair_id, path_a, path_b, label."""
    return load_protocol(root / "gt.csv", root)[["pair_id", "path_a", "path_b", "label"]].head(
        count
    )


def distinct(root: Path, count: int) -> pd.DataFrame:
    """Pairs of all the demo's photos in which no content occurs twice; columns as for `recurring`.

    Each identity has two mated pairs, two pairs of a bona fide photo with a forgery, and one with
    another identity's bona fide photo.
    """
    images = _all_images(root)
    images = images[~images["path"].map(sha256_file).duplicated()]
    identities = [
        (
            rows.loc[~rows["is_synthetic"], "path"].tolist(),
            rows.loc[rows["is_synthetic"], "path"].tolist(),
        )
        for _, rows in images.groupby("label")
    ]
    identities = [
        (bona_fide, forged)
        for bona_fide, forged in identities
        if len(bona_fide) >= 8 and len(forged) >= 2
    ]
    pairs = []
    following = [*identities[1:], identities[0]]
    for (bona_fide, forged), (others, _) in zip(identities, following, strict=True):
        pairs += [
            (bona_fide[0], bona_fide[1], 1),
            (bona_fide[2], bona_fide[3], 1),
            (bona_fide[4], others[7], 0),
            (bona_fide[5], forged[0], 0),
            (bona_fide[6], forged[1], 0),
        ]
    table = pd.DataFrame(pairs[:count], columns=["path_a", "path_b", "label"])
    return table.assign(pair_id=[f"{number:08d}" for number in range(len(table))])


def _all_images(root: Path) -> pd.DataFrame:
    """Images of all three splits: columns label, path, is_synthetic."""
    protocol = load_protocol(root / "gt.csv", root)
    sides = [
        protocol[[f"label_{side}", f"path_{side}", f"synthetic_{side}"]].set_axis(
            ["label", "path", "is_synthetic"], axis=1
        )
        for side in "ab"
    ]
    test = pd.concat(sides).assign(label=lambda rows: "test " + rows["label"].astype(str))
    parts = [
        load_images(DataConfig(str(root)), split)[["label", "path", "is_synthetic"]]
        for split in ("train", "val")
    ]
    return pd.concat([*parts, test]).assign(
        is_synthetic=lambda rows: rows["is_synthetic"].astype(bool)
    )


def watched(pipeline: Pipeline) -> list[Watched]:
    """The stages of scoring."""
    extractor = pipeline.extractor
    return [
        Watched(cache_module, "decode_rgb", "decode"),
        Watched(Aligner, "_search", "detect"),
        Watched(Aligner, "_align", "align"),
        Watched(extractor.recogniser, "embed", "embed"),
        Watched(extractor.recogniser, "extract_maps", "embed"),
        Watched(extractor.detector, "log_odds", "detect synthetic"),
        Watched(DifferentialDetector, "score", "fuse"),
        Watched(type(pipeline.verifier.fuser), "score", "fuse"),
        Watched(extractor.cache, "_write_group", "write"),
        Watched(Pipeline, "score_pairs", "hash, read, rest"),
    ]


class _Inline:
    """Replaces a thread pool and runs everything in the calling thread."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    map = staticmethod(map)


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Decodes, aligns and writes in this thread; in others, it would count while stages run."""
    with (
        patch.object(cache_module, "ThreadPoolExecutor", _Inline),
        patch.object(aligner_module, "ThreadPoolExecutor", _Inline),
    ):
        yield


def measure(
    name: str, pairs: pd.DataFrame, run: str, rounds: int, folder: Path
) -> dict[str, float]:
    """Runs both pipelines in turn and prints medians.

    Args:
        name: Title of the table.
        pairs: Columns pair_id, path_a, path_b, label.
        run: Folder of an exported run.
        rounds: How often each pipeline runs.
        folder: For caches and submissions.

    Returns:
        Maps each engine to the ratio of its pairs/s to the usual pipeline's, and `eer-difference`
        to the engines' largest difference in EER to `usual, our passes`.
    """
    usual = UsualPipeline(load(run, folder / "unused"))
    usual.score(pairs.head(2))
    usual.stages.seconds.clear()
    images = len(pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()))
    seconds: dict[str, list[float]] = {}
    scores: dict[str, np.ndarray] = {}
    stages = {engine: Stages() for engine in ENGINES}
    mated = pairs["label"].to_numpy() == 1
    for turn in range(rounds):
        began = perf_counter()
        scores["usual"] = usual.score(pairs)
        write_submission(folder / "usual.csv", pairs["pair_id"], scores["usual"])
        seconds.setdefault("usual", []).append(perf_counter() - began)
        for engine in ENGINES:
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            pipeline = load(run, cache, engine=engine)
            for repeat in ("", SECOND_RUN, FROM_CROPS):
                if repeat == FROM_CROPS:
                    shutil.rmtree(cache / "sights")
                began = perf_counter()
                scored, table = pipeline.score_pairs(pairs, progress=False)
                write_submission(folder / "ours.csv", scored["pair_id"], scored["score"].to_numpy())
                seconds.setdefault(engine + repeat, []).append(perf_counter() - began)
            scores[engine] = scored["score"].to_numpy()
            if turn == rounds - 1:  # once is enough for the stages
                shutil.rmtree(cache)
                with in_one_thread(), stages[engine].watching(watched(pipeline)):
                    scored, _ = pipeline.score_pairs(pairs, progress=False)
                    stages[engine].timed("write", write_submission)(
                        folder / "ours.csv", scored["pair_id"], scored["score"].to_numpy()
                    )
    began = perf_counter()
    alone = UsualPipeline(load(run, folder / "unused"), passes=True).score(pairs)
    seconds[OUR_PASSES] = [perf_counter() - began]
    # Pairs without a face in both photos are refused whatever their score.
    acquired = scored["acquired"].to_numpy()
    scores[OUR_PASSES] = np.where(acquired, alone, scores[ENGINES[-1]])
    print(
        f"\n{name}: {len(pairs)} pairs, {images} files, "
        f"{len(table.features.keys)} distinct contents, {rounds} rounds, medians"
    )
    print(f"{'':24}{'seconds':>9}{'pairs/s':>9}{'images/s':>10}{'EER':>9}")
    median = {way: statistics.median(taken) for way, taken in seconds.items()}
    eer = {way: eer_challenge(mated, values) for way, values in scores.items()}
    for way, taken in median.items():
        figure = f"{eer[way]:9.4f}" if way in eer else ""
        print(
            f"{way:24}{taken:9.2f}{len(pairs) / taken:9.1f}{2 * len(pairs) / taken:10.1f}{figure}"
        )
    print(f"stages of a first run, seconds; {torch.get_num_threads()} threads, but one finds faces")
    for way, spent in (("usual, all rounds", usual.stages), *stages.items()):
        print(f"{way:24}{spent}")
    for engine in ENGINES:
        first, second, crops = (median[engine + repeat] for repeat in ("", SECOND_RUN, FROM_CROPS))
        print(
            f"{engine}: a second run {first / second:.1f}x the first, "
            f"from crops alone {first / crops:.1f}x"
        )
    ratios = {engine: median["usual"] / median[engine] for engine in ENGINES}
    difference = max(abs(eer[engine] - eer[OUR_PASSES]) for engine in ENGINES)
    return {**ratios, "eer-difference": difference}


def main() -> int:
    """Prints the tables and one line of ratios per engine; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs per list, at most")
    parser.add_argument("--rounds", type=int, default=3, help="how often each pipeline runs")
    options = parser.parse_args()
    configure_process()
    run = RunDir(Path(options.run))
    try:
        root = Path(run.read_config()["data"]["root"])
        exports = [run.recognition / EXPORT_FILE, run.liveness / EXPORT_FILE]
        exports += [run.comparison / COMPARER_FILE] if run.comparison.is_dir() else []
        if not all(export.exists() for export in exports):
            export_networks(load(options.run, device="cpu"))
        if not has_cascade(run.faces):
            export_cascade(run.faces)
        with tempfile.TemporaryDirectory() as folder:
            results = [
                measure(name, make(root, options.pairs), options.run, options.rounds, Path(folder))
                for name, make in (("images recur", recurring), ("every image distinct", distinct))
            ]
    except KryptoniteError as error:
        print(f"throughput.py: {error}", file=sys.stderr)
        return 2
    print()
    for engine in ENGINES:
        ratios = [result[engine] for result in results]
        difference = max(result["eer-difference"] for result in results)
        print(
            f"{engine}: ratio {ratios[0]:.1f} distinct-images ratio {ratios[1]:.1f} "
            f"eer-difference {difference:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
