"""Report the error rates of scores from elsewhere; no run is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kryptonite.core.errors import DataError
from kryptonite.core.files import sha256_file, write_json
from kryptonite.data.scores import read_scored_pairs
from kryptonite.report.analysis import SystemScores
from kryptonite.report.scores import ScoreSettings, compute_score_findings, write_score_page
from kryptonite.runs.circumstances import circumstances

PACKAGES = ("numpy", "pandas", "scipy", "scikit-learn")


@dataclass(frozen=True)
class ForeignScores:
    """Scores from elsewhere and what is known of them.

    Args:
        scores: CSV with pair_id and one column of scores per system.
        pairs: Frozen pairs or a ground truth; see `data.scores.read_scored_pairs`.
        llrs: Systems whose scores are natural-log likelihood ratios of 'accept'.
        thresholds: Thresholds of systems, fitted on other pairs.
    """

    scores: Path | str
    pairs: Path | str
    llrs: Sequence[str] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)


def write_score_report(
    foreign: ForeignScores, settings: ScoreSettings, out: Path
) -> dict[str, Any]:
    """Measures the scores and writes the report: `out` (HTML) and the same figures as JSON beside.

    Args:
        foreign: The scores.
        settings: How they are measured.
        out: HTML file to write.

    Returns:
        What the JSON holds.

    Raises:
        DataError: A table is wrong (names file and row), or a system is named that has no scores.
        MetricError: There are no mated pairs, or no others.
    """
    pairs, scores = read_scored_pairs(foreign.scores, foreign.pairs)
    named = [*foreign.llrs, *foreign.thresholds, *([settings.alone] if settings.alone else [])]
    for name in named:
        if name not in scores:
            raise DataError(
                f"{foreign.scores}: has no column of scores {name!r}; it has {', '.join(scores)}"
            )
    llrs = {name: scores[name] for name in foreign.llrs}
    scored = SystemScores(pairs, scores, llrs, dict(foreign.thresholds))
    findings = compute_score_findings(scored, settings)
    provenance = {
        "scores": str(foreign.scores),
        "scores_sha256": sha256_file(foreign.scores),
        "pairs": str(foreign.pairs),
        "pairs_sha256": sha256_file(foreign.pairs),
        **circumstances(settings.resamples, PACKAGES),
    }
    write_score_page(out, scored, findings, provenance)
    whole = {**findings, "provenance": provenance}
    write_json(out.with_suffix(".json"), whole)
    return whole
