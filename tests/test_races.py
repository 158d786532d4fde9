"""Many at once in one conversation: whatever they do, the log stays a log."""
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter

import pytest

from kith import Http, Live, RpcError, check_log, durable, history

FAST = {"limits.user_commands": 100000, "limits.user_commands_burst": 100000,
        "limits.user_runs": 1000, "limits.connections_per_address": 10000,
        "session.recover_events": 5000}


@pytest.fixture
def server(make_server):
    return make_server(FAST)


def at_once(works):
    """Starts them together; their results in order. What one raises is raised here."""
    gate = threading.Barrier(len(works))
    out = [None] * len(works)
    errors = []

    def run(i, work):
        gate.wait(20)
        try:
            out[i] = work()
        except BaseException as error:
            errors.append(error)
    threads = [threading.Thread(target=run, args=(i, work)) for i, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]
    return out


def test_the_same_cid_from_eight_sides_is_one_message(server, live, upstream):
    sides = [Live(server, token=live.token) for _ in range(8)]
    conv = live.create()
    live.subscribe(conv)
    for turn in range(5):
        cid = uuid.uuid4().hex
        outs = at_once([lambda s=s: s.send(conv, f"[[words:2]] {turn}", cid=cid) for s in sides])
        assert sorted(o["status"] for o in outs) == ["accepted"] + ["duplicate"] * 7
        assert len({(o["msg"], o["run"], o["offset"]) for o in outs}) == 1
        live.final(conv, outs[0]["run"])
    assert upstream.stats()["requests"] == 5
    assert len(history(live, conv)) == 10


def test_the_same_cid_makes_one_conversation(server, live):
    sides = [Live(server, token=live.token) for _ in range(6)]
    made = at_once([lambda s=s: s.rpc("conv.create", cid="mine", title="x")["conv"]["id"]
                    for s in sides])
    assert len(set(made)) == 1
    assert [c["id"] for c in live.rpc("conv.list")["items"]] == made[:1]


def test_the_same_cid_with_two_contents(server, live):
    sides = [Live(server, token=live.token) for _ in range(6)]
    conv = live.create()

    def send(i):
        try:
            return sides[i].send(conv, f"text {i % 2}", cid="one", answer=False)["status"]
        except RpcError as error:
            return error.code
    outs = at_once([lambda i=i: send(i) for i in range(6)])
    assert Counter(outs) == {"accepted": 1, "duplicate": 2, 409: 3}
    assert len(history(live, conv)) == 1


def test_many_sends_at_once_run_one_after_the_other(server, live, upstream):
    sides = [Live(server, token=live.token) for _ in range(6)]
    conv = live.create()
    live.subscribe(conv)
    outs = at_once([lambda s=s, i=i: s.send(conv, f"[[words:3]] {i}") for i, s in enumerate(sides)])
    assert {o["status"] for o in outs} == {"accepted"}
    for out in outs:
        assert live.final(conv, out["run"])["status"] == "complete"
    log = history(live, conv)
    begun, ended = check_log(log)
    assert begun == ended, "in the order of the log"
    assert upstream.stats()["active_max"] == 1 and upstream.stats()["requests"] == 6
    messages = {e["id"]: e for _, e in log}
    path = live.rpc("conv.open", conv=conv)["messages"]
    assert len(path) == 12, "all on one path, none hidden"
    for before, after in zip(path, path[1:]):
        assert messages[after["id"]]["parent"] == before["id"]


def test_stop_meets_the_end(server, live):
    """run.stop in the moment in which the answer ends by itself: one ending, and an answer."""
    other = Live(server, token=live.token)
    conv = live.create()
    live.subscribe(conv)
    seen = Counter()
    for i in range(30):
        run = live.send(conv, f"[[words:3]] {i}")["run"]
        if i % 3:
            live.event(conv, lambda e: e["t"] in ("d", "msg") and e.get("r", e.get("run")) == run)
        assert other.rpc("run.stop", run=run)["status"] == "accepted"
        seen[live.final(conv, run)["status"]] += 1
    assert set(seen) <= {"complete", "stopped"}
    begun, ended = check_log(history(live, conv))
    assert begun == ended and len(begun) == 30


def test_waiting_answers_are_stopped_while_the_one_before_them_ends(make_server, upstream):
    """The end of one begins the next in the same commit; here that one was stopped by then."""
    server = make_server(FAST | {"test.hooks": "true"})
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    first = live.send(conv, "[[gate:g]]")["run"]
    waiting = [live.send(conv, f"[[words:2]] {i}")["run"] for i in range(3)]
    live.event(conv, lambda e: e["t"] == "d")
    os.kill(server.pid, signal.SIGUSR2)
    server.line("event=journal_pause .*on=1")
    upstream.release("g")
    live.event(conv, lambda e: e["t"] == "d" and e["s"].endswith("word3 "))
    upstream.wait(active=0)
    stops = [live.post("rpc", {"method": "run.stop", "data": {"conv": conv, "run": run}})
             for run in waiting[:2]]
    live.rpc("conv.open", conv=conv)  # goes the same way, behind them
    os.kill(server.pid, signal.SIGUSR2)
    for number in stops:
        assert live.reply(number)["rpc"]["data"]["status"] == "accepted"
    ends = [live.final(conv, run)["status"] for run in [first] + waiting]
    assert ends == ["complete", "stopped", "stopped", "complete"]
    begun, ended = check_log(history(live, conv))
    assert begun == ended


def test_the_offset_of_a_branch_is_its_messages(live):
    conv = live.create()
    first = live.send(conv, "one", answer=False)
    live.send(conv, "two", answer=False)
    branch = live.send(conv, "another two", cid="b", parent=first["msg"], answer=False)
    again = live.send(conv, "another two", cid="b", parent=first["msg"], answer=False)
    log = dict(history(live, conv))
    assert log[branch["offset"]].get("id") == branch["msg"]
    assert again["status"] == "duplicate" and again["offset"] == branch["offset"]


def test_a_conversation_is_deleted_while_it_is_busy(server, live, upstream):
    sides = [Live(server, token=live.token) for _ in range(4)]
    for turn in range(6):
        conv = live.create()
        for side in sides:
            side.subscribe(conv)
        live.send(conv, "[[gate:g]]")

        def send(side, i):
            try:
                return side.send(conv, f"more {i}")["status"]
            except RpcError as error:
                return error.code
        outs = at_once([lambda s=s, i=i: send(s, i) for i, s in enumerate(sides)]
                       + [lambda: live.rpc("conv.delete", conv=conv)["conv"]])
        assert outs[-1] == conv and set(outs[:-1]) <= {"accepted", 404}
        for side in sides:
            side.wait(lambda side=side: [p for p in side.pushes if "unsubscribe" in p
                                         and p["channel"] == f"conv:{conv}"] or None)
            with pytest.raises(RpcError) as gone:
                side.rpc("conv.open", conv=conv)
            assert gone.value.code == 404
    upstream.wait(active=0)
    assert live.rpc("conv.list")["items"] == []
    assert server.metric("kith_runs_active") == server.metric("kith_runs_queued") == 0


def test_a_storm(server, upstream):
    """Eight sessions do everything at once in two conversations; then the books are checked."""
    seed = int(os.environ.get("KITH_SEED", time.time_ns() % 1000000))
    print("KITH_SEED", seed)
    owner = Live(server)
    convs = [owner.create() for _ in range(2)]
    for conv in convs:
        owner.subscribe(conv)
    promised, lock = {}, threading.Lock()

    def storm(number):
        chance = random.Random(seed * 100 + number)
        live = Live(server, token=owner.token)
        subscribed = set()
        for step in range(60):
            conv = chance.choice(convs)
            what = chance.choice(["send"] * 6 + ["stop", "regenerate", "open", "watch", "get",
                                                 "typing", "title", "cut", "list"])
            try:
                if what == "send":
                    cid = uuid.uuid4().hex
                    text = chance.choice(["[[words:5]]", "[[words:30:300]]", "[[cut]]", "[[e500]]",
                                          "[[error]]", "[[gate:never]]"])
                    out = live.send(conv, f"{text} {number}.{step}", cid=cid, **chance.choice(
                        [{}, {}, {"answer": False}, {"during_run": "cancel"},
                         {"during_run": "reject"}]))
                    if out["status"] == "accepted":
                        with lock:
                            promised[conv, cid] = out
                    else:
                        assert out["reason"]["code"] in ("busy", "rate_limited"), out
                elif what == "stop":
                    live.rpc("run.stop", conv=conv)
                elif what == "regenerate":
                    path = live.rpc("conv.open", conv=conv, limit=4)["messages"]
                    answers = [m for m in path if m["by"]["kind"] == "ai"]
                    if answers:
                        live.rpc("msg.regenerate", msg=answers[-1]["id"], cid=uuid.uuid4().hex,
                                 **({"continue": True} if answers[-1]["status"] != "complete"
                                    else {}))
                elif what == "open":
                    live.rpc("conv.open", conv=conv)
                elif what == "get" and promised:
                    with lock:
                        out = chance.choice(list(promised.values()))
                    if "run" in out:
                        live.rpc("run.get", run=out["run"])
                elif what == "typing":
                    live.rpc("typing.set", conv=conv, on=chance.random() < 0.5)
                elif what == "title":
                    live.rpc("conv.update", conv=conv, title=f"title {number}.{step}")
                elif what == "list":
                    live.rpc("conv.list")
                elif what == "cut":
                    live.cut()
                    live = Live(server, token=owner.token)
                    subscribed = set()
                elif conv in subscribed:
                    live.ask("unsubscribe", {"channel": f"conv:{conv}"})
                    subscribed.discard(conv)
                else:
                    live.subscribe(conv)
                    subscribed.add(conv)
            except RpcError as error:
                # An answer that is still made or has no text cannot be regenerated or continued.
                assert error.code in (107, 409) and what == "regenerate", (what, str(error))
        live.close()
    at_once([lambda n=n: storm(n) for n in range(8)])
    upstream.release("never")
    for conv in convs:
        def waiting(conv=conv):
            events = [e for _, e in durable(owner.events(conv))]
            begun = {e["answer"]["run"] for e in events if "answer" in e}
            begun |= {e["run"] for e in events if e["t"] == "run"}
            return begun - {e["run"] for e in events if e["t"] == "msg" and "run" in e}
        owner.wait(lambda waiting=waiting: not waiting(), 60, "the end of every answer")
        log = history(owner, conv)
        begun, ended = check_log(log)
        assert sorted(begun) == sorted(ended)
        assert durable(owner.events(conv)) == log, "who watched all the time has the whole log"
        by_cid = {e["cid"]: (o, e["id"]) for o, e in log if "cid" in e}
        mine = {cid: (out["offset"], out["msg"]) for (c, cid), out in promised.items() if c == conv}
        assert by_cid == mine
        ids = {e["id"] for _, e in log if e["t"] == "msg"}
        assert all(e["parent"] in ids for _, e in log if e["t"] == "msg" and e["parent"])
        path = owner.rpc("conv.open", conv=conv, limit=200)["messages"]
        for before, after in zip(path, path[1:]):
            assert after["parent"] == before["id"]
    assert server.metric("kith_runs_active") == server.metric("kith_runs_queued") == 0
    assert upstream.stats()["active_max"] <= 2, "one at a time in each conversation"
    owner.wait(lambda: server.metric("kith_sessions") == 1, what="the sessions to go")
    server.kill()
    server.start()
    again = Live(server, token=owner.token)
    for conv in convs:
        assert history(again, conv) == durable(owner.events(conv)), "and after a kill"


def test_memory_comes_back_after_a_storm(server, upstream):
    """What a thousand turns took is given back: slots, buffers, prompts."""
    def turns(count):
        live = Live(server)
        http = Http(server, live.token)
        for _ in range(count):
            conv = live.create()
            live.subscribe(conv)
            live.final(conv, live.send(conv, "[[words:50]]")["run"])
            http("conv.delete", conv=conv)
        live.close()
        live.reader.join(10)
    turns(100)
    before = server.metric("kith_memory_bytes")
    assert before > 0
    for _ in range(3):
        turns(100)
    after = server.metric("kith_memory_bytes")
    assert after < before * 1.1 + 65536, (before, after)


def test_a_full_pipe_of_commands_is_not_taken_for_a_dead_client(make_server):
    """The store stands still and a client's commands wait unread behind it: no 3012 for that."""
    server = make_server(FAST | {"test.hooks": "true", "session.ping": "1s",
                                 "session.pong": "200ms"})
    live, witness = Live(server), Live(server)
    conv = live.create()
    os.kill(server.pid, signal.SIGUSR2)
    server.line("event=journal_pause .*on=1")
    numbers = [live.post("rpc", {"method": "chat.send", "data": {
        "conv": conv, "cid": f"c{i}", "text": "hi", "answer": False}}) for i in range(60)]
    pings = {"witness": 0}
    take = witness._take

    def counted(reply):
        pings["witness"] += reply == {}
        take(reply)
    witness._take = counted
    witness.wait(lambda: witness.ask and pings["witness"] >= 3, 10, "three pings")
    assert live.closed is None
    os.kill(server.pid, signal.SIGUSR2)
    outs = [live.reply(n)["rpc"]["data"] for n in numbers]
    assert [o["offset"] for o in outs] == list(range(1, 61))


# --- the inbox -----------------------------------------------------------------------------------

def news(live, conv):
    """What the inbox said about a conversation, in order: its items, or None for `conv.gone`."""
    out = []
    for push in live.pushes:
        if push.get("channel") == f"#{live.user}" and "pub" in push:
            event = push["pub"]["data"]
            if event["t"] == "conv" and event["conv"]["id"] == conv:
                out.append(event["conv"])
            elif event["t"] == "conv.gone" and event["conv"] == conv:
                out.append(None)
    return out


def test_the_inbox_never_goes_back(server, live):
    """Changes come quicker than the list can be read; the last word is the last state."""
    sides = [Live(server, token=live.token) for _ in range(4)]
    for turn in range(10):
        conv = live.create(title="new")

        def change(number, conv=conv):
            for i in range(8):
                sides[number].rpc("conv.update", conv=conv, title=f"title {number}.{i}")
        at_once([lambda n=n: change(n) for n in range(4)])
        title = live.rpc("conv.open", conv=conv)["conv"]["title"]
        live.wait(lambda: news(live, conv) and news(live, conv)[-1]["title"] == title,
                  what="the last title")
        heads = [item["head"] for item in news(live, conv)]
        assert heads == sorted(heads), "an older state after a newer one"


def test_what_is_gone_stays_gone(server, live):
    sides = [Live(server, token=live.token) for _ in range(3)]
    convs = []
    for turn in range(20):
        convs.append(live.create(title="short"))
        for side in sides:
            side.post("rpc", {"method": "conv.update", "data": {"conv": convs[-1], "title": "x"}})
        live.rpc("conv.delete", conv=convs[-1])
    last = live.create(title="last")
    live.wait(lambda: news(live, last), what="the news of the last one")
    for side in sides:
        side.rpc("conv.list")
    for conv in convs:
        live.wait(lambda conv=conv: None in news(live, conv), what="conv.gone")
        assert news(live, conv)[-1] is None, "it is in the list again"
        assert news(live, conv).count(None) == 1
