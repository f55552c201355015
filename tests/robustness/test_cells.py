"""Cells: evidence of corrupted images, made once, kept, and equal to the naive way."""

import numpy as np
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.detection.recrop import recrop, widest
from kryptonite.liveness.detector import Detector
from kryptonite.nn.weights import build_timm
from kryptonite.report.ablation import BASE, CLEAN
from kryptonite.robustness import cells as cells_module
from kryptonite.robustness.attacks import evade_detector, impersonate, impostor_pairs
from kryptonite.robustness.cells import Cells, System, places
from kryptonite.runs.assess import assess
from kryptonite.runs.load import load
from kryptonite.runs.run_dir import RunDir
from tests.tiny import BACKBONE, write_run

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tmp_path, face_pairs):
    run = RunDir(write_run(tmp_path / "run"))
    pipeline = load(run.path, cache=tmp_path / "cache", device="cpu")
    return System(BASE, pipeline, run, assess(pipeline, run, face_pairs))


@pytest.fixture
def cells(base, tmp_path):
    # The same networks under another name.
    twin = System("twin", base.pipeline, base.run, base.assessment)
    return Cells([base, twin], tmp_path / "cells")


def test_cells_hold_naive_evidence_when_images_are_clean(base, cells):
    evidence = {system.name: found for system, found in cells.each(CLEAN, 0)}
    pairs, extractor = base.assessment.scored.pairs, base.pipeline.extractor
    # Image by image: the widest crop from the cache, cut again to the recogniser's template.
    template = extractor.recogniser.spec.template
    finest = widest(extractor.cache.aligner.templates)
    naive = {}
    for key in {*pairs["key_a"], *pairs["key_b"]}:
        crops = recrop(extractor.cache.read_batch([key], finest), template)
        naive[key] = extractor.recogniser.embed(crops)[0]
    expected = [naive[a] @ naive[b] for a, b in zip(pairs["key_a"], pairs["key_b"], strict=True)]
    assert np.allclose(evidence[BASE]["similarity"], expected, atol=1e-4)
    # The detector's crop is the widest one itself.
    assert np.allclose(evidence[BASE]["log_odds_a"], pairs["log_odds_a"], atol=1e-5)
    # Cutting twice moves the features a little; the order of pairs stays.
    assert np.corrcoef(evidence[BASE]["comparison"], pairs["comparison"])[0, 1] > 0.9
    for name, values in evidence[BASE].items():
        assert np.array_equal(values, evidence["twin"][name])


def test_cells_run_shared_networks_once_and_are_kept(base, cells, monkeypatch, tmp_path):
    runs = []
    for name in ("_extract_maps", "_log_odds"):
        call = getattr(cells_module, name)

        def counting(model, crops, call=call):
            runs.append(len(crops.pixels))
            return call(model, crops)

        monkeypatch.setattr(cells_module, name, counting)
    first = [evidence for _, evidence in cells.each("noise", 2)]
    assert runs == [24, 24]  # both branches, both systems together, each image once
    again = [evidence for _, evidence in cells.each("noise", 2)]
    assert runs == [24, 24]
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one["similarity"], other["similarity"])
    kept = next((tmp_path / "cells/noise-2").glob("base-*"))
    kept.write_bytes(b"damaged")
    repaired = [evidence for _, evidence in cells.each("noise", 2)]
    assert runs == [24] * 4
    assert np.array_equal(repaired[0]["log_odds_b"], first[0]["log_odds_b"])


def test_cells_are_made_anew_when_the_weights_differ(base, cells, tmp_path):
    list(cells.each("darker", 1))
    other = RunDir(write_run(tmp_path / "other"))
    torch.manual_seed(7)
    made = build_timm(BACKBONE, 1)
    spec = base.pipeline.extractor.detector.spec
    Detector(made.network, made.blueprint, spec, "scratch", "cpu").save(other.liveness)
    pipeline = load(other.path, cache=tmp_path / "cache", device="cpu")
    changed = System(BASE, pipeline, other, base.assessment)
    ((_, new),) = Cells([changed], tmp_path / "cells").each("darker", 1)
    (_, old), _ = cells.each("darker", 1)
    assert np.allclose(new["similarity"], old["similarity"])
    assert not np.allclose(new["log_odds_a"], old["log_odds_a"])


def attacked(cells, attack):
    """Evidence of the base system before and after an attack."""
    return (next(iter(cells.each(*place)))[1] for place in ((CLEAN, 0), (attack, 3)))


def test_evade_detector_lowers_log_odds_of_synthetic_images_only(base, cells):
    before, after = attacked(cells, "pgd_detector")
    synthetic = (base.assessment.scored.pairs["synthetic_b"] == 1).to_numpy()
    assert (after["log_odds_b"] < before["log_odds_b"])[synthetic].all()
    bona_fide = ~synthetic
    assert np.allclose(after["log_odds_b"][bona_fide], before["log_odds_b"][bona_fide], atol=1e-5)
    # An attack knows the base's networks, not the variants'.
    assert [system.name for system, _ in cells.each("pgd_detector", 3)] == [BASE]


def test_impersonate_raises_the_cosine_of_impostors_only(base, cells):
    before, after = attacked(cells, "pgd_recogniser")
    mated = base.assessment.scored.kind == "same"
    assert np.allclose(before["similarity"][mated], after["similarity"][mated], atol=1e-6)
    assert np.array_equal(before["comparison"][mated], after["comparison"][mated])
    assert not np.allclose(before["comparison"][~mated], after["comparison"][~mated], atol=1e-3)
    assert (after["similarity"] > before["similarity"])[~mated].mean() > 0.9
    rows, second = impostor_pairs(base.assessment.scored.pairs)
    assert len(rows) == 40 and second.sum() == 16


def test_attacks_stay_within_their_ball_when_templates_differ(base):
    template = CropTemplate(48, 0.2)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), dtype=np.uint8)
    crops = Crops(pixels, template)
    extractor = base.pipeline.extractor
    evaded = evade_detector(extractor.detector, crops, np.array([True, False, True, False]), 2)
    moved = impersonate(extractor.recogniser, crops, np.eye(4, 16, dtype=np.float32), 1)
    for changed, limit in ((evaded, 2), (moved, 1)):
        difference = np.abs(changed.pixels.astype(int) - pixels).max(axis=(1, 2, 3))
        assert difference.max() == limit
    assert (evaded.pixels[[1, 3]] == pixels[[1, 3]]).all()


def test_places_lists_every_corruption_and_attack():
    listed = places((1, 3))
    assert listed[0] == (CLEAN, 0) and len(listed) == len(set(listed)) == 1 + 2 * 18
    assert ("moire", 3) in listed and ("pgd_recogniser", 1) in listed
