"""A run's configuration from YAML and the command line; packaged configurations by name."""

import argparse
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, auto_cli

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.runs.config import RunConfig
from kryptonite.runs.run_dir import RunDir

CONFIG = "--config"
CONFIG_HELP = "YAML file, or the name of a packaged configuration."

# A configuration is a path, YAML text, or a name: one word without a suffix.
_NAME = re.compile(r"[\w-]+")
_MOST_VALUES = 10_000  # of a configuration, which has some hundred


class HelpFormatter(argparse.RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Shows types and defaults, and keeps the lines of the examples."""


def packaged_configs() -> dict[str, Path]:
    """Returns the configurations that ship with the package, by name."""
    folder = Path(str(files("kryptonite.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_config(value: str) -> str:
    """Returns the path of a packaged configuration for its name, and anything else as it is.

    Args:
        value: Name, path or YAML text; a file in the working folder goes before a packaged
            configuration of the same name.

    Raises:
        ConfigError: The name is that of no file and no packaged configuration, or the file has
            aliases that stand for too many values.
    """
    if Path(value).is_file():
        _check_aliases(Path(value))
        return value
    if not _NAME.fullmatch(value):
        return value
    packaged = packaged_configs()
    if value not in packaged:
        raise ConfigError(
            f"{CONFIG} {value}: no such file, and no packaged configuration of that name; "
            f"packaged are {', '.join(packaged)}"
        )
    return str(packaged[value])


def _check_aliases(path: Path) -> None:
    """Refuses aliases that stand for many values: the parser copies them, until memory is full."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        values = _count(root, {})
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return  # the parser says what is wrong
    if values > _MOST_VALUES:
        raise ConfigError(f"{path}: its aliases stand for more than {_MOST_VALUES} values")


def _count(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Counts the values below a node and itself, each alias as what it names."""
    if id(node) not in known:
        known[id(node)] = math.inf  # of an alias within what it names
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [each for pair in node.value for each in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]


def find_configs(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with the value of every `--config` replaced by `find_config`."""
    found: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if found and found[-1] == CONFIG:
            argument = find_config(argument)
        elif name == CONFIG and equals:
            argument = f"{CONFIG}={find_config(value)}"
        found.append(argument)
    return found


def read_run_config(config: Path | str, arguments: Sequence[str] = (), **parser: Any) -> RunConfig:
    """Reads a configuration, the given arguments going before what it says.

    Args:
        config: Read unless the arguments name another with `--config`.
        arguments: Command-line options that name fields (`--recognition.fit.epochs 3`).
        parser: Passed on to the parser, for its help.

    Raises:
        ConfigError: The arguments name a configuration that does not exist.
        SystemExit: The configuration or the arguments do not fit `RunConfig`.
    """
    # Not jsonargparse's default_config_files: those would fill every field that another
    # configuration leaves out.
    if not any(argument.partition("=")[0] == CONFIG for argument in arguments):
        arguments = [CONFIG, str(config), *arguments]
    return auto_cli(
        RunConfig,
        as_positional=False,
        args=find_configs(arguments),
        config_help=CONFIG_HELP,
        **parser,
    )


def read_stored_config(run: RunDir) -> RunConfig:
    """Reads the configuration that a run was trained with.

    Raises:
        DataError: It is damaged, or a newer version wrote it.
    """
    try:
        return read_run_config(run.config, ["--run", str(run.path)], exit_on_error=False)
    except argparse.ArgumentError as error:
        raise DataError(f"{run.config}: not the configuration of a run ({error})") from error
