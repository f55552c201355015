"""Plots: their bytes, labels, and what they draw."""

import base64

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from kryptonite.report import plots
from kryptonite.report.analysis import error_points
from kryptonite.report.transfer import parse_transfer
from tests.report.population import scored_pairs
from tests.report.transfer_rows import row_texts


@pytest.fixture
def figures(monkeypatch):
    """Collects the figures that the plots encode."""
    drawn = []
    encode = plots.figure_uri

    def collect(figure):
        drawn.append(figure)
        return encode(figure)

    monkeypatch.setattr(plots, "figure_uri", collect)
    return drawn


def histogram(scored, rows=slice(None)):
    return plots.histogram(scored.kind[rows], scored.scores["llr"][rows], 1.0, "score of llr")


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_figure_uri_repeats_its_bytes_when_figure_is_the_same():
    first, again = histogram(scored_pairs()), histogram(scored_pairs())
    assert first == again != histogram(scored_pairs(seed=1))
    head, data = first.split(",")
    svg = base64.b64decode(data).decode()
    assert head == "data:image/svg+xml;base64" and svg.rstrip().endswith("</svg>")
    assert "<text" not in svg and "date" not in svg  # outlines, and nothing that changes


def test_histogram_names_kinds_and_marks_the_threshold(figures):
    histogram(scored_pairs())
    axes = figures[0].axes[0]
    assert legend(figures[0]) == ["mated", "non-mated", "synthetic", "threshold"]
    assert axes.get_xlabel() == "score of llr"
    (line,) = axes.get_lines()
    assert list(line.get_xdata()) == [1.0, 1.0]


def test_histogram_keeps_its_range_when_a_score_is_far_off(figures):
    scored = scored_pairs()
    histogram(scored)
    scored.scores["llr"] = scored.scores["llr"].copy()
    scored.scores["llr"][0] = -1e6
    histogram(scored)
    ranges = [np.ptp(figure.axes[0].get_xlim()) for figure in figures]
    assert ranges[1] == pytest.approx(ranges[0], rel=0.2)


def test_histogram_is_drawn_when_all_scores_are_equal(figures):
    plots.histogram(np.array(["same", "different", "synthetic"]), np.zeros(3), 0.0, "score")
    low, high = figures[0].axes[0].get_xlim()
    assert low <= 0 < 1 <= high


@pytest.mark.parametrize(("kind", "label"), [("different", "non-mated"), ("synthetic", "IAPAR")])
def test_det_plot_labels_axes_and_systems(figures, kind, label):
    scored = scored_pairs()
    curves = {name: error_points(scored.kind, score) for name, score in scored.scores.items()}
    plots.det_plot(curves, kind, "llr")
    axes = figures[0].axes[0]
    assert label in axes.get_xlabel() and axes.get_ylabel() == "mated pairs rejected, FNMR (%)"
    assert legend(figures[0]) == ["recognition alone", "llr", "detector alone"]
    widths = {line.get_label(): line.get_linewidth() for line in axes.get_lines()}
    assert max(widths, key=widths.get) == "llr"


def test_system_style_tells_systems_apart():
    names = ["none", "detector", "llr", *"abcdef"]
    styles = [plots.system_style(name, "llr", names) for name in names]
    assert len({(style["color"], style["linewidth"]) for style in styles}) == len(names)
    assert plots.system_style("none", "none", names) == plots.system_style("llr", "llr", names)


def test_reliability_plot_sizes_dots_by_share(figures):
    bins = [
        {"predicted": 0.2, "observed": 0.1, "share": 0.25},
        {"predicted": 0.9, "observed": 0.8, "share": 0.75},
    ]
    plots.reliability_plot(bins, "‘accept’")
    axes = figures[0].axes[0]
    (dots,) = axes.collections
    assert dots.get_offsets().tolist() == [[0.2, 0.1], [0.9, 0.8]]
    assert dots.get_sizes().tolist() == [20 + 500 * 0.25, 20 + 500 * 0.75]
    assert axes.get_xlabel() == "predicted probability of ‘accept’"


def test_group_plot_leaves_out_groups_without_figures(figures):
    measured = {"eer": 0.1, "intervals": {"eer": (0.05, 0.2)}}
    groups = [
        {"name": "low", "system": measured, "alone": measured},
        {"name": "middle", "system": None, "alone": None},
        {"name": "high", "system": measured, "alone": measured},
    ]
    plots.group_plot(groups, "yaw")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["low", "middle", "high"]
    points = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    assert points == [[[-0.12, 10.0], [1.88, 10.0]], [[0.12, 10.0], [2.12, 10.0]]]
    ends = axes.containers[0].lines[2][0].get_segments()[0]
    assert ends[:, 1] == pytest.approx([5.0, 20.0])


def test_heat_map_writes_percentages_and_leaves_nan_blank(figures):
    plots.heat_map(np.array([[0.1, np.nan], [0.6, 0.25]]), ["x", "y"], ["a", "b"], "EER (%)")
    axes, bar = figures[0].axes
    assert [text.get_text() for text in axes.texts] == ["10", "60", "25"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["x", "y"]
    assert bar.get_ylabel() == "EER (%)"


def test_severity_plot_sorts_points_by_severity(figures):
    lines = {"llr": [(3, 0.3, 0.2, 0.4), (0, 0.1, 0.05, 0.2), (1, 0.2, 0.1, 0.3)]}
    plots.severity_plot(lines, "noise")
    axes = figures[0].axes[0]
    (line,) = axes.get_lines()
    assert line.get_xdata().tolist() == [0, 1, 3]
    assert line.get_ydata() == pytest.approx([10, 20, 30])
    assert axes.get_title(loc="left") == "noise" and legend(figures[0]) == ["llr"]


def test_gain_plot_shows_worse_cells_in_red_and_in_words(figures):
    gains = {
        "a": (0.2, 0.1, 0.3),
        "b": (-0.1, -0.2, -0.05),
        "c": (0.01, -0.1, 0.1),
        "d": (0.3, 0.1, 0.2),  # outside its own interval, as percentile intervals allow
    }
    texts = [row_texts("wild", name, gain) for name, gain in gains.items()]
    plots.gain_plot(parse_transfer(pd.DataFrame(texts), "t.csv"))
    axes = figures[0].axes[0]
    bars = {round(bar.get_y() + bar.get_height() / 2): bar for bar in axes.patches}
    colours = [plots.BLUE, plots.WORSE_RED, plots.LIGHT_GREY, plots.BLUE]
    for place, (gain, colour) in enumerate(zip(gains.values(), colours, strict=True)):
        assert bars[place].get_width() == pytest.approx(100 * gain[0])
        assert to_hex(bars[place].get_facecolor()) == colour.lower()
    (drawn,) = [each for each in axes.containers if hasattr(each, "has_xerr")]
    ends = [segment[:, 0] for segment in drawn.lines[2][0].get_segments()]
    assert np.array(ends) == pytest.approx(100 * np.array([gain[1:] for gain in gains.values()]))
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("worse", 1)]
    assert legend(figures[0]) == ["worse", "no clear difference", "better"]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["wild, a", "wild, b", "wild, c", "wild, d"]
    bottom, top = axes.get_ylim()
    assert top < bottom  # the first cell is on top


def test_gain_plot_takes_a_dollar_for_a_dollar(figures):
    texts = [row_texts(source="$\\frac$", forgery="$a$")]
    plots.gain_plot(parse_transfer(pd.DataFrame(texts), "t.csv"))
    (label,) = figures[-1].axes[0].get_yticklabels()
    assert label.get_text() == "$\\frac$, $a$" and not label.get_parse_math()
