"""A Ray cluster of several nodes on this machine, with Ray's own autoscaler: nodes start when they are asked for.

Ray's `AutoscalingCluster` can't be used from the wheel (its example is not shipped, and it stops every Ray of the
machine), so the head is started here, with the older autoscaler and its provider of fake nodes.  A node is a real
raylet with workers of its own; it takes seconds to be there.  Everything it starts is found again by the folder that
it was given, and ended by its process ids.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

LOOPBACK = "127.0.0.1"
START_S, LOOK_EVERY_S, END_S = 60.0, 0.1, 10.0
HEAD, WORKER = "ray.head.default", "worker"


def environment() -> dict[str, str]:
    """Return the variables that the head, and programs that connect to it, need."""
    return {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    }


def config(address: str, cores: int, most: int, idle_s: float) -> dict[str, Any]:
    """Return the autoscaler's configuration: nodes of `cores` cores, at most `most` beside the head."""
    return {
        "cluster_name": "fake",
        "max_workers": most,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "fake_multinode",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "gcs_address": address,
        },
        "available_node_types": {
            HEAD: {"resources": {"CPU": cores}, "node_config": {}, "max_workers": 0},
            WORKER: {"resources": {"CPU": cores}, "node_config": {}, "min_workers": 0, "max_workers": most},
        },
        "head_node_type": HEAD,
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "auth": {},
        "docker": {},
    }


@contextlib.contextmanager
def fake_cluster(*, cores: int = 2, most: int = 3, idle_s: float = 30.0) -> Iterator[str]:
    """Start the head and yield its address; in the end no process of it is left."""
    folder = Path(tempfile.mkdtemp(prefix="fc-"))
    port = _free_port()
    address = f"{LOOPBACK}:{port}"
    (folder / "autoscaler.json").write_text(json.dumps(config(address, cores, most, idle_s)))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += [f"--node-ip-address={LOOPBACK}", f"--num-cpus={cores}", f"--temp-dir={folder}"]
    command += [f"--autoscaling-config={folder / 'autoscaler.json'}", "--include-dashboard=false"]
    command += ["--object-store-memory=100000000", f"--ray-client-server-port={_free_port()}"]
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **environment()}, start_new_session=True
        )
    try:
        _await(lambda: _answers(port) or head.poll() is not None, folder)
        if head.poll() is not None:
            raise RuntimeError(f"the head ended with {head.returncode}: {(folder / 'head.log').read_text()[-2000:]}")
        yield address
    finally:
        _end(folder)
        head.wait(END_S)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def _await(condition: Any, folder: Path) -> None:
    until = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > until:
            raise RuntimeError(f"the head did not start: {(folder / 'head.log').read_text()[-2000:]}")
        time.sleep(LOOK_EVERY_S)


def _end(folder: Path) -> None:
    """End every process that was started with this folder, and their children, until none is left."""
    until = time.monotonic() + END_S
    while (family := list(_family(folder))) and time.monotonic() < until:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=1.0)


def _family(folder: Path) -> Iterator[psutil.Process]:
    seen = set()
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in part for part in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                for each in (process, *process.children(recursive=True)):
                    if each.pid not in seen and each.pid != os.getpid():
                        seen.add(each.pid)
                        yield each


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def nodes_alive(ray: Any) -> Mapping[str, float]:
    """Return the cores of each node that is alive, by its id."""
    return {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]}
