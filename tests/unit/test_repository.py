"""The repository as a whole: what it must not name, and what its pages promise each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# Written in pieces, so that this file does not name them itself.
HOSTS = ["pypi" + ".org", "python" + "hosted.org", "conda" + ".anaconda.org", "test.pypi" + ".org"]
PLACES = ["/wo" + "rk/", "../sh" + "ared"]


def tracked() -> list[Path]:
    try:
        listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: the list of tracked files is not known")
    return [path for name in listing.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_registry_or_a_private_place() -> None:
    """Nothing in the project depends on, or tells of, where it was written or which registry served it."""
    words = [word.encode() for word in (*HOSTS, *PLACES)]
    found = [
        f"{path.relative_to(ROOT)} names {word.decode()}"
        for path in tracked()
        for word in words
        if word in path.read_bytes()
    ]
    assert not found


def test_the_lock_file_stays_out() -> None:
    """A lock file names the registry that it was made with; the pins in pyproject.toml take its place."""
    assert "uv.lock" not in {path.name for path in tracked()}
    assert "uv.lock" in (ROOT / ".gitignore").read_text().split()


def test_every_dependency_is_pinned() -> None:
    """Each direct dependency has an exact pin that its own range admits (`.ci/pins --check` proves the rest)."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = [Requirement(pin) for pin in project["tool"]["uv"]["constraint-dependencies"]]
    extras = project["project"].get("optional-dependencies", {}).values()
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], *chain.from_iterable(extras)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        versions = [pin.specifier for pin in pins if canonicalize_name(pin.name) == name]
        assert versions, f"{name} has no pin: run python .ci/pins"
        for specifier in versions:
            (exact,) = specifier
            assert exact.operator == "=="
            assert requirement.specifier.contains(exact.version), f"{requirement} excludes its pin {exact}"


def test_every_decision_is_in_the_index() -> None:
    """Each ADR stands in `docs/adr/README.md` under its own title, each number once, with the four parts."""
    folder = ROOT / "docs" / "adr"
    index = (folder / "README.md").read_text()
    pages = sorted(folder.glob("[0-9]*.md"))
    assert len({page.name[:4] for page in pages}) == len(pages)
    for page in pages:
        text = page.read_text()
        number, title = re.match(r"# (\d{4})\. (.+)\n", text).groups()
        assert number == page.name[:4]
        assert f"[{number}]({page.name}) {title}" in index
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences", "Alternatives"], page.name


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of a Markdown page points at a file that exists."""
    for page in (path for path in tracked() if path.suffix == ".md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_ci_runs_what_the_readme_says() -> None:
    """The README names the two commands of a fresh machine; CI runs its test command, word for word."""
    readme = (ROOT / "README.md").read_text()
    assert "pip install uv && uv run balance demo" in readme
    assert "uv run pytest" in readme
    steps = re.findall(r"^step (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert steps[:6] == [
        ".ci/services",
        "uv run pytest",
        "uv run ruff check",
        "uv run ruff format --check",
        "uv run lint-imports",
        "uv run mypy",
    ]
    assert "\t.ci/run\n" in (ROOT / "Makefile").read_text()
