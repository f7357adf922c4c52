"""The supervisor: children live, die, come back and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from ml_backend.errors import HostError
from ml_backend.host import Child, Processes, one_instance, stopped_by_signals
from ml_backend.host.allocator import allocator
from ml_backend.host.leftovers import end_leftovers
from ml_backend.host.processes import _LOG_LIMIT


def python(name: str, code: str, **options) -> Child:
    """A child that runs `code`."""
    command = (sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(code))
    return Child(name, command, **options)


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until `condition()` holds, fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def says(log: Path, word: str) -> bool:
    """Tell whether `word` stands in the log."""
    return log.exists() and word in log.read_text()


def gone(pid: int) -> bool:
    """Tell whether the process has ended (an unreaped zombie has)."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def read_pid(path: Path) -> int:
    """Wait for a pid in `path`."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


SLEEPER = """
    import os, time
    open({path!r}, "w").write(f"{{os.getpid()}}\\n")
    time.sleep(600)
"""


def sleeper(name: str, folder: Path, **options) -> Child:
    """A child that writes its pid to `folder/name` and sleeps."""
    return python(name, SLEEPER.format(path=str(folder / name)), **options)


def test_stop_ends_the_children_in_reverse_order(tmp_path: Path):
    """The last started child ends first; afterwards no process and no record is left."""
    code = """
        import signal, sys, time
        def end(*_):
            open({path!r}, "a").write({name!r})
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        print("up")
        time.sleep(600)
    """
    order = tmp_path / "order"
    with Processes(tmp_path) as processes:
        for name in "abc":
            processes.start(python(name, code.format(path=str(order), name=name)))
            processes.wait_ready(name, partial(says, processes.log(name), "up"))
        assert all(processes.alive(name) for name in "abc")
    assert order.read_text() == "cba"
    assert not list((tmp_path / "run").glob("*.process.json"))


def test_the_environment_is_overlaid_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A child inherits the environment; its own entries win and None removes one."""
    for name in ("KEPT", "CHANGED", "REMOVED"):
        monkeypatch.setenv(f"BRUSHLOOP_TEST_{name}", "old")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    overlay = {"BRUSHLOOP_TEST_CHANGED": "new", "BRUSHLOOP_TEST_REMOVED": None}
    with Processes(tmp_path) as processes:
        processes.start(python("env", code, environment=overlay))
        eventually(lambda: not processes.alive("env"))
        seen = json.loads(processes.log("env").read_text())
    assert seen["BRUSHLOOP_TEST_KEPT"] == "old"
    assert seen["BRUSHLOOP_TEST_CHANGED"] == "new"
    assert "BRUSHLOOP_TEST_REMOVED" not in seen


def test_secrets_do_not_show_in_command_lines(tmp_path: Path):
    """The environment travels through a pipe: `ps` shows no secret of guard or child."""
    others = set(psutil.Process().children(recursive=True))  # the session's Label Studio
    with Processes(tmp_path) as processes:
        processes.start(sleeper("a", tmp_path, environment={"TOKEN": "s3cr3t"}))
        read_pid(tmp_path / "a")
        mine = set(psutil.Process().children(recursive=True)) - others
        lines = [process.cmdline() for process in mine]
    assert len(lines) == 2
    assert "s3cr3t" not in str(lines)


def test_a_stubborn_child_and_its_strays_are_killed(tmp_path: Path):
    """TERM ignored, grandchild in a session of its own: both are gone after stop."""
    code = f"""
        import os, signal, subprocess, sys, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stray = {textwrap.dedent(SLEEPER.format(path=str(tmp_path / "stray")))!r}
        subprocess.Popen([sys.executable, "-I", "-S", "-c", stray], start_new_session=True)
        open({str(tmp_path / "parent")!r}, "w").write(f"{{os.getpid()}}" + chr(10))
        time.sleep(600)
    """
    with Processes(tmp_path) as processes:
        processes.start(python("stubborn", code, grace=0.2))
        pids = [read_pid(tmp_path / "parent"), read_pid(tmp_path / "stray")]
    assert all(gone(pid) for pid in pids)


def test_a_dead_child_comes_back_with_growing_delay(tmp_path: Path):
    """Deaths are said; the delay doubles to a minute; a steady life starts it over."""
    said: list[str] = []
    now = [0.0]
    with Processes(tmp_path, say=said.append, clock=lambda: now[0]) as processes:
        processes.start(python("worker", "raise SystemExit(3)"))
        for _ in range(3):
            eventually(lambda: not processes.alive("worker"))
            processes.tend()
            now[0] += 0.5
            processes.tend()
            assert not processes.alive("worker"), "started before its delay was over"
            now[0] += 60
            processes.tend()
        assert [line.split(" in ")[1].split(" (")[0] for line in said] == ["1 s", "2 s", "4 s"]
        assert "worker ended with status 3" in said[0]
        eventually(lambda: not processes.alive("worker"))
        now[0] += 61
        processes.tend()
        assert "again in 1 s" in said[-1]


def test_a_killed_child_is_restarted_by_watch(tmp_path: Path):
    """`kill -9` of a child: its strays end, watch starts it again within seconds."""
    until = threading.Event()
    with Processes(tmp_path) as processes:
        processes.start(sleeper("a", tmp_path))
        first = read_pid(tmp_path / "a")
        (tmp_path / "a").unlink()
        os.kill(first, signal.SIGKILL)
        timer = threading.Thread(target=lambda: (read_pid(tmp_path / "a"), until.set()))
        timer.start()
        processes.watch(until)
        timer.join()
        second = read_pid(tmp_path / "a")
    assert first != second
    assert gone(second)


def test_a_killed_guard_takes_its_child_along(tmp_path: Path):
    """`kill -9` of the guard ends the child, so a restart never runs it twice."""
    with Processes(tmp_path) as processes:
        processes.start(sleeper("a", tmp_path))
        pid = read_pid(tmp_path / "a")
        os.kill(psutil.Process(pid).ppid(), signal.SIGKILL)
        eventually(lambda: gone(pid))


def test_waiting_tells_the_time_and_the_reason(tmp_path: Path):
    """Progress is reported; a death or a time-out is an error with the log's last words."""
    told: list[float] = []
    with Processes(tmp_path) as processes:
        processes.start(python("slow", "import time; print('warming up'); time.sleep(600)"))
        eventually(lambda: "warming" in processes.log("slow").read_text())
        with pytest.raises(HostError, match=r"slow is not ready after 1 s\.[^~]*warming up"):
            processes.wait_ready("slow", lambda: False, timeout=1.2, progress=told.append)
        processes.start(python("broken", "raise SystemExit('no disk')"))
        with pytest.raises(HostError, match=r"broken ended with status 1\.[^~]*no disk"):
            processes.wait_ready("broken", lambda: False)
        processes.start(Child("absent", ("/nowhere/at-all",)))
        with pytest.raises(HostError, match=r"status 127\.[^~]*cannot start /nowhere/at-all"):
            processes.wait_ready("absent", lambda: False)
        with pytest.raises(HostError, match="already started"):
            processes.start(Child("absent", ("/nowhere/at-all",)))
    assert told
    assert told[0] >= 1


def test_long_logs_are_turned_over(tmp_path: Path):
    """A log above its limit is kept as .1 and a new one begun."""
    with Processes(tmp_path) as processes:
        log = processes.log("a")
        log.parent.mkdir(parents=True)
        with log.open("wb") as file:
            file.truncate(_LOG_LIMIT + 1)
        processes.start(python("a", "print('new')"))
        eventually(lambda: log.exists() and log.read_text() == "new\n")
    assert log.with_suffix(".log.1").stat().st_size == _LOG_LIMIT + 1


SUPERVISOR = """
    import sys
    from pathlib import Path
    from ml_backend.host import Child, Processes, one_instance, stopped_by_signals
    home = Path(sys.argv[1])
    code = sys.argv[2]
    with stopped_by_signals(), one_instance(home), Processes(home) as processes:
        processes.start(Child("a", (sys.executable, "-I", "-S", "-c", code)))
        processes.watch()
"""


@pytest.fixture
def supervisor(tmp_path: Path):
    """A supervisor in another process; its child's pid comes in `tmp_path/pid`."""
    child = textwrap.dedent(SLEEPER.format(path=str(tmp_path / "pid")))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SUPERVISOR), str(tmp_path), child],
        stderr=subprocess.DEVNULL,
    ) as process:
        yield process
        process.kill()


def test_children_of_a_killed_supervisor_end(supervisor: subprocess.Popen, tmp_path: Path):
    """`kill -9` of the supervisor: guard and child leave, the lock is free again at once."""
    pid = read_pid(tmp_path / "pid")
    guard = psutil.Process(pid).ppid()
    supervisor.kill()
    supervisor.wait()
    with one_instance(tmp_path):
        eventually(lambda: gone(pid) and gone(guard))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_stop_everything(
    supervisor: subprocess.Popen, tmp_path: Path, number: signal.Signals
):
    """Ctrl-C, TERM and a closed terminal all stop the children before the supervisor leaves."""
    pid = read_pid(tmp_path / "pid")
    supervisor.send_signal(number)
    supervisor.wait(20)
    assert gone(pid)
    assert not (tmp_path / "run/a.process.json").exists()


def test_a_home_serves_one_instance(supervisor: subprocess.Popen, tmp_path: Path):
    """A second `up` on the same home is refused and told whom to stop."""
    read_pid(tmp_path / "pid")
    with (
        pytest.raises(HostError, match=f"in use by process {supervisor.pid};.*--home"),
        one_instance(tmp_path),
    ):
        pytest.fail("two instances")


def record_of(process: subprocess.Popen, started_shift: float = 0.0) -> str:
    """What an earlier supervisor would have recorded."""
    started = psutil.Process(process.pid).create_time() + started_shift
    return json.dumps({"pid": process.pid, "started": started})


def test_leftovers_are_ended_only_when_they_are_ours(tmp_path: Path):
    """A process of another start time that has got the recorded id is left alone."""
    run = tmp_path / "run"
    run.mkdir()
    command = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command) as ours, subprocess.Popen(command) as stranger:
        (run / "ours.process.json").write_text(record_of(ours))
        (run / "stranger.process.json").write_text(record_of(stranger, -3600))
        (run / "broken.process.json").write_text("{")
        (run / "dead.process.json").write_text('{"pid": 4194304, "started": 1.0}')
        said: list[str] = []
        end_leftovers(run, said.append)
        alive = (not gone(ours.pid), not gone(stranger.pid))
        stranger.kill()
        ours.kill()
    assert alive == (False, True)
    assert len(said) == 1
    assert "ours" in said[0]
    assert not list(run.iterdir())


def test_stubborn_leftovers_are_killed(tmp_path: Path):
    """A recorded process that ignores TERM is killed after the patience is over."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-u", "-c", code], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"up\n"
        (tmp_path / "a.process.json").write_text(record_of(process))
        end_leftovers(tmp_path, lambda _: None, patience=0.2)
        assert gone(process.pid)


def test_handlers_come_back(tmp_path: Path):
    """After the block and after a stop the signals mean what they meant before."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"), stopped_by_signals():
        signal.raise_signal(signal.SIGTERM)
    with Processes(tmp_path):
        pass
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("libc", "threshold"),
    [("glibc 2.36", "1073741824"), ("glibc 2.41", "1073741824"), ("glibc 2.31", "33554432")],
)
def test_the_allocator_gets_what_it_accepts(libc: str, threshold: str):
    """Old versions of glibc ignore large thresholds; other C libraries are left alone."""
    assert allocator(libc)["MALLOC_MMAP_THRESHOLD_"] == threshold
    assert not allocator(" ")
