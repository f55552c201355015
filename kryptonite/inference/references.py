"""From features of a probe and its references to the pooled evidence that a fusion takes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kryptonite.core.chunks import map_chunks
from kryptonite.data.references import ReferenceTrials
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.references import Trials, kept, mean_agreement, mean_of
from kryptonite.inference.extractor import CropFeatures
from kryptonite.recognition.differential.detector import DifferentialDetector

CHUNK = 256  # trials whose embeddings are in memory at once


@dataclass(frozen=True)
class Compared:
    """N probes and the M references of each, compared with one another.

    Args:
        features: Features of all photos.
        probe: int N, rows of `features`.
        references: int N×M, likewise; −1 after the last.
        comparison: float32, N×M, the differential detector's scores of probe and reference; 0
            without one.
        mutual: float32, N×M×M, its scores of two references, or their cosines without one.
        differential: Whether there is a differential detector.
    """

    features: CropFeatures
    probe: np.ndarray
    references: np.ndarray
    comparison: np.ndarray
    mutual: np.ndarray
    differential: bool

    def first(self, count: int, rows: np.ndarray) -> "Compared":
        """Takes the first references of some probes.

        Args:
            count: Number of references.
            rows: N bool.
        """
        return replace(
            self,
            probe=self.probe[rows],
            references=self.references[rows, :count],
            comparison=self.comparison[rows, :count],
            mutual=self.mutual[rows, :count, :count],
        )

    def pooled(self) -> Evidence:
        """Pools each probe's references: the evidence on N pairs.

        References that agree least with the others are left out (`fusion.references.kept`). The
        similarity is the cosine with the mean of the others' embeddings, the comparison the mean of
        their comparisons; of the references' log-odds the lowest counts, so that a single one that
        looks generated refuses nobody. With one reference, this is the evidence on the pair.
        """
        keep = kept(self.mutual)
        return Evidence(
            self.similarity(keep),
            self.features.log_odds[self.probe],
            np.where(keep, self.features.log_odds[self.references], np.inf).min(1),
            mean_of(self.comparison, keep),
            agreement=self.agreement(keep),
        )

    def similarity(self, keep: np.ndarray) -> np.ndarray:
        """Cosine of each probe with the mean embedding of the references that N×M bools keep: N."""
        return map_chunks(self._similarity, CHUNK, self.probe, self.references, keep)

    def agreement(self, keep: np.ndarray) -> np.ndarray:
        """Mean comparison of the kept references with one another: N; 0 without a differential
        detector."""
        if not self.differential:
            return np.zeros(len(self.probe))
        return mean_agreement(self.mutual, keep)

    def _similarity(
        self, probe: np.ndarray, references: np.ndarray, keep: np.ndarray
    ) -> np.ndarray:
        embeddings = self.features.embeddings
        if references.shape[1] == 1:  # of unit length, and to the bit as for a pair
            centre = embeddings[references[:, 0]]
        else:
            centre = (embeddings[references] * keep[:, :, None]).sum(1)
            centre /= np.maximum(np.linalg.norm(centre, axis=1, keepdims=True), 1e-12)
        return (embeddings[probe] * centre).sum(1)


def compare_mutually(
    features: CropFeatures, differential: DifferentialDetector | None, sets: np.ndarray
) -> np.ndarray:
    """Compares the photos of sets with one another: float32, N×M×M, symmetric.

    Args:
        features: Features of the photos.
        differential: Compares two photos; without one their cosine does.
        sets: int N×M, rows of `features`; −1 after the last where a set has fewer.
    """
    first, second = np.triu_indices(sets.shape[1], 1)
    scores = _scores(features, differential, sets[:, first], sets[:, second])
    mutual = np.zeros((*sets.shape, sets.shape[1]), np.float32)
    mutual[:, first, second] = mutual[:, second, first] = scores
    return mutual


def compare(
    features: CropFeatures,
    differential: DifferentialDetector | None,
    probe: np.ndarray,
    references: np.ndarray,
    mutual: np.ndarray | None = None,
) -> Compared:
    """Compares N probes with the M references of each.

    Args:
        features: Features of all photos.
        differential: As for `compare_mutually`.
        probe: int N, rows of `features`.
        references: int N×M, likewise; −1 after the last where a probe has fewer.
        mutual: What `compare_mutually` gave for the references, if it is known.
    """
    if mutual is None:
        mutual = compare_mutually(features, differential, references)
    comparison = np.zeros(references.shape, np.float32)
    if differential is not None:
        probes = np.repeat(probe[:, None], references.shape[1], 1)
        comparison = _scores(features, differential, probes, references)
    return Compared(features, probe, references, comparison, mutual, differential is not None)


def pool_trials(
    features: CropFeatures,
    differential: DifferentialDetector | None,
    drawn: ReferenceTrials,
    counts: Sequence[int],
) -> Trials:
    """Pools the first references of drawn trials, for several numbers of them.

    Args:
        features: Features of the images; a face was found in each.
        differential: As for `compare_mutually`.
        drawn: The trials, of rows of `features`.
        counts: Numbers of references.
    """
    compared = compare(features, differential, drawn.probe, drawn.references)
    chosen = {count: drawn.having(count) for count in counts}
    evidence = {count: compared.first(count, rows).pooled() for count, rows in chosen.items()}
    return Trials(evidence, chosen, drawn.kind)


def _scores(
    features: CropFeatures,
    differential: DifferentialDetector | None,
    first: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """Compares photos, each two of them once: float32, of the rows' shape; 0 where a row is −1."""
    scores = np.zeros(first.shape, np.float32)
    valid = (first >= 0) & (second >= 0)
    pairs = np.sort(np.stack([first[valid], second[valid]], 1), 1)
    distinct, place = np.unique(pairs, axis=0, return_inverse=True)
    if differential is None:
        embeddings = features.embeddings
        found = map_chunks(lambda a, b: (embeddings[a] * embeddings[b]).sum(1), CHUNK, *distinct.T)
    else:
        assert features.maps is not None, "the extractor lacks the differential detector's backbone"
        found = differential.score(features.maps, *distinct.T)
    scores[valid] = found[place.ravel()]
    return scores
