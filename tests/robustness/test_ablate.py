"""The ablation end to end on a tiny run: broken off in the middle, taken up again, and read by the report."""

import json
import sys

import pandas as pd
import pytest
import yaml

import train as train_script
from kryptonite.cli import ablate as ablate_script
from kryptonite.cli import evaluate as evaluate_script
from kryptonite.robustness import ablate as run_module
from kryptonite.robustness.cells import Cells
from tests.tiny import CONFIG

pytestmark = pytest.mark.slow


@pytest.fixture
def call(folders, monkeypatch, capsys):
    """Runs a script's main in this process; gives its exit status and what it printed."""
    (folders / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(script, *arguments):
        monkeypatch.setattr(
            sys,
            "argv",
            [
                script.__name__,
                *arguments,
                "--run",
                str(folders / "run"),
                "--cache",
                str(folders / "cache"),
            ],
        )
        capsys.readouterr()
        return script.main(), "".join(capsys.readouterr())

    assert (
        run(train_script, "--config", str(folders / "tiny.yaml"), "--data.root", str(folders))[0]
        == 0
    )
    return run


def test_an_interrupted_ablation_goes_on_and_its_tables_reach_the_report(
    folders, call, monkeypatch
):
    plan = run_module.plan
    monkeypatch.setattr(
        run_module,
        "plan",
        lambda *args: [each for each in plan(*args) if each.name in ("pairing", "noise-20")],
    )
    monkeypatch.setattr(
        "kryptonite.robustness.cells.CORRUPTIONS",
        {name: run_module.CORRUPTIONS[name] for name in ("noise", "darker")},
    )
    make, made = Cells._make, []

    def makes(self, systems, corruption, severity):
        if len(made) == limit:
            raise KeyboardInterrupt
        made.append((corruption, severity, len(systems)))
        return make(self, systems, corruption, severity)

    monkeypatch.setattr(Cells, "_make", makes)
    arguments = ["--severities", "1", "3", "--resamples", "20", "--device", "cpu"]
    limit = 3
    with pytest.raises(KeyboardInterrupt):
        call(ablate_script, *arguments)
    folder = folders / "run/ablation"
    assert not (folder / "ablation.csv").exists()
    limit = 99
    status, said = call(ablate_script, *arguments)
    assert status == 0, said
    assert (
        said.count("liveness: done already") == 2
        and "variant 2 of 2: 20% of the genuine photos mislabelled" in said
    )
    # Each cell once: all three systems under corruptions, the base alone under attacks.
    corrupted = [(name, severity, 3) for name in ("noise", "darker") for severity in (1, 3)]
    attacked = [
        (name, severity, 1) for name in ("pgd_detector", "pgd_recogniser") for severity in (1, 3)
    ]
    assert made == [("clean", 0, 3), *corrupted, *attacked]

    table = pd.read_csv(folder / "ablation.csv", keep_default_na=False)
    assert (
        set(table["variant"]) == {"base", "pairing", "noise-20"}
        and (table["low"] <= table["high"]).all()
    )
    assert set(table.loc[table["variant"] == "base", "system"]) > {
        "none",
        "detector",
        "llr",
        "gate",
    }
    unchanged = table[(table["variant"] == "base") & (table["corruption"] == "clean")]
    assert (unchanged["change"] == 0).all() and table["value"].between(0, 1).all()
    origin = json.loads((folder / "origin.json").read_text())
    assert set(origin["variants"]) == {"pairing", "noise-20"} and "validation images" in " ".join(
        origin["warnings"]
    )
    page = (folder / "report.html").read_text()
    assert "What each part adds" in page and "20% of the genuine photos mislabelled" in page
    assert 'src="http' not in page and 'href="http' not in page  # opens offline

    status, said = call(evaluate_script, "--resamples", "20", "--device", "cpu")
    assert status == 0 and "What hurts most" in (folders / "run/report.html").read_text(), said
