"""Tasks from files: columns by their names, what is missing from the template, mistakes with their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors import cli
from balance.adapters.task_tables import read_tasks
from balance.core.scheduler.spec import TaskSpec
from balance.errors import TraceError

TEMPLATE = TaskSpec("task", name="work")


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_columns_are_known_by_their_names(tmp_path):
    """In any order, in any of their names; rows are put in order of time; others are left alone."""
    path = written(tmp_path, "User,colour,DURATION,submit_time,gpus,priority\nann,red,5,30,0.5,1\nbob,blue,7,10,2,4\n")
    first, second = read_tasks(path, TEMPLATE).jobs
    assert (first.at_s, first.run_s, first.spec.tenant, first.spec.priority, first.spec.demand.gpu) == (
        0.0, 7.0, "bob", 4, 2.0,
    )  # fmt: skip
    assert (second.at_s, second.spec.tenant, second.spec.demand.cpu, second.spec.name) == (20.0, "ann", 1.0, "work")


def test_pods_of_a_gpu_cluster_read_as_they_are(tmp_path):
    """Milli-cores, MiB, shared devices, start and end instead of a run time; what never ran is counted."""
    path = written(
        tmp_path,
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time\n"
        "p0,12000,16384,1,460,,LS,Succeeded,100,400,150\n"
        "p1,6000,12288,2,1000,,BE,Running,105,500,105\n"
        "p2,6000,12288,1,1000,,BE,Pending,106,,\n",
    )
    table = read_tasks(path, TEMPLATE)
    assert [(job.at_s, job.run_s, job.spec.demand.gpu, job.spec.name) for job in table.jobs] == [
        (0.0, 250.0, 0.46, "LS"),
        (5.0, 395.0, 2.0, "BE"),
    ]
    assert (table.jobs[0].spec.demand.cpu, table.jobs[0].spec.demand.memory_bytes) == (12.0, 2**34)
    assert table.skipped == 1


def test_a_request_trace_becomes_tasks(tmp_path):
    """Without run times: one task a request, as long as the caller says, arrivals as fast as it says."""
    path = written(tmp_path, "timestamp,requests\n2024-01-01 00:00:00,2\n2024-01-01 00:01:00,1\n")
    jobs = read_tasks(path, TEMPLATE, run_s=3.0, speed=2.0).jobs
    assert [(job.at_s, job.run_s) for job in jobs] == [(0.0, 3.0), (15.0, 3.0), (30.0, 3.0)]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("soon,5,1", "line 3.*time"),
        ("1,-5,1", "line 3.*run"),
        ("1,5,much", "line 3.*cpu"),
        ("1", "line 3"),
    ],
)
def test_a_row_that_can_not_be_read_is_named(tmp_path, row, said):
    """By its line and its column, with what was expected."""
    path = written(tmp_path, f"submitted,run_s,cpu\n0,1,1\n{row}\n9,1,1\n")
    if row == "1":
        assert read_tasks(path, TEMPLATE).skipped == 1
    else:
        with pytest.raises(TraceError, match=said):
            read_tasks(path, TEMPLATE)


@pytest.mark.parametrize("text", ["", "submitted,run_s\n", "a,b\n1,x\n"])
def test_a_file_without_tasks_is_refused(tmp_path, text):
    """Rather than simulated as nothing."""
    with pytest.raises(TraceError):
        read_tasks(written(tmp_path, text), TEMPLATE)


# ---------------------------------------------------------------- the command


def test_the_command_simulates_and_writes(tmp_path, capsys):
    """A table for people, a row for each task, a picture."""
    trace = written(tmp_path, "submitted,run_s,cpu,tenant\n" + "".join(f"{n},4,1,{'ab'[n % 2]}\n" for n in range(20)))
    history, picture = tmp_path / "history.csv", tmp_path / "picture.png"
    arguments = ["simulate", str(trace), "--nodes", "1x2cpu", "--tenants", "a=2"]
    assert cli.main([*arguments, "--out", str(history), "--plot", str(picture)]) == 0
    said = capsys.readouterr().out
    assert "20 tasks on 1 nodes: 20 completed" in said and "cpu" in said and "dominant share" in said
    assert len(history.read_text().splitlines()) == 21
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "options",
    [
        ["--nodes", "many"],
        ["--tenants", "a"],
        ["--tenants", "a=0"],
        ["--policy", "speed=3"],
        ["--out", "/no/such/folder/history.csv"],
        ["--plot", "picture.docx"],
    ],
)
def test_mistakes_cost_one_line(tmp_path, capsys, monkeypatch, options):
    """And exit code 1, before or after the run."""
    monkeypatch.chdir(tmp_path)
    trace = written(tmp_path, "submitted,run_s\n0,1\n")
    assert cli.main(["simulate", str(trace), *options]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1


def test_a_trace_that_is_not_there_costs_one_line(capsys):
    """With its name."""
    assert cli.main(["simulate", "nowhere.csv"]) == 1
    assert "nowhere.csv" in capsys.readouterr().err
