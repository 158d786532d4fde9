"""What goes wrong at the model's server: one ending each, the text kept, nobody else slowed."""
import json
import time

import pytest

from kith import Http, Live, Server, check_log, durable, history

FIRST_TOKEN_MS = 600
IDLE_MS = 500


@pytest.fixture(scope="module")
def server(shared_upstream, tmp_path_factory):
    """One server with a model for each way to fail, and small deadlines."""
    url = shared_upstream.url
    names = ("e500", "e503", "e400", "not_found", "reset_first", "hang", "busy")
    models = [{"name": "default", "url": url, "model": "words"}]
    models += [{"name": name, "url": url, "model": name} for name in names]
    models.append({"name": "refused", "model": "words",
                   "url": f"http://127.0.0.1:{shared_upstream.closed_port()}/v1"})
    made = Server(tmp_path_factory.mktemp("faults"), models,
                  {"model.first_token": f"{FIRST_TOKEN_MS}ms", "model.idle": f"{IDLE_MS}ms",
                   "runs.text": "64KiB", "limits.user_runs": 200})
    yield made
    made.close()


def ask(live, text, seconds=10, **options):
    """The final message of an answer to `text`; checks what is always so."""
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, text, **options)
    assert out["status"] == "accepted", out
    final = live.final(conv, out["run"], seconds)
    log = history(live, conv)
    begun, ended = check_log(log)
    assert begun == ended == [out["run"]] and len(log) == 2, "one message, one ending"
    assert log[1][1] == final
    if final["status"] != "blocked":
        shown, units = "", 0
        for offset, event in live.events(conv):
            if offset is None and event["t"] == "d" and "k" not in event:
                assert event["p"] == units
                shown += event["s"]
                units += len(event["s"].encode("utf-16-le")) // 2
        assert shown == final["text"], "the deltas and the final message tell the same"
    # Nothing of it is left behind: the next question is answered.
    assert live.rpc("run.get", run=out["run"])["text"] == final["text"]
    return final


FOUR = "word0 word1 word2 word3 "
TWO = "word0 word1 "


@pytest.mark.parametrize("name, status, why, text", [
    ("cut", "failed", "upstream_closed", FOUR),
    ("cut_first", "failed", "upstream_closed", ""),
    ("reset", "failed", "upstream_closed", FOUR),
    ("stall", "failed", "idle_timeout", FOUR),
    ("stall_comments", "failed", "idle_timeout", FOUR),
    ("hang_head", "failed", "first_token_timeout", ""),
    ("garbage", "failed", "upstream_garbage", ""),
    ("html", "failed", "upstream_garbage", ""),
    ("bad_http", "failed", "upstream_garbage", ""),
    ("bad_json", "failed", "upstream_garbage", TWO),
    ("error", "failed", "upstream_error", ""),
    ("die", "failed", "upstream_error", FOUR),
    ("no_end", "failed", "upstream_closed", FOUR),
    ("no_finish", "complete", None, FOUR),
    ("no_done", "complete", None, FOUR),
    ("length", "complete", "length", FOUR),
    ("filter", "blocked", "content_filter", None),
    ("whole", "complete", None, FOUR.strip()),
    ("empty", "complete", None, ""),
    ("bytewise", "complete", None, FOUR),
    ("crlf", "complete", None, FOUR),
    ("comments", "complete", None, FOUR),
    ("half", "complete", None, "\u20ac\U0001f600!"),
    ("surrogates", "complete", None, "a\U0001f600b"),
    ("bigline:60000", "complete", None, "x" * 60000),
    ("bigline:100000", "complete", "length", "x" * 65536),
    ("endless:4000", "complete", "length", ...),
    ("think", "complete", None, "word2 word3 word4 word5 "),
    ("usage", "complete", None, "word0 word1 word2 "),
])
def test_each_way_to_end(server, upstream, name, status, why, text):
    live = Live(server)
    final = ask(live, f"[[{name}]]")
    assert (final["status"], final.get("why")) == (status, why)
    if text is ...:
        assert 60000 < len(final["text"]) <= 65536 and final["text"].startswith(FOUR)
    elif text is not None:
        assert final["text"] == text
    if name == "usage":
        assert final["usage"] == {"in": 41, "out": 9}
    upstream.wait(active=0)  # the connection of a lost answer is given up, too
    assert upstream.stats()["requests"] in ((2,) if name == "cut_first" else (1,))
    live.close()


def test_reasoning_is_told_apart_and_not_stored(server, upstream):
    upstream.script("think", [{"wait": "g"}, {"reasoning": "hm, "}, {"reasoning": "let me see"},
                              {"text": "Four."}])
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    run = live.send(conv, "think")["run"]
    upstream.release("g")
    final = live.final(conv, run)
    assert final["text"] == "Four." and final["status"] == "complete"
    deltas = [e for _, e in live.events(conv) if e["t"] == "d"]
    thought = ""
    for event in deltas:
        if event.get("k") == "r":
            assert event["p"] == len(thought)
            thought += event["s"]
    assert thought == "hm, let me see"
    assert "".join(e["s"] for e in deltas if "k" not in e) == "Four."
    live.close()


@pytest.mark.parametrize("model, requests, why", [
    ("e500", 2, "upstream_error"),
    ("e503", 2, "upstream_error"),
    ("reset_first", 2, "upstream_closed"),
    ("e400", 1, "upstream_error"),
    ("not_found", 1, "upstream_error"),
    ("busy", 1, "upstream_error"),
    ("hang", 1, "first_token_timeout"),
])
def test_what_is_tried_again(server, upstream, model, requests, why):
    live = Live(server)
    began = time.monotonic()
    final = ask(live, "hello", model=model)
    assert (final["status"], final["why"], final["text"]) == ("failed", why, "")
    assert upstream.stats()["by_model"][model]["requests"] == requests
    if model == "hang":
        assert time.monotonic() - began >= FIRST_TOKEN_MS / 1000
    live.close()


@pytest.mark.parametrize("first", [
    {"status": 500, "body": "oh"}, {"status": 503, "body": ""}, {"close": "reset"}], ids=str)
def test_the_second_try_is_good(server, upstream, first):
    upstream.script("twice", [first], times=1)
    live = Live(server)
    final = ask(live, "[[words:3]] twice")
    assert (final["status"], final["text"]) == ("complete", "word0 word1 word2 ")
    assert upstream.stats()["requests"] == 2
    live.close()


def test_a_refused_connection_is_tried_twice(server):
    live = Live(server)
    before = server.metric("kith_model_retries_total")
    final = ask(live, "hello", model="refused")
    assert (final["status"], final["why"], final["text"]) == ("failed", "model_unavailable", "")
    assert server.metric("kith_model_retries_total") - before == 1
    live.close()


def test_both_attempts_share_one_deadline(server, upstream):
    """The first attempt takes most of the time to fail; the second hangs."""
    upstream.script("slowly", [{"sleep": 0.3}, {"status": 500, "body": ""}], times=1)
    live = Live(server)
    began = time.monotonic()
    final = ask(live, "[[hang]] slowly")
    spent = time.monotonic() - began
    assert (final["status"], final["why"]) == ("failed", "first_token_timeout")
    assert upstream.stats()["requests"] == 2
    assert spent < 0.3 + FIRST_TOKEN_MS / 1000, f"{spent:.2f} s: a deadline of its own"
    live.close()


def test_an_unknown_model_or_persona_is_refused_at_the_door(server):
    live = Live(server)
    conv = live.create()
    for wrong in ({"model": "nobody"}, {"persona": "p_nobody"}):
        reply = live.reply(live.post("rpc", {"method": "chat.send", "data": {
            "conv": conv, "cid": "1", "text": "hi"} | wrong}))
        assert reply["error"]["code"] == 107, reply
    assert history(live, conv) == []
    live.close()


def test_a_neighbour_is_answered_while_twenty_hang(server, upstream):
    live = Live(server)
    convs = [live.create() for _ in range(20)]
    for conv in convs:
        live.subscribe(conv)
    runs = [live.send(conv, "[[stall]]" if i % 2 else "[[hang_head]]")["run"]
            for i, conv in enumerate(convs)]
    upstream.wait(requests=20)
    neighbour = Live(server)
    conv = neighbour.create()
    neighbour.subscribe(conv)
    for i in range(5):
        began = time.monotonic()
        out = neighbour.send(conv, f"[[words:3]] {i}")
        assert neighbour.final(conv, out["run"])["status"] == "complete"
        assert time.monotonic() - began < 2
    ends = [live.final(conv, run)["why"] for conv, run in zip(convs, runs)]
    assert ends == ["first_token_timeout", "idle_timeout"] * 10
    for session in (live, neighbour):
        session.close()


def test_the_backend_sees_no_more_than_its_concurrency(make_server, upstream):
    """Two at once; the others wait, are told their place, and all are answered in order."""
    server = make_server(models=[{"name": "default", "url": upstream.url, "model": "m",
                                  "concurrency": 2}])
    live = Live(server)
    convs = [live.create() for _ in range(7)]
    for conv in convs:
        live.subscribe(conv)
    runs = [live.send(conv, f"[[gate_first:g{i}]]")["run"] for i, conv in enumerate(convs)]
    upstream.wait(requests=2)

    def place(i):
        told = [e.get("pos") for _, e in live.events(convs[i])
                if e["t"] == "st" and e["st"] == "queued" and e["r"] == runs[i]]
        return told[-1] if told else None
    for i in range(2, 7):
        live.wait(lambda i=i: place(i) == i - 1, what=f"place {i - 1} of run {i}")
    snapshot = Live(server, token=live.token).subscribe(convs[6])["data"]["runs"][0]
    assert (snapshot["st"], snapshot["pos"]) == ("queued", 5)
    ready = json.loads(server.get("/readyz")[1])
    assert ready["ready"] is True, "a queue is no failure"
    # A stopped one leaves the queue, and the others move up.
    live.rpc("run.stop", run=runs[4])
    assert live.final(convs[4], runs[4])["status"] == "stopped"
    live.wait(lambda: place(6) == 4, what="place 4 of run 6")
    for i in (0, 1, 2, 3, 5, 6):
        upstream.release(f"g{i}")
        assert live.final(convs[i], runs[i])["text"] == FOUR
    stats = upstream.stats()
    assert stats["active_max"] == 2 and stats["requests"] == 6


def test_nothing_listens_there(make_server, upstream):
    """Messages are still taken, the failure is honest, and /readyz says why."""
    server = make_server(models=[{"name": "default", "model": "m",
                                  "url": f"http://127.0.0.1:{upstream.closed_port()}/v1"}])
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    for i in range(3):
        out = live.send(conv, f"anybody there {i}")
        assert out["status"] == "accepted"
        final = live.final(conv, out["run"])
        assert (final["status"], final["why"]) == ("failed", "model_unavailable")
    status, body = server.get("/readyz")
    told = json.loads(body)
    assert status == 503 and told["ready"] is False and told["reason"] == "unavailable"
    assert "models[].url" in told["message"]
    assert server.get("/healthz")[0] == 200
    assert live.rpc("conv.open", conv=conv)["offset"] == 6
    check_log(history(live, conv))


def test_it_is_ready_again_when_the_backend_is_back(make_server, tmp_path):
    from upstream import Process
    with Process() as first:
        port = first.port
        server = make_server(models=[{"name": "default", "url": first.url, "model": "m"}],
                             settings={"model.connect": "500ms"})
        live = Live(server)
        conv = live.create()
        live.subscribe(conv)
        assert live.final(conv, live.send(conv, "hi")["run"])["status"] == "complete"
    for _ in range(3):
        assert live.final(conv, live.send(conv, "hi")["run"])["status"] == "failed"
    assert server.get("/readyz")[0] == 503
    with Process(port) as second:
        assert live.final(conv, live.send(conv, "hi")["run"])["status"] == "complete"
        assert server.get("/readyz")[0] == 200
        assert second.stats()["requests"] == 1


def test_the_upstream_dies_in_the_middle(make_server):
    from upstream import Process
    with Process() as mortal:
        server = make_server(models=[{"name": "default", "url": mortal.url, "model": "m"}])
        live = Live(server)
        conv = live.create()
        live.subscribe(conv)
        final = live.final(conv, live.send(conv, "[[exit]]")["run"])
        assert (final["status"], final["why"], final["text"]) == ("failed", "upstream_closed", TWO)


def test_a_frozen_upstream(make_server):
    from upstream import Process
    with Process() as frozen:
        server = make_server(models=[{"name": "default", "url": frozen.url, "model": "m"}],
                             settings={"model.idle": "300ms", "model.first_token": "400ms"})
        live = Live(server)
        conv = live.create()
        live.subscribe(conv)
        final = live.final(conv, live.send(conv, "[[freeze]]")["run"])
        assert (final["why"], final["text"]) == ("idle_timeout", TWO)
        final = live.final(conv, live.send(conv, "hello?")["run"])
        assert (final["status"], final["why"]) == ("failed", "first_token_timeout")


def test_a_failure_frees_its_place_for_the_next_in_the_conversation(server):
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    runs = [live.send(conv, text)["run"] for text in ("[[stall]]", "[[cut]]", "[[words:2]]")]
    assert [live.final(conv, run)["status"] for run in runs] == ["failed", "failed", "complete"]
    begun, ended = check_log(history(live, conv))
    assert begun == ended == runs
    live.close()


def test_stop_in_every_phase(server, upstream):
    live = Live(server)
    for text in ("[[hang_head]]", "[[stall]]", "[[endless:100]]"):
        conv = live.create()
        live.subscribe(conv)
        run = live.send(conv, text)["run"]
        if text != "[[hang_head]]":
            live.event(conv, lambda e: e["t"] == "d")
        stopped = Http(server, live.token)("run.stop", conv=conv)
        assert stopped["status"] == "accepted" and stopped["run"] == run
        final = live.final(conv, run)
        assert final["status"] == "stopped" and stopped["offset"] == 2
        again = live.rpc("run.stop", run=run)
        assert again["status"] == "accepted"
        assert [e["t"] for o, e in durable(live.events(conv))] == ["msg", "msg"]
    upstream.wait(active=0, aborts=3)
    live.close()
