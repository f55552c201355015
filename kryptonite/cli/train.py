"""`kryptonite train`, and train.py at the root of a checkout."""

from kryptonite.cli.arguments import format_examples
from kryptonite.cli.configuration import HelpFormatter, packaged_configs, read_run_config

DESCRIPTION = """\
Train a run and write everything that scoring needs to its folder: the recogniser,
the synthetic-image detector, the differential detector and the fusion.

The configuration comes from --config, which takes a file or the name of a packaged
one ({packaged}); `default` unless given. Every
field is an option too. Called again after an interruption, training goes on where
it stopped; finished stages whose inputs have not changed are skipped."""
EXAMPLES = (
    "",
    "--config cpu",
    "--config mine.yaml --run runs/mine --recognition.fit.epochs 3",
    "--config cpu --print_config > mine.yaml",
)


def main(arguments: list[str], program: str) -> int:
    """Trains, prints the validation figures and returns the exit status."""
    packaged = packaged_configs()
    config = read_run_config(
        packaged["default"],
        arguments,
        prog=program,
        usage="%(prog)s [--config CONFIG] [--FIELD VALUE ...]",
        description=DESCRIPTION.format(packaged=", ".join(packaged)),
        epilog=format_examples(program, EXAMPLES),
        formatter_class=HelpFormatter,
    )
    from kryptonite.runs.stages import train

    metrics = train(config)
    if metrics:  # empty in all processes of a distributed training but the first
        for name in ("recognition_alone", "fused"):
            figures = metrics["validation"][name]
            print(
                f"{name}: EER {figures['eer_challenge']:.4f} SV {figures['sv_eer']:.4f} "
                f"SPF {figures['spf_eer']:.4f} (validation)"
            )
        print(f"run: {config.run}")
    return 0
