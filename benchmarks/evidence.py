"""Measure whether explanations are true: the photo, the branch and the region they name.

Photo and branch on a run's validation pairs, of which it is known which photo is a forgery. The
region on forgeries of validation people's photos whose changed pixels are known, whole inner faces
and single parts of the face:

    python -m benchmarks.evidence --run runs/demo
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import cv2
import numpy as np
import pandas as pd

from benchmarks.labelled import make_parser, open_labelled
from kryptonite.cli.process import configure_process
from kryptonite.core.crops import CropTemplate
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.images import read_rgb
from kryptonite.data.forgery import FORGERIES, face_swap, resynthesise, self_blend
from kryptonite.detection.faces import CENTRE_CROP, AlignedFaces
from kryptonite.detection.warp import estimate_similarity, template_points, warp
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.fusers import Parts
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.extractor import CropFeatures
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.verdict import (
    DIFFERENT_PEOPLE,
    branch_of_refusal,
    code_of_refusal,
    photo_of_refusal,
)
from kryptonite.metrics.bootstrap import share_interval

POSITIONS, WINDOW = 5, 0.35  # windows along a side, and their side as a share of the crop's
LEVELS = 6  # a pixel counts as changed from this difference of its 255 levels
LEFT_EYE, RIGHT_EYE, NOSE, MOUTH = range(4)

Photo = tuple[np.ndarray, np.ndarray]  # RGB uint8 H×W×3, landmarks 5×2


def main() -> int:
    """Prints a line per share; returns the exit status."""
    parser = make_parser(__doc__, 1000)
    parser.add_argument("--people", type=int, default=32, help="people forged for the region")
    parser.add_argument("--seed", type=int, default=0, help="seeds people and forgeries")
    options = parser.parse_args()
    configure_process()
    try:
        _, pipeline, pairs = open_labelled(options)
        say(measure_pairs(pipeline, pairs), options.resamples)
        generator = np.random.default_rng(options.seed)
        rows = measure_regions(pipeline, draw_photos(pipeline, pairs, options.people, generator))
        for _, part in pd.DataFrame(list(rows)).groupby("extent"):
            title = f"{part['extent'].iloc[0]}, {len(part)} forgeries: "
            say(part.drop(columns="extent"), options.resamples, title)
    except KryptoniteError as error:
        print(f"evidence.py: {error}", file=sys.stderr)
        return 2
    return 0


def say(table: pd.DataFrame, resamples: int, title: str = "") -> None:
    """Prints the mean of every column but `label`, with its interval over identities."""
    for name in table.columns.drop("label"):
        known = table[table[name].notna()]
        values = known[name].to_numpy(float)
        if not len(values):
            print(f"{title}{name}: no case")
            continue
        low, high = share_interval(known["label"], values, resamples)
        print(f"{title}{name}: {values.mean():.1%} [{low:.1%}, {high:.1%}] of {len(values)}")
    sys.stdout.flush()


def measure_pairs(pipeline: Pipeline, pairs: pd.DataFrame) -> pd.DataFrame:
    """Says of each pair with a wrong side whether the explanation of its refusal is right.

    Returns:
        label; `photo` (the forgery is named) of pairs refused as a forgery that are one; `cause` (a
        branch about forgeries is named, and only then) of all refused pairs that are not mated;
        `higher log-odds` (the forgery has them) of all synthetic pairs. NaN where not applicable.
    """
    scored, _ = pipeline.score_pairs(pairs)
    scored = scored[scored["acquired"] & (scored["kind"] != "same")].reset_index(drop=True)
    evidence, rows = Evidence.of(scored), []
    for row, pair in enumerate(scored.itertuples()):
        synthetic = pair.kind == "synthetic"
        shares = dict.fromkeys(("photo", "cause", "higher log-odds"), np.nan)
        if synthetic:
            shares["higher log-odds"] = (pair.log_odds_b > pair.log_odds_a) == bool(
                int(pair.synthetic_b)
            )
        if pair.score < pipeline.verifier.threshold:
            one = evidence.rows(np.array([row]))
            code = code_of_refusal(pipeline.verifier.fuser, one)
            parts = pipeline.verifier.fuser.parts(one)
            branch = branch_of_refusal(code, _floats(parts))
            shares["cause"] = (branch not in (None, "recognition")) == synthetic
            if synthetic and code != DIFFERENT_PEOPLE:
                named = photo_of_refusal(code, [pair.log_odds_a, pair.log_odds_b])
                shares["photo"] = named == int(pair.synthetic_b)
        rows.append({"label": pair.label_a, **shares})
    return pd.DataFrame(rows)


def _floats(parts: Parts | None) -> dict[str, float]:
    return {name: float(value[0]) for name, value in asdict(parts).items()} if parts else {}


def draw_photos(
    pipeline: Pipeline, pairs: pd.DataFrame, people: int, generator: np.random.Generator
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]:
    """Forges one photo of each person in every way, all over and in one part of the face.

    Yields:
        Label; `whole face` or `one part`; the forgery; the photo it was made of; another genuine
        photo of the person.
    """
    own: dict[str, set[str]] = {}
    for side in "ab":
        genuine = pairs[pairs[f"synthetic_{side}"].astype(int) == 0]
        for label, path in genuine[[f"label_{side}", f"path_{side}"]].itertuples(index=False):
            own.setdefault(str(label), set()).add(path)
    labels = sorted(label for label, paths in own.items() if len(paths) > 1)
    chosen: dict[str, tuple[Photo, Photo]] = {}
    for label in generator.permutation(labels):
        images = [read_rgb(path) for path in generator.permutation(sorted(own[label]))[:2]]
        faces = pipeline.extractor.cache.aligner(images)
        if CENTRE_CROP not in faces.status:
            first, second = zip(images, faces.landmarks, strict=True)
            chosen[str(label)] = first, second
        if len(chosen) == people:
            break
    for label, ((photo, landmarks), (other, _)) in chosen.items():
        stranger = generator.choice([each for each in chosen if each != label])
        forge = {
            "self_blend": lambda: self_blend(photo, landmarks, generator),  # noqa: B023
            "resynthesis": lambda: resynthesise(photo, landmarks, generator),  # noqa: B023
            "face_swap": lambda: face_swap(photo, landmarks, *chosen[stranger][0]),  # noqa: B023
        }
        for kind in FORGERIES:
            forged = forge[kind]()
            part = paste_part(photo, forged, landmarks, int(generator.integers(4)))
            yield label, "whole face", forged, photo, other
            yield label, "one part", part, photo, other


def paste_part(
    photo: np.ndarray, forged: np.ndarray, landmarks: np.ndarray, part: int
) -> np.ndarray:
    """Keeps of a forgery an eye, the nose or the mouth alone, with a soft rim."""
    unit = float(np.linalg.norm(landmarks[1] - landmarks[0]))
    centre = landmarks[3:].mean(0) if part == MOUTH else landmarks[part]
    mask = np.zeros(photo.shape[:2], np.float32)
    cv2.circle(mask, tuple(map(int, centre)), int(0.55 * unit), 1.0, -1)
    share = cv2.GaussianBlur(mask, (0, 0), max(0.06 * unit, 0.5))[..., None]
    return (photo * (1 - share) + forged * share).round().astype(np.uint8)


def measure_regions(
    pipeline: Pipeline, forged: Iterator[tuple[str, str, np.ndarray, np.ndarray, np.ndarray]]
) -> Iterator[dict[str, str | float]]:
    """Names the window whose covering raises the fused score most, and checks it.

    Yields:
        label and extent; `hit`: the window's centre is changed; `chance`: the share of all windows
        of which that holds; `moves more`: the share of the other windows whose covering by another
        filling moves the score less than that of the named one.
    """
    template = pipeline.extractor.recogniser.spec.template
    for label, extent, image, photo, other in forged:
        changed = (np.abs(image.astype(int) - photo).max(2) >= LEVELS).astype(np.uint8) * 255
        faces = pipeline.extractor.cache.aligner([image, other])
        if CENTRE_CROP in faces.status:
            continue
        matrix = estimate_similarity(faces.landmarks[0], template_points(template))
        mask = warp(np.repeat(changed[..., None], 3, 2), matrix, template.size)[..., 0] > 127
        changes, check = (score_changes(pipeline, faces, blurred) for blurred in (False, True))
        centres = [
            mask[int((top + bottom) / 2 * len(mask)), int((left + right) / 2 * len(mask))]
            for left, top, right, bottom in windows()
        ]
        named = int(changes.argmax())
        moved = np.abs(check)
        yield {
            "label": label,
            "extent": extent,
            "hit": float(centres[named]),
            "chance": float(np.mean(centres)),
            "moves more": float((moved[named] > np.delete(moved, named)).mean()),
        }


def windows() -> list[tuple[float, float, float, float]]:
    """Overlapping windows, row by row: x1, y1, x2, y2 as shares of the recogniser's crop."""
    starts = np.linspace(0, 1 - WINDOW, POSITIONS)
    return [(x, y, x + WINDOW, y + WINDOW) for y in starts for x in starts]


def score_changes(pipeline: Pipeline, faces: AlignedFaces, blurred: bool) -> np.ndarray:
    """What covering each window of the first of two faces adds to the fused score: float32."""
    places = windows()
    covered = {
        template: np.stack(
            [cover(crops[0], template, place, blurred) for place in places] + list(crops)
        )
        for template, crops in faces.crops.items()
    }
    count = len(places)
    rows = np.r_[np.zeros(count + 1, int), 1]  # of the face that each covered crop shows
    features: CropFeatures = pipeline.extractor.from_faces(
        AlignedFaces(
            covered,
            faces.landmarks[rows],
            faces.boxes[rows],
            faces.confidence[rows],
            [faces.status[row] for row in rows],
        )
    )
    first, second = np.arange(count + 1), np.full(count + 1, count + 1)
    columns = pair_evidence(features, pipeline.differential, first, second)
    scores = pipeline.verifier.fuser.score(Evidence.of(columns))
    return scores[:-1] - scores[-1]


def cover(
    crop: np.ndarray, template: CropTemplate, place: Sequence[float], blurred: bool
) -> np.ndarray:
    """Covers a window of a crop: by its own blur, or by the crop's mean colour."""
    margin, side = template.margin, template.size
    left, top, right, bottom = (
        round((border + margin) / (1 + 2 * margin) * side) for border in place
    )
    filling = cv2.GaussianBlur(crop, (0, 0), side / 8) if blurred else np.empty_like(crop)
    if not blurred:
        filling[:] = crop.reshape(-1, 3).mean(0)
    covered = crop.copy()
    covered[top:bottom, left:right] = filling[top:bottom, left:right]
    return covered


if __name__ == "__main__":
    sys.exit(main())
