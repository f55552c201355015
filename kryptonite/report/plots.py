"""Draw the figures as SVG data URIs, for pages that open offline."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import norm

from kryptonite.report.page import KIND_TITLES, system_title
from kryptonite.report.transfer import BETTER, UNCLEAR, WORSE, Row

# Okabe & Ito (2008): distinct for every kind of colour vision, and in grey by their order.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#B8A800", "#222222",
)  # fmt: skip
GREY, LIGHT_GREY = "#888888", "#bbbbbb"
# A red that differs from BLUE in every kind of colour vision; base.html has it too, for text.
WORSE_RED = "#B2182B"
KIND_COLOURS = {"same": BLUE, "different": ORANGE, "synthetic": RED}
TICKS = np.array([0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8])
DET_LABELS = {
    "different": "non-mated pairs accepted, FMR (%)",
    "synthetic": "pairs with a synthetic image accepted, IAPAR (%)",
}


def figure_uri(figure: Figure) -> str:
    """Encodes a figure as the address of an `<img>`.

    Letters become outlines and no date is written, so that the same figure gives the same bytes.
    """
    stream = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "kryptonite", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None}, bbox_inches="tight")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _axes(width: float = 4.6, height: float = 3.6) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def system_style(name: str, chosen: str, names: list[str]) -> dict:
    """Returns the line style of a system: the chosen one stands out, recognition alone is dashed,
    the detector alone dotted, and the others are thin.

    Args:
        name: The system to draw.
        chosen: The system that stands out.
        names: All systems of the plot; the order gives the others their colours.
    """
    if name == chosen:
        return {"color": BLUE, "linewidth": 2.4, "zorder": 5}
    if name == "none":
        return {"color": BLACK, "linewidth": 1.8, "linestyle": "--", "zorder": 4}
    if name == "detector":
        return {"color": GREY, "linewidth": 1.5, "linestyle": ":", "zorder": 3}
    others = [other for other in names if other not in (chosen, "none", "detector")]
    return {
        "color": [GREEN, ORANGE, PURPLE, SKY, YELLOW, RED][others.index(name) % 6],
        "linewidth": 1.1,
        "zorder": 2,
    }


def det_plot(curves: dict[str, dict[str, list[list[float]]]], kind: str, chosen: str) -> str:
    """Draws detection error trade-offs (Martin et al. 1997): both rates on probit axes.

    Args:
        curves: Maps system and kind to points (share accepted, FNMR), as
            `report.analysis.error_points` returns them.
        kind: `different` or `synthetic`, the kind of pair whose acceptance the horizontal axis
            shows.
        chosen: The system that stands out.
    """
    figure, axes = _axes()
    low, high = TICKS[0], TICKS[-1]
    for name, by_kind in curves.items():
        points = np.clip(np.array(by_kind[kind]), low / 2, 1 - low / 2)
        style = system_style(name, chosen, list(curves))
        axes.plot(*norm.ppf(points).T, label=system_title(name), **style)
    axes.plot(*[norm.ppf([low, high])] * 2, color=LIGHT_GREY, linewidth=0.8, zorder=1)
    labels = [f"{100 * tick:g}" for tick in TICKS]
    axes.set_xticks(norm.ppf(TICKS), labels)
    axes.set_yticks(norm.ppf(TICKS), labels)
    axes.set_xlim(norm.ppf(low), norm.ppf(high))
    axes.set_ylim(norm.ppf(low), norm.ppf(high))
    axes.set_xlabel(DET_LABELS[kind])
    axes.set_ylabel("mated pairs rejected, FNMR (%)")
    axes.legend(fontsize=7, frameon=False, loc="upper right")
    return figure_uri(figure)


def histogram(kind: np.ndarray, score: np.ndarray, threshold: float, label: str) -> str:
    """Draws the scores of each kind of pair, scaled to equal area, and the threshold.

    Args:
        kind: N of 'same', 'different', 'synthetic'.
        score: N scores.
        threshold: Score to mark with a line.
        label: Label of the horizontal axis.
    """
    figure, axes = _axes(4.6, 3.0)
    # A few outliers would squeeze all other scores into one bin.
    low, high = np.quantile(score, [0.002, 0.998])
    edges = np.linspace(low, high if high > low else low + 1, 41)
    for name, colour in KIND_COLOURS.items():
        values = np.clip(score[kind == name], edges[0], edges[-1])
        if not len(values):
            continue
        axes.hist(values, edges, density=True, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(
            values,
            edges,
            density=True,
            histtype="step",
            color=colour,
            label=KIND_TITLES[name],
            linewidth=1.4,
        )
    axes.axvline(threshold, color=BLACK, linewidth=1, linestyle="--", label="threshold")
    axes.set_yticks([])
    axes.set_xlabel(label)
    axes.legend(fontsize=8, frameon=False)
    return figure_uri(figure)


def reliability_plot(bins: list[dict[str, float]], event: str) -> str:
    """Draws observed frequency against predicted probability; a dot's area is its bin's share of
    all items.

    Args:
        bins: Bins as `report.analysis.reliability_bins` returns them.
        event: What the probability is of.
    """
    figure, axes = _axes(3.6, 3.4)
    axes.plot([0, 1], [0, 1], color=LIGHT_GREY, linewidth=1)
    predicted, observed, share = (
        np.array([each[name] for each in bins]) for name in ("predicted", "observed", "share")
    )
    axes.plot(predicted, observed, color=BLUE, linewidth=1)
    axes.scatter(predicted, observed, s=20 + 500 * share, color=BLUE, alpha=0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel(f"predicted probability of {event}")
    axes.set_ylabel("observed frequency")
    return figure_uri(figure)


def group_plot(groups: list[dict], label: str) -> str:
    """Draws the EER of recognition alone and of the system per group, with intervals.

    Args:
        groups: Per group `name`, `system` and `alone` (figures with intervals, or None).
        label: Label of the horizontal axis.
    """
    figure, axes = _axes(3.3, 2.7)
    for shift, key, colour, title in (
        (-0.12, "alone", BLACK, system_title("none")),
        (0.12, "system", BLUE, "fused"),
    ):
        places = [place for place, group in enumerate(groups) if group[key]]
        measured = [groups[place][key] for place in places]
        rates = np.array([figures["eer"] for figures in measured])
        limits = np.array([figures["intervals"]["eer"] for figures in measured]).reshape(-1, 2)
        axes.errorbar(
            np.array(places) + shift,
            100 * rates,
            100 * np.abs(limits - rates[:, None]).T,
            fmt="o",
            color=colour,
            capsize=3,
            label=title,
            markersize=5,
        )
    axes.set_xticks(range(len(groups)), [group["name"] for group in groups], fontsize=8)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.set_ylim(0)
    axes.set_xlabel(label)
    axes.set_ylabel("EER (%)")
    axes.legend(fontsize=7, frameon=False)
    return figure_uri(figure)


def risk_coverage_plot(curve: list[dict[str, float]], rule: dict) -> str:
    """Draws the error of the most certain decisions against their share, with its 95% band.

    Args:
        curve: Points as `report.selective.selective_figures` returns them.
        rule: Figures of the decisions that the stored rule gives, likewise; marked with a dot.
    """
    figure, axes = _axes()
    coverage, error, low, high = (
        100 * np.array([point[name] for point in curve])
        for name in ("coverage", "error", "low", "high")
    )
    axes.fill_between(coverage, low, high, color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(coverage, error, color=BLUE, linewidth=1.8)
    if "error" in rule:
        place = 100 * rule["coverage"], 100 * rule["error"]
        axes.plot(*place, "o", color=BLACK, markersize=6, label="the rule")
    axes.axhline(
        error[-1] / 2, color=GREY, linewidth=1, linestyle="--", label="half the error of all"
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(0)
    axes.set_xlabel("decisions given (% of the pairs)")
    axes.set_ylabel("of them wrong (%)")
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    return figure_uri(figure)


def heat_map(table: np.ndarray, rows: list[str], columns: list[str], label: str) -> str:
    """Draws rates as a grid of colours with the percentages in the cells; NaN cells stay blank.

    Args:
        table: R×C rates in 0..1.
        rows: R names.
        columns: C names.
        label: Label of the colour bar.
    """
    figure = Figure(figsize=(1.9 + 0.62 * len(columns), 0.8 + 0.3 * len(rows)))
    axes = figure.subplots()
    image = axes.imshow(
        100 * table,
        cmap="cividis_r",
        vmin=0,
        vmax=max(50.0, float(np.nanmax(100 * table))),
        aspect="auto",
    )
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.xaxis.tick_bottom()
    middle = (image.norm.vmin + image.norm.vmax) / 2
    for (row, column), rate in np.ndenumerate(table):
        if np.isfinite(rate):
            axes.text(
                column,
                row,
                f"{100 * rate:.0f}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if 100 * rate > middle else BLACK,
            )
    figure.colorbar(image, ax=axes, label=label, shrink=0.6)
    return figure_uri(figure)


def severity_plot(lines: dict[str, list[tuple[int, float, float, float]]], title: str) -> str:
    """Draws the EER against severity, a line with its 95% band per system.

    Args:
        lines: Maps the title of each system, three at most, to points (severity, rate, low, high),
            rates in 0..1.
        title: Title of the plot.
    """
    figure, axes = _axes(2.9, 2.3)
    for (name, points), colour in zip(lines.items(), (BLUE, BLACK, GREY), strict=False):
        severity, rate, low, high = np.array(sorted(points)).T
        axes.plot(severity, 100 * rate, "o-", color=colour, label=name, markersize=3, linewidth=1.4)
        axes.fill_between(severity, 100 * low, 100 * high, color=colour, alpha=0.15, linewidth=0)
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xticks(sorted({int(point[0]) for points in lines.values() for point in points}))
    axes.set_ylim(0)
    axes.tick_params(labelsize=8)
    axes.set_xlabel("severity (0 = clean)", fontsize=8)
    axes.set_ylabel("EER (%)", fontsize=8)
    axes.legend(fontsize=6.5, frameon=False)
    return figure_uri(figure)


def gain_plot(rows: Sequence[Row]) -> str:
    """Draws the SPF-EER gain of cells as horizontal bars with intervals, the first one on top; a
    cell where the fusion is worse is red and says so.

    Args:
        rows: Cells that have pairs.
    """
    figure, axes = _axes(6.4, 0.9 + 0.28 * len(rows))
    places = np.arange(len(rows))
    gain, low, high = (
        100 * np.array([getattr(row, f"spf_eer_gain{end}") for row in rows])
        for end in ("", "_low", "_high")
    )
    verdicts = np.array([row.verdict for row in rows])
    for verdict, colour in {WORSE: WORSE_RED, UNCLEAR: LIGHT_GREY, BETTER: BLUE}.items():
        chosen = verdicts == verdict
        if chosen.any():
            axes.barh(places[chosen], gain[chosen], 0.62, color=colour, label=verdict)
    # Drawn around its own middle: a percentile interval need not hold the gain.
    axes.errorbar(
        (low + high) / 2,
        places,
        xerr=(high - low) / 2,
        fmt="none",
        ecolor=BLACK,
        elinewidth=1,
        capsize=2.5,
    )
    for place in places[verdicts == WORSE]:
        axes.annotate(
            WORSE,
            (0, place),
            (4, 0),
            textcoords="offset points",
            color=WORSE_RED,
            fontsize=8,
            fontweight="bold",
            va="center",
        )
    axes.axvline(0, color=BLACK, linewidth=0.8)
    names = [f"{row.source}, {row.forgery}" for row in rows]
    axes.set_yticks(places, names, fontsize=8, parse_math=False)  # a $ in a name is a $
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("SPF-EER gain (percentage points); below 0 the fusion is worse", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    # Above the bars, which may reach any corner.
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    return figure_uri(figure)
