"""Compute every figure of the report from scored pairs, as plain numbers that JSON can hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from kryptonite.core.errors import MetricError
from kryptonite.metrics.bootstrap import (
    Draws,
    Interval,
    PairScores,
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
from kryptonite.metrics.kinds import KINDS
from kryptonite.report.quality import FACTS, thirds

BASELINE = "none"  # recognition alone
CURVE_POINTS = 200  # at most, per error curve
BINS = 10  # of the reliability diagram
RULE_OF_30 = 30  # errors needed to know a rate within about 30% (Doddington et al. 2000)
FMRS = (1e-2, 1e-3)  # at which thresholds are stated
RATES = ("fnmr", "fmr", "iapar", "riapar", "a_dcf")  # what a threshold costs


@dataclass(frozen=True)
class SystemScores:
    """The scores that systems give to labelled pairs.

    Args:
        pairs: One row per pair, index 0..N-1: kind, label_a, label_b (identities) and species.
        scores: Maps each system to N scores, higher is 'accept'.
        llrs: Maps each system whose scores are likelihood ratios to N natural-log likelihood
            ratios of 'accept'.
        thresholds: Maps systems to their operating points, fitted on other pairs.
    """

    pairs: pd.DataFrame
    scores: dict[str, np.ndarray]
    llrs: dict[str, np.ndarray]
    thresholds: dict[str, float]

    own_threshold: ClassVar[str] = "given"  # what the report calls a system's operating point

    @property
    def kind(self) -> np.ndarray:
        """Kind of each pair: N of 'same', 'different', 'synthetic'."""
        return self.pairs["kind"].to_numpy().astype(str)

    def measure(
        self, system: str, resamples: int, rows: np.ndarray | None = None
    ) -> tuple[dict[str, Any], Draws]:
        """Computes a system's error rates with bootstrap intervals.

        Args:
            system: A key of `scores`.
            resamples: Number of bootstrap draws.
            rows: N bool, restricts the pairs; None takes all of them.

        Returns:
            The figures of `pair_metrics` with their 95% intervals under `intervals`, and the draws
            behind the intervals.

        Raises:
            MetricError: These rows lack a kind of pair.
        """
        rows = np.ones(len(self.pairs), bool) if rows is None else rows
        pairs, score = self.pairs[rows], self.scores[system][rows]
        llr = self.llrs[system][rows] if system in self.llrs else None
        threshold = self.thresholds.get(system)
        draws = pair_draws(
            PairScores(pairs["label_a"], pairs["label_b"], pairs["kind"], score, threshold, llr),
            resamples,
        )
        figures = pair_metrics(pairs["kind"], score, threshold, llr)
        return {**figures, "intervals": intervals(draws)}, draws

    def forgeries(self) -> Iterator[tuple[str, int, np.ndarray]]:
        """Yields each kind of forgery, how many pairs have one, and the rows (N bool) of those
        pairs and of all mated ones."""
        species = self.pairs["species"].to_numpy().astype(str)
        mated, synthetic = self.kind == "same", self.kind == "synthetic"
        for name in np.unique(species[synthetic]):
            attacks = synthetic & (species == name)
            yield str(name), int(attacks.sum()), mated | attacks


@dataclass(frozen=True)
class ScoredPairs(SystemScores):
    """The scores that a run's systems give to the pairs of a protocol.

    `scores` and `thresholds` hold the same systems: `none` is recognition alone, `detector` the
    detector alone. `pairs` has `data.pairs.PAIR_COLUMNS`, key_a and key_b (content keys of the
    images), similarity, log_odds_a, log_odds_b, acquired (whether a face was found in both images;
    other pairs are refused) and the columns of `report.quality.FACTS`.

    Args:
        images: The distinct images of these pairs, by content: path, key, label, is_synthetic,
            species, log_odds and failed (no face was found).
        chosen: Name of the system that the run uses by default.
    """

    images: pd.DataFrame
    chosen: str
    own_threshold: ClassVar[str] = "stored with the run"


def compute_findings(scored: ScoredPairs, resamples: int) -> dict[str, Any]:
    """Computes all figures of the report.

    Args:
        scored: The scored pairs.
        resamples: Number of bootstrap draws behind each interval.

    Returns:
        `systems`: per system its figures with intervals, and `gain`, how far its EER lies below
        that of recognition alone, with the interval of the difference. `detector`: figures on
        single images. `species`, `groups`, `thresholds`, `reliability`, `curves`, `acquisition`:
        see the functions of this module. `chosen` and `counts`.

    Raises:
        MetricError: A kind of pair is missing.
    """
    if not set(KINDS) <= set(scored.kind):
        raise MetricError(
            "a report needs pairs of the kinds same, different and synthetic; "
            f"got only {', '.join(sorted(set(scored.kind)))}"
        )
    measured = {name: scored.measure(name, resamples) for name in scored.scores}
    baseline, baseline_draws = measured[BASELINE]
    systems = {}
    for name, (figures, draws) in measured.items():
        gain = paired_gains(baseline_draws, draws, ["eer"])["eer"]
        systems[name] = {**figures, "gain": baseline["eer"] - figures["eer"], "gain_interval": gain}
    identities = pd.unique(pd.concat([scored.pairs["label_a"], scored.pairs["label_b"]]))
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
            "pairs": {kind: int((scored.kind == kind).sum()) for kind in KINDS},
            "images": len(scored.images),
            "people": int(identities.size),
        },
    }


def paired_gains(baseline: Draws, system: Draws, metrics: Sequence[str]) -> dict[str, Interval]:
    """95% intervals of how far a system's error rates lie below those of a baseline.

    Args:
        baseline: The baseline's draws, as `SystemScores.measure` returns them.
        system: The system's draws on the same pairs. Both hold the same identities draw by draw,
            so that their differences have intervals.
        metrics: Names of the error rates.
    """
    return intervals({name: baseline[name] - system[name] for name in metrics})


def detector_figures(images: pd.DataFrame, resamples: int) -> dict[str, Any]:
    """Computes `detector_metrics` with intervals; each distinct image counts once."""
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
    """Measures each kind of forgery alone: all mated pairs against its synthetic pairs.

    Returns:
        Per kind of forgery, highest SPF-EER first: `species`, `pairs` (how many are synthetic),
        `system` and `alone` (figures of the chosen system and of recognition alone).
    """
    figures = []
    for name, pairs, rows in scored.forgeries():
        system, alone = (
            scored.measure(each, resamples, rows)[0] for each in (scored.chosen, BASELINE)
        )
        figures.append({"species": name, "pairs": pairs, "system": system, "alone": alone})
    return sorted(figures, key=lambda each: -each["system"]["spf_eer"])


def group_figures(scored: ScoredPairs, resamples: int) -> dict[str, list[dict[str, Any]]]:
    """Measures three groups of pairs per quality fact, split at its terciles.

    The fact of a pair is that of its harder photo.

    Returns:
        Per fact three groups by rising value: `from` and `to` (None at either end), `pairs`,
        `system` and `alone` (figures of the chosen system and of recognition alone; None where the
        group lacks a kind of pair).
    """
    groups = {}
    for fact in FACTS:
        third, (low, high) = thirds(scored.pairs[fact].to_numpy())
        groups[fact] = []
        for number, (start, end) in enumerate(((None, low), (low, high), (high, None))):
            rows = third == number
            try:
                system, alone = (
                    scored.measure(name, resamples, rows)[0] for name in (scored.chosen, BASELINE)
                )
            except MetricError:
                system = alone = None
            groups[fact].append(
                {
                    "from": start,
                    "to": end,
                    "pairs": int(rows.sum()),
                    "system": system,
                    "alone": alone,
                }
            )
    return groups


def operating_points(
    scored: SystemScores, system: str, resamples: int, fmrs: Sequence[float] = FMRS
) -> list[dict[str, Any]]:
    """Measures error rates at a system's own threshold, if it has one, and at those of the EER and
    of stated FMRs on these very pairs.

    Args:
        scored: The scored pairs.
        system: A key of `scored.scores`.
        resamples: Number of bootstrap draws.
        fmrs: The FMRs, 0..1; ignored where there are no non-mated pairs.

    Returns:
        Per threshold: `at` (its name), `threshold`, `sure` (whether there are enough non-mated
        pairs for that FMR by the rule of 30), and those of `RATES` that these kinds of pairs have,
        each with `<rate>_interval`. Where no score reaches that FMR, `threshold` is None and there
        are no rates.
    """
    kind, score = scored.kind, scored.scores[system]
    identities = scored.pairs["label_a"], scored.pairs["label_b"]
    non_mated = int((kind == "different").sum())
    thresholds: list[tuple[str, float, float | None]] = [
        ("EER here", eer_threshold(kind == "same", score), None)
    ]
    if system in scored.thresholds:
        thresholds.insert(0, (scored.own_threshold, scored.thresholds[system], None))
    if non_mated:
        thresholds += [(fmr_name(fmr), fmr_threshold(kind, score, fmr), fmr) for fmr in fmrs]
    points = []
    for name, threshold, fmr in thresholds:
        point: dict[str, Any] = {
            "at": name,
            "threshold": float(threshold),
            "sure": fmr is None or non_mated * fmr >= RULE_OF_30,
        }
        if not np.isfinite(threshold):
            points.append({**point, "threshold": None})
            continue
        figures = pair_metrics(kind, score, threshold)
        draws = pair_draws(PairScores(*identities, kind, score, threshold), resamples)
        for rate in [rate for rate in RATES if rate in figures]:
            point[rate] = figures[rate]
            point[f"{rate}_interval"] = intervals({rate: draws[rate]})[rate]
        points.append(point)
    return points


def fmr_name(fmr: float) -> str:
    """What the report calls the threshold of a stated FMR."""
    return f"FMR {100 * fmr:g}%"


def reliability(scored: ScoredPairs) -> dict[str, list[dict[str, float]]]:
    """Compares predicted probabilities with observed frequencies, both classes at equal mass.

    Returns:
        `reliability_bins` of `pairs` (the chosen system's probability of 'accept'; absent where its
        scores are no likelihood ratios) and of `images` (the detector's of 'synthetic').
    """
    bins = {}
    if scored.chosen in scored.llrs:
        bins["pairs"] = reliability_bins(scored.kind == "same", scored.llrs[scored.chosen])
    bins["images"] = reliability_bins(
        scored.images["is_synthetic"].to_numpy(), scored.images["log_odds"].to_numpy()
    )
    return bins


def reliability_bins(target: np.ndarray, log_odds: np.ndarray) -> list[dict[str, float]]:
    """Bins items by predicted probability, in bins of equal width.

    Args:
        target: N bool, the event that is predicted.
        log_odds: N, natural log-odds of `target` at equal priors.

    Returns:
        Per non-empty bin `predicted` (mean probability), `observed` (share of targets) and `share`
        of the whole mass, each 0..1, both classes weighted to equal mass.
    """
    target = np.asarray(target).astype(bool)
    weight = np.where(target, 0.5 / target.sum(), 0.5 / (~target).sum())
    probability = 1 / (1 + np.exp(-np.clip(np.asarray(log_odds, np.float64), -500, 500)))
    bin_of = np.minimum((probability * BINS).astype(int), BINS - 1)
    bins = []
    for number in range(BINS):
        inside = bin_of == number
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
    """Thins error curves for drawing.

    Returns:
        Per kind of pair to be refused, at most `CURVE_POINTS` points (share accepted, FNMR).
    """
    curves, _ = pair_curves(kind, score)

    def thin(fmr: np.ndarray, fnmr: np.ndarray) -> list[list[float]]:
        # Points evenly spaced along the staircase on the plot's probit axes, for which steps of
        # log-odds stand in.
        def logit(rate: np.ndarray) -> np.ndarray:
            inside = np.clip(rate, 1e-4, 1 - 1e-4)
            return np.log(inside / (1 - inside))

        steps = np.abs(np.diff(logit(fmr))) + np.abs(np.diff(logit(fnmr)))
        length = np.concatenate([[0.0], np.cumsum(steps)])
        rows = np.unique(np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS)))
        return np.stack([fmr, fnmr], 1)[rows].round(6).tolist()

    return {name: thin(curves.fmr[name], curves.fnmr) for name in curves.fmr}


def acquisition(scored: ScoredPairs, resamples: int) -> dict[str, Any]:
    """Counts failures to acquire.

    Returns:
        `count` and `rate` (0..1) of the distinct images in which no face was found, the rate's
        95% `interval`, and how many `pairs` are refused because of them.
    """
    images, failed = scored.images, scored.images["failed"].to_numpy()
    return {
        "pairs": int((~scored.pairs["acquired"]).sum()),
        "count": int(failed.sum()),
        "rate": float(failed.mean()),
        "interval": share_interval(images["label"].to_numpy(), failed, resamples),
    }


def worst_pairs(scored: ScoredPairs, number: int) -> dict[str, pd.DataFrame]:
    """Finds the chosen system's worst errors at its stored threshold.

    Pairs refused because no face was found are left out: their scores carry no information.

    Args:
        scored: The scored pairs.
        number: Largest number of pairs per kind of error.

    Returns:
        `false accepts`, highest score first, and `false rejects`, lowest score first: the rows of
        `scored.pairs` with their `score`.
    """
    pairs = scored.pairs.assign(score=scored.scores[scored.chosen])[scored.pairs["acquired"]]
    accepted = pairs["score"] >= scored.thresholds[scored.chosen]
    mated = pairs["kind"] == "same"
    return {
        "false accepts": pairs[accepted & ~mated].nlargest(number, "score"),
        "false rejects": pairs[~accepted & mated].nsmallest(number, "score"),
    }
