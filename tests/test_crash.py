"""kill -9 and SIGTERM: what was acknowledged is there once, and no answer ends in silence."""
import os
import random
import re
import signal
import sqlite3
import threading
import time
import uuid
from collections import Counter

import pytest
from websockets.exceptions import ConnectionClosed

from kith import Live, RpcError, check_log, durable, history
from wire import Wire

KILLS = 50
ANSWER = "".join(f"word{i} " for i in range(400))


class Fuse:
    """Kills the server in the moment in which the n-th thing happens, wherever that is."""

    def __init__(self, server):
        self.server = server
        self.left = None
        self.burned = threading.Event()
        self.lock = threading.Lock()

    def set(self, count):
        self.burned.clear()
        with self.lock:
            self.left = count

    def tick(self):
        with self.lock:
            if self.left is None:
                return
            self.left -= 1
            if self.left > 0:
                return
            self.left = None
            self.server.process.send_signal(signal.SIGKILL)
        self.burned.set()


class Watcher(Live):
    """A session for which every frame is a thing that happens."""

    def __init__(self, fuse, token=None):
        self.fuse = fuse
        super().__init__(fuse.server, token)

    def _take(self, reply):
        super()._take(reply)
        self.fuse.tick()


class Sender:
    """One person with two conversations who keeps sending, and remembers all that was promised."""

    TEXTS = ["[[words:12]] {}", "[[words:40:200]] {}", "[[words:400:300]] {}", "[[gate:late]] {}",
             "[[words:30:100]] {}"]

    def __init__(self, fuse, seed):
        self.fuse = fuse
        self.chance = random.Random(seed)
        self.live = Watcher(fuse)
        self.convs = [self.live.create() for _ in range(2)]
        self.events = {conv: [] for conv in self.convs}  # durable, as they came, over all lines
        self.promised = {}  # (conv, cid) -> outcome
        self.sent = {}      # (conv, cid) -> (text, options), asked and never answered
        self.kept = {}      # the same, for those that were answered
        self.made_again = {}  # run -> (conv, offset) of msg.regenerate
        self.refused = 0
        self.subscribe()

    def subscribe(self):
        for conv in self.convs:
            seen = self.events[conv]
            result = self.live.subscribe(conv, recover=True, epoch="",
                                         offset=seen[-1][0] if seen else 0)
            assert result["recovered"] is True
            seen += [(p["offset"], p["data"]) for p in result.get("publications", [])]

    def gather(self):
        """What the line brought before it was cut."""
        for conv in self.convs:
            self.events[conv] += durable(self.live.events(conv))

    def post(self, key):
        text, options = self.sent[key]
        return self.live.rpc("chat.send", conv=key[0], cid=key[1], text=text, **options)

    def send(self, key):
        outcome = self.post(key)
        if outcome["status"] == "refused":
            assert outcome["reason"]["code"] in ("busy", "rate_limited"), outcome
            self.refused += 1
            del self.sent[key]
            return
        self.promised[key] = outcome
        self.kept[key] = self.sent.pop(key)

    def work(self):
        """Until the line is cut."""
        try:
            while True:
                for key in list(self.sent):
                    self.send(key)
                self.meddle(self.chance.choice(self.convs))
                key = (self.chance.choice(self.convs), uuid.uuid4().hex)
                text = self.chance.choice(self.TEXTS).format(key[1])
                options = self.chance.choice([{}] * 4 + [{"answer": False}] * 3 +
                                             [{"during_run": "cancel"}])
                self.sent[key] = (text, options)
                self.fuse.tick()
                self.send(key)
        except (AssertionError, ConnectionClosed):
            if self.live.closed is None and not self.fuse.burned.is_set():
                raise

    def meddle(self, conv):
        """Now and then: stops what runs, makes an answer again or goes on with it, renames."""
        what = self.chance.randrange(24)
        if what == 0:
            self.live.rpc("run.stop", conv=conv)
        elif what == 1:
            self.live.rpc("conv.update", conv=conv, title=f"title {self.chance.random()}")
        elif what <= 3:
            path = self.live.rpc("conv.open", conv=conv, limit=6)["messages"]
            answers = [m for m in path if m["by"]["kind"] == "ai"]
            if answers:
                self.again(conv, answers[-1])

    def again(self, conv, answer):
        go_on = {"continue": True} if answer["status"] != "complete" and answer["text"] else {}
        try:
            out = self.live.rpc("msg.regenerate", conv=conv, msg=answer["id"],
                                cid=uuid.uuid4().hex, **go_on)
            if out["status"] == "accepted":
                self.made_again[out["run"]] = (conv, out["offset"])
        except RpcError as error:
            assert error.code in (107, 409), error  # cannot be gone on from; is being made

    def back(self):
        self.live.wait(lambda: self.live.closed, what="the end of the line")
        self.gather()
        self.live = Watcher(self.fuse, self.live.token)
        self.subscribe()


def in_threads(works):
    """Runs them at the same time; what one raises is raised here."""
    errors = []

    def run(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_fifty_kills_under_load(make_server, upstream):
    seed = int(os.environ.get("KITH_SEED", time.time_ns() % 1000000))
    print("KITH_SEED", seed)
    chance = random.Random(seed)
    server = make_server({"runs.checkpoint": "100ms", "runs.checkpoint_bytes": 128,
                          "limits.user_commands": 100000, "limits.user_commands_burst": 100000,
                          "limits.user_runs": 1000, "session.recover_events": 5000})
    fuse = Fuse(server)
    senders = [Sender(fuse, seed + i) for i in range(3)]
    for kill in range(KILLS):
        # Now and then right after the start, in the middle of the recovery.
        fuse.set(chance.randint(1, chance.choice([10, 400, 2500])))
        in_threads([sender.work for sender in senders])
        assert fuse.burned.wait(20)
        server.process.wait(timeout=20)
        server.start()
        for sender in senders:
            sender.back()
    for sender in senders:
        for key in list(sender.sent):
            sender.send(key)
    upstream.release("late")
    everything = [check_sender(sender) for sender in senders]
    statuses = sum(everything, Counter())
    promised = sum(len(s.promised) for s in senders)
    print(f"promised={promised} refused={sum(s.refused for s in senders)}", dict(statuses))
    assert promised > 3 * KILLS, "there was no load"
    assert statuses["complete"] > 0 and statuses["interrupted"] > 0, statuses
    assert server.stop() == 0
    for path in server.data_dir.glob("*.db"):
        with sqlite3.connect(path) as db:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",)


def check_sender(sender):
    live = sender.live
    statuses = Counter()
    for conv in sender.convs:
        live.wait(lambda: unended(sender, conv) == [], 60, "the end of every answer")
        log = history(live, conv)
        begun, ended = check_log(log)
        assert sorted(begun) == sorted(ended), "an answer ended in silence"
        by_cid = {e["cid"]: (o, e) for o, e in log if "cid" in e}
        assert len(by_cid) == sum("cid" in e for _, e in log), "a message is there twice"
        mine = {cid: outcome for (c, cid), outcome in sender.promised.items() if c == conv}
        assert set(by_cid) == set(mine), "messages that nobody promised, or that are gone"
        for cid, outcome in mine.items():
            offset, event = by_cid[cid]
            assert (offset, event["id"]) == (outcome["offset"], outcome["msg"])
            assert event.get("answer", {}).get("run") == outcome.get("run")
            assert event["text"] == sender.kept[conv, cid][0]
        for run, (where, offset) in sender.made_again.items():
            assert where != conv or run in [e.get("run") for _, e in log[offset - 2:offset]]
        for cid in list(mine)[::7]:
            check_repeated(live, conv, cid, sender.kept[conv, cid], mine[cid])
        assert len(history(live, conv)) == len(log), "repetitions store nothing"
        sender.events[conv] += durable(live.events(conv))
        seen = [o for o, _ in sender.events[conv]]
        assert seen == list(range(1, len(log) + 1)), "over all lines: each event once, in order"
        assert [e for _, e in sender.events[conv]] == [e for _, e in log]
        for _, event in log:
            if event["t"] == "msg" and "run" in event:
                statuses[event.get("why") or event["status"]] += 1
                assert is_ours(event["text"]), "text of something else"
                if event.get("why") == "interrupted":
                    assert event["status"] == "failed" and event["text"]
    return statuses


def is_ours(text):
    """The beginning of the answer; one that was gone on from begins again behind it."""
    return all(ANSWER.startswith(part) for part in re.split("(?=word0 )", text))


def unended(sender, conv):
    events = [e for _, e in sender.events[conv] + durable(sender.live.events(conv))]
    begun = {e["answer"]["run"] for e in events if "answer" in e}
    begun |= {e["run"] for e in events if e["t"] == "run"}
    return sorted(begun - {e["run"] for e in events if e["t"] == "msg" and "run" in e})


def check_repeated(live, conv, cid, sent, outcome):
    text, options = sent
    again = live.rpc("chat.send", conv=conv, cid=cid, text=text, **options)
    assert again["status"] == "duplicate"
    for name in ("msg", "run", "offset"):
        assert again.get(name) == outcome.get(name), name
    with pytest.raises(RpcError) as other:
        live.rpc("chat.send", conv=conv, cid=cid, text=text + "!", **options)
    assert other.value.code == 409


# --- one answer at a time ------------------------------------------------------------------------

def shown(live, conv):
    return "".join(e["s"] for o, e in live.events(conv) if o is None and e["t"] == "d")


def ending(live, conv, run):
    """The message that ended a run, whether before we subscribed or later."""
    entry = live.rpc("run.get", run=run, conv=conv)
    return entry if entry.get("t") == "msg" else live.final(conv, run)


@pytest.mark.parametrize("settings, words, lost_s", [
    ({"runs.checkpoint": "200ms"}, 150, 0.2),
    ({}, 170, 2.0),
], ids=["often", "by default"])
def test_the_text_shown_so_far_is_kept(make_server, upstream, settings, words, lost_s):
    """kill -9 in mid-answer: the final message holds all but the newest text."""
    server = make_server(settings)
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, "[[words:400:50]]")["run"]
    times = []  # (when, how much had been shown)

    def enough():
        text = shown(live, conv)
        if not times or times[-1][1] != len(text):
            times.append((time.monotonic(), len(text)))
        return f"word{words} " in text
    live.wait(enough)
    killed = time.monotonic()
    whole = shown(live, conv)
    server.restart()
    live = Live(server, token=live.token)
    live.subscribe(conv, recover=True, offset=1, epoch="")
    final = ending(live, conv, run)
    assert (final["status"], final["why"]) == ("failed", "interrupted")
    assert ANSWER.startswith(final["text"]) and len(final["text"]) <= len(whole) + 100
    old = max((count for at, count in times if at < killed - lost_s - 0.7), default=0)
    assert len(final["text"]) >= old > 0, f"{len(final['text'])} kept of {old}"
    assert upstream.stats()["requests"] == 1, "an answer that was shown is not made again"
    check_log(history(live, conv))


def test_an_answer_of_which_nothing_was_stored_begins_again(make_server, upstream):
    server = make_server()
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    runs = [live.send(conv, f"[[gate_first:g]] {i}")["run"] for i in range(3)]
    upstream.wait(requests=1)
    server.restart()
    live = Live(server, token=live.token)
    upstream.wait(requests=2)
    snapshot = live.subscribe(conv)["data"]["runs"]
    assert [r["r"] for r in snapshot] == runs
    assert [r["st"] for r in snapshot] == ["thinking", "queued", "queued"]
    upstream.release("g")
    for run in runs:
        assert live.final(conv, run)["status"] == "complete"
    begun, ended = check_log(history(live, conv))
    assert begun == ended == runs, "in the order in which they were asked"
    assert server.metric("kith_runs_recovered_total") == 1


def test_runs_are_found_without_anybody_asking(make_server, upstream):
    """Nobody connects after the restart; the answers are made all the same."""
    server = make_server()
    live = Live(server)
    convs = [live.create() for _ in range(5)]
    runs = [live.send(conv, "[[gate_first:g]]")["run"] for conv in convs]
    upstream.wait(requests=5)
    server.restart()
    upstream.wait(requests=10)
    upstream.release("g")
    upstream.wait(done=5)
    live = Live(server, token=live.token)
    for conv, run in zip(convs, runs):
        live.subscribe(conv)
        assert ending(live, conv, run)["status"] == "complete"
        check_log(history(live, conv))


def test_regenerate_and_continue_survive_a_kill(make_server, upstream):
    server = make_server()
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    cut = live.final(conv, live.send(conv, "[[cut]] tell")["run"])
    upstream.script("Go on exactly", [{"wait": "g"}, {"text": "and so on"}])
    more = live.rpc("msg.regenerate", msg=cut["id"], cid="c1", **{"continue": True})
    upstream.wait(requests=2)
    server.restart()
    live = Live(server, token=live.token)
    live.subscribe(conv)
    upstream.wait(requests=3)
    upstream.release("g")
    final = live.final(conv, more["run"])
    assert final["status"] == "complete"
    assert final["text"] == "word0 word1 word2 word3 and so on"
    again = live.rpc("msg.regenerate", msg=cut["id"], cid="c1", **{"continue": True})
    assert again["status"] == "duplicate" and again["run"] == more["run"]
    upstream.script("tell", [{"wait": "h"}, {"text": "another"}])
    new = live.rpc("msg.regenerate", msg=final["id"], cid="c2")
    upstream.wait(requests=4)
    server.restart()
    live = Live(server, token=live.token)
    live.subscribe(conv)
    upstream.release("h")
    assert live.final(conv, new["run"])["text"] == "another"
    begun, ended = check_log(history(live, conv))
    assert sorted(begun) == sorted(ended)


def test_a_restart_changes_no_epoch_and_recovery_goes_on(make_server):
    server = make_server()
    live = Live(server)
    conv = live.create()
    first = live.subscribe(conv)
    live.send(conv, "one", answer=False)
    server.restart()
    live = Live(server, token=live.token)
    live.send(conv, "two", answer=False)
    again = live.subscribe(conv, recover=True, offset=1, epoch=first["epoch"])
    assert again["recovered"] is True and again["epoch"] == first["epoch"]
    assert [p["offset"] for p in again["publications"]] == [2]


# --- SIGTERM -------------------------------------------------------------------------------------

def test_a_drain_lets_answers_finish(make_server, upstream):
    server = make_server()
    live = Live(server)
    conv, other = live.create(), live.create()
    live.subscribe(conv)
    run = live.send(conv, "[[gate:g]]")["run"]
    live.event(conv, lambda e: e["t"] == "d")
    waiting = live.send(conv, "[[words:2]] later")["run"]
    os.kill(server.pid, signal.SIGTERM)
    server.line("event=drain ")
    status, body = server.get("/readyz")
    assert status == 503 and '"draining"' in body
    refused = live.send(other, "too late")
    assert refused["status"] == "refused" and refused["reason"]["code"] == "overloaded"
    assert refused["reason"]["retry_ms"] > 0
    assert live.rpc("conv.open", conv=conv)["offset"] == 2
    upstream.release("g")
    final = live.final(conv, run)
    assert (final["status"], final["text"]) == ("complete", "word0 word1 word2 word3 ")
    assert server.process.wait(timeout=10) == 0
    live.wait(lambda: live.closed)
    assert live.closed == (3001, "shutdown")
    # What waited for its turn begins after the restart.
    server.start()
    live = Live(server, token=live.token)
    live.subscribe(conv)
    assert ending(live, conv, waiting)["text"] == "word0 word1 "
    begun, ended = check_log(history(live, conv))
    assert begun == ended == [run, waiting]


@pytest.mark.parametrize("text, kept", [("[[gate:g]]", "word0 word1 "), ("[[gate_first:g]]", None)],
                         ids=["in the middle", "before the first word"])
def test_a_drain_that_runs_out_of_time(make_server, upstream, text, kept):
    server = make_server({"drain": "300ms"})
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, text)["run"]
    upstream.wait(requests=1)
    if kept:
        live.event(conv, lambda e: e["t"] == "d")
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5, "the deadline was 300 ms"
    live.wait(lambda: live.closed)
    assert live.closed == (3001, "shutdown")
    if kept:
        final = live.final(conv, run)
        assert (final["status"], final["why"], final["text"]) == ("failed", "interrupted", kept)
    upstream.release("g")
    server.start()
    live = Live(server, token=live.token)
    live.subscribe(conv)
    final = ending(live, conv, run)
    assert final["text"] == (kept or "word0 word1 word2 word3 ")
    assert final["status"] == ("failed" if kept else "complete")
    begun, ended = check_log(history(live, conv))
    assert begun == ended == [run]


def test_an_idle_server_drains_at_once_and_closes_everybody(make_server):
    server = make_server()
    sessions = [Live(server) for _ in range(20)]
    silent = Wire(server)
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 3
    for session in sessions:
        session.wait(lambda session=session: session.closed)
        assert session.closed == (3001, "shutdown")
    assert silent.goodbye()[0] in (None, (3001, "shutdown"))


def test_a_second_signal_means_now(make_server, upstream):
    server = make_server()
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, "[[gate:g]]")["run"]
    live.event(conv, lambda e: e["t"] == "d")
    os.kill(server.pid, signal.SIGTERM)
    server.line("event=drain ")
    os.kill(server.pid, signal.SIGTERM)
    assert server.process.wait(timeout=5) == 0
    server.start()
    live = Live(server, token=live.token)
    live.subscribe(conv)
    upstream.release("g")
    assert ending(live, conv, run)["t"] == "msg"
    begun, ended = check_log(history(live, conv))
    assert begun == ended == [run]
