"""Arguments of the commands on the tiny system of `conftest`, and what its folders hold."""


def options(data, run, *extra):
    """Arguments of train."""
    places = ["--data.root", str(data), "--run", str(run), "--cache", str(data / "cache")]
    return ["--config", str(data / "tiny.yaml"), *places, *extra]


def scoring(data, run, *extra):
    """Arguments of submit, evaluate and ablate."""
    places = ["--run", run, "--cache", data / "cache", "--device", "cpu"]
    return [*places, "--data_root", data, *extra]


def message(said):
    """The last line on stderr."""
    return said.strip().splitlines()[-1]


def weights(run):
    """The weights of a run's branches, by file."""
    return {
        str(path.relative_to(run)): path.read_bytes() for path in run.glob("*/[!.]*.safetensors")
    }
