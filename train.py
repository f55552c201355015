"""Train both branches and the fusion: `python train.py [--config configs/cpu.yaml] [--any.field value]`."""

import sys

from jsonargparse import auto_cli

from common.errors import KryptoniteError
from experiment import RunConfig, run_experiment


def main() -> int:
    """Parses the configuration, runs the stages, prints the validation figures."""
    config = auto_cli(RunConfig, as_positional=False, default_config_files=["configs/default.yaml"])
    try:
        metrics = run_experiment(config)
    except KryptoniteError as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    if metrics:
        for name in ("recognition_alone", "fused"):
            figures = metrics["validation"][name]
            print(f"{name}: EER {figures['eer_challenge']:.4f} SV {figures['sv_eer']:.4f} SPF {figures['spf_eer']:.4f} (validation)")
        print(f"run: {config.run}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
