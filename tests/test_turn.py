"""One turn and what belongs to it, over the real wire."""
import json
import uuid

import pytest

from kith import Http, Live, RpcError, check_log, durable, history


def test_a_turn_is_two_events_with_the_answer_after_the_commit(live):
    conv = live.create()
    first = live.subscribe(conv)
    assert first["recoverable"] and first["positioned"] and first.get("offset", 0) == 0
    assert first["data"]["runs"] == []
    out = live.send(conv, "[[words:20]] Hi, I am Ada")
    assert out["status"] == "accepted" and out["offset"] == 1
    final = live.final(conv, out["run"])
    events = live.events(conv)
    assert [o for o, _ in durable(events)] == [1, 2]
    question = durable(events)[0][1]
    assert question["answer"]["run"] == out["run"] and question["id"] == out["msg"]
    assert final["status"] == "complete" and final["parent"] == out["msg"]
    text = ""
    for offset, event in events:
        if offset is None and event["t"] == "d":
            assert event["p"] == len(text)
            text += event["s"]
    assert text == final["text"] == "".join(f"word{i} " for i in range(20))
    assert events.index((1, question)) < min(i for i, (_, e) in enumerate(events) if e["t"] == "d")
    assert final["usage"]["out"] > 0
    check_log(history(live, conv))


def test_the_same_cid_is_one_message_one_run_one_request(live, upstream):
    conv = live.create()
    live.subscribe(conv)
    cid = uuid.uuid4().hex
    first = live.send(conv, "once", cid=cid)
    live.final(conv, first["run"])
    again = live.send(conv, "once", cid=cid)
    assert again["status"] == "duplicate"
    assert (again["msg"], again["run"], again["offset"]) == (first["msg"], first["run"], 1)
    with pytest.raises(RpcError) as other:
        live.send(conv, "another", cid=cid)
    assert other.value.code == 409
    assert len(history(live, conv)) == 2
    assert upstream.stats()["requests"] == 1


def test_two_sends_at_once_never_make_two_runs(server, live):
    conv = live.create()
    live.subscribe(conv)
    other = Live(server, token=live.token)
    one = live.post("rpc", {"method": "chat.send",
                            "data": {"conv": conv, "cid": "a", "text": "[[gate_first:g]] a"}})
    two = other.post("rpc", {"method": "chat.send",
                             "data": {"conv": conv, "cid": "b", "text": "[[gate_first:g]] b"}})
    runs = [live.reply(one)["rpc"]["data"]["run"], other.reply(two)["rpc"]["data"]["run"]]
    snapshot = other.subscribe(conv)["data"]["runs"]
    assert sorted(r["r"] for r in snapshot) == sorted(runs)
    assert [r["st"] for r in snapshot].count("queued") == 1 or snapshot[1]["st"] == "queued"
    assert server.metric("kith_runs_queued") == 1


def test_stop_from_another_device_keeps_the_text(server, live, upstream):
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "[[gate:g]]")
    live.event(conv, lambda e: e["t"] == "d")
    phone = Live(server, token=live.token)
    stopped = phone.rpc("run.stop", run=out["run"])
    assert stopped["status"] == "accepted"
    final = live.final(conv, out["run"])
    assert final["status"] == "stopped" and final["text"] == "word0 word1 "
    assert phone.rpc("run.get", run=out["run"])["text"] == "word0 word1 "
    upstream._call("/wait?aborts=1&timeout=10")


def test_during_run_queue_reject_cancel(live):
    conv = live.create()
    live.subscribe(conv)
    first = live.send(conv, "[[gate:g]]")
    live.event(conv, lambda e: e["t"] == "d")
    refused = live.send(conv, "no", during_run="reject")
    assert refused["status"] == "refused" and refused["reason"]["code"] == "busy"
    assert refused["reason"]["retry_ms"] > 0
    waiting = live.send(conv, "later")
    live.event(conv, lambda e: e["t"] == "st" and e["st"] == "queued" and e["r"] == waiting["run"])
    now = live.send(conv, "[[words:3]] now", during_run="cancel")
    assert live.final(conv, waiting["run"])["status"] == "stopped"
    assert live.final(conv, first["run"])["text"] == "word0 word1 "
    assert live.final(conv, now["run"])["text"] == "word0 word1 word2 "
    begun, ended = check_log(history(live, conv))
    assert sorted(begun) == sorted(ended)


def test_a_queued_message_follows_the_promised_answer_and_runs_by_itself(live, upstream):
    conv = live.create()
    live.subscribe(conv)
    first = live.send(conv, "[[gate:g]] one")
    second = live.send(conv, "[[words:2]] two")
    upstream.release("g")
    live.final(conv, second["run"])
    log = history(live, conv)
    messages = {e["id"]: e for _, e in log if e["t"] == "msg"}
    assert messages[second["msg"]]["parent"] == messages[first["msg"]]["answer"]["msg"]
    opened = live.rpc("conv.open", conv=conv)
    assert [m["text"] for m in opened["messages"]] == [
        "[[gate:g]] one", "word0 word1 word2 word3 ", "[[words:2]] two", "word0 word1 "]
    prompt = upstream.requests()[-1]["body"]["messages"]
    assert [m["role"] for m in prompt][-3:] == ["user", "assistant", "user"]


def test_regenerate_and_continue(live, upstream):
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "[[cut]] tell")
    failed = live.final(conv, out["run"])
    assert failed["status"] == "failed" and failed["why"] == "upstream_closed"
    assert failed["text"] == "word0 word1 word2 word3 "
    upstream.script("Go on exactly", [{"text": "and so on"}], times=1)
    more = live.rpc("msg.regenerate", msg=failed["id"], cid="c1", **{"continue": True})
    final = live.final(conv, more["run"])
    assert final["status"] == "complete"
    assert final["text"] == "word0 word1 word2 word3 and so on"
    upstream.script("tell", [{"text": "another way"}], times=1)
    again = live.rpc("msg.regenerate", msg=final["id"], cid="c2", conv=conv)
    assert live.final(conv, again["run"])["text"] == "another way"
    opened = live.rpc("conv.open", conv=conv)
    assert [m["text"] for m in opened["messages"]] == ["[[cut]] tell", "another way"]
    assert len(opened["messages"][1]["siblings"]) == 3
    check_log(history(live, conv))


def test_the_snapshot_and_the_next_delta_fit(server, live, upstream):
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "[[gate:g]]")
    live.event(conv, lambda e: e["t"] == "d")
    late = Live(server, token=live.token)
    snapshot = late.subscribe(conv)["data"]
    assert snapshot["as_of"] == 1
    text = snapshot["runs"][0]["text"]
    assert snapshot["runs"][0]["p"] == len(text) and snapshot["runs"][0]["st"] == "writing"
    upstream.release("g")
    final = late.final(conv, out["run"])
    for offset, event in late.events(conv):
        if offset is None and event["t"] == "d":
            assert event["p"] <= len(text)
            text = text[:event["p"]] + event["s"]
    assert text == final["text"]


def test_text_is_counted_in_utf16_and_never_cut(live):
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "[[surrogates]]")
    assert live.final(conv, out["run"])["text"] == "a\U0001f600b"
    for offset, event in live.events(conv):
        if offset is None and event["t"] == "d":
            event["s"].encode()


def test_refusals_are_data(live):
    conv = live.create()
    long = live.send(conv, "x" * 40000, cid="long")
    assert long["status"] == "refused" and long["reason"]["code"] == "too_long"
    assert "retry_ms" not in long["reason"]
    assert live.send(conv, "x" * 40000, cid="long")["reason"]["code"] == "too_long"
    with pytest.raises(RpcError) as blank:
        live.send(conv, "  \n ")
    assert blank.value.code == 107
    assert history(live, conv) == []


def test_forbidden_terms_on_both_sides(make_server, upstream):
    server = make_server({"safety.terms.0.term": "purple elephant",
                          "safety.terms.0.category": "zoo", "safety.terms.0.side": "both"})
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    refused = live.send(conv, "about the Purple   Elephant")
    assert refused["reason"]["code"] == "blocked" and refused["reason"]["category"] == "zoo"
    upstream.script("say it", [{"text": "look, a pur"}, {"text": "ple ele"},
                               {"text": "phant here"}])
    out = live.send(conv, "say it")
    final = live.final(conv, out["run"])
    assert final["status"] == "blocked" and final["why"] == "zoo"
    shown = "".join(e["s"] for o, e in live.events(conv) if o is None and e["t"] == "d")
    assert "pur" not in shown and "elephant" not in json.dumps(final)


def test_questions_that_are_answered_by_rule(live, upstream):
    conv = live.create()
    live.subscribe(conv)
    out = live.send(conv, "Are you a real person?")
    assert "AI" in live.final(conv, out["run"])["text"]
    out = live.send(conv, "I want to kill myself")
    assert "112" in live.final(conv, out["run"])["text"]
    assert upstream.stats()["requests"] == 0


def test_http_and_rpc_are_two_doors_of_one_table(server):
    guest = Http(server)("guest.create", name="Ada")
    http = Http(server, guest["token"])
    conv = http("conv.create", title="First", cid="x")["conv"]
    assert http("conv.create", title="First", cid="x")["conv"]["id"] == conv["id"]
    assert conv["title"] == "First" and conv["role"] == "owner" and conv["offset"] == 0
    live = Live(server, token=guest["token"])
    live.subscribe(conv["id"])
    out = http("chat.send", conv=conv["id"], cid="1", text="[[words:2]]")
    assert live.final(conv["id"], out["run"])["text"] == "word0 word1 "
    assert http("conv.list")["items"][0]["last"] == "word0 word1 "
    assert http("conv.update", conv=conv["id"], title="Second")["conv"]["title"] == "Second"
    assert live.event(conv["id"], lambda e: e["t"] == "state")["v"] == "Second"
    for command, body, status, code in [
            ("chat.send", {"conv": conv["id"], "text": "no cid"}, 400, 107),
            ("conv.open", {"conv": "c_none"}, 404, 404),
            ("no.such", {}, 404, 404),
            ("run.get", {"run": "r_none"}, 404, 404)]:
        got, answer, _ = http.raw(command, body)
        assert (got, answer["error"]["code"]) == (status, code), (command, answer)
        assert answer["error"]["message"]
    assert Http(server).raw("conv.list")[0] == 401
    assert Http(server, "x.y.z").raw("conv.list")[0] == 401
    assert http("conv.delete", conv=conv["id"])["conv"] == conv["id"]
    live.wait(lambda: [p for p in live.pushes if "unsubscribe" in p] or None)
    assert http.raw("conv.open", {"conv": conv["id"]})[0] == 404


def test_an_api_key_acts_for_a_user(make_server):
    server = make_server({"auth.api_keys.0": "k-secret-1", "auth.guests": "true"})
    http = Http(server, headers={"X-API-Key": "k-secret-1"})
    conv = http("conv.create", **{"as": "ada"})["conv"]["id"]
    assert http("conv.list", **{"as": "ada"})["items"][0]["id"] == conv
    assert http("conv.list", **{"as": "eve"})["items"] == []
    assert http.raw("conv.list")[0] == 403
    assert Http(server, headers={"X-API-Key": "k-secret-2"}).raw("conv.list")[0] == 401
    assert Http(server, "k-secret-1")("conv.list", **{"as": "ada"})["items"]


def test_a_second_device_list_follows(server, live):
    other = Live(server, token=live.token)
    conv = live.create(title="Shared")

    def inbox(fits):
        return other.wait(lambda: next((p["pub"]["data"] for p in other.pushes
                                        if p.get("channel") == f"#{live.user}" and "pub" in p
                                        and fits(p["pub"]["data"])), None), what="the inbox")
    inbox(lambda e: e["t"] == "conv" and e["conv"]["id"] == conv)
    out = live.send(conv, "[[words:3]] hello")
    inbox(lambda e: e["t"] == "run" and e["on"] and e["run"] == out["run"])
    inbox(lambda e: e["t"] == "conv" and e["conv"]["head"] == 2 and e["conv"]["unread"] == 1)
    inbox(lambda e: e["t"] == "run" and not e["on"])
    live.rpc("read.set", conv=conv, offset=2)
    inbox(lambda e: e["t"] == "conv" and e["conv"]["head"] == 2 and e["conv"]["unread"] == 0)
    live.rpc("conv.delete", conv=conv)
    inbox(lambda e: e["t"] == "conv.gone" and e["conv"] == conv)


def test_members_share_strangers_do_not(server, live):
    friend, stranger = Live(server), Live(server)
    conv = live.create(members=[friend.user])
    friend.subscribe(conv)
    live.send(conv, "for two", answer=False)
    friend.event(conv, lambda e: e["t"] == "msg" and e["text"] == "for two")
    live.rpc("typing.set", conv=conv, on=True)
    assert friend.event(conv, lambda e: e["t"] == "typing")["u"] == live.user
    for call in (lambda: stranger.subscribe(conv), lambda: stranger.rpc("conv.open", conv=conv),
                 lambda: stranger.send(conv, "hi"),
                 lambda: stranger.ask("history", {"channel": f"conv:{conv}", "limit": 1}),
                 lambda: friend.rpc("conv.delete", conv=conv)):
        with pytest.raises(RpcError) as no:
            call()
        assert no.value.code in (103, 404)
