"""The HTML report: one self-contained file with every figure, and an error for a missing one."""

import re

import numpy as np
import pandas as pd
import pytest
from jinja2 import UndefinedError

from kryptonite.fusion.evidence import REFUSED
from kryptonite.report import plots
from kryptonite.report.analysis import compute_findings
from kryptonite.report.html import ReportInputs, write_report
from kryptonite.report.page import environment
from kryptonite.report.selective import SelectiveDecisions, selective_figures
from kryptonite.report.transfer import parse_transfer
from tests.report.population import refuse, scored_pairs
from tests.report.transfer_rows import empty_texts, row_texts

pytestmark = pytest.mark.slow

PROVENANCE = {
    "run": "runs/x",
    "recognition": "net a",
    "liveness": "net <b>",
    "pairs": "gt.csv",
    "pairs_sha256": "0123456789abcdef",
    "data_root": "data",
    "split_hash": "fedcba9876543210",
    "seeds": {"split": 3},
    "resamples": 20,
    "command": "kryptonite evaluate",
    "made": "today",
    "device": "CPU",
    "versions": {"torch": "9.9"},
}


@pytest.fixture
def page(tmp_path, faces, save):
    def write(refused=None, transfer=(), references=None, selective=None, **changes):
        scored = scored_pairs(path=str(save(tmp_path / "face.jpg", faces[0])))
        if refused is not None:
            scored = refuse(scored, refused)
        findings = compute_findings(scored, resamples=20)
        inputs = ReportInputs(
            scored,
            {**findings, **changes},
            PROVENANCE,
            ["mind <this>"],
            3,
            ["swap"],
            transfer=parse_transfer(pd.DataFrame(transfer), "t.csv") if transfer else (),
            references=references,
            selective=selective,
        )
        write_report(tmp_path / "report.html", inputs)
        return (tmp_path / "report.html").read_text(encoding="utf-8"), findings

    return write


def test_write_report_embeds_everything_and_shows_every_figure(page):
    html, findings = page()
    assert (
        not re.search(r"(src|href)=\"(?!data:|#)", html)
        and "<script" not in html
        and "url(" not in html
    )
    for figures in findings["systems"].values():
        assert (
            f"{figures['eer_challenge']:.1%}" in html
            and f"{100 * figures['intervals']['sv_eer'][1]:.1f}" in html
        )
    for point in findings["thresholds"]["llr"]:
        assert f"{point['threshold']:.4f}" in html
    for text in (
        "fedcba987654",
        "0123456789ab",
        "split 3",
        "torch 9.9",
        "kryptonite evaluate",
        "swap (not in training)",
        "3 pairs with an",
    ):
        assert text in html
    assert "mind &lt;this&gt;" in html and "net &lt;b&gt;" in html  # outside text is escaped
    assert html.count("data:image/svg+xml") == 2 + 3 + 2 + 4 and html.count("data:image/jpeg") >= 24
    assert 'name="viewport"' in html and "@media print" in html
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]+>", html))


def test_write_report_repeats_its_bytes_when_figures_are_the_same(page):
    assert page()[0] == page()[0]


def test_write_report_closes_every_tag(page):
    from html.parser import HTMLParser

    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page(transfer=[row_texts(), empty_texts()])[0])
    assert not open_tags


def test_write_report_raises_when_a_figure_is_missing(page):
    with pytest.raises(UndefinedError):
        page(acquisition={})


def test_percent_filter_keeps_a_significant_digit_when_rate_is_small():
    percent = environment().filters["percent"]
    assert [percent(rate) for rate in (0.1234, 0.01, 0.0012, 0.0)] == [
        "12.3%",
        "1.0%",
        "0.12%",
        "0.0%",
    ]


def test_write_report_draws_only_acquired_pairs_in_histograms(page, monkeypatch):
    drawn = []

    def histogram(kind, score, threshold, label):
        drawn.append((kind, score))
        return "data:,"

    monkeypatch.setattr(plots, "histogram", histogram)
    rows = np.arange(600) % 7 == 0
    html, _ = page(refused=rows)
    assert len(drawn) == 3
    for kind, score in drawn:
        assert len(kind) == len(score) == 514 and score.min() > REFUSED
    assert f"the {rows.sum()} pairs with such an image" in html.replace("\n", " ")
    shown = {int(number) for number in re.findall(r">pair (\d+)<", html)}
    assert shown and not any(rows[number] for number in shown)


def test_write_report_marks_cells_when_fusion_is_worse(page):
    rows = [
        row_texts("home", "swap"),
        row_texts("wild", "swap", (-0.2, -0.5, 0.1)),
        row_texts("wild", "<blend>", (-0.1, -0.15, -0.05), iapar_fused="0.625"),
        empty_texts(),
    ]
    html, _ = page(transfer=rows)
    section = html[html.index('id="transfer"') : html.index('id="data"')]
    marked = re.findall(r'<tr class="worse">\s*<td>(.*?)</td><td>(.*?)</td>', section)
    assert marked == [("wild", "&lt;blend&gt;")]
    assert section.count(", worse</span>") == 1
    assert "-10.0, worse" in section and "[-15.0, -5.0]" in section and "62.5%" in section
    assert "+10.0</span>" in section and "-20.0</span>" in section
    assert "in 1 of 3 cells; the worst is wild, &lt;blend&gt;" in section
    assert section.count("–") == 14 and "without pairs" in section
    assert section.count("data:image/svg+xml") == 1 and 'href="#transfer"' in html


def test_write_report_has_no_transfer_section_when_it_was_not_measured(page):
    html, _ = page()
    assert "#transfer" not in html and 'id="transfer"' not in html


def test_write_report_draws_no_gains_when_no_cell_has_pairs(page):
    html, _ = page(transfer=[empty_texts()])
    assert "No cell has pairs" in html and "SPF-EER gain of the fusion" not in html


def test_write_report_marks_thresholds_when_non_mated_pairs_are_few(page):
    html, findings = page()
    unsure = [
        point for each in findings["thresholds"].values() for point in each if not point["sure"]
    ]
    assert len(unsure) == html.count("*</td>") == 4 and "150 non-mated pairs are too few" in html


def test_environment_finds_every_template():
    assert environment().list_templates() == [
        "ablation.html",
        "base.html",
        "explanation.html",
        "macros.html",
        "references.html",
        "report.html",
        "robustness.html",
        "scores.html",
        "selective.html",
        "terms.html",
        "transfer.html",
    ]


def test_write_report_shows_several_references_when_they_were_measured(page):
    figures = {"eer": 0.061, "sv_eer": 0.002, "spf_eer": 0.103, "fnmr": 0.03, "fmr": 0.0}
    figures |= {"iapar": 0.204, "intervals": dict.fromkeys(figures, (0.01, 0.2))}
    figures["intervals"]["iapar"] = (0.1, 0.3)
    row = {**figures, "change": -0.044, "change_interval": (-0.063, -0.03)}
    rows = [
        {"references": 1, "forged": 0, "system": {**row, "change": 0.0}, "alone": figures},
        {"references": 5, "forged": 1, "system": row, "alone": figures},
    ]
    shown = {"rows": rows, "people": 44, "trials": {"same": 11, "different": 22, "synthetic": 33}}
    html, _ = page(references=shown)
    for text in ("5, one of them forged", "-4.4", "[-6.3, -3.0]", "20.4%", "33 synthetic trials"):
        assert text in html, text
    assert 'id="references"' not in page()[0]


def test_write_report_shows_what_withholding_brings_when_the_run_has_a_rule(page):
    scored = scored_pairs()
    score = scored.scores["llr"]
    identities = scored.pairs["label_a"], scored.pairs["label_b"]
    surplus = np.abs(score - 1.0) - 0.5
    decisions = SelectiveDecisions(scored.kind, *identities, score >= 1.0, surplus, 0.2)
    shown = selective_figures(decisions, 20)
    html, _ = page(selective=shown)
    assert 'id="cannot-say"' in html and "withhold 20.0% of the decisions" in html
    for row in [shown["rule"], *shown["rows"]]:
        assert f"{row['half_total_error']:.1%}" in html
        assert f"{row['withheld_synthetic']:.1%}" in html
    assert "Risk-coverage curve" in html
    assert 'id="cannot-say"' not in page()[0]


def test_write_report_omits_rates_when_the_rule_withholds_a_whole_kind(page):
    scored = scored_pairs()
    identities = scored.pairs["label_a"], scored.pairs["label_b"]
    surplus = np.where(scored.kind == "synthetic", -1.0, 1.0)
    decisions = SelectiveDecisions(
        scored.kind, *identities, scored.scores["llr"] >= 1.0, surplus, 0.2
    )
    html, _ = page(selective=selective_figures(decisions, 20))
    section = html[html.index('id="cannot-say"') :]
    assert "<td>–</td>" in section[: section.index("</tr>\n<tr>\n", 400)]
