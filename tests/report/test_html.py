"""The report is one file that needs no other, says all it knows, and fails rather than leave a blank."""

import re

import pytest
from jinja2 import UndefinedError

from kryptonite.report.analysis import compute_findings
from kryptonite.report.html import write_report
from kryptonite.report.page import environment
from tests.report.population import scored_pairs

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
    "command": "python evaluate.py",
    "made": "today",
    "device": "CPU",
    "versions": {"torch": "9.9"},
}


@pytest.fixture
def page(tmp_path, faces, save):
    def write(**changes):
        scored = scored_pairs(path=str(save(tmp_path / "face.jpg", faces[0])))
        findings = compute_findings(scored, resamples=20)
        write_report(
            tmp_path / "report.html",
            scored,
            {**findings, **changes},
            PROVENANCE,
            ["mind <this>"],
            3,
            ["swap"],
        )
        return (tmp_path / "report.html").read_text(encoding="utf-8"), findings

    return write


def test_the_page_opens_offline_and_holds_every_figure(page):
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
        "python evaluate.py",
        "swap (not in training)",
        "3 pairs with an",
    ):
        assert text in html
    assert (
        "mind &lt;this&gt;" in html and "net &lt;b&gt;" in html
    )  # nothing from outside becomes markup
    assert html.count("data:image/svg+xml") == 2 + 3 + 2 + 4 and html.count("data:image/jpeg") >= 24
    assert 'name="viewport"' in html and "@media print" in html
    assert all(re.search(r'alt="[^"]+"', image) for image in re.findall(r"<img[^>]+>", html))


def test_the_same_figures_give_the_same_page(page):
    assert page()[0] == page()[0]


def test_the_page_is_well_formed(page):
    from html.parser import HTMLParser

    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(page()[0])
    assert not open_tags


def test_a_missing_figure_is_an_error_not_a_blank(page):
    with pytest.raises(UndefinedError):
        page(acquisition={})


def test_rates_keep_a_digit_that_matters():
    percent = environment().filters["percent"]
    assert [percent(rate) for rate in (0.1234, 0.01, 0.0012, 0.0)] == [
        "12.3%",
        "1.0%",
        "0.12%",
        "0.0%",
    ]
