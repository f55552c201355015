"""Endless lines, long tables, many people, large photos: bounded memory, a result or a refusal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from kryptonite.liveness.sampler import PairedBatches
from kryptonite.recognition.sampler import IdentityBalanced
from tests.faults.system import scoring
from tests.tiny import write_run

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
LIMIT = 2.5  # GB that scoring takes, whatever comes

MEASURED = """
import json, resource, sys
from kryptonite.core.errors import KryptoniteError
def said(call):
    try: return call()
    except KryptoniteError as error: return str(error)
answer = {answer}
print(json.dumps([answer, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def measure(imports, answer):
    """Evaluates an expression in a process of its own; gives its value and peak memory in GB."""
    done = subprocess.run(
        [sys.executable, "-c", imports + MEASURED.format(answer=answer)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "2", "TQDM_DISABLE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def command(name, *arguments):
    """Runs a command in a process of its own; gives its exit status and peak memory in GB."""
    words = [str(each) for each in arguments]
    imports = "from kryptonite.cli.main import run_command"
    return measure(imports, f"run_command({name!r}, {words!r}, {name!r})")


# Lines


@pytest.mark.parametrize("start", [b"", b"pair_id,label,path,similarity\n", b"\xef\xbb\xbfx\n\xff"])
def test_readers_refuse_a_line_of_a_gigabyte_within_little_memory(tmp_path, start):
    names = ("train.csv", "test.csv", "submission.csv", "pairs.csv")
    with open(tmp_path / names[0], "wb") as stream:
        stream.write(start)
        for _ in range(64):
            stream.write(b"a" * (1 << 24))
    for name in names[1:]:
        os.link(tmp_path / names[0], tmp_path / name)
    imports = (
        "from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs\n"
        "from kryptonite.data.protocol import load_protocol\n"
        "from kryptonite.data.submission import read_ground_truth, read_submission\n"
        f"root = {str(tmp_path)!r}"
    )
    answers, peak = measure(
        imports,
        "[said(lambda: load_images(DataConfig(root), 'train')),"
        " said(lambda: load_test_pairs(root)),"
        " said(lambda: read_submission(f'{root}/submission.csv')),"
        " said(lambda: read_ground_truth(f'{root}/submission.csv')),"
        " said(lambda: load_protocol(f'{root}/pairs.csv', root))]",
    )
    for answer in answers:
        refusals = ("longer than 1048576 characters", "is not UTF-8", "is missing; found pair_id")
        assert any(refusal in answer for refusal in refusals), answer
    assert peak < 1


# Rows


def test_eer_takes_a_million_pairs(tmp_path):
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 1_000_000)
    score = label + generator.normal(size=len(label))
    rows = [f"{number:08d}" for number in range(len(label))]
    truth, submission = tmp_path / "gt.csv", tmp_path / "s.csv"
    for file, name, values in ((truth, "label", label), (submission, "similarity", score)):
        lines = [f"{row},{value:.9g}" for row, value in zip(rows, values, strict=True)]
        file.write_text("\n".join([f"pair_id,{name}", *lines]))
    arguments = ["--public_test_url", truth, "--public_prediction_url", submission]
    assert command("eer", *arguments)[0] == 0
    assert command("eer", *arguments)[1] < LIMIT


def test_loaders_take_a_million_rows(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    rows = [f"{pair},{name}.jpg" for pair in range(500_000) for name in "ab"]
    (tmp_path / "test.csv").write_text("\n".join(["label,path", *rows]))
    people = [f"{row // 10},{row}.jpg" for row in range(1_000_000)]
    (tmp_path / "train.csv").write_text("\n".join(["label,path", "0,a.jpg", *people]))
    imports = (
        "from kryptonite.data.layouts import DataConfig, load_images, load_test_pairs\n"
        f"root = {str(tmp_path)!r}"
    )
    (pairs, refused), peak = measure(
        imports,
        "[len(load_test_pairs(root)), said(lambda: len(load_images(DataConfig(root), 'train')))]",
    )
    assert pairs == 500_000
    assert "train.csv: 1000000 of 1000001 files do not exist" in refused and "row 2" in refused
    assert peak < LIMIT


# People


def test_loaders_and_samplers_take_100_000_people_with_labels_of_any_text(tmp_path):
    texts = ("{0}", "Ünï {0} 名", '"quoted ""{0}"""', "{0}" + "x" * 240, "=cmd|{0}", "${0}$<b>")
    (tmp_path / "photos").mkdir()
    lines = ["label,path"]
    for person in range(100_000):
        label = texts[person % len(texts)].format(f"{person:06d}")
        for name in ("0", "1", "k_0"):
            path = f"photos/{person}_{name}.jpg" if name != "k_0" else f"photos/k_{person}.jpg"
            os.close(os.open(tmp_path / path, os.O_CREAT | os.O_WRONLY))
            lines.append(f"{label},{path}")
    (tmp_path / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    imports = (
        "import numpy as np\n"
        "from kryptonite.data.layouts import DataConfig, load_images\n"
        "from kryptonite.data.pairs import PairConfig, make_pairs\n"
        "from kryptonite.liveness.sampler import PairedBatches\n"
        "from kryptonite.nn.train.datasets import number_identities\n"
        "from kryptonite.recognition.sampler import IdentityBalanced\n"
        f"config = DataConfig({str(tmp_path)!r}, val_fraction=0.01)\n"
        "images = number_identities(load_images(config, 'train'))\n"
        "columns = images['identity'].to_numpy(), images['is_synthetic'].to_numpy()\n"
    )
    (people, pairs, recognition, liveness), peak = measure(
        imports,
        "[images['label'].nunique(), len(make_pairs(images, PairConfig())),"
        " len(list(IdentityBalanced(*columns, 32, 2, 1, 0))),"
        " len(list(PairedBatches(*columns, 16, 0)))]",
    )
    assert (people, pairs) == (99_000, 4000)
    assert (recognition, liveness) == (round(198_000 / 64), 198_000 // 16)
    assert peak < LIMIT


def test_samplers_take_a_million_images_of_100_000_people():
    identity = np.repeat(np.arange(100_000), 10)
    synthetic = np.arange(1_000_000) % 10 >= 7
    batches = list(IdentityBalanced(identity, synthetic, 64, 2, 1, 0))
    assert {len(batch) for batch in batches} == {64 * 3}
    assert len({row for batch in batches for row in batch}) > 650_000
    pairs = list(PairedBatches(identity, synthetic, 32, 0))
    assert all(identity[batch[0].row] == identity[batch[1].row] for batch in pairs)


# Photos


@pytest.fixture
def large(tmp_path, faces):
    """Two people of four photos of 96 megapixels each, and test pairs."""
    for person, face in enumerate(faces[:2]):
        photo = cv2.resize(face, (9800, 9800), interpolation=cv2.INTER_CUBIC)
        for number, name in enumerate(("0", "1", "k_0", "k_1")):
            file = tmp_path / f"data/train/images/{person:08d}/{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            photo[0, 0] = number  # other bytes
            cv2.imwrite(str(file), photo[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
    for pair in range(4):
        folder = tmp_path / f"data/test_public/images/{pair:08d}"
        folder.mkdir(parents=True)
        for number in (0, 1):
            name = ("0", "1", "k_0", "k_1")[pair]
            source = tmp_path / f"data/train/images/{number:08d}/{name}.png"
            os.link(source, folder / f"{number}.png")
    return tmp_path


def test_scoring_stays_within_memory_when_photos_are_large(large):
    run = write_run(large / "run")
    photos = sorted((large / "data/train/images/00000000").iterdir())
    out = ["--out", large / "out"]
    data = ["--data.root", large, "--data.val_fraction", "0.5", "--data.pairs.same", "0.5"]
    data += ["--data.pairs.different", "0", "--data.pairs.synthetic", "0.5"]
    for name, arguments in (
        ("verify", [*photos[:2], "--run", run, "--device", "cpu"]),
        ("submit", scoring(large, run, "--cache", large / "cache")),
        ("prepare", [*data, *out]),
    ):
        status, peak = command(name, *arguments)
        assert (status, peak < LIMIT) == (0, True), (name, status, peak)
