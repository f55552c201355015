"""Scoring against the usual pipeline, in turn on the same pairs: `python -m benchmarks.throughput [--run runs/demo]` after `make demo`.

Two lists of pairs: the demo's own test pairs, in which images recur, and pairs made of all the demo's photos in which every image is
distinct. Images/s counts both photos of every pair, looked at anew or not. The first run of each list starts from an empty cache; the
second finds what was seen; the third finds the crops alone. People of the second list are partly training people: its EER serves to compare
the two pipelines, nothing else. The networks were trained on crops that the aligner cut in its own passes, so the usual way's crops cost
accuracy; what our speed costs is therefore the difference of errors to the usual way with the aligner's passes, `usual, our passes`, which
runs once.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.stages import Stages, Watched
from benchmarks.usual_pipeline import UsualPipeline
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.files import sha256_file
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.data.protocol import load_protocol
from kryptonite.data.submission import write_submission
from kryptonite.detection import cache as cache_module
from kryptonite.detection.aligner import Aligner
from kryptonite.inference.pipeline import Pipeline
from kryptonite.metrics.error_rates import eer_challenge
from kryptonite.nn.model import ENGINES
from kryptonite.nn.onnx_runtime import EXPORT
from kryptonite.runs.assess import data_root_of


def recurring(root: Path, count: int) -> pd.DataFrame:
    """The first of the demo's test pairs."""
    return load_protocol(root / "gt.csv", root)[["pair_id", "path_a", "path_b", "label"]].head(
        count
    )


def distinct(root: Path, count: int) -> pd.DataFrame:
    """Pairs of all the demo's photos, no content twice: of a person two pairs of genuine photos, two with a forgery, one with another's."""
    protocol = load_protocol(root / "gt.csv", root)
    sides = [
        protocol[[f"label_{s}", f"path_{s}", f"synthetic_{s}"]].set_axis(
            ["label", "path", "is_synthetic"], axis=1
        )
        for s in "ab"
    ]
    test = pd.concat(sides).assign(label=lambda rows: "test " + rows["label"].astype(str))
    parts = [
        load_images(DataConfig(str(root)), split)[["label", "path", "is_synthetic"]]
        for split in ("train", "val")
    ]
    images = pd.concat([*parts, test]).assign(
        is_synthetic=lambda rows: rows["is_synthetic"].astype(bool)
    )
    images = images[~images["path"].map(sha256_file).duplicated()]
    people = [
        (
            rows.loc[~rows["is_synthetic"], "path"].tolist(),
            rows.loc[rows["is_synthetic"], "path"].tolist(),
        )
        for _, rows in images.groupby("label")
    ]
    people = [
        (genuine, forged) for genuine, forged in people if len(genuine) >= 8 and len(forged) >= 2
    ]
    pairs = []
    for (genuine, forged), (others, _) in zip(people, [*people[1:], people[0]], strict=True):
        pairs += [
            (genuine[0], genuine[1], 1),
            (genuine[2], genuine[3], 1),
            (genuine[4], others[7], 0),
        ]
        pairs += [(genuine[5], forged[0], 0), (genuine[6], forged[1], 0)]
    table = pd.DataFrame(pairs[:count], columns=["path_a", "path_b", "label"])
    return table.assign(pair_id=[f"{number:08d}" for number in range(len(table))])


def watched(pipeline: Pipeline) -> list[Watched]:
    """What scoring consists of."""
    return [
        (cache_module, "decode_rgb", "decode"),
        (Aligner, "_search", "detect"),
        (Aligner, "__call__", "align"),
        (pipeline.recogniser, "embed", "embed"),
        (pipeline.recogniser, "extract_maps", "embed"),
        (pipeline.detector, "log_odds", "detect synthetic"),
        (pipeline, "compare", "fuse"),
        (type(pipeline.verifier.fuser), "score", "fuse"),
        (pipeline.cache, "_write", "write"),
        (pipeline, "score_pairs", "hash, read, rest"),
    ]


class _Inline:
    """In a thread pool's place: does everything here and now."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    map = staticmethod(map)


def measure(
    name: str, pairs: pd.DataFrame, run: str, rounds: int, folder: Path
) -> dict[str, float]:
    """Runs both in turn and prints medians; gives by engine the ratio of pairs/s to the usual pipeline's, and `eer-difference`."""
    usual = UsualPipeline(Pipeline.load(run, folder / "unused"))
    usual.score(pairs.head(2))
    usual.stages.seconds.clear()
    images = len(pd.unique(pairs[["path_a", "path_b"]].to_numpy().ravel()))
    seconds: dict[str, list[float]] = {}
    scores: dict[str, np.ndarray] = {}
    stages = {engine: Stages() for engine in ENGINES}
    truth = pairs["label"].to_numpy() == 1
    for turn in range(rounds):
        began = perf_counter()
        scores["usual"] = usual.score(pairs)
        write_submission(folder / "usual.csv", pairs["pair_id"], scores["usual"])
        seconds.setdefault("usual", []).append(perf_counter() - began)
        for engine in ENGINES:
            cache = folder / "cache"
            shutil.rmtree(cache, ignore_errors=True)
            pipeline = Pipeline.load(run, cache, engine=engine)
            for repeat in ("", ", second run", ", from crops"):
                if repeat == ", from crops":
                    shutil.rmtree(cache / "sights")
                began = perf_counter()
                scored, looks = pipeline.score_pairs(pairs, progress=False)
                write_submission(folder / "ours.csv", scored["pair_id"], scored["score"].to_numpy())
                seconds.setdefault(engine + repeat, []).append(perf_counter() - began)
            scores[engine] = scored["score"].to_numpy()
            if (
                turn == rounds - 1
            ):  # once is enough for the stages, and for the errors on the same crops
                shutil.rmtree(cache)
                # Decoding in threads would be counted while other stages run.
                with (
                    patch.object(cache_module, "ThreadPoolExecutor", _Inline),
                    stages[engine].watching(watched(pipeline)),
                ):
                    scored, _ = pipeline.score_pairs(pairs, progress=False)
                    stages[engine].timed("write", write_submission)(
                        folder / "ours.csv", scored["pair_id"], scored["score"].to_numpy()
                    )
    began = perf_counter()
    scores["usual, our passes"] = UsualPipeline(
        Pipeline.load(run, folder / "unused"), passes=True
    ).score(pairs)
    seconds["usual, our passes"] = [perf_counter() - began]
    print(
        f"\n{name}: {len(pairs)} pairs, {images} files, {len(looks.seen.keys)} distinct contents, {rounds} rounds, medians"
    )
    print(f"{'':24}{'seconds':>9}{'pairs/s':>9}{'images/s':>10}{'EER':>9}")
    median = {way: statistics.median(taken) for way, taken in seconds.items()}
    eer = {way: eer_challenge(truth, values) for way, values in scores.items()}
    for way, taken in median.items():
        figure = f"{eer[way]:9.4f}" if way in eer else ""
        print(
            f"{way:24}{taken:9.2f}{len(pairs) / taken:9.1f}{2 * len(pairs) / taken:10.1f}{figure}"
        )
    print(f"stages of a first run, seconds; {torch.get_num_threads()} threads")
    for way, spent in (("usual, all rounds", usual.stages), *stages.items()):
        print(f"{way:24}{spent}")
    for engine in ENGINES:
        first, second, crops = (
            median[engine + repeat] for repeat in ("", ", second run", ", from crops")
        )
        print(
            f"{engine}: a second run {first / second:.1f}x the first, from crops alone {first / crops:.1f}x"
        )
    ratios = {engine: median["usual"] / median[engine] for engine in ENGINES}
    return {
        **ratios,
        "eer-difference": max(abs(eer[engine] - eer["usual, our passes"]) for engine in ENGINES),
    }


def main() -> int:
    """Prints the tables and one line of ratios per engine; gives the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    run = arguments.run
    try:
        root = Path(data_root_of(run))
        if not all(
            (Path(run) / branch / EXPORT).exists() for branch in ("recognition", "liveness")
        ):
            Pipeline.load(run, device="cpu").export()
        with tempfile.TemporaryDirectory() as folder:
            results = [
                measure(name, make(root, arguments.pairs), run, arguments.rounds, Path(folder))
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
            f"{engine}: ratio {ratios[0]:.1f} distinct-images ratio {ratios[1]:.1f} eer-difference {difference:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
