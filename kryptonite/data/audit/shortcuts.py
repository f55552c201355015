"""Tests whether file properties alone tell genuine photos from `k_` images.

If they do, a detector learns them as a shortcut instead of a forgery's traces.
"""

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from kryptonite.core.images import decoding, read_bytes

LEAK = 0.6  # cross-validated AUC above which file facts are said to leak the class
FOLDS = 5
RESAMPLES = 500
# Images to read at most, of whole identities drawn by seed; more would hardly narrow the interval.
LIMIT = 20_000

# Causes before consequences: of two groups that tell equally well, the earlier one is named first.
GROUPS = {
    "compression": ["quality", "luma_table", "chroma_table", "subsampling", "progressive"],
    "size": ["width", "height", "aspect"],
    "metadata": ["format", "mode", "exif", "icc_profile"],
    "margins": ["margin_top", "margin_bottom", "margin_left", "margin_right"],
    "colour": ["red", "green", "blue"],
    "file_size": ["bytes", "bytes_per_pixel"],
}
_CATEGORIES = ("subsampling", "format", "mode")
_SUBSAMPLING = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_DRAFT = 256  # minimum side in pixels at which images are decoded for margins and colour
_FLAT = 4.0  # mean grey levels by which a row of a margin may differ from the border

# Luminance table of the JPEG standard (ITU-T T.81, table K.1), which libjpeg scales by quality.
_LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()
_QUALITIES = np.arange(1, 101)
_PERCENT = np.where(_QUALITIES < 50, 5000 // _QUALITIES, 200 - 2 * _QUALITIES)
# 100×64: the tables of jpeg_set_quality in libjpeg.
_SCALED = np.clip((_LUMA * _PERCENT[:, None] + 50) // 100, 1, 255)


def estimate_quality(luma: Sequence[int]) -> int:
    """Quality, 1..100, whose standard luminance table is nearest; exact for libjpeg's files.

    Args:
        luma: 64 quantisation steps in row-major order.
    """
    return int(_QUALITIES[np.abs(_SCALED - np.asarray(luma)).sum(1).argmin()])


def file_facts(paths: Iterable[str]) -> pd.DataFrame:
    """Reads properties of image files that do not depend on what the images show.

    Args:
        paths: Image files.

    Returns:
        One row per readable image, indexed by its position in `paths`, with the columns of
        `GROUPS`: `quality` 1..100 and the sums of the quantisation tables (NaN except for JPEG;
        chroma also for grey images), chroma subsampling, pixels as stored, aspect (width over
        height), flat margins as fractions of the image's height or width, mean red, green and blue
        0..255, bytes.
    """
    paths = list(paths)
    with ThreadPoolExecutor() as threads:
        facts = dict(enumerate(threads.map(_facts, paths)))
    read = {position: each for position, each in facts.items() if each is not None}
    columns = [name for names in GROUPS.values() for name in names]
    table = pd.DataFrame(
        list(read.values()), index=pd.Index(list(read), dtype=int), columns=columns
    )
    return table.astype(dict.fromkeys(_CATEGORIES, "category"))


def _facts(path: str) -> dict[str, Any] | None:
    with decoding(path):
        return _read_facts(path)


def _read_facts(path: str) -> dict[str, Any] | None:
    try:
        content = read_bytes(path)
        size = len(content)
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            facts = {
                "width": width,
                "height": height,
                "aspect": width / height,
                "bytes": size,
                "bytes_per_pixel": size / (width * height),
                "format": image.format,
                "mode": image.mode,
                **_jpeg(image),
            }
            # JPEG decoders shrink by up to eight almost for free.
            image.draft("RGB", (_DRAFT, _DRAFT))
            pixels = np.asarray(image.convert("RGB"))
            facts |= {"exif": "exif" in image.info, "icc_profile": "icc_profile" in image.info}
    except Exception:  # Pillow raises OSError, SyntaxError, struct.error, … for broken files
        return None
    red, green, blue, _ = cv2.mean(pixels)  # always four channels
    columns = pixels.swapaxes(0, 1)
    sides = {"top": pixels, "bottom": pixels[::-1], "left": columns, "right": columns[::-1]}
    margins = {f"margin_{side}": _margin(rows) for side, rows in sides.items()}
    return facts | margins | {"red": red, "green": green, "blue": blue}


def _jpeg(image: Image.Image) -> dict[str, Any]:
    """Compression settings of a JPEG; blank for other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or not image.quantization:
        return {
            "quality": np.nan,
            "luma_table": np.nan,
            "chroma_table": np.nan,
            "subsampling": "",
            "progressive": False,
        }
    luma, *chroma = (table for _, table in sorted(image.quantization.items()))
    return {
        "quality": estimate_quality(luma),
        "luma_table": sum(luma),
        "chroma_table": sum(chroma[0]) if chroma else np.nan,
        "subsampling": _SUBSAMPLING.get(JpegImagePlugin.get_sampling(image), "other"),
        "progressive": "progressive" in image.info,
    }


def _margin(rows: np.ndarray) -> float:
    """Depth of the flat margin that starts at the first row, 0..1: a black bar or a plain wall.

    Args:
        rows: uint8, H×W×3.
    """
    border = np.median(rows[0], axis=0).astype(np.int16)
    count = 0
    for row in rows:
        if np.abs(row - border).mean() > _FLAT:
            break
        count += 1
    return count / len(rows)


def audit_shortcuts(images: pd.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Trains a classifier to tell genuine from `k_` images by file facts alone.

    It is cross-validated by identity: no identity is in both training and test folds. Every group
    of facts is also tried alone and, in groups that leak, every single fact: facts are correlated,
    so that shuffling or omitting one of them would show little.

    Args:
        images: Columns label, path, is_synthetic.
        seed: Seeds folds, classifier and bootstrap.

    Returns:
        JSON-able. `images`, `unreadable`, `identities` are counts. `auc` has its 95% `interval`
        (bootstrap over identities); both are None where there are too few identities. `leaks` tells
        whether `auc` exceeds `limit`. `groups`, sorted by falling AUC, have their `auc` and their
        `facts`, with typical values (median, share, or most frequent) of `genuine` and of
        `synthetic` images. `cure` holds aligner settings that make photos alike, as a
        counter-measure where compression or size leaks. `verdict` is a summary in words.
    """
    images = _sample_identities(images, seed).reset_index(drop=True)
    facts = file_facts(images["path"])
    synthetic, label = (
        images.loc[facts.index, name].to_numpy() for name in ("is_synthetic", "label")
    )
    counts = {
        "images": len(facts),
        "unreadable": len(images) - len(facts),
        "identities": len(set(label)),
        "limit": LEAK,
    }
    identities = [len(set(label[chosen])) for chosen in (~synthetic, synthetic)]
    if min(identities) < FOLDS:
        verdict = (
            f"undecided: found {identities[0]} people with genuine and {identities[1]} with k_ "
            f"images, but at least {FOLDS} of each are needed"
        )
        return counts | {
            "auc": None,
            "interval": None,
            "leaks": False,
            "groups": {},
            "cure": {},
            "verdict": verdict,
        }

    folds = list(
        StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(label, synthetic, label)
    )

    def alone(names: list[str]) -> float:
        return float(
            roc_auc_score(synthetic, _cross_validate(facts[names], synthetic, folds, seed))
        )

    scores = _cross_validate(facts, synthetic, folds, seed)
    auc = float(roc_auc_score(synthetic, scores))
    groups = {
        group: {"auc": alone(names), "facts": _typical(facts[names], synthetic)}
        for group, names in GROUPS.items()
    }
    groups = dict(sorted(groups.items(), key=lambda item: -round(item[1]["auc"], 2)))
    leaking = {}
    if auc > LEAK:
        # Where groups leak only in combination, name the strongest.
        leaking = {group: each for group, each in groups.items() if each["auc"] > LEAK} or dict(
            list(groups.items())[:1]
        )
    for each in leaking.values():
        for name, fact in each["facts"].items():
            fact["auc"] = alone([name])
    interval = _interval(synthetic, scores, label, seed)
    verdict = f"AUC {auc:.2f} [{interval[0]:.2f}, {interval[1]:.2f}], "
    if leaking:
        described = "; ".join(_describe(group, each) for group, each in leaking.items())
        verdict += f"file facts tell genuine from k_: {described}"
    else:
        verdict += "nothing leaks"
    if set(leaking) == {"file_size"}:
        # The cause is the content rather than the file, so re-encoding does not remove it.
        verdict += "; at equal compression and size this is the detail that the images show"
    remediable = {"compression", "size"} & set(leaking)
    return counts | {
        "auc": auc,
        "interval": interval,
        "leaks": auc > LEAK,
        "groups": groups,
        "cure": _counter_measure(facts, synthetic) if remediable else {},
        "verdict": verdict,
    }


def _sample_identities(images: pd.DataFrame, seed: int) -> pd.DataFrame:
    """All images, or those of as many identities as have about `LIMIT` images together."""
    if len(images) <= LIMIT:
        return images
    sizes = images["label"].value_counts().sort_index().sample(frac=1, random_state=seed)
    return images[images["label"].isin(sizes.index[sizes.cumsum() <= LIMIT])]


def _cross_validate(
    facts: pd.DataFrame,
    synthetic: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
    seed: int,
) -> np.ndarray:
    """Cross-validated log-odds of 'synthetic' from these facts: N floats, 0 is neutral."""
    varied = facts.loc[:, facts.nunique(dropna=False) > 1]
    scores = np.zeros(len(facts))
    if varied.shape[1]:
        for train, test in folds:
            trees = HistGradientBoostingClassifier(
                max_iter=50,
                max_leaf_nodes=8,
                early_stopping=False,
                categorical_features="from_dtype",
                random_state=seed,
            ).fit(varied.iloc[train], synthetic[train])
            # Subtract the prior log-odds, which differ between folds and would offset their scores.
            prior = synthetic[train].mean()
            scores[test] = trees.decision_function(varied.iloc[test]) - np.log(prior / (1 - prior))
    return scores


def _interval(
    synthetic: np.ndarray, scores: np.ndarray, label: np.ndarray, seed: int
) -> list[float]:
    """95% interval of the AUC from a bootstrap over identities."""
    names, codes = np.unique(label, return_inverse=True)
    _, levels = np.unique(scores, return_inverse=True)
    generator = np.random.default_rng(seed)
    draws = []
    while len(draws) < RESAMPLES:
        times = np.bincount(generator.integers(0, len(names), len(names)), minlength=len(names))[
            codes
        ]
        if times[synthetic].any() and times[~synthetic].any():
            below, above = (
                np.bincount(levels, times * chosen) for chosen in (~synthetic, synthetic)
            )
            draws.append(
                (below.cumsum() - below / 2) @ above / (below.sum() * above.sum())
            )  # ties count half
    return np.quantile(draws, [0.025, 0.975]).tolist()


def _typical(facts: pd.DataFrame, synthetic: np.ndarray) -> dict[str, dict[str, Any]]:
    """Typical value of each fact per class.

    It is the most frequent category, the share of true values, or the median; None if there is
    no value at all.
    """

    def typical(values: pd.Series) -> Any:
        if isinstance(values.dtype, pd.CategoricalDtype):
            return values.mode()[0]
        value = values.mean() if values.dtype == bool else values.median()
        return None if np.isnan(value) else float(value)

    return {
        name: {
            "genuine": typical(facts.loc[~synthetic, name]),
            "synthetic": typical(facts.loc[synthetic, name]),
        }
        for name in facts
    }


def _counter_measure(facts: pd.DataFrame, synthetic: np.ndarray) -> dict[str, int]:
    """Aligner settings that make both classes alike.

    A size slightly below, and a quality no higher than, those of all but a twentieth of the poorer
    class's images.
    """
    poorer = (
        pd.DataFrame({"side": facts[["width", "height"]].max(axis=1), "quality": facts["quality"]})
        .groupby(synthetic)
        .quantile(0.05)
        .min()
    )
    return {
        "common_side": max(1, int(0.9 * poorer["side"])),
        "common_quality": 90 if np.isnan(poorer["quality"]) else int(poorer["quality"]),
    }


def _describe(group: str, described: dict[str, Any]) -> str:
    """Formats e.g. `compression 0.98 (quality 92 against 75; also luma table, chroma table)`."""
    facts = sorted(described["facts"].items(), key=lambda item: -round(item[1]["auc"], 2))
    (name, fact), *others = facts
    values = [_short(fact[one]) for one in ("genuine", "synthetic")]
    also = [other for other, each in others if each["auc"] > LEAK]
    text = f"{name} {' against '.join(values)}" + (f"; also {', '.join(also)}" if also else "")
    return f"{group} {described['auc']:.2f} ({text})".replace("_", " ")


def _short(value: Any) -> str:
    """Formats three digits of a small number, all integer digits of a large one."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
