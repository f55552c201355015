"""From features of images to the evidence on pairs that a fusion takes."""

import numpy as np
import pandas as pd

from kryptonite.core.chunks import map_chunks
from kryptonite.detection.faces import CENTRE_CROP
from kryptonite.inference.extractor import CropFeatures, FeatureExtractor, FeatureTable
from kryptonite.recognition.differential.detector import DifferentialDetector

CHUNK = 2048  # pairs whose embeddings are in memory at once


def pair_evidence(
    features: CropFeatures,
    differential: DifferentialDetector | None,
    a: np.ndarray,
    b: np.ndarray,
) -> dict[str, np.ndarray]:
    """Computes what the branches say of pairs.

    Args:
        features: Features of aligned faces.
        differential: Compares both photos of a pair; without one `comparison` is 0, undecided.
        a: int N, rows of `features`: the first image of each pair.
        b: int N, the second.

    Returns:
        The columns `fusion.evidence.EVIDENCE`, float32, N each.
    """

    def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return (features.embeddings[first] * features.embeddings[second]).sum(1)

    if differential is None:
        comparison = np.zeros(len(a), np.float32)
    else:
        assert features.maps is not None, "the extractor lacks the differential detector's backbone"
        comparison = differential.score(features.maps, a, b)
    return {
        "similarity": map_chunks(cosine, CHUNK, a, b),
        "log_odds_a": features.log_odds[a],
        "log_odds_b": features.log_odds[b],
        "comparison": comparison,
    }


def extract_pairs(
    extractor: FeatureExtractor,
    differential: DifferentialDetector | None,
    pairs: pd.DataFrame,
    progress: bool = True,
) -> tuple[pd.DataFrame, FeatureTable]:
    """Extracts every distinct image of a list of pairs, then computes the evidence on each pair.

    Args:
        extractor: Extracts features of images.
        differential: As for `pair_evidence`.
        pairs: Columns path_a, path_b and any others; index 0..N-1.
        progress: Whether to show a bar when it takes long.

    Returns:
        What `describe_pairs` gives, and the features.
    """
    # Pair by pair: a list that is continued then has the same shards at its start.
    table = extractor.extract(pairs[["path_a", "path_b"]].to_numpy().ravel(), progress)
    return describe_pairs(table, differential, pairs), table


def describe_pairs(
    table: FeatureTable, differential: DifferentialDetector | None, pairs: pd.DataFrame
) -> pd.DataFrame:
    """Computes the evidence on pairs of images whose features are known.

    Args:
        table: Features of the images, and of any others.
        differential: As for `pair_evidence`.
        pairs: Columns path_a, path_b and any others; index 0..N-1.

    Returns:
        `pairs` with key_a, key_b, the columns `fusion.evidence.EVIDENCE`, readable (both files can
        be decoded) and acquired (and a face was found in both). Evidence on pairs that are not
        readable is 0.
    """
    features = table.features
    a, b = table.rows(pairs["path_a"]), table.rows(pairs["path_b"])
    readable = (a >= 0) & (b >= 0)
    evidence = pair_evidence(features, differential, a[readable], b[readable])
    spread = {name: np.zeros(len(pairs), np.float32) for name in evidence}
    for name, values in evidence.items():
        spread[name][readable] = values
    # A sentinel row, so that index −1 means unreadable.
    keys = np.append(features.keys, "")
    found = np.append(features.status != CENTRE_CROP, False)
    columns = {"key_a": keys[a], "key_b": keys[b], **spread, "readable": readable}
    return pairs.assign(**columns, acquired=found[a] & found[b])
