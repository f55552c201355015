"""The ablation end to end on a tiny run: broken off, resumed, and read by the report."""

import json

import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from kryptonite.cli.main import INTERRUPTED, run_command
from kryptonite.robustness import ablate as ablate_module
from kryptonite.robustness.cells import Cells
from tests.tiny import CONFIG

pytestmark = pytest.mark.slow


@pytest.fixture
def call(folders, capsys):
    """Runs a command on a trained run; gives its exit status and what it printed."""
    (folders / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))

    def run(command, *arguments):
        places = ["--run", str(folders / "run"), "--cache", str(folders / "cache")]
        capsys.readouterr()
        return run_command(command, [*arguments, *places], command), "".join(capsys.readouterr())

    config = ["--config", str(folders / "tiny.yaml"), "--data.root", str(folders)]
    assert run("train", *config)[0] == 0
    return run


def test_ablate_resumes_when_interrupted_and_reaches_the_report(folders, call, monkeypatch):
    plan = ablate_module.plan
    monkeypatch.setattr(
        ablate_module,
        "plan",
        lambda *args: [each for each in plan(*args) if each.name in ("pairing", "noise-20")],
    )
    monkeypatch.setattr(
        "kryptonite.robustness.cells.CORRUPTIONS",
        {name: ablate_module.CORRUPTIONS[name] for name in ("noise", "darker")},
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
    assert call("ablate", *arguments)[0] == INTERRUPTED
    folder = folders / "run/ablation"
    assert not (folder / "ablation.csv").exists()
    limit = 99
    status, said = call("ablate", *arguments)
    assert status == 0, said
    assert said.count("liveness: done already") == 2
    assert "variant 2 of 2: 20% of the genuine photos mislabelled" in said
    # Each cell once: all three systems under corruptions, the base alone under attacks.
    corrupted = [(name, level, 3) for name in ("noise", "darker") for level in (1, 3)]
    attacked = [
        (f"pgd_{name}", level, 1) for name in ("detector", "recogniser") for level in (1, 3)
    ]
    assert made == [("clean", 0, 3), *corrupted, *attacked]

    table = pd.read_csv(folder / "ablation.csv", keep_default_na=False)
    assert set(table["variant"]) == {"base", "pairing", "noise-20"}
    assert (table["low"] <= table["high"]).all() and table["value"].between(0, 1).all()
    base = table[table["variant"] == "base"]
    assert set(base["system"]) > {"none", "detector", "llr", "gate"}
    assert (base.loc[base["corruption"] == "clean", "change"] == 0).all()
    origin = json.loads((folder / "origin.json").read_text())
    assert set(origin["variants"]) == {"pairing", "noise-20"}
    assert "validation images" in " ".join(origin["warnings"])
    page = (folder / "report.html").read_text()
    assert "20% of the genuine photos mislabelled" in page
    assert 'src="http' not in page and 'href="http' not in page  # opens offline

    status, said = call("evaluate", "--resamples", "20", "--device", "cpu")
    assert status == 0, said
    assert 'id="robustness"' in (folders / "run/report.html").read_text()


def test_ablate_refuses_the_run_before_it_trains_variants_when_parts_disagree(
    folders, call, monkeypatch
):
    stranger = folders / "run/liveness/model.safetensors"
    tensors = load_file(stranger)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, stranger)
    monkeypatch.setattr(ablate_module, "train", pytest.fail)
    status, said = call("ablate", "--resamples", "20", "--device", "cpu")
    assert status == 2 and "fitted on another liveness model than the folder's" in said
    assert not (folders / "run/ablation").exists()
