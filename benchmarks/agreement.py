"""Which photos and pairs come out differently from photo by photo, and why?

python -m benchmarks.agreement [--run runs/demo] [--pairs 1000] [--engine torch]

Needs the run that `make demo` leaves. Scores the two lists of pairs of `benchmarks.throughput` in
batches, as `make_submission.py` does, and one photo at a time in the aligner's passes, with
facenet-pytorch and PyTorch. Names every photo whose face moved by more than half a pixel and every
pair whose score moved by more than 0.01, with the cause: the face, grey levels of a crop, or the
order of sums in the networks.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.throughput import distinct, recurring
from benchmarks.usual_pipeline import UsualPipeline
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.images import read_rgb
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.inference.pipeline import Pipeline
from kryptonite.metrics.error_rates import eer_challenge
from kryptonite.runs.load import load
from kryptonite.runs.run_dir import RunDir

FACE, SCORE = 0.5, 0.01  # pixels, and natural-log likelihood ratios, beyond which a change is named


class Recording(UsualPipeline):
    """The usual pipeline in the aligner's passes, with the landmarks it found.

    Attributes:
        landmarks: float32, 5×2, in pixels, by path.
    """

    def __init__(self, pipeline: Pipeline):
        super().__init__(pipeline, passes=True)
        self.landmarks: dict[str, np.ndarray] = {}
        self._path = ""

    def _extract(self, path: str):
        self._path = path
        return super()._extract(path)

    def _landmarks(self, photo: np.ndarray) -> np.ndarray:
        points = super()._landmarks(photo)
        self.landmarks[self._path] = points
        return points


def compare_photos(pipeline: Pipeline, alone: dict[str, np.ndarray]) -> pd.DataFrame:
    """Compares faces and crops of photos.

    Args:
        pipeline: Its cache holds the photos' faces.
        alone: Landmarks that were found photo by photo, by path.

    Returns:
        One row per photo, indexed by path: `moved`, the largest change of a landmark in pixels, and
        `crops`, the number of crops with another grey level anywhere.
    """
    cache = pipeline.extractor.cache
    keys = cache.identify(list(alone))
    found = cache.read_landmarks(keys)
    rows = []
    for path, key, batch in zip(alone, keys, found, strict=True):
        photo, points, changed = read_rgb(path), alone[path], 0
        for template in cache.aligner.templates:
            matrix = estimate_similarity(points, template_points(template))
            crop = warp(photo, matrix, template.size)
            changed += not np.array_equal(crop, cache.read(key, template))
        rows.append((float(np.abs(batch - points).max()), changed))
    return pd.DataFrame(rows, index=list(alone), columns=["moved", "crops"])


def measure(name: str, pairs: pd.DataFrame, loaded: Callable[[Path], Pipeline]) -> None:
    """Prints how many photos and pairs differ, and which.

    Args:
        name: Of the list.
        pairs: Columns pair_id, path_a, path_b, label.
        loaded: Loads a run with this cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        pipeline = loaded(Path(folder))
        scored, _ = pipeline.score_pairs(pairs, progress=False)
        usual = Recording(loaded(Path(folder) / "unused"))
        scores = {"in batches": scored["score"].to_numpy(), "photo by photo": usual.score(pairs)}
        photos = compare_photos(pipeline, usual.landmarks)
    # Pairs without a face in both photos are refused, and have no score to compare.
    acquired = scored["acquired"].to_numpy()
    scores["photo by photo"] = np.where(acquired, scores["photo by photo"], scores["in batches"])
    change = np.abs(np.subtract(*scores.values()))
    sides = [photos.loc[pairs[side]] for side in ("path_a", "path_b")]
    by_face = np.max([side["moved"] > FACE for side in sides], axis=0)
    by_crop = np.max([side["crops"] > 0 for side in sides], axis=0) & ~by_face
    print(f"\n{name}: {len(pairs)} pairs, {len(photos)} photos")
    for path, moved in photos["moved"][photos["moved"] > FACE].items():
        print(f"face moved by {moved:.2f} pixels: {path}")
    small = photos["moved"].between(0, FACE, inclusive="right").sum()
    crops = len(photos) * len(pipeline.extractor.cache.aligner.templates)
    print(f"landmarks that differ by less: in {small} photos")
    print(f"crops that differ: {photos['crops'].sum()} of {crops}")
    for cause, chosen in (("face", by_face), ("crop", by_crop), ("sums", ~by_face & ~by_crop)):
        above = pairs["pair_id"][chosen & (change > SCORE)].tolist()
        most = change[chosen].max(initial=0.0)
        print(
            f"scores, by {cause}: {len(above)} differ by more than {SCORE}, at most {most:.5f}",
            *above,
        )
    eer = [eer_challenge(pairs["label"].to_numpy() == 1, each) for each in scores.values()]
    print(f"EER {eer[0]:.4f} in batches, {eer[1]:.4f} photo by photo")


def main() -> int:
    """Prints both lists' differences; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", default="runs/demo", help="folder of the demo's run")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs per list, at most")
    parser.add_argument(
        "--engine", default="auto", help="of the batches, as for make_submission.py"
    )
    options = parser.parse_args()
    configure_process()
    try:
        root = Path(RunDir(Path(options.run)).read_config()["data"]["root"])

        def loaded(cache: Path) -> Pipeline:
            engine = "torch" if cache.name == "unused" else options.engine
            return load(options.run, cache, "cpu", engine)

        for name, make in (("images recur", recurring), ("every image distinct", distinct)):
            measure(name, make(root, options.pairs), loaded)
    except KryptoniteError as error:
        print(f"agreement.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
