"""The command line, the configuration, one process per folder and port, what no log line says."""
import json
import os
import re
import signal
import socket
import subprocess
import time
import uuid

import jwt
import pytest
import yaml

from kith import BINARY, Http, Live, clean_environment
from wire import Wire


def kith(*arguments, environment=None, seconds=20, cwd=None):
    return subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=seconds,
                          env=clean_environment() | (environment or {}), check=False, cwd=cwd)


def write(tmp_path, text):
    path = tmp_path / "kith.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("text, line, words", [
    ("listen: 127.0.0.1:0\nlimits:\n  text: 3GiB\n", 3, ["limits.text", "3GiB", "16 to 1MiB"]),
    ("listen: x\n", 1, ["listen", "address:port"]),
    ("limits:\n  texts: 1\n", 2, ["limits.texts", "no such key", "text"]),
    ("limitz: {text: 1}\n", 1, ["limitz", "no such key", "limits"]),
    ("log:\n  level: loud\n", 2, ["log.level", "loud", "debug, info, warn, error"]),
    ("drain: 5 parsecs\n", 1, ["drain", "5 parsecs", "5m"]),
    ("drain: 5m\n\n# more\nmodels:\n  - name: a\n", 5, ["models.0.url", "not set", "/v1"]),
    ("models:\n  - name: a\n    url: ftp://x/v1\n", 3, ["models.0.url", "http"]),
    ("models:\n  - {name: a, url: 'http://x/v1'}\n  - {name: a, url: 'http://y/v1'}\n", 3,
     ["models.1.name", "unique"]),
    ("personas:\n  - id: 'not an id'\n", 2, ["personas.0.id"]),
    ("auth:\n  guests: perhaps\n", 2, ["auth.guests", "true", "false", "auto"]),
    ("store: mongodb\n", 1, ["store", "sqlite"]),
    ("listen: [\n", 2, ["YAML"]),
    ("listen: 127.0.0.1:0\nlisten: 127.0.0.1:1\n", 2, ["listen"]),
    ("models:\n  - name: a\n    url: http://x/v1\n    api_key_file: /no/such/key\n", 4,
     ["models.0.api_key_file", "/no/such/key"]),
], ids=lambda v: None)
def test_a_wrong_file_is_told_with_line_key_and_what_is_allowed(tmp_path, text, line, words):
    path = write(tmp_path, text)
    for verb in ("check", "show", "serve"):
        done = kith(verb, "-c", path)
        assert done.returncode == 2 and done.stdout == ""
        assert f"{path}:{line}: " in done.stderr, done.stderr
        for word in words:
            assert word in done.stderr, (word, done.stderr)
        assert len(done.stderr.strip().splitlines()) == 1


def test_wrong_settings_name_where_they_come_from(tmp_path):
    done = kith("check", "--set", "log.level=loud")
    assert done.returncode == 2 and "--set: log.level" in done.stderr
    done = kith("check", environment={"KITH_LIMITS_TEXT": "abc"})
    assert done.returncode == 2 and "KITH_LIMITS_TEXT" in done.stderr
    done = kith("check", "-c", str(tmp_path / "none.yaml"))
    assert done.returncode == 2 and "none.yaml" in done.stderr


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["serve", "--set"], ["serve", "--port", "1"], ["check", "-c"],
    ["check", "--set", "nonsense"]], ids=str)
def test_bad_usage_is_status_2_and_says_how(arguments):
    done = kith(*arguments)
    assert done.returncode == 2 and done.stdout == "" and done.stderr


def test_version_check_and_reference():
    assert re.fullmatch(r"kith \d+\.\d+\.\d+\n", kith("version").stdout)
    done = kith("check")
    assert done.returncode == 0 and done.stdout
    assert "`limits.text`" in kith("reference").stdout


RICH = """
listen: 127.0.0.1:0
limits: {text: 64KiB, frame: 2MiB}
drain: 90s
auth:
  guests: false
  api_keys: [{key_file: KEYFILE, app: shop, scopes: [chat]}]
models:
  - {name: default, url: "http://127.0.0.1:9/v1", model: "a b: c", concurrency: 3, temperature: 0.5,
     api_key_file: KEYFILE}
  - {name: second, url: "https://example.org/v1", context_tokens: 9000}
personas:
  - id: p_one
    name: "Zoë: \\"the # one\\""
    prompt: |
      Line one.
        Line two: {indented}
    greeting: "' hello"
    suggestions: ["a, b", "- c", "true", "1e3"]
    examples: [{user: "hi", assistant: "yes?\\n"}]
safety:
  terms: [{term: "purple elephant", category: zoo, side: ai}]
  builtin_terms: false
"""


def test_what_show_prints_loads_to_the_same(tmp_path):
    key = tmp_path / "key"
    key.write_text("k-0123456789\n")
    path = write(tmp_path, RICH.replace("KEYFILE", str(key)))
    first = kith("show", "-c", path)
    assert first.returncode == 0, first.stderr
    told = yaml.safe_load(first.stdout)
    assert told["models"][0]["model"] == "a b: c"
    assert told["personas"][0]["name"] == 'Zo\u00eb: "the # one"'
    assert told["personas"][0]["prompt"] == "Line one.\n  Line two: {indented}\n"
    assert told["personas"][0]["suggestions"] == ["a, b", "- c", "true", "1e3"]
    assert "k-0123456789" not in first.stdout
    again = tmp_path / "again.yaml"
    again.write_text(first.stdout)
    second = kith("show", "-c", str(again))
    assert second.returncode == 0 and second.stdout == first.stdout
    plain = kith("show")
    again.write_text(plain.stdout)
    assert kith("show", "-c", str(again)).stdout == plain.stdout


def test_later_sources_win(tmp_path):
    path = write(tmp_path, "limits: {text: 20000}\ntimeouts: {head: 1s}\nlog.level: warn\n")
    environment = {"KITH_LIMITS_TEXT": "30000", "KITH_TIMEOUTS_HEAD": "2s",
                   "KITH_MODELS_0_NAME": "fromenv", "KITH_MODELS_0_URL": "http://127.0.0.1:9/v1",
                   "KITH_DRAIN": ""}
    done = kith("show", "-c", path, "--set", "timeouts.head=3s", "--set", "models.0.model=m",
                environment=environment)
    told = yaml.safe_load(done.stdout)
    assert told["limits"]["text"] == 30000 and told["timeouts"]["head"] == "3s"
    assert told["log"]["level"] == "warn"
    assert told["models"] == [told["models"][0]] and told["models"][0]["name"] == "fromenv"
    assert told["models"][0]["model"] == "m"


def test_a_short_secret_is_a_warning_and_never_shown(tmp_path):
    done = kith("check", "--set", "auth.hs256_secret=tiny-secret")
    assert done.returncode == 0 and "warning" in done.stderr and "32" in done.stderr
    assert "tiny-secret" not in done.stderr + done.stdout
    done = kith("show", "--set", "auth.hs256_secret=tiny-secret",
                "--set", "auth.api_keys.0=tiny-key")
    assert "tiny" not in done.stdout


# --- one process per folder and port -------------------------------------------------------------

def test_a_second_process_on_the_same_folder_names_the_holder(server):
    began = time.monotonic()
    done = kith("serve", "--set", "listen=127.0.0.1:0", "--set", f"data_dir={server.data_dir}",
                "--set", "local.enabled=false")
    assert done.returncode == 1
    assert str(server.data_dir) in done.stderr and str(server.pid) in done.stderr
    assert "event=ready" not in done.stderr
    assert 1.5 < time.monotonic() - began < 10, "it waits two seconds for the other to go"
    assert server.get("/healthz")[0] == 200


def test_a_process_that_ends_hands_its_folder_to_the_next(make_server, tmp_path):
    first = make_server()
    next_one = subprocess.Popen(
        [BINARY, "serve", "--set", "listen=127.0.0.1:0", "--set", f"data_dir={first.data_dir}",
         "--set", "local.enabled=false"], stderr=subprocess.PIPE, text=True,
        env=clean_environment())
    try:
        assert first.stop() == 0
        assert any("event=ready" in line for line in next_one.stderr)
    finally:
        next_one.kill()
        next_one.wait()


def test_a_port_that_is_taken(server, tmp_path):
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    for port in (other.getsockname()[1], server.port):
        done = kith("serve", "--set", f"listen=127.0.0.1:{port}", "--set", f"data_dir={tmp_path}/b",
                    "--set", "local.enabled=false")
        assert done.returncode == 1 and "event=ready" not in done.stderr
        assert f"127.0.0.1:{port}" in done.stderr and "in use" in done.stderr


def test_a_folder_that_cannot_be_made_or_read(tmp_path):
    (tmp_path / "file").write_text("")
    done = kith("serve", "--set", "listen=127.0.0.1:0", "--set", f"data_dir={tmp_path}/file/data")
    assert done.returncode == 1 and f"{tmp_path}/file/data" in done.stderr
    (tmp_path / "data").mkdir()
    (tmp_path / "data/kith.db").write_bytes(b"this is no database at all" * 100)
    done = kith("serve", "--set", "listen=127.0.0.1:0", "--set", f"data_dir={tmp_path}/data")
    assert done.returncode == 1 and "kith.db" in done.stderr


def test_a_backend_that_is_not_there_never_prevents_the_start(make_server, upstream):
    server = make_server(models=[
        {"name": "default", "url": f"http://127.0.0.1:{upstream.closed_port()}/v1", "model": "m"},
        {"name": "nowhere", "url": "http://no-such-host.invalid/v1", "model": "m"}])
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "hello", model="nowhere")
    final = live.final(conv, out["run"])
    assert (final["status"], final["why"]) == ("failed", "model_unavailable")


def test_no_models_at_all(make_server):
    server = make_server(models=[])
    status, body = server.get("/readyz")
    assert status == 503 and json.loads(body)["reason"] == "no_model"
    assert "models[].url" in json.loads(body)["message"]
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "anybody?")
    if out["status"] == "accepted":
        assert live.final(conv, out["run"])["status"] == "failed"


def test_what_is_kept_is_nobody_elses_business(make_server, tmp_path):
    Live(make_server()).create()
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0, "a folder of ours"
    (tmp_path / "open").mkdir(mode=0o755)
    server = make_server(data="open")
    Live(server).create()
    for path in server.data_dir.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert (server.data_dir / "secret").stat().st_size >= 32


def test_guests_survive_a_restart(make_server):
    server = make_server()
    live = Live(server)
    conv = live.create(title="mine")
    server.restart()
    again = Live(server, token=live.token)
    assert again.user == live.user and again.rpc("conv.list")["items"][0]["id"] == conv


# --- the log -------------------------------------------------------------------------------------

def test_the_log_holds_no_text_token_or_key(make_server, upstream, tmp_path):
    """At log.level=debug, with everything going through that must not be there."""
    def marked(what):
        marks.append(f"{what}{uuid.uuid4().hex}")
        return marks[-1]
    marks = []
    secret, api_key, model_key = marked("secret"), marked("apikey"), marked("modelkey")
    (tmp_path / "modelkey").write_text(model_key)
    server = make_server(
        {"log.level": "debug", "auth.hs256_secret": secret, "auth.api_keys.0": api_key,
         "auth.guests": "true", "safety.terms.0.term": "forbidden", "model.idle": "300ms"},
        models=[{"name": "default", "url": upstream.url, "model": "words",
                 "api_key_file": str(tmp_path / "modelkey")},
                {"name": "e400", "url": upstream.url, "model": marked("model")}])
    token = jwt.encode({"sub": "ada", "name": marked("name")}, secret, algorithm="HS256")
    marks += token.split(".")[1:]
    guest = Live(server)
    marks += guest.token.split(".")[1:]
    live = Live(server, token=token)
    conv = live.create(title=marked("title"), meta={"x": marked("meta")})
    live.subscribe(conv)
    said = marked("said")
    for text in (f"[[echo]] {said}", f"[[cut]] {said}", f"[[stall]] {said}", f"[[garbage]] {said}",
                 f"forbidden {said}", f"[[error]] {said}", f"I want to kill myself {said}"):
        out = live.send(conv, text, cid=marked("cid"), context={"note": marked("context")})
        if out["status"] == "accepted":
            live.final(conv, out["run"])
    upstream.script("answer", [{"text": marked("answer")}])
    live.final(conv, live.send(conv, "answer")["run"])
    upstream.script("refuse", [{"status": 400, "body": {"error": {"message": marked("body")}}}])
    live.final(conv, live.send(conv, "refuse")["run"])
    upstream.script("mumble", [{"head": "text/html"}, {"raw": f"<p>{marked('html')}</p>"},
                               {"close": "clean"}])
    live.final(conv, live.send(conv, "mumble")["run"])
    live.rpc("conv.list", query=marked("query"))
    http = Http(server, headers={"X-API-Key": api_key})
    http("conv.create", title=marked("title"), **{"as": "eve"})
    Http(server, headers={"X-API-Key": marked("wrongkey")}).raw("conv.list")
    Http(server, marked("wrongtoken")).raw("conv.list")
    server.get("/?token=" + marked("query"))
    for bad in ({"id": 1, "connect": {"token": marked("bad")}}, marked("frame"),
                {"id": 1, "rpc": {"method": marked("method"), "data": {"text": said}}}):
        wire = Wire(server)
        wire.send(bad)
        wire.goodbye()
    os.kill(server.pid, signal.SIGUSR1)  # the flight recorder, too
    live.ask("ping", {})
    assert server.stop() == 0
    server.reader.join(10)
    log = "".join(server.lines)
    assert "level=debug" in log and len(log) > 2000
    found = [mark for mark in marks if mark in log]
    assert found == [], [line for line in server.lines if any(m in line for m in found)]
    for line in server.lines:
        assert len(line) <= 1025


def test_a_log_line_is_an_event_with_keys(server):
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    live.final(conv, live.send(conv, "[[words:2]]")["run"])
    server.line(r"event=run_end ")
    for line in server.lines:
        if "event=ready" in line:
            continue
        assert re.match(r'ts=\d{4}-\d\d-\d\dT[\d:.]+Z level=(debug|info|warn|error) event=\w+( \w+='
                        r'("([^"\\]|\\.)*"|[^ "]*))*\n$', line), line
