"""Commands as a person sees them: on a terminal."""

import re
import signal
from pathlib import Path

from tests.support.brokers.broker_server import VirtualHost
from tests.support.programs import PROGRAM, ROOT, command, environment
from tests.support.terminal import Terminal

RED = "\x1b[31m"


def consumed(env: dict[str, str], *options: str) -> str:
    """What a worker shows whose job fails."""
    worker = Terminal([*PROGRAM, "consume", "work", *options], env, ROOT)
    try:
        worker.wait_for("worker is ready")
        done = command("enqueue", "quick", "--args", "7", env=env)
        failed = command("enqueue", "fail", "--args", '{"n": 3}', env=env)
        worker.wait_for(f"{failed.stdout.strip()} ")
        worker.wait_for(done.stdout.strip()[-8:])
        worker.program.send_signal(signal.SIGTERM)
        seen = worker.wait_for("stopped")
        assert worker.program.wait(20) == 0
        return seen
    finally:
        worker.close()


def test_a_worker_shows_what_a_person_must_look_at(broker_43: VirtualHost, tmp_path: Path) -> None:
    """One short line a run; red where a job failed for good; the code of the program."""
    env = environment(broker_43.url, tmp_path)
    seen = consumed(env)
    [done] = [line for line in seen.splitlines() if " quick done " in line]
    assert " ms " in done
    assert "\x1b" not in done
    assert "job_id=" not in seen
    assert f"{RED}error    fail failed\x1b[0m" in seen
    assert "ValueError: job 3 cannot be done" in seen
    assert "tests/support/jobs.py" in seen
    assert "/amqpjobs/worker/" not in seen
    assert "not shown; --verbose shows all)" in seen


def test_verbose_shows_the_rest(broker_43: VirtualHost, tmp_path: Path) -> None:
    """In the processes of a supervisor, too."""
    env = environment(broker_43.url, tmp_path)
    seen = consumed(env, "--verbose", "--processes", "2")
    [done] = [line for line in seen.splitlines() if " quick done " in line]
    for key in ("job_id=", "queue=work", "attempt=1", "worker=", "running_ms=", "logger="):
        assert key in done
    assert "/amqpjobs/worker/" in seen
    assert "not shown" not in seen


def test_a_person_sees_how_long_ago_jobs_failed(broker_43: VirtualHost, tmp_path: Path) -> None:
    """And in colour what to look at; what is no terminal gets times, and no colour."""
    env = environment(broker_43.url, tmp_path)
    consumed(env)
    shown = Terminal([*PROGRAM, "dead", "list"], env, ROOT)
    watched = Terminal([*PROGRAM, "queues", "--watch"], env, ROOT)
    doctor = Terminal([*PROGRAM, "doctor"], env, ROOT)
    try:
        seen = shown.wait_for("job 3 cannot be done")
        assert re.search(r"\x1b\[33m(now|\d+ s ago) *\x1b", seen), seen
        assert re.search(rf"{re.escape(RED)} *1\x1b", watched.wait_for(RED)), watched.seen
        assert "changed" in watched.seen
        doctor.wait_for("\x1b[33mwarning")
        assert shown.program.wait(20) == 0
    finally:
        for each in (shown, watched, doctor):
            each.close()
    plain = command("dead", "list", env=env).stdout
    assert " ago" not in plain.replace("now", " ago")
    assert "\x1b" not in plain


def test_a_stdout_that_has_only_a_write_ends_no_command(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """An app's module may put anything there."""
    (tmp_path / "quiet.py").write_text(
        "import sys\n"
        "from tests.support.jobs import app\n"
        "class Own:\n"
        "    write = sys.stdout.write\n"
        "sys.stdout = Own()\n"
    )
    env = environment(broker_43.url, tmp_path, AMQPJOBS_APP="quiet:app")
    assert command("topology", "apply", env=env, cwd=tmp_path).returncode == 0
    for words in (
        ["queues"],
        ["queues", "--json"],
        ["doctor"],
        ["dead", "list"],
        ["topology", "show"],
    ):
        done = command(*words, env=env, cwd=tmp_path)
        assert "Traceback" not in done.stderr, str(done)
        assert done.returncode == 0 or words == ["doctor"], str(done)


def test_a_mistyped_job_among_dead_letters_names_the_nearest(
    broker_43: VirtualHost, tmp_path: Path
) -> None:
    """None is found, which may be for that."""
    env = environment(broker_43.url, tmp_path)
    assert command("topology", "apply", env=env).returncode == 0
    done = command("dead", "list", "--job", "quik", env=env)
    assert done.stderr == "no dead letters; did you mean 'quick'?\n"
    assert command("dead", "list", "--job", "quick", env=env).stderr == "no dead letters\n"
