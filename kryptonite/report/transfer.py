"""Read and judge how a run does on other sources and kinds of forgery: its transfer.csv.

benchmarks/transfer.py writes the file. A row is a cell: a source and a kind of forgery. The fusion
is worse there than recognition alone if the 95% interval of its gain in EER or in SPF-EER lies
wholly below 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from kryptonite.core.errors import DataError

WORSE, UNCLEAR, BETTER = "worse", "no clear difference", "better"


@dataclass(frozen=True)
class Row:
    """A row of transfer.csv: a cell. Rates lie in 0..1, gains in -1..1.

    Where the source has no pairs of the forgery (`pairs` is 0), a figure may be missing: None.

    Args:
        source: Name of the source of the bona fide photos.
        forgery: Kind of forgery.
        pairs: Number of pairs of a bona fide photo and such a forgery.
        auc: Area under the detector's ROC curve: the source's bona fide photos against its
            forgeries of this kind.
        bpcer: Share of the source's bona fide photos that the detector calls synthetic.
        eer_alone: EER of recognition alone.
        eer_fused: EER of the run's fusion.
        sv_eer_alone: SV-EER of recognition alone.
        sv_eer_fused: SV-EER of the run's fusion.
        spf_eer_alone: SPF-EER of recognition alone, on this kind of forgery.
        spf_eer_fused: SPF-EER of the run's fusion, on this kind of forgery.
        fnmr_alone: FNMR of recognition alone at its stored threshold.
        fnmr_fused: FNMR of the run's fusion at its stored threshold.
        iapar_alone: IAPAR of recognition alone at its stored threshold.
        iapar_fused: IAPAR of the run's fusion at its stored threshold.
        eer_gain: `eer_alone` - `eer_fused`.
        eer_gain_low: Lower end of the gain's 95% interval, on the same resampled identities.
        eer_gain_high: Upper end of that interval.
        spf_eer_gain: `spf_eer_alone` - `spf_eer_fused`.
        spf_eer_gain_low: Lower end of its interval.
        spf_eer_gain_high: Upper end of its interval.
    """

    source: str
    forgery: str
    pairs: int
    auc: float | None
    bpcer: float | None
    eer_alone: float | None
    eer_fused: float | None
    sv_eer_alone: float | None
    sv_eer_fused: float | None
    spf_eer_alone: float | None
    spf_eer_fused: float | None
    fnmr_alone: float | None
    fnmr_fused: float | None
    iapar_alone: float | None
    iapar_fused: float | None
    eer_gain: float | None
    eer_gain_low: float | None
    eer_gain_high: float | None
    spf_eer_gain: float | None
    spf_eer_gain_low: float | None
    spf_eer_gain_high: float | None

    @property
    def verdict(self) -> str | None:
        """`WORSE`, `UNCLEAR` or `BETTER`; None where there are no pairs."""
        if not self.pairs:
            return None
        if min(self.eer_gain_high, self.spf_eer_gain_high) < 0:
            return WORSE
        return BETTER if self.spf_eer_gain_low > 0 else UNCLEAR


COLUMNS = tuple(field.name for field in fields(Row))
_NAMES, _COUNT, _FIGURES = COLUMNS[:2], COLUMNS[2], COLUMNS[3:]


def parse_transfer(table: pd.DataFrame, path: Path | str) -> list[Row]:
    """Reads the rows of transfer.csv.

    Args:
        table: Columns `COLUMNS`, and any others, of text.
        path: The file it was read from, which messages name.

    Raises:
        DataError: There are no rows; or, with the row (1-based, after the header), a value is
            missing, no number or out of its range.
    """
    if table.empty:
        raise DataError(f"{path}: contains no rows")
    return [
        _parse_row(texts, f"{path}, row {number}")
        for number, texts in enumerate(table.to_dict("records"), 1)
    ]


def _parse_row(texts: dict[str, str], where: str) -> Row:
    for name in _NAMES:
        if not texts[name]:
            raise DataError(f"{where}: {name} is empty")
    if not texts[_COUNT].isdecimal():
        raise DataError(f"{where}: {_COUNT} must be a whole number, got {texts[_COUNT]!r}")
    pairs = int(texts[_COUNT])
    figures = {
        name: None if not texts[name] and not pairs else _parse_figure(texts[name], name, where)
        for name in _FIGURES
    }
    for gain in ("eer_gain", "spf_eer_gain"):
        low, high = figures[f"{gain}_low"], figures[f"{gain}_high"]
        if low is not None and high is not None and low > high:
            raise DataError(f"{where}: {gain}_low lies above {gain}_high ({low:g}, {high:g})")
    return Row(*(texts[name] for name in _NAMES), pairs, **figures)


def _parse_figure(text: str, name: str, where: str) -> float:
    low = -1 if "_gain" in name else 0
    try:
        figure = float(text)
    except ValueError:
        figure = math.nan
    if not low <= figure <= 1:  # nor is NaN
        raise DataError(f"{where}: {name} must be a number in {low}..1, got {text!r}")
    return figure


def summary(rows: Sequence[Row]) -> str:
    """Says in a sentence in how many cells the fusion is worse, and which cell is the worst.

    The worst cell is the one with the lowest gain in EER or SPF-EER, of those where the fusion is
    worse if there are any. Cells without pairs are not counted.
    """
    measured = [row for row in rows if row.verdict]
    if not measured:
        return "No cell has pairs, so fusion and recognition alone cannot be compared."
    worse = [row for row in measured if row.verdict == WORSE]
    worst = min(worse or measured, key=lambda row: min(row.eer_gain, row.spf_eer_gain))
    named = "the worst is" if worse else "the lowest gain is that of"
    return (
        "Fusion is worse than recognition alone, beyond the 95% interval, in "
        f"{len(worse) or 'none'} of {len(measured)} cells; "
        f"{named} {worst.source}, {worst.forgery}: "
        f"EER {worst.eer_alone:.1%} alone, {worst.eer_fused:.1%} fused; "
        f"SPF-EER {worst.spf_eer_alone:.1%} alone, {worst.spf_eer_fused:.1%} fused."
    )
