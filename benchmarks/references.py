"""Compare ways to pool several references, and time each further cached reference.

Measured on the photos of labelled pairs (by default a run's validation pairs), every way
cross-fitted over identities, with and without a forgery among five references:

    python -m benchmarks.references --run runs/demo
"""

import statistics
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pandas as pd

from benchmarks.labelled import make_parser, open_labelled
from kryptonite.cli.process import configure_process
from kryptonite.core.errors import KryptoniteError
from kryptonite.core.images import read_rgb
from kryptonite.data.references import draw_trials
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.guard import cross_fit_as
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.references import Compared, compare
from kryptonite.metrics.bootstrap import PairScores, intervals, pair_draws
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.runs.references import TRIALS

COUNTS = (1, 3, 5, 10)
FOLDS = 5
ROUNDS = 200  # of the timing


def mean_of_all(compared: Compared) -> Evidence:
    """Leaves no reference out."""
    own = compared.pooled()
    everyone = np.ones(compared.references.shape, bool)
    return Evidence(
        compared.similarity(everyone),
        own.log_odds_a,
        compared.features.log_odds[compared.references].min(1),
        compared.comparison.mean(1),
        agreement=compared.agreement(everyone),
    )


def without_agreement(compared: Compared) -> Evidence:
    """As the system pools, without the references' agreement among themselves."""
    own = compared.pooled()
    return Evidence(own.similarity, own.log_odds_a, own.log_odds_b, own.comparison)


def by_score(pool: Callable[[np.ndarray], np.ndarray]) -> Callable[[Compared], Evidence]:
    """Pools every score over the references, without their agreement.

    Args:
        pool: Maps N×M scores to N.
    """

    def pooled(compared: Compared) -> Evidence:
        features, probe, references = compared.features, compared.probe, compared.references
        cosines = np.einsum(
            "nd,nmd->nm", features.embeddings[probe], features.embeddings[references]
        )
        return Evidence(
            pool(cosines),
            features.log_odds[probe],
            pool(features.log_odds[references]),
            pool(compared.comparison),
        )

    return pooled


def trimmed(scores: np.ndarray) -> np.ndarray:
    """Mean without a fifth of the scores at either end: N×M to N."""
    cut = scores.shape[1] // 5
    return np.sort(scores, 1)[:, cut : scores.shape[1] - cut].mean(1)


POOLINGS: dict[str, Callable[[Compared], Evidence]] = {
    "the system's": Compared.pooled,
    "no reference left out": mean_of_all,
    "without agreement": without_agreement,
    "mean of scores": by_score(lambda scores: scores.mean(1)),
    "median of scores": by_score(lambda scores: np.median(scores, 1)),
    "trimmed mean of scores": by_score(trimmed),
    "highest score": by_score(lambda scores: scores.max(1)),
}


def main() -> int:
    """Prints a line per pooling and number of references, then times; returns the exit status."""
    parser = make_parser(__doc__, 200)
    options = parser.parse_args()
    configure_process()
    try:
        _, pipeline, pairs = open_labelled(options)
        measure(pipeline, pairs, options.resamples)
        time_references(pipeline, pairs["path_a"].head(max(COUNTS) + 1).tolist())
    except KryptoniteError as error:
        print(f"references.py: {error}", file=sys.stderr)
        return 2
    return 0


def measure(pipeline: Pipeline, pairs: pd.DataFrame, resamples: int) -> None:
    """Prints the error rates of every pooling."""
    scored, table = pipeline.extract_pairs(pairs)
    sides = [
        scored[
            [f"path_{side}", f"key_{side}", f"label_{side}", f"synthetic_{side}", "acquired"]
        ].set_axis(["path", "key", "label", "is_synthetic", "acquired"], axis=1)
        for side in "ab"
    ]
    images = pd.concat(sides)
    images = images[images["acquired"]].drop_duplicates("key").reset_index(drop=True)
    images["is_synthetic"] = images["is_synthetic"].astype(bool)
    labels = images["label"].to_numpy(str)
    drawn = draw_trials(images, max(COUNTS), TRIALS)
    drawn = drawn.rows(drawn.forged >= 0)
    counts = [count for count in COUNTS if drawn.having(count).any()]
    drawn = drawn.rows(drawn.having(counts[-1]))
    groups = labels[drawn.probe], labels[drawn.references[:, 0]]
    content = table.rows(images["path"])
    everything = np.ones(len(drawn.probe), bool)
    clean, forged = (
        compare(table.features, pipeline.differential, each.probe, each.references)
        for each in (drawn.mapped(content), drawn.forged_first().mapped(content))
    )
    print(f"{len(drawn.probe)} trials of {len(set(groups[1]))} people")
    for name, pool in POOLINGS.items():
        for count in counts:
            evidence = pool(clean.first(count, everything))
            fitted = cross_fit_as(pipeline.verifier.fuser, evidence, drawn.kind, *groups, FOLDS)
            sets = {"": evidence}
            if count == 5:
                sets[", one forged"] = pool(forged.first(count, everything))
            for added, each in sets.items():
                score = fitted.score(each)
                figures = pair_metrics(drawn.kind, score)
                low, high = intervals(
                    pair_draws(PairScores(*groups, drawn.kind, score), resamples)
                )["spf_eer"]
                print(
                    f"{name:22} {count:2} references{added}: EER {figures['eer']:.2%}, "
                    f"SV {figures['sv_eer']:.2%}, SPF {figures['spf_eer']:.2%} "
                    f"[{low:.2%}, {high:.2%}]",
                    flush=True,
                )


def time_references(pipeline: Pipeline, paths: list[str]) -> None:
    """Prints what each further enrolled reference adds to a verification."""
    images = [read_rgb(path) for path in paths]
    enrolled = {count: pipeline.enrol(images[1 : count + 1]) for count in (2, len(images) - 1)}
    _, probe = pipeline.extractor.from_images(images[:1])
    taken: dict[int, list[float]] = {count: [] for count in enrolled}
    for _ in range(ROUNDS):
        for count, references in enrolled.items():
            began = perf_counter()
            pipeline.pool(probe, references)
            taken[count].append(perf_counter() - began)
    few, many = enrolled
    medians = {count: statistics.median(seconds) * 1e3 for count, seconds in taken.items()}
    each = (medians[many] - medians[few]) / (enrolled[many].count - enrolled[few].count)
    print(
        f"pooling {enrolled[few].count} enrolled references takes {medians[few]:.2f} ms, "
        f"{enrolled[many].count} take {medians[many]:.2f} ms: {each:.3f} ms for each further one"
    )


if __name__ == "__main__":
    sys.exit(main())
