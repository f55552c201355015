"""A run's configuration from YAML and the command line; packaged configurations by name."""

import argparse
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import DefaultHelpFormatter, auto_cli

from kryptonite.core.errors import ConfigError
from kryptonite.runs.config import RunConfig

CONFIG = "--config"
CONFIG_HELP = "YAML file, or the name of a packaged configuration."

# A configuration is a path, YAML text, or a name: one word without a suffix.
_NAME = re.compile(r"[\w-]+")


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
            aliases.
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
    """Refuses aliases: the parser copies what they name, so that a few lines could fill memory."""
    try:
        for token in yaml.scan(path.read_text(encoding="utf-8")):
            if isinstance(token, yaml.AliasToken):
                row = token.start_mark.line + 1
                raise ConfigError(
                    f"{path}, line {row}: write the value out in the place of the alias "
                    f"*{token.value}"
                )
    except (OSError, ValueError, yaml.YAMLError):
        return  # the parser says what is wrong


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
