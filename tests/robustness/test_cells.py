"""Cells: evidence of corrupted images, made once, kept, and equal to the naive way."""

import numpy as np
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.inference.pipeline import Pipeline
from kryptonite.liveness.detector import Detector
from kryptonite.nn.weights import build_timm
from kryptonite.robustness import cells as cells_module
from kryptonite.robustness.attacks import evade_detector, impersonate, impostor_pairs
from kryptonite.robustness.cells import Cells, System, places
from kryptonite.robustness.table import BASE, CLEAN
from kryptonite.runs.assess import assess
from tests.tiny import BACKBONE, write_run


@pytest.fixture
def base(tmp_path, face_pairs):
    run = write_run(tmp_path / "run")
    pipeline = Pipeline.load(run, cache=tmp_path / "cache", device="cpu")
    return System(BASE, pipeline, run, assess(pipeline, run, face_pairs))


@pytest.fixture
def cells(base, tmp_path):
    twin = System(
        "twin", base.pipeline, base.run, base.assessment
    )  # the same networks under another name
    return Cells([base, twin], tmp_path / "cells")


def test_clean_evidence_is_that_of_the_pipeline_but_for_sampling_twice(base, cells):
    evidence = {system.name: found for system, found in cells.each(CLEAN, 0)}
    pairs = base.assessment.scored.pairs
    # The detector's crop is the widest, so that its log-odds are the same to the bit; the recogniser's is cut from it.
    assert np.allclose(evidence[BASE]["log_odds_a"], pairs["log_odds_a"], atol=1e-5)
    assert np.abs(evidence[BASE]["similarity"] - pairs["similarity"]).max() < 0.1
    assert np.corrcoef(evidence[BASE]["comparison"], pairs["comparison"])[0, 1] > 0.9
    assert all(
        np.array_equal(evidence[BASE][name], evidence["twin"][name]) for name in evidence[BASE]
    )


def test_networks_look_once_at_each_image_and_finished_cells_are_kept(
    base, cells, monkeypatch, tmp_path
):
    looks = []
    for name in ("_perceive", "_log_odds"):
        look = getattr(cells_module, name)
        monkeypatch.setattr(
            cells_module,
            name,
            lambda model, crops, look=look: looks.append(len(crops.pixels)) or look(model, crops),
        )
    first = [evidence for _, evidence in cells.each("noise", 2)]
    assert looks == [24, 24]  # both branches, both systems together, each image once
    again = [evidence for _, evidence in cells.each("noise", 2)]
    assert looks == [24, 24] and all(
        np.array_equal(a["similarity"], b["similarity"]) for a, b in zip(first, again, strict=True)
    )
    kept = next((tmp_path / "cells/noise-2").glob("base-*"))
    kept.write_bytes(b"damaged")
    repaired = [evidence for _, evidence in cells.each("noise", 2)]
    assert looks == [24] * 4 and np.array_equal(repaired[0]["log_odds_b"], first[0]["log_odds_b"])


def test_other_weights_make_other_cells(base, cells, tmp_path):
    list(cells.each("darker", 1))
    other = write_run(tmp_path / "other")
    torch.manual_seed(7)
    made = build_timm(BACKBONE, 1)
    Detector(made.network, made.blueprint, base.pipeline.detector.spec, "scratch", "cpu").save(
        other / "liveness"
    )
    pipeline = Pipeline.load(other, cache=tmp_path / "cache", device="cpu")
    changed = System(BASE, pipeline, other, base.assessment)
    ((_, new),) = Cells([changed], tmp_path / "cells").each("darker", 1)
    (_, old), _ = cells.each("darker", 1)
    assert np.allclose(new["similarity"], old["similarity"]) and not np.allclose(
        new["log_odds_a"], old["log_odds_a"]
    )


def test_evading_the_detector_lowers_the_log_odds_of_synthetic_images_only(base, cells):
    before, after = (
        next(iter(cells.each(*place)))[1] for place in ((CLEAN, 0), ("pgd_detector", 3))
    )
    scored = base.assessment.scored.pairs
    assert (after["log_odds_b"] < before["log_odds_b"])[scored["synthetic_b"] == 1].all()
    genuine = (scored["synthetic_b"] == 0).to_numpy()
    assert np.allclose(after["log_odds_b"][genuine], before["log_odds_b"][genuine], atol=1e-5)
    assert [system.name for system, _ in cells.each("pgd_detector", 3)] == [
        BASE
    ]  # attacks know the base's networks


def test_impersonation_raises_the_cosine_of_impostors_only(base, cells):
    before, after = (
        next(iter(cells.each(*place)))[1] for place in ((CLEAN, 0), ("pgd_recogniser", 3))
    )
    same = base.assessment.scored.kind == "same"
    assert np.allclose(before["similarity"][same], after["similarity"][same], atol=1e-6)
    assert np.array_equal(before["comparison"][same], after["comparison"][same])
    assert not np.allclose(before["comparison"][~same], after["comparison"][~same], atol=1e-3)
    assert (after["similarity"] > before["similarity"])[~same].mean() > 0.9
    rows, second = impostor_pairs(base.assessment.scored.pairs)
    assert len(rows) == 40 and second.sum() == 16


def test_attacks_stay_within_their_ball_and_see_another_templates_crop(base):
    template = CropTemplate(48, 0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    crops = Crops(pixels, template)
    evaded = evade_detector(base.pipeline.detector, crops, np.array([True, False, True, False]), 2)
    moved = impersonate(base.pipeline.recogniser, crops, np.eye(4, 16, dtype=np.float32), 1)
    for changed, limit in ((evaded, 2), (moved, 1)):
        difference = np.abs(changed.pixels.astype(int) - pixels).max(axis=(1, 2, 3))
        assert difference.max() == limit
    assert (evaded.pixels[[1, 3]] == pixels[[1, 3]]).all()


def test_every_corruption_and_attack_has_its_cells():
    listed = places((1, 3))
    assert (
        listed[0] == (CLEAN, 0)
        and ("moire", 3) in listed
        and ("pgd_recogniser", 1) in listed
        and len(listed) == 1 + 2 * 18
    )
