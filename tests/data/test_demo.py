"""Demo data has the challenge's layout, repeats by seed, and is replaced only when it differs."""

import hashlib

import numpy as np
import pytest

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.core.images import read_rgb
from kryptonite.data import demo
from kryptonite.data.demo import SIDE, DemoConfig, write_demo
from kryptonite.data.forgery import FORGERIES
from kryptonite.data.layouts import load_folders, load_test_pairs
from kryptonite.data.submission import read_ground_truth

POINTS = np.array([[58.0, 66], [102, 64], [80, 88], [62, 110], [100, 109]])
TINY = DemoConfig(people=3, test_people=3, photos=5, forgeries=3, pairs=60)


def everywhere(photos):
    """Stands in for the aligner: the same landmarks in every photo."""
    return [POINTS for _ in photos]


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return hashlib.sha256(
        b"".join(str(path.relative_to(root)).encode() + path.read_bytes() for path in files)
    ).hexdigest()


def test_write_demo_writes_the_challenges_folders(tmp_path):
    assert write_demo(tmp_path / "demo", TINY, everywhere)
    images = load_folders(tmp_path / "demo")
    assert (
        images["label"].nunique() == 3
        and len(images) == 3 * 8
        and images["is_synthetic"].sum() == 9
    )
    assert images.groupby("label")["is_synthetic"].sum().tolist() == [3, 3, 3]
    pairs, truth = load_test_pairs(tmp_path / "demo"), read_ground_truth(tmp_path / "demo/gt.csv")
    assert pairs["pair_id"].tolist() == truth["pair_id"].tolist()
    assert (truth["label"] == (truth["kind"] == "same")).all()
    # The withheld kind occurs in the test pairs.
    assert set(truth.loc[truth["kind"] == "synthetic", "species"]) == set(FORGERIES)
    assert all(
        read_rgb(path).shape == (SIDE, SIDE, 3)
        for path in [*images["path"], *pairs["path_a"], *pairs["path_b"]]
    )


def test_write_demo_repeats_by_seed_and_resumes_when_unfinished(tmp_path):
    write_demo(tmp_path / "one", TINY, everywhere)
    write_demo(tmp_path / "two", TINY, everywhere)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert not write_demo(tmp_path / "one", TINY, everywhere)
    (tmp_path / "one/gt.csv").write_text("interrupted")
    (tmp_path / "one/demo.json").unlink()
    (tmp_path / "one/unfinished").touch()
    assert write_demo(tmp_path / "one", TINY, everywhere)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_write_demo_keeps_the_withheld_kind_out_of_training(tmp_path, monkeypatch):
    made, forge = [], demo._Studio.forge
    monkeypatch.setattr(
        demo._Studio,
        "forge",
        lambda self, kind, *rest: made.append(kind) or forge(self, kind, *rest),
    )
    write_demo(tmp_path / "demo", TINY, everywhere)
    training, test = made[: TINY.people * TINY.forgeries], made[TINY.people * TINY.forgeries :]
    assert TINY.withheld not in training and TINY.withheld in test


def test_write_demo_refuses_foreign_folders_and_unknown_kinds(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    with pytest.raises(DataError, match="left alone"):
        write_demo(tmp_path / "mine", TINY, everywhere)
    with pytest.raises(ConfigError, match="face_swap"):
        write_demo(tmp_path / "new", DemoConfig(withheld="magic"), everywhere)


def test_write_demo_draws_an_identity_again_when_a_face_is_not_found(tmp_path):
    calls = []

    def first_fails(photos):
        calls.append(len(photos))
        return [None if len(calls) == 1 and n == 1 else POINTS for n in range(len(photos))]

    write_demo(tmp_path / "demo", TINY, first_fails)
    assert len(calls) == TINY.people + TINY.test_people + 1
    assert len(load_folders(tmp_path / "demo")) == 24
