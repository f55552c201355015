"""Everything a report says of a system, computed from scored pairs: plain numbers, JSON-able."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from kryptonite.core.errors import MetricError
from kryptonite.metrics.bootstrap import (
    Draws,
    detector_intervals,
    intervals,
    pair_draws,
    share_interval,
)
from kryptonite.metrics.error_rates import (
    detector_metrics,
    eer_threshold,
    fmr_threshold,
    pair_curves,
    pair_metrics,
)
from kryptonite.report.quality import FACTS, thirds

BASELINE = "none"  # recognition alone
SHOWN_POINTS = 200  # of an error curve
BINS = 10
RULE_OF_30 = 30  # errors that make a rate sure within about 30% (Doddington et al. 2000)


@dataclass(frozen=True)
class ScoredPairs:
    """What a run said of the pairs of a protocol.

    Args:
        pairs: Columns of `data.pairs.PAIR_COLUMNS`, key_a, key_b (of the images), similarity, log_odds_a, log_odds_b, acquired (a face
            was found in both images; the others are refused), and those of `report.quality.FACTS`; index 0..N-1.
        images: Distinct images of these pairs, by content: path, key, label, is_synthetic, species, log_odds, failed (no face was found).
        scores: System to N scores, higher is 'accept'; `none` is recognition alone, `detector` the detector alone.
        llrs: System to N natural-log likelihood ratios of 'accept', for the systems whose scores are such.
        thresholds: System to the threshold that was fitted with it.
        chosen: The system that verifiers.
    """

    pairs: pd.DataFrame
    images: pd.DataFrame
    scores: dict[str, np.ndarray]
    llrs: dict[str, np.ndarray]
    thresholds: dict[str, float]
    chosen: str

    @property
    def kind(self) -> np.ndarray:
        """N of 'same', 'different', 'synthetic'."""
        return self.pairs["kind"].to_numpy().astype(str)

    def measure(
        self, name: str, resamples: int, chosen: np.ndarray | None = None
    ) -> tuple[dict[str, Any], Draws]:
        """`pair_metrics` of a system, its intervals under `intervals`, and the draws behind them; of the `chosen` rows where given.

        Raises:
            MetricError: These rows lack a kind of pair.
        """
        rows = np.ones(len(self.pairs), bool) if chosen is None else chosen
        pairs, score = self.pairs[rows], self.scores[name][rows]
        llr = self.llrs[name][rows] if name in self.llrs else None
        draws = pair_draws(
            pairs["label_a"],
            pairs["label_b"],
            pairs["kind"],
            score,
            self.thresholds[name],
            llr,
            resamples,
        )
        return {
            **pair_metrics(pairs["kind"], score, self.thresholds[name], llr),
            "intervals": intervals(draws),
        }, draws


def compute_findings(scored: ScoredPairs, resamples: int) -> dict[str, Any]:
    """Computes all figures.

    Returns:
        `systems`: figures with intervals per system, and `gain`: the fall of its EER against recognition alone, with the interval of the
        difference. `detector`: on images. `species`, `groups`, `thresholds`, `reliability`, `curves`, `acquisition`, `counts`: see the
        functions of this module.

    Raises:
        MetricError: A kind of pair is missing.
    """
    if not {"same", "different", "synthetic"} <= set(scored.kind):
        raise MetricError(
            f"a report needs pairs of the kinds same, different and synthetic; there are {sorted(set(scored.kind))}"
        )
    measured = {name: scored.measure(name, resamples) for name in scored.scores}
    baseline, baseline_draws = measured[BASELINE]
    systems = {}
    for name, (figures, draws) in measured.items():
        gain = intervals({"eer": baseline_draws["eer"] - draws["eer"]})["eer"]
        systems[name] = {**figures, "gain": baseline["eer"] - figures["eer"], "gain_interval": gain}
    return {
        "chosen": scored.chosen,
        "systems": systems,
        "detector": detector_figures(scored.images, resamples),
        "species": species_figures(scored, resamples),
        "groups": group_figures(scored, resamples),
        "thresholds": {
            name: operating_points(scored, name, resamples)
            for name in dict.fromkeys([scored.chosen, BASELINE])
        },
        "reliability": reliability(scored),
        "curves": {name: error_points(scored.kind, score) for name, score in scored.scores.items()},
        "acquisition": acquisition(scored, resamples),
        "counts": {
            "pairs": {
                kind: int((scored.kind == kind).sum())
                for kind in ("same", "different", "synthetic")
            },
            "images": len(scored.images),
            "people": int(
                pd.unique(pd.concat([scored.pairs["label_a"], scored.pairs["label_b"]])).size
            ),
        },
    }


def detector_figures(images: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """`detector_metrics` with intervals, each distinct image counted once."""
    arguments = (
        images["is_synthetic"].to_numpy(),
        images["log_odds"].to_numpy(),
        images["species"].to_numpy(),
    )
    return {
        **detector_metrics(*arguments),
        "intervals": detector_intervals(images["label"].to_numpy(), *arguments, resamples),
    }


def species_figures(scored: ScoredPairs, resamples: int) -> list[dict[str, Any]]:
    """One row per kind of forgery, hardest first: the chosen system and recognition alone on all accepted pairs against this kind alone."""
    species = scored.pairs["species"].to_numpy().astype(str)
    rows = []
    for name in np.unique(species[scored.kind == "synthetic"]):
        chosen = (scored.kind == "same") | ((scored.kind == "synthetic") & (species == name))
        figures, _ = scored.measure(scored.chosen, resamples, chosen)
        alone, _ = scored.measure(BASELINE, resamples, chosen)
        rows.append(
            {
                "species": name,
                "pairs": int(chosen.sum() - (scored.kind == "same").sum()),
                "system": figures,
                "alone": alone,
            }
        )
    return sorted(rows, key=lambda row: -row["system"]["spf_eer"])


def group_figures(scored: ScoredPairs, resamples: int) -> dict[str, list[dict[str, Any]]]:
    """Per quality fact three groups of pairs by its terciles; the fact of a pair is that of its harder photo.

    A group that lacks a kind of pair has `system: None`.
    """
    groups = {}
    for fact in FACTS:
        third, (low, high) = thirds(scored.pairs[fact].to_numpy())
        groups[fact] = []
        for number, borders in enumerate(((None, low), (low, high), (high, None))):
            chosen = third == number
            try:
                figures, alone = (
                    scored.measure(name, resamples, chosen)[0] for name in (scored.chosen, BASELINE)
                )
            except MetricError:
                figures = alone = None
            groups[fact].append(
                {
                    "from": borders[0],
                    "to": borders[1],
                    "pairs": int(chosen.sum()),
                    "system": figures,
                    "alone": alone,
                }
            )
    return groups


def operating_points(scored: ScoredPairs, name: str, resamples: int) -> list[dict[str, Any]]:
    """What thresholds cost: the stored one, and those that give an FMR of 1% and 0.1% and the EER on these very pairs.

    `sure` says whether the pairs of different people are enough for the FMR (rule of 30). A threshold that none of the scores can give is
    None, with no costs.
    """
    kind, score = scored.kind, scored.scores[name]
    people = scored.pairs["label_a"], scored.pairs["label_b"]
    impostors = int((kind == "different").sum())
    places = [
        ("stored with the run", scored.thresholds[name], None),
        ("EER here", eer_threshold(kind == "same", score), None),
        ("FMR 1%", fmr_threshold(kind, score, 1e-2), 1e-2),
        ("FMR 0.1%", fmr_threshold(kind, score, 1e-3), 1e-3),
    ]
    points = []
    for place, threshold, fmr in places:
        point: dict[str, Any] = {
            "at": place,
            "threshold": float(threshold),
            "sure": fmr is None or impostors * fmr >= RULE_OF_30,
        }
        if not np.isfinite(threshold):
            points.append({**point, "threshold": None})
            continue
        figures, draws = (
            pair_metrics(kind, score, threshold),
            pair_draws(*people, kind, score, threshold, resamples=resamples),
        )
        for rate in ("fnmr", "fmr", "iapar"):
            point[rate] = figures[rate]
            point[f"{rate}_interval"] = intervals({rate: draws[rate]})[rate]
        points.append(point)
    return points


def reliability(scored: ScoredPairs) -> dict[str, list[dict[str, float]]]:
    """Predicted probability against what happened, both classes weighted to equal mass, in ten bins.

    `pairs`: probability of 'accept' by the chosen system, absent when its scores are no likelihood ratios. `images`: of 'synthetic'.
    """
    found = {}
    if scored.chosen in scored.llrs:
        found["pairs"] = reliability_bins(scored.kind == "same", scored.llrs[scored.chosen])
    found["images"] = reliability_bins(
        scored.images["is_synthetic"].to_numpy(), scored.images["log_odds"].to_numpy()
    )
    return found


def reliability_bins(target: np.ndarray, log_odds: np.ndarray) -> list[dict[str, float]]:
    """Bins of equal width over the predicted probability.

    Args:
        target: N bool.
        log_odds: N, natural log-odds of `target` at equal priors.

    Returns:
        Per non-empty bin `predicted` (mean), `observed` (share of targets) and `share` of all mass, each 0..1, at equal class mass.
    """
    target = np.asarray(target).astype(bool)
    weight = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum())
    probability = 1 / (1 + np.exp(-np.clip(np.asarray(log_odds, np.float64), -500, 500)))
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = place == number
        mass = weight[inside].sum()
        if mass > 0:
            predicted, observed = (
                (weight * value)[inside].sum() / mass for value in (probability, target)
            )
            bins.append(
                {"predicted": float(predicted), "observed": float(observed), "share": float(mass)}
            )
    return bins


def error_points(kind: np.ndarray, score: np.ndarray) -> dict[str, list[list[float]]]:
    """Error curves thinned for drawing: per kind of pair to be refused, points (share accepted, FNMR), at most `SHOWN_POINTS`."""
    curves, _ = pair_curves(kind, score)

    def thin(fmr: np.ndarray, fnmr: np.ndarray) -> list[list[float]]:
        # Corners of the staircase that lie evenly along it on probit-like axes: even steps of log-odds in both rates.
        def logit(rate: np.ndarray) -> np.ndarray:
            inside = np.clip(rate, 1e-4, 1 - 1e-4)
            return np.log(inside / (1 - inside))

        length = np.concatenate(
            [[0.0], np.cumsum(np.abs(np.diff(logit(fmr))) + np.abs(np.diff(logit(fnmr))))]
        )
        rows = np.unique(np.searchsorted(length, np.linspace(0, length[-1], SHOWN_POINTS)))
        return np.stack([fmr, fnmr], 1)[rows].round(6).tolist()

    return {name: thin(curves.fmr[name], curves.fnmr) for name in curves.fmr}


def acquisition(scored: ScoredPairs, resamples: int) -> dict[str, Any]:
    """Failures to acquire: among the distinct images `count`, `rate` (0..1) and its `interval`; `pairs` that are refused for them."""
    images, failed = scored.images, scored.images["failed"].to_numpy()
    return {
        "pairs": int((~scored.pairs["acquired"]).sum()),
        "count": int(failed.sum()),
        "rate": float(failed.mean()),
        "interval": share_interval(images["label"].to_numpy(), failed, resamples),
    }


def worst_pairs(scored: ScoredPairs, number: int) -> dict[str, pd.DataFrame]:
    """The false accepts with the highest and the false rejects with the lowest scores of the chosen system, at its stored threshold.

    Pairs that are refused because no face was found are left out: their scores tell nothing.
    """
    table = scored.pairs.assign(score=scored.scores[scored.chosen])[scored.pairs["acquired"]]
    accepted = table["score"] >= scored.thresholds[scored.chosen]
    wanted = table["kind"] == "same"
    return {
        "false accepts": table[accepted & ~wanted].nlargest(number, "score"),
        "false rejects": table[~accepted & wanted].nsmallest(number, "score"),
    }
