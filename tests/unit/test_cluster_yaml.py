"""`cluster.yaml` is what Ray's launcher accepts, and what it starts is Balance at the pinned versions."""

from __future__ import annotations

import copy
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def accepted(config: dict[str, Any]) -> dict[str, Any]:
    """Pass a copy through the checks of ``ray up`` that need no cloud; return it with Ray's defaults filled in."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    return prepared


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_ray_accepts_it(config: dict[str, Any]) -> None:
    """Ray's own schema check passes, and keeps the node types and their bounds as they are written."""
    prepared = accepted(config)
    assert {name: kind["min_workers"] for name, kind in prepared["available_node_types"].items()} == {
        "head": 0,
        "cpu": 1,
        "gpu": 0,
    }


@pytest.mark.parametrize(
    "planted",
    [{"head_node_type": "absent"}, {"unknown_key": 1}, {"max_workers": 0}],
    ids=lambda planted: next(iter(planted)),
)
def test_ray_refuses_what_is_wrong(config: dict[str, Any], planted: dict[str, Any]) -> None:
    """The check above can fail: each planted mistake is refused."""
    with pytest.raises(Exception, match=r"\w"):
        accepted(config | planted)


def test_the_head_starts_ray_then_balance(config: dict[str, Any]) -> None:
    """The head starts Ray with the autoscaler, then Balance, which asks it for nodes; workers start Ray only."""
    head, worker = config["head_start_ray_commands"], config["worker_start_ray_commands"]
    ray_at = next(at for at, command in enumerate(head) if "ray start --head" in command)
    balance_at = next(at for at, command in enumerate(head) if "balance up --address auto" in command)
    assert head[balance_at].startswith("BALANCE_AUTOSCALING=true "), "nodes are asked for ahead of the demand"
    assert ray_at < balance_at
    assert "--autoscaling-config" in head[ray_at]
    assert not any("balance" in command for command in worker)


def test_every_node_installs_balance_from_the_checkout(config: dict[str, Any]) -> None:
    """The checkout is copied to every node and installed from there, not from a registry."""
    (remote,) = (path for path, local in config["file_mounts"].items() if local == ".")
    assert any(f"cd {remote} && uv pip install" in command for command in config["setup_commands"])


def test_the_images_hold_the_pinned_ray(config: dict[str, Any]) -> None:
    """A cluster's nodes must run one Ray: the images' is the pinned one, on a Python that Balance supports."""
    pins = [Requirement(pin) for pin in project()["tool"]["uv"]["constraint-dependencies"]]
    (ray,) = (pin for pin in pins if pin.name == "ray")
    for image in (config["docker"]["head_image"], config["docker"]["worker_image"]):
        found = re.fullmatch(r"rayproject/ray:([\d.]+)-py3(\d+)-(?:cpu|gpu)", image)
        assert found, image
        assert ray.specifier.contains(found[1]), f"{image} is not {ray}"
        assert Requirement(f"python{project()['project']['requires-python']}").specifier.contains(f"3.{found[2]}")


def test_the_state_outlives_the_container(config: dict[str, Any]) -> None:
    """Balance keeps its state in a folder that the container shares with its machine."""
    (start,) = (line for line in config["head_start_ray_commands"] if "balance up" in line)
    folder = start.partition("--state-dir ")[2]
    assert any(option.endswith(f":{folder}") for option in config["docker"]["run_options"])


def test_the_variant_for_machines_of_ones_own(config: dict[str, Any]) -> None:
    """What `docs/cluster.md` says to replace and to take out makes a file that Ray accepts as well."""
    page = (ROOT / "docs" / "cluster.md").read_text()
    variant = yaml.safe_load(re.search(r"```yaml\n(.*?)```", page, re.DOTALL)[1])
    removed = ("docker", "initialization_commands", "available_node_types", "head_node_type")
    assert all(f"`{name}`" in page for name in removed)
    prepared = accepted({name: value for name, value in config.items() if name not in removed} | variant)
    (kind,) = prepared["available_node_types"].values()
    assert kind["max_workers"] == len(variant["provider"]["worker_ips"])
