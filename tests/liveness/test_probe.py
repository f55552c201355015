"""The probe: features of a frozen encoder, the classifier on them, and its training."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kryptonite.core.crops import Crops, CropTemplate
from kryptonite.core.errors import ConfigError, DataError, TrainingError
from kryptonite.liveness import probe_training
from kryptonite.liveness.config import LivenessConfig, ProbeConfig
from kryptonite.liveness.detector import LOG_ODDS, Detector
from kryptonite.liveness.forgeries import ForgedCrops
from kryptonite.liveness.probe import Probe, rebuild_probe
from kryptonite.liveness.probe_training import (
    alarm_offset,
    draw_views,
    fit_head,
    view_weights,
)
from kryptonite.liveness.train import LivenessInputs, train_detector
from kryptonite.nn.encoders import build_encoder
from kryptonite.nn.onnx_export import write_export
from kryptonite.nn.train.config import AugmentConfig, FitConfig
from kryptonite.nn.train.datasets import CropDataset
from kryptonite.nn.train.job import TrainingJob
from kryptonite.nn.weights import BackboneConfig

SIDE, PEOPLE = 32, 6
KINDS = ["bona_fide", "k_", "self_blend", "face_swap"]
TINY = BackboneConfig("test_vit", "scratch")
SOFT = AugmentConfig(0, 0, 0, 0, 0)


def table(prefix="", people=PEOPLE):
    """One genuine photo and one `k_` image per person; the last two people are of source 1."""
    rows = [
        (f"p{person}", f"{prefix}{'kg'[genuine]}{person}", not genuine, int(person >= people - 2))
        for person in range(people)
        for genuine in (1, 0)
        if genuine or person < people - 2
    ]
    return pd.DataFrame(rows, columns=["label", "key", "is_synthetic", "source"])


def read(key):
    """Gives genuine photos smooth noise, `k_` images a fine grid on top of it."""
    generator = np.random.default_rng(int.from_bytes(key.encode(), "little"))
    smooth = generator.integers(60, 180, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
    grid = 50 * (np.indices((SIDE, SIDE)).sum(0) % 2)[..., None] if "k" in key else 0
    return (smooth + grid).astype(np.uint8)


def settings(**changes):
    changes = {
        "forgery_kinds": ["self_blend", "resynthesis"],
        "augment": SOFT,
        "probe": ProbeConfig(passes=2),
        **changes,
    }
    return LivenessConfig(
        TINY,
        CropTemplate(SIDE, 0.0),
        pairs_per_batch=4,
        fit=FitConfig(workers=0, accelerator="cpu"),
        **changes,
    )


def train(folder, **changes):
    config = settings(**changes)
    inputs = LivenessInputs.select(config, table(), table("v"))
    return train_detector(config, inputs, TrainingJob(read, folder, "mark"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("probe"))


def crops(keys):
    return Crops(np.stack([read(key) for key in keys]), CropTemplate(SIDE, 0.0))


def test_probe_features_are_unit_class_tokens_and_mean_patches_of_inner_blocks():
    encoder = build_encoder(TINY, SIDE).network.eval()
    probe = Probe(encoder, KINDS).eval()
    images = torch.rand(2, 3, SIDE, SIDE)
    with torch.inference_mode():
        features = probe.features(images)
        # The oracle runs the blocks by hand.
        tokens = encoder.norm_pre(
            encoder.patch_drop(encoder._pos_embed(encoder.patch_embed(images)))
        )
        expected = []
        depth = len(encoder.blocks)
        for number, block in enumerate(encoder.blocks):
            tokens = block(tokens)
            if number in range(depth // 4, depth * 5 // 6, 2):
                skip = encoder.num_prefix_tokens
                for part in (tokens[:, 0], tokens[:, skip:].mean(1)):
                    expected.append(part / part.norm(dim=1, keepdim=True))
        expected = torch.cat(expected, 1)
    assert features.shape == (2, probe.head.in_features)
    assert torch.allclose(features, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "side", "parts"),
    [("eva02_tiny_patch14_224", 28, 8), ("vit_wee_patch16_reg1_gap_256", 32, 4)],
)
def test_probe_reads_encoders_of_other_families_and_without_class_token(name, side, parts):
    loaded = build_encoder(BackboneConfig(name, "scratch"), side)
    probe, images = Probe(loaded.network, KINDS).eval(), torch.rand(2, 3, side, side)
    again = rebuild_probe({"encoder": loaded.blueprint, "kinds": KINDS}).eval()
    again.load_state_dict(probe.state_dict())
    with torch.inference_mode():
        features = probe.features(images)
        assert torch.allclose(again(images), probe(images), atol=1e-5)
    norms = features.unflatten(1, (parts, loaded.network.embed_dim)).norm(dim=2)
    assert torch.allclose(norms, torch.ones(2, parts), atol=1e-5)


def test_probe_log_odds_are_a_mean_of_those_of_any_forgery_and_of_the_kinds_made_here():
    probe = Probe(build_encoder(TINY, SIDE).network, KINDS).eval()
    features = torch.randn(5, probe.head.in_features)
    with torch.inference_mode():
        bona_fide, known, *made = probe.head(features).softmax(1).T
        of_any, of_made = (torch.log(sum(forged) / bona_fide) for forged in ([known, *made], made))
        assert torch.allclose(probe.log_odds(features), 0.8 * of_any + 0.2 * of_made, atol=1e-4)


@pytest.mark.parametrize("forged", [["k_"], ["self_blend", "face_swap"]])
def test_probe_log_odds_set_all_forgeries_against_bona_fide_when_all_are_of_one_origin(forged):
    probe = Probe(build_encoder(TINY, SIDE).network, ["bona_fide", *forged]).eval()
    features = torch.randn(5, probe.head.in_features)
    with torch.inference_mode():
        bona_fide = probe.head(features).softmax(1)[:, 0]
        expected = torch.log((1 - bona_fide) / bona_fide)
        assert torch.allclose(probe.log_odds(features), expected, atol=1e-4)


def test_view_weights_give_kinds_their_mass_and_sources_equal_parts():
    kind = np.array(["bona_fide"] * 4 + ["k_"] * 2 + ["self_blend"] * 3 + ["face_swap"])
    source = np.array([0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    weights = view_weights(kind, source)
    mass = {name: weights[kind == name].sum() for name in set(kind)}
    assert mass == pytest.approx({"bona_fide": 0.4, "k_": 0.4, "self_blend": 0.1, "face_swap": 0.1})
    assert weights[:3].sum() == pytest.approx(weights[3]) == pytest.approx(0.2)
    assert weights[6:8].sum() == pytest.approx(weights[8])


@pytest.mark.parametrize("kinds", [2, 4])
def test_fit_head_finds_the_regularised_optimum(kinds):
    """At the optimum, the gradient of the weighted loss with its decay vanishes."""
    generator = np.random.default_rng(0)
    kind = generator.integers(0, kinds, 300)
    features = generator.normal(size=(300, 6)) * [1, 2, 3, 4, 5, 6] + kind[:, None] * 0.5
    weights = generator.uniform(0.5, 1.5, 300)
    weights /= weights.sum()
    config = ProbeConfig(decay=1e-3)
    head = torch.nn.Linear(6, kinds)
    fit_head(head, features.astype(np.float16), kind, weights, config)

    scale = features.astype(np.float16).std(0, dtype=np.float64) * np.sqrt(6)
    inputs = torch.from_numpy(features.astype(np.float16)).float()
    losses = torch.nn.functional.cross_entropy(
        head(inputs), torch.from_numpy(kind), reduction="none"
    )
    penalty = (head.weight * torch.from_numpy(scale).float()).square().sum()
    # With two classes scikit-learn penalises their difference, which is twice as large.
    loss = (losses * torch.from_numpy(weights).float()).sum()
    loss = loss + config.decay * penalty * (2 if kinds == 2 else 1)
    loss.backward()
    assert float((head.weight.grad / torch.from_numpy(scale).float()).abs().max()) < 2e-3
    assert float(head.bias.grad.abs().max()) < 2e-3


@pytest.mark.parametrize(("precision", "limit"), [(np.float16, 6), (np.float32, 2)])
def test_fit_head_holds_the_features_in_memory_once(precision, limit):
    """One copy takes four bytes each; features in float32 are overwritten."""
    generator = np.random.default_rng(0)
    features = generator.normal(size=(3000, 300)).astype(np.float16).astype(precision)
    kind, weights = generator.integers(0, 3, 3000), np.full(3000, 1 / 3000)
    head = torch.nn.Linear(300, 3)
    fit_head(
        head, features[:9].copy(), np.arange(9) % 3, weights[:9], ProbeConfig()
    )  # first imports
    tracemalloc.start()
    try:
        fit_head(head, features, kind, weights, ProbeConfig())
        assert tracemalloc.get_traced_memory()[1] < limit * features.size
    finally:
        tracemalloc.stop()


def test_alarm_offset_leaves_at_most_the_fraction_above_zero_in_every_source():
    generator = np.random.default_rng(1)
    log_odds = np.concatenate([generator.normal(0, 1, 400), generator.normal(2, 1, 200)])
    source = np.repeat([0, 1], [400, 200])
    synthetic = generator.random(600) < 0.3
    offset = alarm_offset(log_odds, synthetic, source, 0.1)
    alarms = [float((log_odds[(source == each) & ~synthetic] > offset).mean()) for each in (0, 1)]
    assert max(alarms) == pytest.approx(0.1, abs=0.01) and alarms[1] > alarms[0]


def test_draw_views_shows_every_image_once_a_pass_and_forges_the_bona_fide_ones():
    config = settings()
    images = LivenessInputs.select(config, table(), table("v")).images
    dataset = CropDataset(images, read)
    forged = ForgedCrops(dataset, config)
    views = draw_views(config, forged, dataset.synthetic)
    plain = [view for view in views if view.draw.forgery_seed is None]
    made = [view for view in views if view.draw.forgery_seed is not None]
    rows = range(len(images))
    assert sorted(view.draw.row for view in plain) == sorted([*rows, *rows])
    assert all((view.kind == "k_") == dataset.synthetic[view.draw.row] for view in plain)
    bona_fide = np.flatnonzero(~dataset.synthetic).tolist()
    assert sorted(view.draw.row for view in made) == sorted(2 * bona_fide)
    assert all(view.kind == forged.kind(view.draw) for view in made)
    assert len({view.draw.forgery_seed for view in made}) == len(made)
    assert views == draw_views(config, forged, dataset.synthetic)
    assert views != draw_views(settings(seed=1), forged, dataset.synthetic)


def test_train_detector_fits_a_probe_that_separates_photos_it_never_saw(tmp_path):
    detector, figures = train(tmp_path, probe=ProbeConfig(passes=2, forgeries=0))
    photos, forgeries = (
        detector.log_odds(crops([f"{kind}{number}" for number in range(30, 70)])) for kind in "gk"
    )
    # The encoder's weights are random: its features separate the classes well, not perfectly.
    assert (forgeries[:, None] > photos).mean() > 0.9
    assert 0 <= figures["validation_eer"]["best_score"] < 0.5


def test_train_detector_counts_the_views_it_fitted_on(trained):
    detector, figures = trained
    views = figures["views"]
    assert sum(views.values()) == 32 and views["bona_fide"] == 12 and views["k_"] == 8
    assert detector.blueprint["kinds"] == list(views)


def test_train_probe_leaves_the_encoder_as_it_was(trained, tmp_path):
    detector, _ = trained
    again, _ = train(tmp_path)
    for (name, one), (_, other) in zip(
        detector.network.state_dict().items(), again.network.state_dict().items(), strict=True
    ):
        assert torch.equal(one, other), name
    assert not any(each.requires_grad for each in detector.network.encoder.parameters())


def test_train_probe_continues_where_it_was_interrupted(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(probe_training, "_CHUNK", 8)
    encoded = []
    original = probe_training.Encoder.__call__

    def count(encoder, images):
        encoded.append(len(images))
        if sum(encoded) > 16:
            raise KeyboardInterrupt
        return original(encoder, images)

    with monkeypatch.context() as patch:
        patch.setattr(probe_training.Encoder, "__call__", count)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "a")
    assert len(list((tmp_path / "a").glob("views-*"))) == 2
    resumed, _ = train(tmp_path / "a")
    whole, _ = train(tmp_path / "b")
    assert torch.equal(resumed.network.head.weight, whole.network.head.weight)


def test_train_probe_validates_in_full_precision_as_the_detector_runs(tmp_path, monkeypatch):
    used, original = [], probe_training.Encoder.__call__

    def note(encoder, images):
        used.append((encoder.bf16, len(images)))
        return original(encoder, images)

    monkeypatch.setattr(probe_training.Encoder, "__call__", note)
    fit = FitConfig(workers=0, accelerator="cpu", precision="bf16-mixed")
    config = replace(settings(), fit=fit)
    inputs = LivenessInputs.select(config, table(), table("v"))
    train_detector(config, inputs, TrainingJob(read, tmp_path, "mark"))
    assert used[-1] == (False, len(inputs.val_images)) and all(bf16 for bf16, _ in used[:-1])


def test_train_probe_refuses_features_that_are_not_finite(tmp_path, monkeypatch):
    monkeypatch.setattr(
        Probe, "features", lambda _, images: torch.full((len(images), 4), torch.nan)
    )
    with pytest.raises(TrainingError, match="not finite"):
        train(tmp_path)


def test_detector_scores_the_same_when_saved_and_loaded(trained, tmp_path):
    detector, _ = trained
    detector.save(tmp_path)
    loaded = Detector.load(tmp_path, "cpu")
    photos = crops(["g1", "k1", "g2"])
    assert np.array_equal(loaded.log_odds(photos), detector.log_odds(photos))


def test_liveness_inputs_leave_further_sources_to_the_probe():
    probe = LivenessInputs.select(settings(), table(), table("v"))
    plain = LivenessInputs.select(LivenessConfig(), table(), table("v"))
    assert set(probe.images["source"]) == {0, 1} and set(plain.images["source"]) == {0}
    assert len(probe.val_images) == len(plain.val_images) + 2


@pytest.mark.parametrize(
    "wrong", [{"passes": -1}, {"forgeries": -1}, {"decay": 0}, {"alarms": 0}, {"alarms": 1.0}]
)
def test_probe_config_refuses_numbers_out_of_range(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ProbeConfig(**wrong)


def test_train_probe_draws_swaps_within_a_source():
    images = LivenessInputs.select(settings(), table(), table("v")).images
    dataset = CropDataset(images, read)
    config = settings(forgery_kinds=["face_swap"])
    forged = ForgedCrops(dataset, config, images["source"].to_numpy())
    for row in np.flatnonzero(~dataset.synthetic):
        for seed in range(5):
            other = forged._other_identity(row, np.random.default_rng(seed))
            assert images["source"][other] == images["source"][row]
            assert images["identity"][other] != images["identity"][row]


def test_forged_crops_refuse_swaps_when_a_source_shows_one_person():
    images = LivenessInputs.select(settings(), table(), table("v")).images
    source = images["source"].to_numpy().copy()
    source[np.flatnonzero(source == 1)[0]] = 0
    crops = CropDataset(images, read)
    with pytest.raises(DataError, match="two training identities in every data source"):
        ForgedCrops(crops, settings(forgery_kinds=["self_blend", "face_swap"]), source)
    ForgedCrops(crops, settings(forgery_kinds=["self_blend"]), source)


@pytest.mark.slow
def test_write_export_gives_the_probe_as_onnx(trained, tmp_path):
    trained[0].save(tmp_path)
    detector = Detector.load(tmp_path, "cpu")
    write_export(detector, [LOG_ODDS], {})
    photos = crops(["g1", "k1", "g2"])
    exported = Detector.load(tmp_path, "cpu", "onnx").log_odds(photos)
    assert np.allclose(exported, detector.log_odds(photos), atol=1e-3)
