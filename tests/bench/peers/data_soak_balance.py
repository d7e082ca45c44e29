"""The soak of data requests: a Balance of its own on one broker, its requests, and what is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_soak.killer import end
from data_soak.run import soak
from data_soak.source import Source
from harness.visits import options, tell


def kafka_server() -> Any:
    """Import the tests' own Kafka."""
    path = Path(__file__).parents[2] / "integration" / "kafka_server.py"
    spec = importlib.util.spec_from_file_location("kafka_server", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kafka_server"] = module
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def broker(kind: str) -> Iterator[Any]:
    """Give a Kafka of its own that runs; None for the embedded log, which Balance has."""
    if kind == "embedded":
        yield None
        return
    module = kafka_server()
    folder = module.short_folder()
    server = module.KafkaServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run it and say what came of it."""
    from actors.system import System
    from balance.config import Settings

    given = options()
    with tempfile.TemporaryDirectory(prefix="bal-") as name, Source() as source, broker(given["broker"]) as server:
        settings = Settings(
            state_dir=str(Path(name) / "state"),
            broker_url=f"kafka://{server.address}" if server else "",
            allow_private_urls=True,
            collect_interval_s=0.0,
            collect_fresh_s=3_600.0,  # what is older than that is asked for again: no run takes so long
            collectors=given["collectors"],
        )
        system = System.launch(settings, dashboard=False)
        try:
            import ray

            def restart() -> None:
                if server is not None:
                    server.kill()
                    server.start()
                else:  # the log lives in the messaging actor
                    end(ray.get(ray.get_actor("messaging", namespace="balance").ping.remote())["pid"])

            tell(**asyncio.run(soak(given, settings, source, restart)))
        finally:
            system.stop(drain_s=0)


if __name__ == "__main__":
    main()
