"""Error rates of a system that gives only its more certain decisions (selective classification).

The error is the share of the given decisions that are wrong; *coverage* is the share of pairs whose
decision is given (El-Yaniv & Wiener 2010). Both depend on how frequent each kind of pair is.
"""

import numpy as np

from kryptonite.core.errors import MetricError
from kryptonite.metrics.kinds import KINDS

# At which the risk-coverage curve is read.
COVERAGES = np.linspace(0.02, 1.0, 50).round(2)


class RankedDecisions:
    """Decisions on pairs ranked once by certainty; `figures` evaluates them under any weights.

    Args:
        wrong: N bool, whether the decision is wrong.
        certainty: N, higher is more certain; infinite for decisions that are always given.

    Raises:
        MetricError: There is no decision, or a certainty is NaN.
    """

    def __init__(self, wrong: np.ndarray, certainty: np.ndarray):
        certainty = np.asarray(certainty, np.float64)
        if not len(certainty) or np.isnan(certainty).any():
            raise MetricError("a risk-coverage curve needs decisions of known certainty")
        self._order = np.argsort(-certainty, kind="stable")
        self._wrong = np.asarray(wrong, bool)[self._order]
        ranked = certainty[self._order]
        # Decisions of equal certainty are given together.
        self._ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)

    def curve(self, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Computes coverage and error when the most certain decisions are given.

        Args:
            weight: N weights; None weighs every pair 1.

        Returns:
            Both at every distinct certainty, from the highest; the coverage rises to 1.
        """
        mass = np.ones(len(self._order)) if weight is None else weight[self._order]
        given = np.cumsum(mass)[self._ends]
        wrong = np.cumsum(mass * self._wrong)[self._ends]
        return given / given[-1], np.divide(wrong, given, where=given > 0, out=np.zeros(len(given)))

    def figures(self, weight: np.ndarray | None = None) -> dict[str, float]:
        """Computes the curve's figures.

        Args:
            weight: As for `curve`.

        Returns:
            `aurc`, the area under the curve, which is the mean error over all coverages, and the
            errors at `COVERAGES`, each at the lowest coverage that is no less, by `error_name`.
        """
        coverage, error = self.curve(weight)
        rows = np.searchsorted(coverage, COVERAGES - 1e-9)
        return {
            "aurc": float(error @ np.diff(coverage, prepend=0.0)),
            **{error_name(c): float(error[row]) for c, row in zip(COVERAGES, rows, strict=True)},
        }


def error_name(coverage: float) -> str:
    """What `RankedDecisions.figures` calls the error at one of `COVERAGES`."""
    return f"error_at_{coverage:.2f}"


def selective_rates(
    kind: np.ndarray, accepted: np.ndarray, given: np.ndarray, weight: np.ndarray | None = None
) -> dict[str, float]:
    """Computes the error rates of the decisions that are given.

    Args:
        kind: N pair kinds, each one of `KINDS`.
        accepted: N bool, the decisions.
        given: N bool, which of them are given.
        weight: N weights; None weighs every pair 1.

    Returns:
        `coverage`, the share of the decisions that are given. Of the given ones `error`, the share
        that is wrong, `fnmr` (mated pairs refused), `fmr` (non-mated pairs accepted), `iapar`
        (pairs with a synthetic image accepted) and `half_total_error`, the mean of `fnmr` and the
        share of all other pairs accepted. `withheld_<kind>`: the share of each kind's pairs that is
        withheld. What these pairs do not tell is omitted.
    """
    weight = np.ones(len(kind)) if weight is None else weight
    accepted, mated = np.asarray(accepted, bool), np.asarray(kind) == "same"
    of = {name: np.asarray(kind) == name for name in KINDS}

    def share(event: np.ndarray, among: np.ndarray) -> float:
        mass = weight[among].sum()
        return float(weight[among & event].sum() / mass) if mass > 0 else np.nan

    false_accepts = share(accepted, given & ~mated)
    rates = {
        "coverage": share(given, np.ones(len(weight), bool)),
        "error": share(accepted != mated, given),
        "fnmr": share(~accepted, given & mated),
        "fmr": share(accepted, given & of["different"]),
        "iapar": share(accepted, given & of["synthetic"]),
        **{f"withheld_{name}": share(~given, rows) for name, rows in of.items()},
    }
    rates["half_total_error"] = (rates["fnmr"] + false_accepts) / 2
    return {name: rate for name, rate in rates.items() if not np.isnan(rate)}
