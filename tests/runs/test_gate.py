"""Fitting a gate on labelled pairs, its file, and the commands around it."""

import json
from functools import partial, reduce

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.torch import load_file, save_file

from kryptonite.cli.main import main
from kryptonite.core.errors import DataError
from kryptonite.core.files import write_json
from kryptonite.fusion.cross import cross_fit_by
from kryptonite.fusion.evidence import Evidence
from kryptonite.fusion.matcher import CalibratedFuser
from kryptonite.inference.gate import gate_evidence
from kryptonite.metrics.error_rates import pair_metrics
from kryptonite.runs.gate import GateSettings, fit_gate, load_gate
from kryptonite.runs.load import load
from tests.tiny import write_gate, write_run


@pytest.fixture
def calibration(tmp_path, face_pairs):
    """The pairs with the similarity of a matcher that forgeries fool."""
    similar = np.where(face_pairs["kind"] == "different", 0.1, 0.6)
    noise = np.random.default_rng(0).normal(0, 0.15, len(face_pairs))
    table = face_pairs[["path_a", "path_b", "label_a", "label_b", "kind"]]
    path = tmp_path / "calibration.csv"
    table.assign(similarity=similar + noise).to_csv(path, index=False)
    return path


@pytest.fixture
def settings(tmp_path):
    return GateSettings(
        cache=tmp_path / "cache", device="cpu", folds=8, fmrs=(0.2, 0.001), resamples=10
    )


def test_fit_gate_states_cross_fitted_figures(run, calibration, settings, pipeline, tmp_path):
    figures = fit_gate(run, calibration, tmp_path / "gate.json", settings)
    pairs = pd.read_csv(calibration, dtype={"label_a": str, "label_b": str})
    assert figures["counts"] == {
        "pairs": {"same": 8, "different": 24, "synthetic": 16},
        "people": 8,
    }
    table = gate_evidence(pipeline, pairs)
    kind = pairs["kind"].to_numpy()
    evidence = Evidence.of(table)
    columns = kind, pairs["label_a"].to_numpy(), pairs["label_b"].to_numpy()
    fit = partial(CalibratedFuser.fit, figures["fusion"])
    scores = cross_fit_by(fit, evidence, *columns, folds=8).score(evidence)
    llr = np.where(table["acquired"], scores, 0.0)
    assert figures["systems"]["gated"]["cllr"] == pytest.approx(
        pair_metrics(kind, scores, llr=llr)["cllr"], abs=1e-3
    )
    assert set(figures["fusions"]) == {"multinomial", "llr"}
    alone = pair_metrics(kind, pairs["similarity"].to_numpy())
    assert figures["systems"]["matcher"]["spf_eer"] == pytest.approx(alone["spf_eer"])
    assert "spf_eer" in figures["systems"]["gated"]["intervals"]
    assert set(figures["gains"]["gated"]) >= {"sv_eer", "spf_eer"}
    assert "BSCER" in (tmp_path / "gate.html").read_text()


def test_load_gate_scores_as_fitted_and_offers_the_thresholds_that_the_pairs_resolve(
    run, calibration, settings, tmp_path, face_pairs
):
    figures = fit_gate(run, calibration, tmp_path / "gate.json", settings)
    gate = load_gate(tmp_path / "gate.json", run, tmp_path / "cache", "cpu")
    stored = json.loads((tmp_path / "gate.json").read_text())
    assert stored["fuser"]["name"] == figures["fusion"]
    # 24 non-mated pairs hold an FMR of 20%, not one of 0.1%.
    assert list(gate.thresholds) == ["fmr=0.2", "eer"]
    by_name = {point["at"]: point for point in figures["thresholds"]["gated"]}
    assert gate.thresholds["fmr=0.2"] == by_name["FMR 20%"]["threshold"]
    pair = face_pairs.iloc[0]
    answer = gate.score(0.4, pair["path_a"], pair["path_b"])
    assert answer.threshold == gate.thresholds["fmr=0.2"] and np.isfinite(answer.llr)


def test_load_gate_refuses_a_gate_of_another_run_and_other_files(
    run, calibration, settings, tmp_path
):
    fit_gate(run, calibration, tmp_path / "gate.json", settings)
    other = write_run(tmp_path / "other")
    weights = load_file(other / "liveness/model.safetensors")
    save_file(
        {name: 2 * each for name, each in weights.items()}, other / "liveness/model.safetensors"
    )
    with pytest.raises(DataError, match="fitted with another run"):
        load_gate(tmp_path / "gate.json", other, device="cpu")
    with pytest.raises(DataError, match=r"fusion\.json: not a gate"):
        load_gate(run / "fusion.json", run, device="cpu")


def test_load_gate_answers_with_the_published_copy_of_its_run(
    run, calibration, settings, tmp_path, face_pairs
):
    described = json.loads((run / "recognition/model.json").read_text())
    source = {"source": f"weights of {tmp_path}/data/network"}
    write_json(run / "recognition/model.json", {**described, **source})
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["root"] = str(tmp_path / "data")
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    fit_gate(run, calibration, tmp_path / "gate.json", settings)
    load(run, device="cpu").save_pretrained(tmp_path / "published")
    # It has neither the list of images nor the paths that the run's files hold.
    assert not (tmp_path / "published/images.csv").exists()
    assert str(tmp_path) not in (tmp_path / "published/recognition/model.json").read_text()
    pair = face_pairs.iloc[0]
    answers = [
        load_gate(tmp_path / "gate.json", folder, device="cpu").score(
            0.4, *pair[["path_a", "path_b"]]
        )
        for folder in (run, tmp_path / "published")
    ]
    assert answers[0].llr == answers[1].llr is not None


@pytest.mark.parametrize("number", [float("nan"), float("-inf")])
@pytest.mark.parametrize("place", [("thresholds", "fmr=0.01"), ("fuser", "calibration", "slope")])
def test_load_gate_refuses_numbers_that_are_not_finite(run, tmp_path, place, number):
    path = write_gate(tmp_path / "gate.json", run)
    gate = json.loads(path.read_text())
    *sections, name = place
    reduce(dict.__getitem__, sections, gate)[name] = number
    path.write_text(json.dumps(gate))
    with pytest.raises(DataError, match=rf"gate\.json: not a gate .* is {number}"):
        load_gate(path, run, device="cpu")


def test_fit_gate_counts_pairs_without_a_face_as_refused(
    run, calibration, settings, pipeline, tmp_path, save
):
    blank = save(tmp_path / "blank.png", np.full((90, 90, 3), 127, np.uint8))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    pairs = pd.read_csv(calibration, dtype=str)
    found = gate_evidence(pipeline, pairs.astype({"similarity": float}))["acquired"]
    for path in (blank, broken):
        pairs.loc[len(pairs)] = {**pairs.iloc[0], "path_b": str(path)}
    pairs.to_csv(calibration, index=False)
    figures = fit_gate(run, calibration, tmp_path / "gate.json", settings)
    assert (figures["refused"], figures["unreadable"]) == ((~found).sum() + 1, 1)
    # Refused mated pairs are rejected at every threshold; all other pairs may be accepted.
    refused = (~found)[pairs["kind"][:-2] == "same"].sum() + (pairs["kind"].iloc[-2] == "same")
    lowest = min(point["fnmr"] for point in figures["thresholds"]["gated"] if "fnmr" in point)
    assert lowest >= refused / figures["counts"]["pairs"]["same"]


def test_fit_gate_raises_when_similarity_is_a_distance(run, calibration, settings, tmp_path):
    pairs = pd.read_csv(calibration, dtype={"label_a": str, "label_b": str})
    pairs.assign(similarity=-pairs["similarity"]).to_csv(calibration, index=False)
    with pytest.raises(DataError, match=r"calibration\.csv: .*of a distance give the negative"):
        fit_gate(run, calibration, tmp_path / "gate.json", settings)


def test_fit_gate_raises_when_people_are_too_few(run, calibration, settings, tmp_path):
    pairs = pd.read_csv(calibration, dtype={"label_a": str, "label_b": str})
    few = pairs[pairs["label_a"].isin(["0", "1"]) & pairs["label_b"].isin(["0", "1"])]
    few.to_csv(calibration, index=False)
    with pytest.raises(DataError, match="2 people are too few to cross-fit in 8 folds"):
        fit_gate(run, calibration, tmp_path / "gate.json", settings)


def test_gate_fit_warns_of_photos_that_the_run_has_seen(
    run, calibration, tmp_path, pipeline, capsys
):
    table = gate_evidence(pipeline, pd.read_csv(calibration))
    keys = pd.unique(pd.concat([table["key_a"], table["key_b"]]))
    splits = ["train"] * 3 + ["val"] * 5
    rows = [f"{key},x,{split},0," for key, split in zip(keys[:8], splits, strict=True)]
    listed = "\n".join(["key,label,split,is_synthetic,species", *rows])
    (run / "images.csv").write_text(f"{listed}\n")
    out = tmp_path / "gate.json"
    places = ["--run", str(run), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    files = ["--scores", str(calibration), "--out", str(out)]
    assert main(["gate", "fit", *files, *places, "--fmr", "0.2", "--resamples", "5"]) == 0
    said = capsys.readouterr().err
    stored = json.loads(out.read_text())["figures"]["warnings"]
    for warning in (
        "3 of the 24 images were trained on by the run: ",
        "5 of the 24 images are validation images of the run, ",
    ):
        assert f"note: {warning}" in said and warning in out.with_suffix(".html").read_text()
        assert any(each.startswith(warning) for each in stored)
    (run / "images.csv").unlink()  # as in a published run
    assert main(["gate", "fit", *files, *places, "--fmr", "0.2", "--resamples", "5"]) == 0
    assert "by the run" not in capsys.readouterr().err


def test_gate_commands_fit_and_score(run, calibration, tmp_path, face_pairs, capsys):
    out = str(tmp_path / "gate.json")
    places = ["--run", str(run), "--device", "cpu"]
    options = ["--scores", str(calibration), "--out", out, "--cache", str(tmp_path / "cache")]
    fit = ["gate", "fit", *options, *places, "--fmr", "0.1", "0.001", "--resamples", "5"]
    assert main(fit) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "pairs: 8 mated, 24 non-mated, 16 synthetic, of 8 people; 7 refused "
    )
    assert lines[1].startswith("matcher SV-EER ") and lines[2].startswith("gated   SV-EER ")
    assert "Cllr" in lines[3] and lines[5].startswith("threshold FMR 10%: ")
    assert lines[6] == "threshold FMR 0.1%: too few non-mated pairs"
    pair = face_pairs.iloc[0]
    photos = [pair["path_a"], pair["path_b"]]
    score = ["gate", "score", *photos, "--similarity", "0.6", "--gate", out, *places]
    assert main([*score, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert np.isfinite(answer["llr"]) and answer["similarity"] == 0.6
    assert main(score) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(answer["reason"]) and f"{answer['llr']:.4f}" in printed


@pytest.mark.parametrize("similarity", ["nan", "inf", "-inf", "1e999"])
def test_gate_score_refuses_a_similarity_that_is_not_finite_before_the_run_is_loaded(
    similarity, capsys
):
    with pytest.raises(SystemExit) as end:
        main(["gate", "score", "a.jpg", "b.jpg", f"--similarity={similarity}", "--run", "nowhere"])
    assert end.value.code == 2
    assert "--similarity must be finite" in capsys.readouterr().err


def test_gate_score_help_says_how_to_give_a_negative_similarity(capsys):
    with pytest.raises(SystemExit):
        main(["gate", "score", "--help"])
    assert "--similarity=-1e-3" in capsys.readouterr().out
    call = ["gate", "score", "a.jpg", "b.jpg", "--similarity=-1e-3", "--run", "nowhere"]
    assert main(call) == 2  # for want of a gate
    assert "gate.json: not a gate" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["open"], ["fit"], ["score", "a.jpg", "b.jpg"]])
def test_gate_command_ends_with_2_when_arguments_are_wrong(arguments):
    with pytest.raises(SystemExit) as end:
        main(["gate", *arguments])
    assert end.value.code == 2
