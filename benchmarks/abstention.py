"""Compare what tells right decisions from wrong ones: the score, and all that could be added to it.

Measured on labelled pairs (by default a run's validation pairs), at the run's stored threshold.
What is called a regression predicts wrong decisions, cross-fitted over identities. Changes of the
area under the risk-coverage curve are against the system's own ranking:

    python -m benchmarks.abstention --run runs/demo
"""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.labelled import make_parser, open_labelled
from kryptonite.cli.process import configure_process
from kryptonite.core.chunks import chunked
from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.core.errors import ConfigError, KryptoniteError
from kryptonite.fusion.cross import cross_fit_by
from kryptonite.fusion.evidence import EVIDENCE, Evidence
from kryptonite.inference.evidence import pair_evidence
from kryptonite.inference.extractor import CropFeatures
from kryptonite.inference.pipeline import Pipeline as System
from kryptonite.metrics.bootstrap import intervals, weighted_draws
from kryptonite.metrics.selective import RankedDecisions, error_name
from kryptonite.report.quality import FACTS
from kryptonite.runs.assess import Assessment, assess
from kryptonite.runs.run_dir import RunDir
from kryptonite.runs.selective import decide_selectively

FOLDS = 5
CHUNK = 64  # images whose crops are in memory at once
SHARES = (0.9, 0.8, 0.7)  # of the decisions that are given


@dataclass(frozen=True)
class RightDecisions:
    """Gives the log-odds that decisions are right.

    Args:
        features: N×F, of all pairs.
        model: Predicts wrong decisions from them.
    """

    features: np.ndarray
    model: Pipeline

    def score(self, evidence: Evidence) -> np.ndarray:
        """Scores some pairs, whose similarity is their row of `features`."""
        return -self.model.decision_function(self.features[evidence.similarity.astype(int)])


def fit_right(
    features: np.ndarray, wrong: np.ndarray, evidence: Evidence, kind: np.ndarray
) -> RightDecisions:
    """Fits on some pairs, whose similarity is their row of `features`: so `cross_fit_by` deals
    identities and rows alike."""
    rows = evidence.similarity.astype(int)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return RightDecisions(features, model.fit(features[rows], wrong[rows]))


def mirrored_spread(pipeline: System, assessment: Assessment) -> np.ndarray:
    """Standard deviation of each pair's score over both photos, each as it is and mirrored: N."""
    pairs, images = assessment.scored.pairs, assessment.scored.images
    extractor = pipeline.extractor
    row = {key: number for number, key in enumerate(images["key"])}
    a, b = (pairs[f"key_{side}"].map(row).to_numpy() for side in "ab")

    def crops(keys: list[str], step: int, template: CropTemplate) -> Crops:
        pixels = extractor.cache.read_batch(keys, template).pixels[:, :, ::step]
        return Crops(np.ascontiguousarray(pixels), template)

    parts = []
    for step in (1, -1):
        for keys in chunked(list(images["key"]), CHUNK):
            embeddings, maps = extractor.embed(
                crops(keys, step, extractor.recogniser.spec.template)
            )
            odds = extractor.detector.log_odds(crops(keys, step, extractor.detector.spec.template))
            parts.append(CropFeatures(embeddings, odds, maps))
    features = CropFeatures.joined(parts)
    score = assessment.fitted[assessment.scored.chosen]
    scores = []
    for first in (0, len(images)):
        for second in (0, len(images)):
            columns = pair_evidence(features, pipeline.differential, a + first, b + second)
            acquired = {"acquired": pairs["acquired"].to_numpy()}
            scores.append(score(Evidence.of({**columns, **acquired})))
    return np.std(scores, axis=0)


def measure(
    pipeline: System, run: RunDir, assessment: Assessment, resamples: int, mirrored: bool
) -> None:
    """Prints a line per signal.

    Raises:
        ConfigError: The run has no rule for which decisions to withhold.
    """
    decisions = decide_selectively(pipeline, run, assessment)
    if decisions is None:
        raise ConfigError(f"{run.path}: has no rule for which decisions to withhold; train again")
    scored = assessment.scored
    pairs, images = scored.pairs, scored.images.set_index("key")
    found = pairs["acquired"].to_numpy()
    wrong = decisions.accepted != (decisions.kind == "same")
    beyond = (scored.scores[scored.chosen] - scored.thresholds[scored.chosen])[found]
    own = np.stack([np.maximum(beyond, 0), np.maximum(-beyond, 0), decisions.accepted], 1)
    first, second = (images.loc[pairs[f"key_{side}"], list(FACTS)].to_numpy() for side in "ab")
    added = {
        "branches": pairs[list(EVIDENCE)].to_numpy(),
        "quality": np.concatenate([pairs[list(FACTS)].to_numpy(), np.abs(first - second)], 1),
    }
    if mirrored:
        added["mirrored photos"] = mirrored_spread(pipeline, assessment)[:, None]
    added = {name: values[found] for name, values in added.items()}
    sets = {
        "score": own,
        **{f"score and {name}": np.concatenate([own, each], 1) for name, each in added.items()},
        "score and all of them": np.concatenate([own, *added.values()], 1),
        **{f"{name} alone": each for name, each in added.items()},
    }
    identities = decisions.identity_a, decisions.identity_b
    rows = Evidence(np.arange(len(wrong)), *np.zeros((2, len(wrong))))
    certainties = {
        "the system's": decisions.surplus,
        "distance to the threshold": np.abs(beyond),
        **{
            f"regression: {name}": cross_fit_by(
                partial(fit_right, features, wrong), rows, decisions.kind, *identities, FOLDS
            ).score(rows)
            for name, features in sets.items()
        },
    }
    print(f"{len(wrong)} decisions, {wrong.mean():.1%} of them wrong")
    start: dict[str, Any] = {}
    for name, certainty in certainties.items():
        ranked = RankedDecisions(wrong, certainty)
        figures, draws = ranked.figures(), weighted_draws(*identities, ranked.figures, resamples)
        start = start or draws
        low, high = intervals(draws)["aurc"]
        less, more = intervals({"aurc": draws["aurc"] - start["aurc"]})["aurc"]
        errors = [f"{figures[error_name(share)]:.1%} of {share:.0%}" for share in SHARES]
        print(
            f"{name:37} AURC {figures['aurc']:.2%} [{low:.2%}, {high:.2%}], change "
            f"[{less:+.2%}, {more:+.2%}]; wrong are {', '.join(errors)}",
            flush=True,
        )


def main() -> int:
    """Prints a line per signal and returns the exit status."""
    parser = make_parser(__doc__, 500)
    parser.add_argument(
        "--mirrored",
        action="store_true",
        help="also measure how far scores of mirrored photos differ: extracts every image twice",
    )
    options = parser.parse_args()
    configure_process()
    try:
        run, pipeline, pairs = open_labelled(options)
        assessment = assess(pipeline, run, pairs)
        measure(pipeline, run, assessment, options.resamples, options.mirrored)
    except KryptoniteError as error:
        print(f"abstention.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
