"""The shortcut audit names planted leaks, clears files made alike, and reads facts correctly."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from kryptonite.data.audit.shortcuts import (
    FOLDS,
    GROUPS,
    LEAK,
    audit_shortcuts,
    estimate_quality,
    file_facts,
)
from kryptonite.detection.uniform import make_uniform

pytestmark = pytest.mark.slow

PEOPLE, PHOTOS = 40, 4


def texture(generator):
    """A meaningless photo: coloured blotches and some grain, 96 pixels a side."""
    blotches = cv2.resize(
        generator.uniform(0, 255, (6, 6, 3)), (96, 96), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(blotches + generator.normal(0, 6, (96, 96, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def write(tmp_path):
    """Writes genuine and `k_` photos of `PEOPLE` people.

    They are made alike except for `plant(pixels, synthetic)`, which returns the pixels and the
    options they are saved with.
    """

    def make(plant, people=PEOPLE):
        generator = np.random.default_rng(5)
        rows = []
        for person in range(people):
            for index in range(PHOTOS):
                for synthetic in (False, True):
                    pixels, how = plant(texture(generator), synthetic)
                    path = (
                        tmp_path / f"{person}-{'k_' * synthetic}{index}.{how.pop('suffix', 'jpg')}"
                    )
                    Image.fromarray(pixels).save(
                        path, **{"quality": int(generator.integers(80, 96)), **how}
                    )
                    rows.append((f"{person:08d}", str(path), synthetic))
        return pd.DataFrame(rows, columns=["label", "path", "is_synthetic"])

    return make


def exif():
    tags = Image.Exif()
    tags[0x010F] = "a camera's maker"
    return tags


def bar(pixels):
    framed = pixels.copy()
    framed[:12] = 0
    return framed


PLANTS = {
    "compression": lambda pixels, synthetic: (pixels, {"quality": 60} if synthetic else {}),
    "size": lambda pixels, synthetic: (cv2.resize(pixels, (120, 120)) if synthetic else pixels, {}),
    "margins": lambda pixels, synthetic: (bar(pixels) if synthetic else pixels, {}),
    "metadata": lambda pixels, synthetic: (pixels, {} if synthetic else {"exif": exif()}),
    "colour": lambda pixels, synthetic: (
        np.clip(pixels + np.array([0, 0, 60 * synthetic]), 0, 255).astype(np.uint8),
        {},
    ),
}
TELLS = {
    "compression": "quality",
    "size": "width",
    "margins": "margin_top",
    "metadata": "exif",
    "colour": "blue",
}


def test_audit_shortcuts_finds_nothing_when_files_are_made_alike(write):
    report = audit_shortcuts(write(lambda pixels, synthetic: (pixels, {})))
    low, high = report["interval"]
    assert (
        low < 0.5 < high and report["auc"] < LEAK and not report["leaks"] and report["cure"] == {}
    )
    assert report["verdict"] == f"AUC {report['auc']:.2f} [{low:.2f}, {high:.2f}], nothing leaks"
    assert (report["images"], report["unreadable"], report["identities"]) == (
        2 * PEOPLE * PHOTOS,
        0,
        PEOPLE,
    )
    assert (
        set(report["groups"]) == set(GROUPS) and report["groups"]["size"]["auc"] == 0.5
    )  # the same for all


@pytest.mark.parametrize("group", PLANTS)
def test_audit_shortcuts_names_the_group_of_a_planted_leak(write, group):
    report = audit_shortcuts(write(PLANTS[group]))
    assert report["leaks"] and report["auc"] > 0.9 and report["interval"][0] > 0.85
    assert next(iter(report["groups"])) == group
    # File size follows from size, compression and content; a black border darkens the mean colour.
    innocent = set(GROUPS) - {group, "file_size"} - ({"colour"} if group == "margins" else set())
    assert all(report["groups"][other]["auc"] < LEAK for other in innocent)
    assert (
        f"file facts tell genuine from k_: {group}" in report["verdict"]
        and TELLS[group].replace("_", " ") in report["verdict"]
    )
    facts = report["groups"][group]["facts"][TELLS[group]]
    assert facts["auc"] > 0.9 and facts["genuine"] != facts["synthetic"]
    assert bool(report["cure"]) == (group in ("compression", "size"))
    json.dumps(report, allow_nan=False)


def test_audit_shortcuts_blames_the_content_when_only_file_size_leaks(write):
    def blur(pixels, synthetic):
        return cv2.GaussianBlur(pixels, (0, 0), 1) if synthetic else pixels, {"quality": 90}

    report = audit_shortcuts(write(blur))
    assert (
        report["leaks"]
        and report["cure"] == {}
        and report["verdict"].endswith("the detail that the images show")
    )


def test_audit_shortcuts_names_the_strongest_when_facts_leak_only_together(write):
    """Tall photos are red if genuine, wide ones if synthetic: shape or colour alone is useless."""
    generator = np.random.default_rng(1)

    def plant(pixels, synthetic):
        tall = generator.random() < 0.5
        pixels = np.clip(pixels + np.array([80 if tall != synthetic else 0, 0, 0]), 0, 255).astype(
            np.uint8
        )
        return (pixels[:, :80] if tall else pixels[:80]), {"quality": 90}

    report = audit_shortcuts(write(plant))
    assert report["auc"] > 0.9 and report["leaks"]
    assert max(group["auc"] for group in report["groups"].values()) < report["auc"] - 0.2
    assert f"k_: {next(iter(report['groups'])).replace('_', ' ')}" in report["verdict"]


def test_audit_shortcuts_splits_folds_by_identity(write):
    """Each person has a colour of their own and one class only.

    Whoever recognises the person knows the class, which must not help.
    """
    generator = np.random.default_rng(2)
    images = write(lambda pixels, synthetic: (pixels // 8, {"quality": 90}))
    colours = generator.integers(0, 200, (PEOPLE, 3))
    for row in images.itertuples():
        with Image.open(row.path) as image:
            pixels = np.asarray(image) + colours[int(row.label)]
        Image.fromarray(pixels.astype(np.uint8)).save(row.path, quality=90)
    of_person = dict(
        zip(sorted(set(images["label"])), generator.permutation(PEOPLE) < PEOPLE // 2, strict=True)
    )
    images["is_synthetic"] = images["label"].map(of_person)
    report = audit_shortcuts(images)
    assert report["auc"] < 0.75
    # With a label per photo, the photos of one person are in several folds.
    assert audit_shortcuts(images.assign(label=images["path"]))["auc"] > 0.95


@pytest.mark.parametrize("synthetic", [True, False])
def test_audit_shortcuts_is_undecided_when_a_class_is_missing(write, synthetic):
    images = write(lambda pixels, synthetic: (pixels, {}), people=FOLDS)
    report = audit_shortcuts(images[images["is_synthetic"] == synthetic])
    assert report["auc"] is None and report["interval"] is None and not report["leaks"]
    assert (
        "undecided" in report["verdict"]
        and f"{0 if synthetic else FOLDS} people with genuine" in report["verdict"]
    )
    json.dumps(report, allow_nan=False)


def test_audit_shortcuts_is_undecided_when_there_are_too_few_people(write):
    images = write(lambda pixels, synthetic: (pixels, {}), people=FOLDS)
    assert audit_shortcuts(images)["auc"] is not None
    assert "undecided" in audit_shortcuts(images[images["label"] != "00000000"])["verdict"]
    assert "undecided" in audit_shortcuts(images[:0])["verdict"]


def test_audit_shortcuts_repeats_by_seed(write):
    images = write(PLANTS["compression"], people=12)
    assert audit_shortcuts(images, seed=3) == audit_shortcuts(images, seed=3)


def test_audit_shortcuts_samples_whole_identities_when_there_are_many_images(write, monkeypatch):
    monkeypatch.setattr("kryptonite.data.audit.shortcuts.LIMIT", 100)
    report = audit_shortcuts(write(lambda pixels, synthetic: (pixels, {})))
    assert (
        report["identities"] == 100 // (2 * PHOTOS)
        and report["images"] == report["identities"] * 2 * PHOTOS
    )


@pytest.mark.parametrize("quality", [1, 10, 25, 49, 50, 51, 75, 80, 90, 95, 99, 100])
def test_file_facts_reads_the_quality_that_pillow_saved_with(tmp_path, quality):
    path = tmp_path / "a.jpg"
    Image.fromarray(texture(np.random.default_rng(0))).save(path, quality=quality)
    assert file_facts([str(path)])["quality"].tolist() == [quality]


def test_estimate_quality_returns_the_nearest_when_a_table_is_not_standard():
    # ITU-T T.81, table K.1.
    standard = """
        16 11 10 16 24 40 51 61
        12 12 14 19 26 58 60 55
        14 13 16 24 40 57 69 56
        14 17 22 29 51 87 80 62
        18 22 37 56 68 109 103 77
        24 35 55 64 81 104 113 92
        49 64 78 87 103 121 120 101
        72 92 95 98 112 100 103 99
    """
    standard = [int(step) for step in standard.split()]
    assert estimate_quality(standard) == 50
    assert estimate_quality([value + 1 for value in standard]) in (48, 49, 50)


def test_file_facts_reads_every_fact(tmp_path):
    photo = texture(np.random.default_rng(0))[:60]
    framed = np.full((80, 120, 3), 255, np.uint8)
    framed[10:70, 4:100] = photo
    how = {
        "a.jpg": {"quality": 80, "subsampling": "4:4:4", "exif": exif(), "icc_profile": b"profile"},
        "b.jpg": {"quality": 80, "subsampling": "4:2:2", "progressive": True},
        "c.png": {},
    }
    for name, options in how.items():
        Image.fromarray(framed).save(tmp_path / name, **options)
    Image.fromarray(photo[..., 0]).save(tmp_path / "grey.jpg", quality=80)
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:900])
    names = ["a.jpg", "bad.jpg", "b.jpg", "none.jpg", "c.png", "grey.jpg"]
    facts = file_facts([str(tmp_path / name) for name in names])
    assert facts.index.tolist() == [0, 2, 4, 5] and list(facts) == [
        name for group in GROUPS.values() for name in group
    ]
    assert facts["width"].tolist() == [120, 120, 120, 96] and facts["height"].tolist() == [
        80,
        80,
        80,
        60,
    ]
    assert (
        facts.at[0, "aspect"] == 1.5 and facts.at[0, "bytes"] == (tmp_path / "a.jpg").stat().st_size
    )
    assert facts.at[4, "bytes_per_pixel"] == (tmp_path / "c.png").stat().st_size / 9600
    assert facts["subsampling"].tolist() == ["4:4:4", "4:2:2", "", "other"] and facts[
        "progressive"
    ].tolist() == [False, True, False, False]
    assert facts["exif"].tolist() == facts["icc_profile"].tolist() == [True, False, False, False]
    assert facts["format"].tolist() == ["JPEG", "JPEG", "PNG", "JPEG"] and facts[
        "mode"
    ].tolist() == ["RGB", "RGB", "RGB", "L"]
    assert facts["quality"].isna().tolist() == [False, False, True, False] and facts[
        "chroma_table"
    ].isna().tolist() == [
        False,
        False,
        True,
        True,
    ]
    for side, share in {
        "top": 10 / 80,
        "bottom": 10 / 80,
        "left": 4 / 120,
        "right": 20 / 120,
    }.items():
        assert facts[f"margin_{side}"][[0, 2, 4]].tolist() == pytest.approx([share] * 3, abs=0.02)
    assert facts.loc[4, ["red", "green", "blue"]].tolist() == pytest.approx(
        framed.mean((0, 1)).tolist(), abs=1e-6
    )
    assert file_facts([]).empty


def test_file_facts_finds_full_margins_when_an_image_is_flat(tmp_path, save):
    facts = file_facts([str(save(tmp_path / "a.png", np.full((30, 40, 3), 9, np.uint8)))])
    assert facts.loc[0, GROUPS["margins"]].tolist() == [1, 1, 1, 1]


def test_audit_shortcuts_names_a_counter_measure_that_removes_the_leak(write, tmp_path):
    """A detector of compression traces measures the remaining leak.

    It uses the mass of each frequency in blocks of 8×8 pixels.
    """
    images = write(PLANTS["compression"])
    report = audit_shortcuts(images)
    assert report["cure"] == {"common_side": 86, "common_quality": 60}

    def traces(pixels):
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
        height, width = (length // 8 * 8 for length in grey.shape)
        blocks = np.stack(
            [
                cv2.dct(grey[y : y + 8, x : x + 8])
                for y in range(0, height, 8)
                for x in range(0, width, 8)
            ]
        ).reshape(-1, 64)
        return np.concatenate([np.log1p(blocks.std(0)), (np.abs(blocks) < 1).mean(0)])

    def tell(change):
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GroupKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        seen = np.stack([traces(change(np.asarray(Image.open(path)))) for path in images["path"]])
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
        scores = cross_val_predict(
            classifier,
            seen,
            images["is_synthetic"],
            groups=images["label"],
            cv=GroupKFold(5),
            method="predict_proba",
        )
        return roc_auc_score(images["is_synthetic"], scores[:, 1])

    assert tell(lambda pixels: pixels) > 0.95
    # Compressing twice leaves faint traces of the first time: most of the leak goes, not all of it.
    assert (
        tell(
            lambda pixels: make_uniform(
                pixels, report["cure"]["common_side"], report["cure"]["common_quality"]
            )
        )
        < 0.7
    )
