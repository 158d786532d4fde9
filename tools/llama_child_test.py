"""llama_child.py: how it ends, and one real answer of the small test model."""
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHILD = HERE / "llama_child.py"
sys.path.insert(0, str(HERE))
import llama_child  # noqa: E402


@pytest.fixture(name="model", scope="session")
def _model():
    done = subprocess.run([sys.executable, HERE / "models.py", "path", "test"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, "the test model is missing: make deps"
    return done.stdout.strip()


def run(*arguments):
    done = subprocess.run([sys.executable, CHILD, *map(str, arguments)], capture_output=True,
                          text=True, timeout=60, check=False)
    return done.returncode, done.stderr.splitlines()


def listening_port(stream):
    line = stream.readline().decode()
    assert line.startswith("event=listening port="), line
    return int(line.split("=")[-1])


def gone_within(pid, seconds):
    """A pidfd becomes readable when its process ends, whoever its parent is."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


@pytest.mark.parametrize("flags, lacks", [
    ("fpu avx2 fma f16c bmi2", []), ("fpu avx2 fma", ["f16c", "bmi2"]),
    ("", ["avx2", "fma", "f16c", "bmi2"]),
])
def test_the_processor_is_read(flags, lacks):
    text = f"processor : 0\nflags\t\t: {flags}\nprocessor : 1\nflags\t\t: {flags} avx\n"
    assert llama_child.cpu_lacks(text) == lacks


def test_one_core_that_lacks_it_is_enough():
    text = "flags : avx2 fma f16c bmi2\nflags : fma f16c bmi2\n"
    assert llama_child.cpu_lacks(text) == ["avx2"]


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"not a model" * 100])
def test_a_model_that_is_none_ends_with_4(tmp_path, content):
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    status, said = run("--model", path)
    assert status == 4 and len(said) == 1 and str(path) in said[0]


def test_a_cut_model_ends_with_4(tmp_path, model):
    path = tmp_path / "cut.gguf"
    with open(model, "rb") as file:
        path.write_bytes(file.read(20_000_000))
    status, said = run("--model", path)
    assert status == 4 and str(path) in said[-1]


def test_a_taken_port_ends_with_5(model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, said = run("--model", model, "--port", taken.getsockname()[1])
    assert status == 5 and "in use" in said[-1]


def test_a_wrong_parent_ends_with_6(model):
    status, said = run("--model", model, "--parent", os.getppid())
    assert status == 6 and said == ["llama_child: the parent is gone"]


def test_bad_usage_ends_with_2():
    assert run()[0] == 2
    assert run("--model", "x", "--threads", "0")[0] == 2


def test_it_answers_as_a_stream_and_ends_on_sigterm(model):
    child = subprocess.Popen([sys.executable, CHILD, "--model", model, "--threads", "2", "--ctx",
                              "1024", "--parent", str(os.getpid())], stdout=subprocess.PIPE,
                             env=dict(os.environ, LLAMA_CHILD_KEY="secret"))
    try:
        port = listening_port(child.stdout)
        body = json.dumps({"messages": [{"role": "user", "content": "Say hello."}],
                           "stream": True, "max_tokens": 8,
                           "stream_options": {"include_usage": True}})
        assert ask(port, body, {})[0] == 401
        status, text = ask(port, body, {"Authorization": "Bearer secret"})
        assert status == 200
        lines = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
        assert lines[-1] == "[DONE]"
        events = [json.loads(line) for line in lines[:-1]]
        assert all(Path(model).parent.as_posix() not in event["model"] for event in events)
        said = [event["choices"][0]["delta"].get("content") or ""
                for event in events if event["choices"]]
        assert "".join(said).strip()
        ends = [event["choices"][0]["finish_reason"] for event in events if event["choices"]]
        assert ends[-1] in ("stop", "length") and not any(ends[:-1])
        assert events[-1]["usage"]["completion_tokens"] > 0
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=5) == -signal.SIGTERM
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def ask(port, body, head):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/v1/chat/completions", body,
                           {"Content-Type": "application/json", **head})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_dies_with_its_parent(model):
    parent = subprocess.Popen(
        [sys.executable, "-c",
         "import subprocess, sys, time\n"
         "child = subprocess.Popen(sys.argv[1:])\n"
         "print(child.pid, flush=True)\n"
         "child.wait()\n",
         sys.executable, CHILD, "--model", model, "--ctx", "512"], stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    try:
        listening_port(parent.stdout)
        started = time.monotonic()
        parent.kill()
        parent.wait()
        assert gone_within(pid, 5), "the child outlived its parent"
        assert time.monotonic() - started < 5
    finally:
        parent.kill()
        parent.stdout.close()
