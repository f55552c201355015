"""A published folder scores as its run does, tells nothing of its machine, and is checked."""

import json
import os
import pickle
import shutil
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, constants, snapshot_download

import kryptonite
from kryptonite.cli.main import main
from kryptonite.core.errors import ConfigError, DataError, WeightsError
from kryptonite.core.files import sha256_file, write_json
from kryptonite.runs.checks import check_config
from kryptonite.runs.config import RunConfig
from kryptonite.runs.hub_card import hub_card
from kryptonite.runs.load import from_pretrained, load
from kryptonite.runs.run_dir import RunDir

ENDS = ("json", "safetensors")
RATES = ("eer_challenge", "sv_eer", "spf_eer", "sasv_eer")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def run(run, tmp_path):
    """A finished run whose files name folders of this machine wherever a real one's may."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    strangers = str(tmp_path / "strangers")
    config |= {"run": str(run), "cache": str(tmp_path / "cache")}
    config["data"] |= {"root": str(tmp_path / "data"), "genuine": [strangers]}
    local = f"local-dir:{tmp_path}/networks/tiny"
    config["recognition"] |= {"backbone": {"name": local, "weights": f"{tmp_path}/w.safetensors"}}
    config["liveness"] |= {"probe": {"decay": 1e-05}, "autoencoder": f"{tmp_path}/ddpm"}
    config["comparison"]["anything"] = {"deep": [f"{tmp_path}/deep/file"]}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    described = json.loads((run / "recognition/model.json").read_text())
    write_json(run / "recognition/model.json", {**described, "source": f"hub weights of {local}"})
    metrics = json.loads((run / "metrics.json").read_text())
    write_json(run / "metrics.json", {**metrics, "failures": {f"train of {strangers}": 1}})
    (run / "model_card.md").write_text(f"# Model card: run\n\nhub weights of {local}\n")
    for name in ("pairs_val.csv", "recognition/stage.json", "recognition/training/last.ckpt"):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    return run


@pytest.fixture
def published(run, tmp_path):
    load(run, device="cpu").save_pretrained(tmp_path / "published" / "tiny")
    return tmp_path / "published" / "tiny"


def republish(folder, name, content):
    """Replaces a file, and its hash in the list."""
    (folder / name).write_bytes(content)
    listed = json.loads((folder / "kryptonite.json").read_text())
    listed["files"][name] = sha256_file(folder / name)
    write_json(folder / "kryptonite.json", listed)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("read", [from_pretrained, load], ids=lambda read: read.__name__)
def test_published_run_answers_to_the_bit_as_its_run(
    read, run, published, tmp_path, faces, save, monkeypatch
):
    photos = [save(tmp_path / f"{i}.png", face) for i, face in enumerate(faces[:2])]
    expected = load(run, device="cpu").verify(*photos)
    moved = tmp_path / "elsewhere"
    shutil.move(published, moved)
    shutil.rmtree(run)
    monkeypatch.chdir(moved)
    answer = read(".", device="cpu").verify(*photos)
    assert replace(answer, seconds=0) == replace(expected, seconds=0)


def test_published_folder_holds_networks_settings_figures_and_card_only(published):
    files = {path.relative_to(published).as_posix() for path in published.rglob("*.*")}
    assert files == {
        "README.md",
        "config.json",
        "fusion.json",
        "kryptonite.json",
        "metrics.json",
        *(f"{branch}/model.{end}" for branch in ("recognition", "liveness") for end in ENDS),
        *(f"comparison/comparer.{end}" for end in ENDS),
    }


def test_published_folder_names_no_path_of_the_machine(published, tmp_path):
    for path in published.rglob("*.*"):
        assert str(tmp_path).encode() not in path.read_bytes(), path
    config = json.loads((published / "config.json").read_text())
    assert config["recognition"]["backbone"] == {
        "name": "local-dir:tiny",
        "weights": "w.safetensors",
    }
    assert config["liveness"]["autoencoder"] == "ddpm"
    assert config["comparison"]["anything"] == {"deep": ["file"]}
    assert config["run"] == "run" and config["data"]["genuine"] == ["source 1"]
    assert json.loads((published / "metrics.json").read_text())["failures"] == {
        "train of source 1": 1
    }


def test_save_pretrained_refuses_run_that_is_published_already(published, tmp_path):
    with pytest.raises(ConfigError, match="is a published run already"):
        from_pretrained(published, device="cpu").save_pretrained(tmp_path / "again")


def test_card_gives_the_hub_licence_library_and_figures_with_intervals(published):
    assert RunDir(published).model_card == published / "README.md"  # the service shows it
    data = ModelCard.load(published / "README.md").data
    assert (data.license, data.license_name) == ("other", "terms-of-the-weights")
    assert data.library_name == "kryptonite" and "face-verification" in data.tags
    assert data.pipeline_tag == "image-feature-extraction" and data.model_name == "tiny"
    assert [result.metric_type for result in data.eval_results] == [*RATES]
    for result in data.eval_results:
        assert result.metric_value == 0.125 and result.metric_args == {"interval_95": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("name", "weights", "expected"),
    [
        ("tf_efficientnet_lite0", "pip", ["timm/tf_efficientnet_lite0.in1k"]),
        ("vit_base_patch16_clip_quickgelu_224.openai", "pip", ["openai/clip-vit-base-patch16"]),
        ("hf_hub:owner/name", "hub", ["owner/name"]),
        ("convnext_nano.in12k", "hub", ["timm/convnext_nano.in12k"]),
        ("inception_resnet_v1", "hub", None),
        ("tf_efficientnet_lite0", "scratch", None),
        ("edgenext_x_small", "edgeface_xs.safetensors", None),
    ],
)
def test_card_names_base_model_when_the_hub_has_it(name, weights, expected):
    figures = {**dict.fromkeys(RATES, 0.125), "intervals": dict.fromkeys(RATES, (0.1, 0.2))}
    branch = {"backbone": {"name": name, "weights": weights}}
    config = {"recognition": branch, "liveness": branch}
    text = hub_card("tiny", config, {"validation": {"fused": figures}}, "# Title\n", "mit")
    data = ModelCard(text).data
    assert data.base_model == expected and data.license == "mit"
    assert getattr(data, "license_name", None) is None


@pytest.mark.parametrize("name", ["recognition/model.safetensors", "fusion.json", "config.json"])
def test_from_pretrained_names_file_when_it_is_missing(name, published):
    (published / name).unlink()
    with pytest.raises(DataError, match=f"{name}: missing"):
        from_pretrained(published)


@pytest.mark.parametrize("name", ["liveness/model.safetensors", "fusion.json", "metrics.json"])
def test_from_pretrained_names_file_when_a_byte_of_it_differs(name, published):
    content = bytearray((published / name).read_bytes())
    content[-3] ^= 1
    (published / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: not the published file"):
        from_pretrained(published)


def test_load_refuses_weights_of_another_run_when_their_hash_was_listed_anew(published):
    weights = (published / "liveness/model.safetensors").read_bytes()
    republish(published, "liveness/model.safetensors", weights[:-1] + bytes([weights[-1] ^ 1]))
    with pytest.raises(DataError, match="another liveness model than the folder's"):
        from_pretrained(published, device="cpu")


def test_from_pretrained_refuses_folder_of_another_format(published):
    listed = json.loads((published / "kryptonite.json").read_text())
    write_json(published / "kryptonite.json", {**listed, "format": 2, "version": "7.1"})
    with pytest.raises(DataError, match=r"format 2, written by kryptonite 7\.1; .* reads format 1"):
        from_pretrained(published)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "1", "format": 1, "files": 3}'])
def test_from_pretrained_names_list_of_files_when_it_is_damaged(content, published):
    (published / "kryptonite.json").write_text(content)
    with pytest.raises(DataError, match="kryptonite.json: not a list of published files"):
        from_pretrained(published)


def test_from_pretrained_refuses_folder_that_was_not_published(run):
    with pytest.raises(DataError, match="no published run: kryptonite.json missing"):
        from_pretrained(run)


def test_from_pretrained_never_reads_pickles_that_lie_in_the_folder(published, tmp_path):
    for name in ("model.pt", "model.pth", "pytorch_model.bin", "model.pkl"):
        (published / "recognition" / name).write_bytes(pickle.dumps(Payload(tmp_path / "run-me")))
    from_pretrained(published, device="cpu")
    republish(published, "recognition/model.safetensors", pickle.dumps(Payload(tmp_path / "it")))
    with pytest.raises(WeightsError, match="recognition/model.safetensors: cannot be read"):
        from_pretrained(published, device="cpu")
    assert not (tmp_path / "run-me").exists() and not (tmp_path / "it").exists()


@pytest.mark.parametrize(
    "name",
    [
        "recognition/model.pt",
        "../fusion.json",
        "recognition/../../fusion.json",
        "/etc/fusion.json",
        ".hidden.json",
        "fusion.json\n",
        "\ud800.json",
        "long" * 99 + ".json",
    ],
)
def test_from_pretrained_refuses_list_that_names_other_files(name, published):
    listed = json.loads((published / "kryptonite.json").read_text())
    listed["files"][name] = "0" * 64
    write_json(published / "kryptonite.json", listed)
    with pytest.raises(DataError, match="is no safetensors or JSON file of the folder"):
        from_pretrained(published)


def test_from_pretrained_refuses_file_that_the_list_lacks(published):
    shutil.copy(published / "fusion.json", published / "recognition/stage.json")
    with pytest.raises(DataError, match=r"recognition/stage\.json: not among the files"):
        from_pretrained(published)


def test_save_pretrained_leaves_folder_alone_when_it_holds_files(run, tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(ConfigError, match="not an empty folder"):
        load(run, device="cpu").save_pretrained(tmp_path)
    assert (tmp_path / "kept.txt").read_text() == "kept"


def test_save_pretrained_writes_nothing_when_run_has_no_card(run, tmp_path):
    system = load(run, device="cpu")
    (run / "model_card.md").unlink()
    with pytest.raises(DataError, match=r"no card can be written of metrics\.json and model_card"):
        system.save_pretrained(tmp_path / "out" / "tiny")
    assert not list((tmp_path / "out").iterdir())


def test_training_refuses_published_folder(published):
    with pytest.raises(ConfigError, match="holds a published run; train into another folder"):
        check_config(RunConfig(run=str(published)))


def test_publish_writes_folder_with_licence(run, tmp_path, capsys):
    out = tmp_path / "given"
    assert main(["publish", "--run", str(run), "--out", str(out), "--license", "mit"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert ModelCard.load(out / "README.md").data.license == "mit"


@pytest.fixture
def hub(published, tmp_path, monkeypatch):
    """The hub's cache with one commit of `owner/tiny`, which main points to; no network."""
    cache = tmp_path / "hub"
    repository = cache / "models--owner--tiny"
    shutil.copytree(published, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return repository


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_from_pretrained_records_commit_when_revision_is_named(revision, hub, caplog):
    with caplog.at_level("INFO", "kryptonite"):
        system = from_pretrained("owner/tiny", revision, device="cpu")
    assert system.run.path == hub / "snapshots" / COMMIT
    assert f"owner/tiny at {revision}: commit {COMMIT}" in caplog.messages


def test_from_pretrained_refuses_repository_when_no_revision_is_named(hub):
    with pytest.raises(ConfigError, match="owner/tiny: pass the commit to load as revision"):
        from_pretrained("owner/tiny")


def test_from_pretrained_names_repository_when_hub_lacks_the_commit(hub):
    with pytest.raises(WeightsError, match=f"owner/tiny at {COMMIT[::-1]}: cannot be had"):
        from_pretrained("owner/tiny", COMMIT[::-1])


def test_from_pretrained_asks_hub_for_safetensors_and_json_only(hub, monkeypatch):
    asked = {}

    def download(repository, **options):
        asked.update(options)
        return snapshot_download(repository, **options)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    from_pretrained("owner/tiny", COMMIT, device="cpu")
    assert asked == {"revision": COMMIT, "allow_patterns": ["*.json", "*.safetensors"]}


@pytest.mark.parametrize(
    "source", ["nowhere", "a/b/c", "../owner/tiny", "/no/such/folder", "", "long" * 2000]
)
def test_from_pretrained_says_so_when_source_is_neither_folder_nor_repository(
    source, tmp_path, monkeypatch
):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    with pytest.raises(DataError, match="neither a folder|no published run"):
        from_pretrained(source)


def test_from_pretrained_refuses_revision_of_a_folder(published):
    with pytest.raises(ConfigError, match="a folder has no revisions"):
        kryptonite.from_pretrained(published, revision="main")
