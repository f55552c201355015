"""Warnings that a run's report takes from the audit of its training data."""

import json

import pytest
import yaml

from kryptonite.core.errors import DataError
from kryptonite.runs.provenance import provenance, shortcut_warnings
from kryptonite.runs.run_dir import RunDir


@pytest.mark.parametrize(
    ("aligner", "remedy"),
    [({}, "without a common"), ({"common_side": 100}, "with a common")],
)
def test_shortcut_warnings_say_whether_training_had_a_remedy(run, tmp_path, aligner, remedy):
    folder = RunDir(run)
    data = {**folder.read_config()["data"], "root": str(tmp_path)}
    changed = {**folder.read_config(), "aligner": aligner, "data": data}
    folder.config.write_text(yaml.safe_dump(changed))
    assert shortcut_warnings(folder) == []  # not audited
    audit = tmp_path / "audit.json"
    audit.write_text(json.dumps({"shortcuts": {"leaks": False, "verdict": "nothing leaks"}}))
    assert shortcut_warnings(folder) == []
    audit.write_text(json.dumps({"shortcuts": {"leaks": True, "verdict": "size 0.98"}}))
    (warning,) = shortcut_warnings(folder)
    assert "size 0.98" in warning and remedy in warning
    audit.write_text("{}")
    with pytest.raises(DataError, match=r"audit\.json"):
        shortcut_warnings(folder)


def test_provenance_names_the_encoder_when_the_detector_is_a_probe(run):
    description = run / "liveness/model.json"
    kept = json.loads(description.read_text())
    kept["network"] = {"encoder": kept["network"], "kinds": ["bona_fide", "k_"]}
    description.write_text(json.dumps(kept))
    found = provenance(RunDir(run), run / "images.csv", run, 20)
    assert found["liveness"] == "test_efficientnet, crop 32 px with margin 0.2; scratch"
