"""First the disk, then the answer: seen at the system calls, and with the writer stopped."""
import os
import re
import shutil
import signal
import subprocess
import uuid

import pytest

from kith import Live, check_log, durable, history

CALLS = "fsync,fdatasync,write,writev,pwrite64,pwritev,sendto,sendmsg,sendmmsg"


def trace_of(path, marker, port):
    """What happened, in order: `log` = the marker was written to the store's log, `synced` = a sync
    of the store has come back, `told` = bytes with the marker began to go to a client."""
    out, waiting = [], {}
    for line in path.read_text(errors="replace").splitlines():
        thread, _, call = line.partition(" ")
        call = call.strip()
        began = not call.startswith("<...")
        if not began:
            call = waiting.pop(thread, "") + call.split("resumed>", 1)[-1]
        ended = not call.endswith("<unfinished ...>")
        if not ended:
            call = call[:-len("<unfinished ...>")]
            waiting[thread] = call
        target = call.split(",", 1)[0]
        if re.match(r"f(data)?sync\(", call):
            if ended and ".db" in target and call.endswith("= 0"):
                out.append("synced")
        elif marker not in call:
            continue
        elif ".db" in target and ended:
            out.append("log")
        elif re.search(rf"^\w+\(\d+<TCP:\[127\.0\.0\.1:{port}->", call) and began:
            out.append("told")
    return out


def test_the_log_is_on_the_disk_before_anybody_is_told(make_server, tmp_path):
    """fdatasync of the log has come back before the answer and the event are written."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (make deps)")
    log = tmp_path / "calls"
    can = subprocess.run(["strace", "-o", str(log), "true"], capture_output=True, check=False)
    if can.returncode != 0:
        pytest.skip("strace may not trace here: " + can.stderr.decode()[:200])
    server = make_server(prefix=["strace", "-f", "-qq", "-yy", "-s", "65536", "-o", str(log),
                                 "-e", "signal=none", "-e", f"trace={CALLS}"])
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    markers = []
    for _ in range(3):
        # The answer repeats the cid, so the marker is in the log's page and in both answers.
        markers.append("mark" + uuid.uuid4().hex)
        live.send(conv, "say " + markers[-1], cid=markers[-1], answer=False)
        live.event(conv, lambda e: e.get("cid") == markers[-1])
    out = live.send(conv, "[[words:2]] with an answer")
    live.final(conv, out["run"])
    markers.append(f'\\"run\\":\\"{out["run"]}\\",\\"by\\"')  # as strace writes the final message
    server.stop()
    for marker in markers:
        seen = trace_of(log, marker, server.port)
        assert "log" in seen and "told" in seen, (marker, seen)
        told = seen.index("told")
        assert "log" in seen[:told], "somebody was told before the log was written"
        written = seen.index("log")
        assert "synced" in seen[written:told], "the log was not on the disk when it was told"


@pytest.fixture
def paused(make_server):
    """A server whose writer thread can be stopped."""
    server = make_server({"test.hooks": "true"})
    server.pause = lambda: switch(server, 1)
    server.resume = lambda: switch(server, 0)
    return server


def switch(server, on):
    os.kill(server.pid, signal.SIGUSR2)
    server.line(rf"event=journal_pause .*on={on}")


def test_a_stopped_writer_stops_acknowledgements_and_nothing_else(paused, upstream):
    live = Live(paused)
    conv = live.create()
    live.subscribe(conv)
    live.final(conv, live.send(conv, "[[words:2]] before")["run"])
    other = Live(paused, token=live.token)
    other.subscribe(conv)
    before = len(live.events(conv))
    paused.pause()
    number = live.post("rpc", {"method": "chat.send", "data": {
        "conv": conv, "cid": "held", "text": "[[words:5]] held"}})
    # The model may be asked while the commit is under way ...
    upstream.wait(requests=2, done=2)
    # ... and everything that needs no commit goes on: pings both ways, reading, typing.
    for i in range(3):
        assert live.ask("ping", {}) == {} and other.ask("ping", {}) == {}
        assert len(other.rpc("conv.open", conv=conv)["messages"]) == 2
        other.rpc("typing.set", conv=conv, on=i % 2 == 0)
        live.event(conv, lambda e: e["t"] == "typing" and e["on"] == (i % 2 == 0))
        assert other.ask("history", {"channel": f"conv:{conv}", "limit": -1})["offset"] == 2
    fresh = Live(paused, token=live.token)
    assert fresh.subscribe(conv)["data"]["runs"] == []
    # ... but nobody hears of the message, and no byte of its answer has left.
    assert number not in live.replies
    assert {e["t"] for _, e in other.events(conv)} == {"typing"}
    held = len(live.events(conv))
    assert {e["t"] for _, e in live.events(conv)[before:]} == {"typing"}
    assert history(fresh, conv)[-1][0] == 2
    paused.resume()
    reply = live.reply(number)["rpc"]["data"]
    assert reply["status"] == "accepted" and reply["offset"] == 3
    final = live.final(conv, reply["run"])
    assert final["text"] == "word0 word1 word2 word3 word4 " and final["status"] == "complete"
    assert live.events(conv)[held][0] == 3, "the message comes first"
    assert upstream.stats()["requests"] == 2
    check_log(history(live, conv))


def test_an_end_that_cannot_be_stored_shows_and_waits(paused, upstream):
    """The answer is ready, the store is not: all of the text is shown, and the end follows."""
    live = Live(paused)
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, "[[gate:g]]")["run"]
    live.event(conv, lambda e: e["t"] == "d")
    paused.pause()
    upstream.release("g")
    live.event(conv, lambda e: e["t"] == "d" and e["s"].endswith("word3 "))
    assert live.rpc("run.get", run=run)["text"] == "word0 word1 word2 word3 "
    assert [o for o, _ in durable(live.events(conv))] == [1]
    paused.resume()
    assert live.final(conv, run)["text"] == "word0 word1 word2 word3 "
    check_log(history(live, conv))


def test_a_message_whose_sender_left_while_it_was_committed_is_there(paused):
    live = Live(paused)
    conv = live.create()
    paused.pause()
    live.post("rpc", {"method": "chat.send", "data": {"conv": conv, "cid": "gone",
                                                      "text": "[[words:2]] gone"}})
    live.ask("ping", {})
    live.cut()
    again = Live(paused, token=live.token)
    again.subscribe(conv)
    paused.resume()
    run = again.event(conv, lambda e: e.get("cid") == "gone")["answer"]["run"]
    assert again.final(conv, run)["text"] == "word0 word1 "
    assert again.send(conv, "[[words:2]] gone", cid="gone")["status"] == "duplicate"


def test_what_is_in_flight_at_a_kill_is_there_or_not_but_never_half(paused):
    """kill -9 while the writer is stopped: nothing was acknowledged, nothing is stored."""
    live = Live(paused)
    conv = live.create()
    paused.pause()
    for i in range(5):
        live.post("rpc", {"method": "chat.send", "data": {"conv": conv, "cid": f"c{i}",
                                                          "text": f"lost {i}", "answer": False}})
    assert live.ask("ping", {}) == {}
    assert len(live.replies) == 3, "connect, create, ping"
    paused.restart()
    live = Live(paused, token=live.token)
    assert history(live, conv) == []
    for i in range(5):
        assert live.send(conv, f"lost {i}", cid=f"c{i}", answer=False)["offset"] == i + 1


def test_too_much_waits_for_the_store(make_server):
    """A store that does not move takes so much and no more; what is refused was not stored."""
    server = make_server({"test.hooks": "true", "journal.pending": 16,
                          "limits.unanswered": 100})
    live = Live(server)
    convs = [live.create() for _ in range(40)]
    for conv in convs:
        live.subscribe(conv)  # and it is in memory
    switch(server, 1)
    numbers = [live.post("rpc", {"method": "chat.send", "data": {
        "conv": conv, "cid": "c", "text": "many", "answer": False}}) for conv in convs]
    live.wait(lambda: len([n for n in numbers if n in live.replies]) >= 20, what="refusals")
    early = [live.replies[n]["rpc"]["data"] for n in numbers if n in live.replies]
    assert {(r["status"], r["reason"]["code"]) for r in early} == {("refused", "overloaded")}
    assert all(r["reason"]["retry_ms"] > 0 for r in early)
    switch(server, 0)
    done = [live.reply(n)["rpc"]["data"]["status"] for n in numbers]
    assert done.count("accepted") + done.count("refused") == 40
    assert 10 <= done.count("accepted") <= 16
    for conv, status in zip(convs, done):
        assert len(history(live, conv)) == (1 if status == "accepted" else 0)
        again = live.send(conv, "many", cid="c", answer=False)
        assert again["status"] == ("duplicate" if status == "accepted" else "accepted")
