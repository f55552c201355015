"""Configurations by path, by name, and from the command line."""

import pytest
import yaml

from kryptonite.cli.configuration import (
    find_config,
    find_configs,
    packaged_configs,
    read_run_config,
)
from kryptonite.cli.main import main
from kryptonite.core.errors import ConfigError


def test_packaged_configs_are_named_by_their_files():
    found = packaged_configs()
    assert {"cpu", "default", "demo"} <= set(found)
    assert all(path.is_file() and path.stem == name for name, path in found.items())


@pytest.mark.parametrize("name", ["cpu", "edgeface-cpu"])
def test_find_config_returns_packaged_file_when_given_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").mkdir()  # a folder is no configuration
    assert find_config(name) == str(packaged_configs()[name])


def test_find_config_prefers_file_when_working_folder_has_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cpu").write_text("run: mine")
    assert find_config("cpu") == "cpu"


@pytest.mark.parametrize("value", ["cpu.yaml", "configs/none.yaml", "{run: mine}", "/cpu"])
def test_find_config_returns_value_when_it_is_no_name(value):
    assert find_config(value) == value


def test_find_config_lists_packaged_names_when_name_is_unknown():
    with pytest.raises(ConfigError, match=r"--config gpu: no such file.*cpu, default, demo"):
        find_config("gpu")


@pytest.mark.parametrize("arguments", [["--config", "cpu"], ["--config=cpu"]])
def test_find_configs_replaces_names_in_either_form(arguments):
    path = str(packaged_configs()["cpu"])
    found = find_configs([*arguments, "--run", "cpu"])
    assert " ".join(found).replace("=", " ") == f"--config {path} --run cpu"


def test_read_run_config_reads_default_when_no_config_is_given():
    config = read_run_config(packaged_configs()["cpu"], ["--fusion.folds", "3"])
    assert (config.run, config.fusion.folds) == ("runs/cpu", 3)


def test_read_run_config_takes_nothing_of_default_when_config_is_given(tmp_path):
    (tmp_path / "mine.yaml").write_text("run: mine")
    given = ["--config", str(tmp_path / "mine.yaml")]
    config = read_run_config(packaged_configs()["cpu"], given)
    assert config.run == "mine" and config.recognition.fit.ema_decay != 0.99


def test_train_prints_packaged_default_when_no_config_is_given(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    default = yaml.safe_load(packaged_configs()["default"].read_text())
    assert printed["run"] == "runs/default"
    assert printed["recognition"]["backbone"] == default["recognition"]["backbone"]
