"""Does a run hold outside its home data? Genuine photos of several sources, several forgeries.

python -m benchmarks.transfer RUN OUT --source NAME=DATA_ROOT [--source …] [--autoencoder FOLDER]

For example `--source home=DATA --source wild=WILD --source demo=runs/demo/data-root`. Of every
source up to PEOPLE people with at least two genuine photos are drawn by seed, of its validation
split where it has one; their photos and one forgery of each kind of every photo are written to OUT
alike, as JPEG of one quality. A data set's own `k_` images count as one more kind. Pairs: two
genuine photos of a person, of two people, and a genuine photo with a forgery of *another* photo of
the same person. Nothing is fitted here; the run is scored as it is.

Per source and kind: AUC of the detector and its false alarms on the source's genuine photos, EER
and SPF-EER of recognition alone and of the run's fusion, the gain with a 95% interval from a
bootstrap over identities on the same people, and what is accepted at the stored threshold. Cells in
which the fusion is worse than recognition alone beyond its interval are marked; the last line names
the worst one.
"""

import argparse
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.autoencoder import load_round_trip
from kryptonite.core.errors import DataError, KryptoniteError
from kryptonite.core.files import atomic_path
from kryptonite.core.images import read_rgb
from kryptonite.data.forgery import face_mask, face_swap, resynthesise, self_blend
from kryptonite.data.layouts import DataConfig, load_images
from kryptonite.detection.aligner import Aligner, AlignerConfig
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.fusion.evidence import Evidence
from kryptonite.inference.pipeline import Pipeline
from kryptonite.metrics.bootstrap import PairScores, intervals, pair_draws
from kryptonite.metrics.error_rates import detector_metrics, pair_metrics
from kryptonite.runs.load import load

PEOPLE, PHOTOS, NON_MATED = 60, 3, 400
QUALITY = 92  # of the JPEG that every photo goes through
RESAMPLES = 500
OWN = "k_"

Forge = Callable[["Photo", "Photo", np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Photo:
    """A genuine photo with a found face.

    Args:
        label: Whose it is.
        pixels: RGB uint8 H×W×3.
        landmarks: float32 5×2 pixels.
    """

    label: str
    pixels: np.ndarray
    landmarks: np.ndarray


def forgeries(autoencoder: Path | None) -> dict[str, Forge]:
    """Lists how forgeries are made: of a photo, of another person's photo, and random draws."""
    kinds: dict[str, Forge] = {
        "face_swap": lambda own, other, _: face_swap(
            other.pixels, other.landmarks, own.pixels, own.landmarks
        ),
        "self_blend": lambda own, _, draws: self_blend(
            own.pixels, own.landmarks, draws, colour=draws.uniform()
        ),
        "resynthesis": lambda own, _, draws: resynthesise(own.pixels, own.landmarks, draws),
    }
    if autoencoder:
        round_trip = load_round_trip(autoencoder)

        def inner(own: Photo, _: Photo, draws: np.random.Generator) -> np.ndarray:
            height, width = own.pixels.shape[:2]
            mask = face_mask(own.landmarks, height, width, draws.uniform(0.8, 1.1))
            soft = np.asarray(
                Image.fromarray(mask)
                .resize((width // 8, height // 8))
                .resize((width, height), Image.Resampling.BICUBIC)
            )
            share = soft[..., None] / 255
            return (own.pixels * (1 - share) + round_trip(own.pixels) * share).astype(np.uint8)

        kinds["autoencoder"] = lambda own, *_: round_trip(own.pixels)
        kinds["autoencoder_inner"] = inner
    return kinds


def genuine_photos(images: pd.DataFrame, aligner: Aligner, seed: int) -> list[Photo]:
    """Draws people with at least two genuine photos, and some photos of each with a found face."""
    bona_fide = images[~images["is_synthetic"]]
    sizes = bona_fide["label"].value_counts().sort_index()
    people = sizes.index[sizes >= 2].to_numpy()
    draws = np.random.default_rng(seed)
    photos = []
    for label in draws.permutation(people):
        paths = draws.permutation(bona_fide.loc[bona_fide["label"] == label, "path"])[:PHOTOS]
        pixels = [read_rgb(path) for path in paths]
        faces = aligner(pixels)
        found = [
            Photo(label, image, points)
            for image, points, status in zip(pixels, faces.landmarks, faces.status, strict=True)
            if status != CENTRE_CROP
        ]
        if len(found) >= 2:
            photos += found
        if len({photo.label for photo in photos}) == PEOPLE:
            break
    if len({photo.label for photo in photos}) < 2:
        raise DataError("a source needs two people with two genuine photos each")
    return photos


def write_source(name: str, root: str, kinds: dict[str, Forge], out: Path) -> pd.DataFrame:
    """Writes a source's photos and their forgeries; gives a table label, path, kind, number.

    Forgeries of a photo share its number. What an interrupted run wrote is kept.
    """
    splits = [load_images(DataConfig(root), split) for split in ("train", "val")]
    # People that training may have seen are taken only where validation has too few.
    validation = splits[1]["label"][~splits[1]["is_synthetic"]].value_counts()
    images = splits[1] if (validation >= 2).sum() >= PEOPLE // 2 else pd.concat(splits)
    photos = genuine_photos(images, Aligner(AlignerConfig(device="cpu"), []), seed=0)
    rows = []
    for number, photo in enumerate(photos):
        strangers = [other for other in photos if other.label != photo.label]
        draws = np.random.default_rng([0, number])
        other = strangers[draws.integers(len(strangers))]
        makers = {"": lambda own, *_: own.pixels, **kinds}
        for kind, make in makers.items():
            path = out / name / f"{kind or 'genuine'}-{number:04d}.jpg"
            if not path.exists():
                _write(path, make(photo, other, np.random.default_rng([1, number])))
            rows.append((photo.label, str(path), kind, number))
    chosen = {photo.label for photo in photos}
    own = images[images["is_synthetic"] & images["label"].isin(chosen)]
    for number, image in enumerate(own.itertuples()):
        path = out / name / f"{OWN}-{number:04d}.jpg"
        if not path.exists():
            _write(path, read_rgb(image.path))
        rows.append((image.label, str(path), OWN, -1))
    return pd.DataFrame(rows, columns=["label", "path", "kind", "number"])


def _write(path: Path, pixels: np.ndarray) -> None:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(stream.getvalue())


def make_pairs(images: pd.DataFrame) -> pd.DataFrame:
    """Pairs genuine photos with one another and with forgeries of the person's other photos."""
    genuine = images[images["kind"] == ""]
    rows = []
    for label, own in genuine.groupby("label"):
        paths = own["path"].tolist()
        rows += [
            (first, second, label, label, "same", "")
            for number, first in enumerate(paths)
            for second in paths[number + 1 :]
        ]
        forged = images[(images["label"] == label) & (images["kind"] != "")]
        for fake in forged.itertuples():
            references = own.loc[own["number"] != fake.number, "path"]
            rows.append((references.iloc[0], fake.path, label, label, "synthetic", fake.kind))
    draws = np.random.default_rng(0)
    labels, paths = genuine["label"].to_numpy(), genuine["path"].to_numpy()
    first, second = draws.integers(0, len(labels), (2, 20 * NON_MATED))
    apart = labels[first] != labels[second]
    for a, b in zip(first[apart][:NON_MATED], second[apart][:NON_MATED], strict=True):
        rows.append((paths[a], paths[b], labels[a], labels[b], "different", ""))
    columns = ["path_a", "path_b", "label_a", "label_b", "kind", "species"]
    return pd.DataFrame(rows, columns=columns)


def measure_source(name: str, images: pd.DataFrame, pipeline: Pipeline) -> list[dict]:
    """Scores a source's pairs; gives one row per kind of forgery."""
    pairs = make_pairs(images)
    scored, table = pipeline.extract_pairs(pairs)
    evidence = Evidence.of(scored)
    log_odds = table.features.log_odds[table.rows(images["path"])]
    kind, species = (scored[column].to_numpy() for column in ("kind", "species"))
    systems = {"alone": pipeline.verifiers["none"], "fused": pipeline.verifier}
    scores = {which: verifier.fuser.score(evidence) for which, verifier in systems.items()}
    rows = []
    for forgery in [each for each in images["kind"].unique() if each]:
        chosen = (kind != "synthetic") | (species == forgery)
        shown = images["kind"].isin(["", forgery]).to_numpy()
        detector = detector_metrics(images["kind"].to_numpy()[shown] != "", log_odds[shown])
        row = {"source": name, "forgery": forgery, "pairs": int((species == forgery).sum())}
        row |= {"auc": detector["auc"], "bpcer": detector["bpcer"]}
        people = [scored[f"label_{side}"].to_numpy()[chosen] for side in "ab"]
        draws = {}
        for which, verifier in systems.items():
            values = scores[which][chosen]
            figures = pair_metrics(kind[chosen], values, verifier.threshold)
            for metric in ("eer", "sv_eer", "spf_eer", "fnmr", "iapar"):
                row[f"{metric}_{which}"] = figures[metric]
            draws[which] = pair_draws(
                PairScores(*people, kind[chosen], values, verifier.threshold), RESAMPLES
            )
        for metric in ("eer", "spf_eer"):
            row[f"{metric}_gain"] = row[f"{metric}_alone"] - row[f"{metric}_fused"]
            difference = draws["alone"][metric] - draws["fused"][metric]
            row[f"{metric}_interval"] = intervals({metric: difference})[metric]
        rows.append(row)
    return rows


HEAD = (
    "| source | forgery | pairs | detector AUC | false alarms | EER alone | EER fused | SPF alone "
    "| SPF fused | SPF gain | mated refused alone | fused | forgeries accepted alone | fused | |"
)


def line(row: dict) -> str:
    """One cell of the table as Markdown."""
    low, high = row["spf_eer_interval"]
    rates = [
        f"{100 * row[f'{metric}_{which}']:.1f}%"
        for metric in ("eer", "spf_eer", "fnmr", "iapar")
        for which in ("alone", "fused")
    ]
    gain = f"{100 * row['spf_eer_gain']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    cells = [row["source"], row["forgery"], row["pairs"], f"{row['auc']:.2f}"]
    cells += [f"{100 * row['bpcer']:.0f}%", *rates[:4], gain, *rates[4:]]
    cells.append("**worse**" if high < 0 else "")
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> int:
    """Writes transfer.csv to OUT and prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="folder of a finished run")
    parser.add_argument("out", type=Path, help="folder for photos, forgeries, cache and the table")
    parser.add_argument("--source", action="append", required=True, metavar="NAME=DATA_ROOT")
    parser.add_argument("--autoencoder", type=Path, help="folder of taef2_*.safetensors")
    options = parser.parse_args()
    try:
        pipeline = load(options.run, options.out / "crops", "cpu", "auto")
        kinds = forgeries(options.autoencoder)
        print(HEAD, "|" + " --- |" * (HEAD.count("|") - 1), sep="\n", flush=True)
        rows = []
        for source in options.source:
            name, _, root = source.partition("=")
            images = write_source(name, root, kinds, options.out / "photos")
            for row in measure_source(name, images, pipeline):
                rows.append(row)
                print(line(row), flush=True)
    except KryptoniteError as error:
        print(f"transfer.py: {error}", file=sys.stderr)
        return 2
    table = pd.DataFrame(rows)
    with atomic_path(options.out / "transfer.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    worst = table.loc[table["spf_eer_gain"].idxmin()]
    print(
        f"worst cell: {worst['source']}, {worst['forgery']}: SPF-EER {worst['spf_eer_alone']:.1%} "
        f"alone, {worst['spf_eer_fused']:.1%} fused"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
