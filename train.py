"""Train both branches and the fusion: `python train.py [--config configs/cpu.yaml] [--any.field value]`."""

import sys
from pathlib import Path

from jsonargparse import auto_cli

from kryptonite.core.errors import KryptoniteError
from kryptonite.runs.config import RunConfig
from kryptonite.runs.stages import run_experiment

DEFAULT = Path(__file__).parent / "configs" / "default.yaml"


def main() -> int:
    """Parses the configuration, runs the stages, prints the validation figures."""
    arguments = sys.argv[1:]
    # Not jsonargparse's default_config_files: those would shine through every field that another --config leaves out.
    if not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", str(DEFAULT), *arguments]
    try:
        config = auto_cli(RunConfig, as_positional=False, args=arguments)
        metrics = run_experiment(config)
    except KryptoniteError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    if metrics:
        for name in ("recognition_alone", "fused"):
            figures = metrics["validation"][name]
            print(
                f"{name}: EER {figures['eer_challenge']:.4f} SV {figures['sv_eer']:.4f} SPF {figures['spf_eer']:.4f} (validation)"
            )
        print(f"run: {config.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
