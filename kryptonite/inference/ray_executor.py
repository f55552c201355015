"""Shard the looking out among the machines of a Ray cluster: the pipeline's own eyes in Ray Data's actors."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.inference.extractor import ImageFeatures, Shard
from kryptonite.inference.pipeline import Pipeline

RETRIES = 3  # of a worker and of its share, so that one that cannot succeed ends


class Worker:
    """An actor: a pipeline that looks at one share after the other.

    Args:
        threads: Cores it may use.
        load: Arguments of `Pipeline.load`.
    """

    def __init__(self, threads: int, load: dict[str, Any]):
        torch.set_num_threads(threads)
        self._eyes = Pipeline.load(**load).eyes

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        """FeatureTable at the share that a row holds."""
        return {"sights": self._eyes.share(Shard(list(row["paths"]), list(row["keys"]))).packed()}


class RayExecutor:
    """FeatureTable at shares on a cluster, as `FeatureExtractor.look` wants it; a share whose worker dies is done again by another.

    Every worker uses as many cores as this process does (`OMP_NUM_THREADS`), and there are as many as the cluster has cores for. The
    project, the data, the run and the cache must lie under the same paths on all machines.

    Args:
        address: Of the cluster; `auto` finds the one this machine belongs to, `local` starts one here.
        run: Folder of the run.
        cache: Folder of the crop cache.
        engine: As `Pipeline.load`. Workers compute on CPUs.
        worker: The actor's class.

    Raises:
        ConfigError: Ray is not installed, there is no such cluster, or its machines have too few cores.
    """

    def __init__(
        self,
        address: str,
        run: Path | str,
        cache: Path | str,
        engine: str = "torch",
        worker: type[Worker] = Worker,
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be sent anywhere
        try:
            import ray.data
        except ImportError as error:
            raise ConfigError(
                "pip install -r requirements-ray.txt brings Ray, which scoring on a cluster needs"
            ) from error
        environment = {"PYTHONPATH": str(Path(__file__).parent)}
        try:
            ray.init(
                address,
                ignore_reinit_error=True,
                log_to_driver=False,
                logging_level="ERROR",
                runtime_env={"env_vars": environment},
            )
        except Exception as error:  # Ray's own have no common base
            raise ConfigError(f"no Ray cluster at {address!r}: {error}") from error
        self._threads = torch.get_num_threads()
        cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        self._workers = sum(count // self._threads for count in cores)
        if not self._workers:
            raise ConfigError(
                f"no machine of the cluster has {self._threads} cores ({cores}); set OMP_NUM_THREADS to what a worker may use"
            )
        self._data, self._worker, self._address = ray.data, worker, address
        self._load = {
            "run": os.path.abspath(run),
            "cache": os.path.abspath(cache),
            "device": "cpu",
            "engine": engine,
        }

    def __call__(self, shares: list[Shard]) -> Iterator[ImageFeatures]:
        """Gives what is seen in each share, in order.

        Raises:
            DataError: A worker failed, and failed again.
        """
        context = self._data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = self._data.from_items(
            [share._asdict() for share in shares], override_num_blocks=max(1, len(shares))
        )
        seen = rows.map(
            self._worker,
            fn_constructor_args=(self._threads, self._load),
            compute=self._data.ActorPoolStrategy(size=self._workers),
            num_cpus=self._threads,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )
        try:
            for row in seen.iter_rows():
                yield ImageFeatures.unpacked(row["sights"])
        except Exception as error:  # what a worker raises arrives wrapped in Ray's errors
            raise DataError(
                f"a worker of the Ray cluster at {self._address!r} failed: {error}"
            ) from error
