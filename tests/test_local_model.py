"""The managed local backend with a real small model: loading, answering, dying, coming back."""
import json
import os
import platform
import select
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kith import ROOT, Live, Server, check_log, history

sys.path.insert(0, str(ROOT / "tools"))
from llama_child import cpu_lacks  # noqa: E402

ANSWER_S = 90
# Short answers of a persona of few words: what is tested here is not what the model says.
SHORT = {"context.answer_tokens": 40, "model.first_token": "120s", "model.idle": "120s",
         "personas.0.id": "p_default", "personas.0.prompt": "You are Kit. Be brief."}


def missing_features():
    if platform.machine() != "x86_64":
        return []
    return cpu_lacks(Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace"))


pytestmark = pytest.mark.skipif(bool(missing_features()),
                                reason=f"this processor lacks {' '.join(missing_features())}")


def model_file(name):
    """Where the model is; its absence is a failure, because `make deps` fetches it."""
    path = os.environ.get(f"KITH_{name.upper()}_MODEL")
    if not path:
        found = subprocess.run([sys.executable, ROOT / "tools/models.py", "path", name],
                               capture_output=True, text=True, check=False)
        path = found.stdout.strip()
    assert path and Path(path).exists(), f"the {name} model is not there: make deps"
    return path


def settings(name="test", **more):
    return {"local.enabled": "true", "local.model": model_file(name), "local.threads": 2} | more


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """One server with the small model, shared by tests that do it no harm."""
    server = Server(tmp_path_factory.mktemp("local"), [], settings(**SHORT))
    yield server
    server.close()


def child_pid(server):
    return int(server.line(r"event=local_model_started ").split(" pid=")[1].split()[0])


def reason(server):
    status, body = server.get("/readyz")
    told = json.loads(body)
    assert (status == 200) == told["ready"]
    return None if told["ready"] else told["reason"]


def wait_ready(live, server):
    live.wait(lambda: reason(server) is None, ANSWER_S, "the model to be ready")


def wait_gone(pid, seconds=20):
    """Until a process has ended, whoever's it is."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], seconds)[0], f"process {pid} is still there"
    finally:
        os.close(fd)


def ask(live, text, **options):
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, text, **options)["run"]
    return conv, run


def test_it_answers_and_the_answer_streams(local):
    live = Live(local)
    conv, run = ask(live, "Tell me something about the sea.")
    final = live.final(conv, run, ANSWER_S)
    assert final["status"] == "complete" and len(final["text"].split()) >= 5
    assert final["usage"]["in"] > 0 and final["usage"]["out"] > 0
    deltas = [e for _, e in live.events(conv) if e["t"] == "d"]
    assert len(deltas) >= 3, "it came word by word"
    assert "".join(e["s"] for e in deltas) == final["text"]
    second = live.send(conv, "And about ships?")["run"]
    assert live.final(conv, second, ANSWER_S)["status"] == "complete"
    check_log(history(live, conv))
    live.close()


def test_more_questions_than_slots_are_all_answered(local):
    live = Live(local)
    asked = [ask(live, f"Say the number {i} and something about it.") for i in range(5)]
    waited = 0
    for conv, run in asked:
        assert live.final(conv, run, ANSWER_S)["status"] == "complete"
        waited += any(e["t"] == "st" and e["st"] == "queued" for _, e in live.events(conv))
    assert waited >= 2, "two slots: the others were told that they wait"
    live.close()


def test_stop_frees_the_slot(local):
    live = Live(local)
    for _ in range(3):
        conv, run = ask(live, "Tell me a very long story.")
        live.wait(lambda conv=conv: any(e["t"] == "d" for _, e in live.events(conv)), ANSWER_S)
        live.rpc("run.stop", run=run)
        final = live.final(conv, run)
        assert final["status"] == "stopped" and final["text"]
    conv, run = ask(live, "Hello!")
    assert live.final(conv, run, ANSWER_S)["status"] == "complete"
    live.close()


def held_python(tmp_path):
    """A python that does not begin before somebody opens the gate."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    python = os.environ.get("KITH_PYTHON") or str(ROOT / ".deps/venv/bin/python")
    script = tmp_path / "held-python"
    script.write_text(f'#!/bin/sh\nread -r _ < "{gate}"\nexec "{python}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script, gate


def test_while_it_loads_messages_wait_visibly(make_server, tmp_path):
    """With the persona and all settings as they come."""
    python, gate = held_python(tmp_path)
    server = make_server(settings(**{"local.python": str(python)}), models=[])
    live = Live(server)
    assert reason(server) == "loading"
    assert "loading" in json.loads(server.get("/readyz")[1])["message"]
    assert server.get("/healthz")[0] == 200
    conv, run = ask(live, "Tell me something about the moon.")
    queued = live.event(conv, lambda e: e["t"] == "st" and e["st"] == "queued" and e["r"] == run)
    assert queued["pos"] == 1
    snapshot = Live(server, token=live.token).subscribe(conv)["data"]["runs"]
    assert [(r["r"], r["st"]) for r in snapshot] == [(run, "queued")]
    gate.write_text("go\n")
    final = live.final(conv, run, ANSWER_S)
    assert final["status"] == "complete" and len(final["text"].split()) >= 5
    assert reason(server) is None


def test_a_killed_model_is_started_again_and_nobody_loses_a_message(make_server):
    server = make_server(settings(**SHORT), models=[])
    live = Live(server)
    pid = child_pid(server)
    wait_ready(live, server)
    conv, run = ask(live, "Tell me a long story about a dog.")
    live.wait(lambda: any(e["t"] == "d" for _, e in live.events(conv)), ANSWER_S)
    os.kill(pid, signal.SIGKILL)
    final = live.final(conv, run, ANSWER_S)
    assert (final["status"], final["why"]) == ("failed", "upstream_closed") and final["text"]
    server.line("event=local_model_ended ")
    assert reason(server) in ("restarting", "loading")
    run = live.send(conv, "Are you back?")["run"]
    live.event(conv, lambda e: e["t"] == "st" and e["st"] == "queued" and e["r"] == run)
    second = child_pid(server)
    assert second != pid
    assert live.final(conv, run, ANSWER_S)["status"] == "complete"
    assert server.metric("kith_child_started_total") == 2
    assert server.metric("kith_child_died_total") == 1
    again = live.rpc("msg.regenerate", msg=final["id"], cid="go-on", **{"continue": True})
    more = live.final(conv, again["run"], ANSWER_S)
    assert more["status"] == "complete" and more["text"].startswith(final["text"])
    check_log(history(live, conv))


def test_kill_of_kith_takes_the_model_along(make_server):
    server = make_server(settings(**SHORT), models=[])
    pid = child_pid(server)
    wait_ready(Live(server), server)
    server.kill()
    wait_gone(pid)
    server.start()
    pid = child_pid(server)
    assert server.stop() == 0
    wait_gone(pid)


@pytest.mark.parametrize("content, word", [(None, "no_model"), (b"this is no model", "failed")],
                         ids=["missing", "damaged"])
def test_a_model_file_that_is_not_one(make_server, tmp_path, content, word):
    path = tmp_path / "model.gguf"
    if content:
        path.write_bytes(content)
    server = make_server(settings(**{"local.model": str(path)}), models=[])
    live = Live(server)
    live.wait(lambda: reason(server) == word, 60, f"reason {word}")
    message = json.loads(server.get("/readyz")[1])["message"]
    assert "models[].url" in message and "file" in message
    conv, run = ask(live, "Anybody there?")
    final = live.final(conv, run, 30)
    assert (final["status"], final["why"], final["text"]) == ("failed", "model_unavailable", "")
    check_log(history(live, conv))


def test_a_message_that_waits_survives_a_kill_of_kith(make_server, tmp_path):
    python, gate = held_python(tmp_path)
    server = make_server(settings(**SHORT, **{"local.python": str(python)}), models=[])
    live = Live(server)
    conv, run = ask(live, "Tell me something about rain.")
    live.event(conv, lambda e: e["t"] == "st" and e["st"] == "queued" and e["r"] == run)
    server.restart()
    live = Live(server, token=live.token)
    assert live.subscribe(conv)["data"]["runs"][0]["r"] == run
    gate.write_text("go\n")
    final = live.final(conv, run, ANSWER_S)
    assert final["status"] == "complete" and len(final["text"].split()) >= 5
    begun, ended = check_log(history(live, conv))
    assert begun == ended == [run]


@pytest.mark.chat_model
def test_a_conversation_with_the_default_model(make_server):
    """The model that `make run` offers: it remembers a name over turns and says what it is."""
    server = make_server(settings("chat", **{"context.answer_tokens": 80,
                                             "model.first_token": "120s"}), models=[])
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    for text, fits in [
            ("Hi! My name is Ada and I live in Lyon.", lambda a: len(a.split()) >= 3),
            ("What is my name, and where do I live?", lambda a: "Ada" in a and "Lyon" in a),
            ("What is 7 + 5? Answer with the number only.", lambda a: "12" in a),
            ("Are you a real person?", lambda a: "AI" in a or "not" in a)]:
        began = time.monotonic()
        final = live.final(conv, live.send(conv, text)["run"], 300)
        print(f"> {text}\n< {final['text']}   ({time.monotonic() - began:.1f} s)")
        assert final["status"] == "complete" and fits(final["text"]), final["text"]
    check_log(history(live, conv))
