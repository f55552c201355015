"""Extract shards on a Ray cluster: the feature extractor in Ray Data's actors."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load, save

from kryptonite.core.errors import ConfigError, DataError
from kryptonite.core.memory import keep_freed_memory
from kryptonite.detection.cache import Contents
from kryptonite.inference.extractor import FeatureExtractor, ImageFeatures, Shard

RETRIES = 3  # of a worker and of its shard, so that one that cannot succeed ends


class Worker:
    """An actor that extracts one shard after the other.

    Args:
        threads: Cores it may use.
        load: Loads the extractor.
    """

    def __init__(self, threads: int, load: Callable[[], FeatureExtractor]):
        torch.set_num_threads(threads)
        keep_freed_memory()  # an actor is the entry point of its process
        self._extractor = load()

    def __call__(self, row: dict[str, Any]) -> dict[str, bytes]:
        """Extracts the shard that a row of Ray Data holds."""
        shard = Shard(list(row["paths"]), list(row["keys"]), Contents())
        return {"features": save(self._extractor.extract_shard(shard).to_tensors())}


class RayExecutor:
    """Runs shards on a cluster; another worker redoes the shard of one that dies.

    Every worker uses as many cores as this process does (`OMP_NUM_THREADS`), and there are as many
    workers as the cluster has cores for. The project, the data, the run and the cache must lie
    under the same paths on all machines. Workers compute on CPUs.

    Args:
        address: Address of the cluster; `auto` finds the one this machine belongs to, `local`
            starts one here.
        load: Loads the extractor in a worker; must be picklable.
        worker: Class of the actors.

    Raises:
        ConfigError: Ray is not installed, there is no such cluster, or its machines have too few
            cores.
    """

    def __init__(
        self, address: str, load: Callable[[], FeatureExtractor], worker: type[Worker] = Worker
    ):
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is to be sent anywhere
        try:
            import ray.data
        except ImportError as error:
            raise ConfigError(
                "scoring on a cluster needs Ray: pip install 'kryptonite[ray]'"
            ) from error
        # Workers find the package where this process found it, installed or not.
        environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
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
                f"no machine of the cluster has {self._threads} cores ({cores}); "
                "set OMP_NUM_THREADS to what a worker may use"
            )
        self._data, self._worker, self._address, self._load = ray.data, worker, address, load

    def __call__(self, shards: list[Shard]) -> Iterator[ImageFeatures]:
        """Yields the features of each shard, in order.

        Raises:
            DataError: A worker failed, and failed again.
        """
        context = self._data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = self._data.from_items(
            [{"paths": shard.paths, "keys": shard.keys} for shard in shards],
            override_num_blocks=max(1, len(shards)),
        )
        extracted = rows.map(
            self._worker,
            fn_constructor_args=(self._threads, self._load),
            compute=self._data.ActorPoolStrategy(size=self._workers),
            num_cpus=self._threads,
            max_restarts=RETRIES,
            max_task_retries=RETRIES,
        )
        try:
            for row in extracted.iter_rows():
                yield ImageFeatures.from_tensors(load(row["features"]))
        except Exception as error:  # what a worker raises arrives wrapped in Ray's errors
            raise DataError(
                f"a worker of the Ray cluster at {self._address!r} failed: {error}"
            ) from error
