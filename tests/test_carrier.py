"""The carriers byte by byte: the Centrifuge protocol on a raw WebSocket, and plain HTTP."""
import json
import os
import re
import socket
import threading
import time
import uuid

import jwt
import pytest

from kith import Http, Live, Server, history
from wire import BINARY, CLOSE, PING, PONG, TEXT, Ended, Line, Wire, frame

SECRET = "a secret of tests that is longer than the sixty-four bytes of a block of SHA-512"


@pytest.fixture(scope="module")
def server(shared_upstream, tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("carrier"),
                  [{"name": "default", "url": shared_upstream.url, "model": "words"}],
                  {"limits.channels": 6, "limits.frame": "64KiB", "limits.user_commands": 1000,
                   "limits.user_commands_burst": 1000, "session.recover_events": 20})
    yield made
    made.close()


@pytest.fixture(scope="module")
def locked(shared_upstream, tmp_path_factory):
    """One that takes tokens of ours only."""
    made = Server(tmp_path_factory.mktemp("locked"),
                  [{"name": "default", "url": shared_upstream.url, "model": "words"}],
                  {"auth.hs256_secret": SECRET})
    yield made
    made.close()


@pytest.fixture
def wire(server):
    made = Wire(server)
    made.connected = made.connect()
    made.user = made.connected["data"]["kith"]["user"]
    yield made
    made.close()


def told(live, conv, count):
    """So many durable events."""
    for i in range(count):
        live.rpc("chat.send", conv=conv, cid=uuid.uuid4().hex, text=f"event {i}", answer=False)


def replies(wire, count):
    """So many replies by their numbers, in whatever order they come."""
    got = {}
    while len(got) < count:
        message = wire.message()
        if "push" in message:
            wire.pushes.append(message["push"])
        else:
            got[message["id"]] = message
    return got


def offsets(result):
    return [p["offset"] for p in result.get("publications", [])]


# --- connect -----------------------------------------------------------------------------------

def test_what_the_connect_result_says(wire):
    result = wire.connected
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", result["client"])
    assert result["ping"] == 25 and result["pong"] is True and result["version"]
    assert "error" not in result and "expires" not in result
    kith = result["data"]["kith"]
    assert kith["protocol"] == 1 and kith["guest"] is True and kith["token"]
    assert kith["limits"]["text_bytes"] == 32768
    assert kith["personas"][0]["id"] == "p_default" and kith["personas"][0]["name"] == "Kit"
    inbox = result["subs"]["#" + kith["user"]]
    assert inbox["recoverable"] and inbox["positioned"] and inbox["epoch"]


def test_a_guest_comes_again_with_the_token(server, wire):
    again = Wire(server)
    kith = again.connect(wire.connected["data"]["kith"]["token"])["data"]["kith"]
    assert kith["user"] == wire.user and kith["guest"] is True and "token" not in kith


@pytest.mark.parametrize("first", [
    {"id": 1, "rpc": {"method": "conv.list", "data": {}}},
    {"id": 1, "subscribe": {"channel": "conv:c_1"}},
    {"id": 1, "ping": {}},
    "",
    "not json",
    "[1]",
    '{"id":1,"connect":',
], ids=str)
def test_what_comes_before_connect_is_a_bad_request(server, first):
    made = Wire(server)
    made.send(first)
    assert made.goodbye() == ((3501, "bad request"), [])


@pytest.mark.parametrize("bad", [
    {"id": 2, "connect": {}},
    {"id": 2, "nothing_we_know": {}},
    {"id": 2},
    {"id": 2, "subscribe": {"channel": ""}},
    {"id": 2, "unsubscribe": {"channel": ""}},
    {"id": 2, "refresh": {"token": ""}},
    "",
    "{",
    '{"id":2,"ping":{}} {"id":3,"ping":{}}',
], ids=str)
def test_a_bad_command_ends_the_session(wire, bad):
    wire.send(bad)
    assert wire.goodbye() == ((3501, "bad request"), [])


def test_an_invalid_token_is_final_and_says_why(server):
    for token in ("x", "a.b.c", "e30.e30.e30"):
        made = Wire(server)
        made.send({"id": 1, "connect": {"token": token}})
        assert made.goodbye() == ((3500, "invalid token"), [])


def test_without_a_token_where_guests_are_off(locked):
    made = Wire(locked)
    made.send({"id": 1, "connect": {}})
    assert made.goodbye()[0][0] == 3501


def token(key=SECRET, algorithm="HS256", headers=None, **claims):
    return jwt.encode({"sub": "ada"} | claims, key, algorithm=algorithm, headers=headers)


def b64(data):
    return jwt.utils.base64url_encode(json.dumps(data).encode()).decode()


def test_whom_a_token_names(locked):
    now = int(time.time())
    made = Wire(locked)
    result = made.connect(token(exp=now + 100, nbf=now - 5, iat=now, iss="x", name="Ada"))
    assert result["data"]["kith"]["user"] == "ada" and result["data"]["kith"]["guest"] is False
    assert result["expires"] is True and 90 <= result["ttl"] <= 100
    assert list(result["subs"]) == ["#ada"]
    odd = Wire(locked).connect(token(sub="Zoë Ω 1", exp=now + 100))
    assert odd["data"]["kith"]["user"] == "Zoë Ω 1"
    forever = Wire(locked).connect(token())
    assert "expires" not in forever


def test_apps_are_worlds_apart(locked):
    here, there = Wire(locked), Wire(locked)
    here.connect(token(app="one"))
    there.connect(token(app="two"))
    conv = here.rpc("conv.create", title="mine")["conv"]["id"]
    assert here.rpc("conv.list")["items"][0]["id"] == conv
    assert there.rpc("conv.list")["items"] == []
    assert there.ask("rpc", {"method": "conv.open", "data": {"conv": conv}})["error"]["code"] == 404


@pytest.mark.parametrize("bad", [
    token(key="another secret that is also longer than 32 bytes"),
    token(algorithm="HS384"),
    token(algorithm="HS512"),
    jwt.encode({"sub": "ada"}, None, algorithm="none"),
    b64({"alg": "none"}) + "." + b64({"sub": "ada"}) + ".",
    b64({"alg": "HS256"}) + "." + b64({"sub": "ada"}) + ".",
    token(sub="ada") + "x",
    token(sub="ada").rsplit(".", 1)[0],
    token() + ".more",
    token(channel="conv:c_1"),
    token(sub="a\nb"),
    token(sub="x" * 129),
    token(app="not an id"),
    " ",
], ids=range(14))
def test_tokens_that_are_refused(locked, bad):
    made = Wire(locked)
    made.send({"id": 1, "connect": {"token": bad}})
    assert made.goodbye()[0] == (3500, "invalid token")
    assert Http(locked, bad).raw("conv.list")[0] == 401


def test_a_subject_that_is_no_text_is_refused(locked):
    bad = jwt.api_jws.encode(json.dumps({"sub": 42}).encode(), SECRET, algorithm="HS256")
    made = Wire(locked)
    made.send({"id": 1, "connect": {"token": bad}})
    assert made.goodbye()[0] == (3500, "invalid token")


def test_an_expired_token_is_an_error_and_what_is_behind_it_is_thrown_away(locked):
    now = int(time.time())
    both = [Wire(locked), Wire(locked)]
    for made, old in zip(both, (token(exp=now - 60), token(nbf=now + 3600))):
        made.send({"id": 1, "connect": {"token": old}},
                  {"id": 2, "subscribe": {"channel": "conv:c_1"}},
                  {"id": 3, "rpc": {"method": "conv.list", "data": {}}})
        assert made.message()["error"]["code"] == 109
        made.send({"id": 4, "ping": {}})  # what comes later, too
    for made in both:  # the server closes by itself, and not with a final code
        code, before = made.goodbye()
        assert before == [] and (code is None or code[0] < 3500)


def test_refresh(locked):
    now = int(time.time())
    made = Wire(locked)
    made.connect(token(exp=now + 60))
    fresh = made.ask("refresh", {"token": token(exp=now + 600)})["refresh"]
    assert fresh["expires"] is True and 590 <= fresh["ttl"] <= 600 and fresh["client"]
    made.send({"id": 9, "refresh": {"token": token(sub="eve", exp=now + 60)}})
    assert made.goodbye()[0] == (3500, "invalid token")


def test_one_frame_with_connect_subscribe_and_rpc_is_answered_in_order(server, wire):
    conv = wire.rpc("conv.create")["conv"]["id"]
    told(wire, conv, 1)
    other = Wire(server)
    other.send({"id": 7, "connect": {"token": wire.connected["data"]["kith"]["token"]}},
               {"id": 8, "subscribe": {"channel": f"conv:{conv}"}},
               {"id": 9, "rpc": {"method": "conv.open", "data": {"conv": conv}}},
               {"id": 10, "ping": {}})
    first = other.message()
    assert first["id"] == 7 and "connect" in first
    rest = replies(other, 3)
    assert rest[8]["subscribe"]["offset"] == 1 and rest[10]["ping"] == {}
    assert rest[9]["rpc"]["data"]["messages"][0]["text"] == "event 0"


def test_timeouts_of_the_handshake_and_of_pongs(make_server):
    server = make_server({"timeouts.connect": "200ms", "session.ping": "1s",
                          "session.pong": "150ms"})
    stale, dead = Wire(server), Wire(server)
    dead.connect()
    alive = Live(server)
    assert stale.goodbye(5)[0] == (3502, "stale")
    code, before = dead.goodbye(5)
    assert code == (3012, "no pong")
    assert before == [(TEXT, b"{}")], "one ping, then the end"
    assert alive.closed is None and alive.rpc("conv.list") == {"items": []}
    assert server.metric("kith_session_no_pong_total") == 1
    assert server.metric("kith_session_stale_total") == 1


def test_pings_come_on_a_busy_connection_too(make_server):
    server = make_server({"session.ping": "1s", "session.pong": "500ms"})
    wire = Wire(server)
    wire.connect()
    conv = wire.rpc("conv.create")["conv"]["id"]
    wire.ask("subscribe", {"channel": f"conv:{conv}"})
    wire.rpc("chat.send", conv=conv, cid="1", text="[[words:200:40]]")
    pings, between, ended = 0, 0, False
    while pings < 3:
        message = wire.message(5)
        if message == {}:
            pings += 1
            wire.send({})
        elif "push" in message:
            event = message["push"]["pub"]["data"]
            between += event["t"] == "d"
            ended = ended or (event["t"] == "msg" and "run" in event)
    assert between > 20 and not ended, "the connection was busy all the time"


# --- subscriptions -----------------------------------------------------------------------------

def error_of(wire, channel, **more):
    return wire.ask("subscribe", {"channel": channel} | more)["error"]["code"]


def test_errors_of_subscribe(server, wire):
    conv = wire.rpc("conv.create")["conv"]["id"]
    assert "subscribe" in wire.ask("subscribe", {"channel": f"conv:{conv}"})
    assert error_of(wire, f"conv:{conv}") == 105
    assert error_of(wire, "#" + wire.user) == 105
    assert error_of(wire, "#somebody-else") == 103
    for unknown in ("news", "$private", "conv", "conv:", "conv:a b", "c" * 255, "other:c_1"):
        assert error_of(wire, unknown) == 102, unknown
    assert error_of(wire, "c" * 256) == 107
    assert error_of(wire, "conv:" + "c" * 251) == 107


def test_what_is_not_there_and_what_is_not_ours_look_the_same(server, wire):
    theirs = Live(server)
    conv = theirs.create()
    answers = [wire.ask("subscribe", {"channel": f"conv:{c}"})["error"]
               for c in (conv, "c_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    assert answers[0] == answers[1] and answers[0]["code"] in (103, 404)
    answers = [wire.ask("history", {"channel": f"conv:{c}", "limit": 5})["error"]
               for c in (conv, "c_01ARZ3NDEKTSV4RRFFQ69G5FAV")]
    assert answers[0] == answers[1] and answers[0]["code"] in (103, 404)


def test_the_limit_of_channels(wire):
    convs = [wire.rpc("conv.create")["conv"]["id"] for _ in range(6)]
    for conv in convs[:5]:  # the inbox is the sixth
        assert "subscribe" in wire.ask("subscribe", {"channel": f"conv:{conv}"})
    assert error_of(wire, f"conv:{convs[5]}") == 106
    assert error_of(wire, f"conv:{convs[0]}") == 105
    wire.ask("unsubscribe", {"channel": f"conv:{convs[0]}"})
    assert "subscribe" in wire.ask("subscribe", {"channel": f"conv:{convs[5]}"})


def test_unsubscribe_is_always_answered_and_comes_before_what_is_behind_it(wire):
    assert wire.ask("unsubscribe", {"channel": "conv:c_never"})["unsubscribe"] == {}
    assert wire.ask("unsubscribe", {"channel": "news"})["unsubscribe"] == {}
    channel = "conv:" + wire.rpc("conv.create")["conv"]["id"]
    wire.send({"id": 101, "subscribe": {"channel": channel}},
              {"id": 102, "unsubscribe": {"channel": channel}},
              {"id": 103, "subscribe": {"channel": channel}},
              {"id": 104, "unsubscribe": {"channel": channel}},
              {"id": 105, "subscribe": {"channel": channel}},
              {"id": 106, "ping": {}})
    got = replies(wire, 6)
    assert got[102]["unsubscribe"] == {} and got[104]["unsubscribe"] == {}
    assert "subscribe" in got[105], "the last word holds"
    for number in (101, 103):
        assert got[number].get("error", {}).get("code") != 105
    told(wire, channel[5:], 1)
    assert wire.push(lambda p: p["channel"] == channel)["pub"]["offset"] == 1


def test_nothing_comes_after_unsubscribe(server, wire):
    writer = Live(server, token=wire.connected["data"]["kith"]["token"])
    conv = writer.create()
    wire.ask("subscribe", {"channel": f"conv:{conv}"})
    told(writer, conv, 1)
    wire.push(lambda p: p["channel"] == f"conv:{conv}")
    wire.ask("unsubscribe", {"channel": f"conv:{conv}"})
    told(writer, conv, 3)
    wire.ask("ping")
    wire.ask("ping")
    assert [p for p in wire.pushes if p["channel"] == f"conv:{conv}"] == []
    # The kept position gives what was missed.
    result = wire.ask("subscribe", {"channel": f"conv:{conv}", "recover": True, "offset": 1,
                                    "epoch": ""})["subscribe"]
    assert result["recovered"] is True and offsets(result) == [2, 3, 4]


def test_recovery(server, wire):
    conv = wire.rpc("conv.create")["conv"]["id"]
    told(wire, conv, 5)
    channel = f"conv:{conv}"
    plain = wire.ask("subscribe", {"channel": channel})["subscribe"]
    epoch = plain["epoch"]
    assert plain["offset"] == 5 and plain["recoverable"] and plain["positioned"]
    assert "recovered" not in plain and "was_recovering" not in plain
    assert plain["data"]["as_of"] == 5

    def again(**more):
        wire.ask("unsubscribe", {"channel": channel})
        return wire.ask("subscribe", {"channel": channel, "recover": True} | more)

    for asked in (0, 2, 4):
        got = again(offset=asked, epoch=epoch)["subscribe"]
        assert got["recovered"] is True and got["was_recovering"] is True
        assert offsets(got) == list(range(asked + 1, 6))
        assert got.get("offset", 0) == asked, "the position recovered from, not the top"
    top = again(offset=5, epoch=epoch)["subscribe"]
    assert top["recovered"] is True and offsets(top) == [] and top["offset"] == 5
    anything = again(offset=3, epoch="")["subscribe"]
    assert anything["recovered"] is True and offsets(anything) == [4, 5]
    first = again(offset=0, epoch="")["subscribe"]["publications"][0]
    assert first["offset"] == 1 and first["epoch"] == epoch
    for lost in ({"offset": 3, "epoch": "_"}, {"offset": 3, "epoch": "Other.g1"},
                 {"offset": 6, "epoch": epoch}, {"offset": 3, "epoch": "x" * 300},
                 {"offset": 2 ** 53 - 1, "epoch": ""}):
        got = again(**lost)["subscribe"]
        assert got.get("recovered", False) is False and got["was_recovering"] is True, lost
        assert offsets(got) == [] and got["offset"] == 5 and got["epoch"] == epoch
        refused = again(flag=2, **lost)
        assert refused["error"]["code"] == 112
    assert "subscribe" in wire.ask("subscribe", {"channel": channel}), "112 left no subscription"


def test_the_inbox_is_recovered_by_connect(server, wire):
    token, inbox = wire.connected["data"]["kith"]["token"], "#" + wire.user
    position = wire.connected["subs"][inbox]
    for title in "abc":
        wire.rpc("conv.create", title=title)
    for _ in range(3):  # so that what follows comes behind the news of the store
        wire.push(lambda p: p["channel"] == inbox)
    asked = {"recover": True, "offset": position.get("offset", 0), "epoch": position["epoch"]}
    got = Wire(server).connect(token, subs={inbox: asked})["subs"][inbox]
    assert got["recovered"] is True and got["was_recovering"] is True
    assert sorted(p["data"]["conv"]["title"] for p in got["publications"]) == list("abc")
    assert offsets(got) == [position.get("offset", 0) + i for i in (1, 2, 3)]
    got = Wire(server).connect(token, subs={inbox: asked | {"epoch": "other"},
                                            "#somebody": asked})["subs"]
    assert list(got) == [inbox] and got[inbox].get("recovered", False) is False
    assert "publications" not in got[inbox]


def test_recovery_gives_all_or_nothing(wire):
    conv = wire.rpc("conv.create")["conv"]["id"]
    told(wire, conv, 22)
    asked = {"channel": f"conv:{conv}", "recover": True, "epoch": ""}
    got = wire.ask("subscribe", asked | {"offset": 1})["subscribe"]
    assert got.get("recovered", False) is False and offsets(got) == [] and got["offset"] == 22
    wire.ask("unsubscribe", {"channel": f"conv:{conv}"})
    got = wire.ask("subscribe", asked | {"offset": 2})["subscribe"]
    assert got["recovered"] is True and offsets(got) == list(range(3, 23))


def test_the_first_publication_tells_the_epoch(wire):
    conv = wire.rpc("conv.create")["conv"]
    wire.ask("subscribe", {"channel": f"conv:{conv['id']}"})
    told(wire, conv["id"], 2)
    first = wire.push(lambda p: p["channel"].startswith("conv:"))["pub"]
    second = wire.push(lambda p: p["channel"].startswith("conv:"))["pub"]
    assert (first["offset"], first["epoch"]) == (1, conv["epoch"])
    assert second["offset"] == 2 and "epoch" not in second


def test_subscribing_while_others_write_neither_loses_nor_doubles(server, wire):
    writer = Live(server, token=wire.connected["data"]["kith"]["token"])
    conv = writer.create()
    told(writer, conv, 1)
    over = threading.Event()

    def write():
        while not over.is_set():
            told(writer, conv, 1)
    thread = threading.Thread(target=write)
    thread.start()
    position = 0
    try:
        for _ in range(25):
            reply = wire.ask("subscribe", {"channel": f"conv:{conv}", "recover": True,
                                           "offset": position, "epoch": ""})["subscribe"]
            assert reply["recovered"] is True
            wire.pushes = [p for p in wire.pushes if p["channel"] == f"conv:{conv}"]
            assert wire.pushes == [], "no publication before the subscribe reply"
            seen = offsets(reply)
            while len(seen) < 3:
                seen.append(wire.push(lambda p: p["channel"] == f"conv:{conv}")["pub"]["offset"])
            assert seen == list(range(position + 1, position + 1 + len(seen)))
            wire.ask("unsubscribe", {"channel": f"conv:{conv}"})
            wire.pushes = []
            position = seen[-1]
    finally:
        over.set()
        thread.join()


# --- history, publish, presence, others ----------------------------------------------------------

def test_history(wire):
    conv = wire.rpc("conv.create")["conv"]
    channel = f"conv:{conv['id']}"
    empty = wire.ask("history", {"channel": channel, "limit": -1})["history"]
    assert empty == {"publications": [], "epoch": conv["epoch"], "offset": 0}
    told(wire, conv["id"], 6)

    def pages(**more):
        return wire.ask("history", {"channel": channel} | more)["history"]
    position = pages()
    assert position == {"publications": [], "epoch": conv["epoch"], "offset": 6}
    assert offsets(pages(limit=-1)) == [1, 2, 3, 4, 5, 6]
    assert offsets(pages(limit=2)) == [1, 2]
    since = {"offset": 2, "epoch": conv["epoch"]}
    assert offsets(pages(limit=2, since=since)) == [3, 4]
    assert offsets(pages(limit=2, since={"offset": 2, "epoch": ""})) == [3, 4]
    assert offsets(pages(limit=-1, since={"offset": 6, "epoch": conv["epoch"]})) == []
    assert offsets(pages(limit=3, reverse=True)) == [6, 5, 4]
    assert offsets(pages(limit=9, reverse=True, since={"offset": 3, "epoch": ""})) == [2, 1]
    first = pages(limit=1)["publications"][0]
    assert first["epoch"] == conv["epoch"] and first["data"]["text"] == "event 0"
    for wrong in ("_", "Other.g1"):
        got = wire.ask("history", {"channel": channel, "limit": 1,
                                   "since": {"offset": 1, "epoch": wrong}})
        assert got["error"]["code"] == 112
    assert wire.ask("history", {"channel": "#" + wire.user, "limit": 1})["error"]["code"] == 108
    assert wire.ask("history", {"channel": "news", "limit": 1})["error"]["code"] == 102
    told(wire, conv["id"], 20)
    assert offsets(pages(limit=1000)) == list(range(1, 21)), "at most session.recover_events"


def test_what_is_refused_or_not_there(wire):
    conv = "conv:" + wire.rpc("conv.create")["conv"]["id"]
    assert wire.ask("publish", {"channel": conv, "data": {}})["error"]["code"] == 103
    assert wire.ask("publish", {"channel": "#" + wire.user, "data": {}})["error"]["code"] == 103
    assert wire.ask("publish", {"channel": "news", "data": {}})["error"]["code"] == 102
    assert wire.ask("presence", {"channel": conv})["error"]["code"] == 108
    assert wire.ask("presence_stats", {"channel": conv})["error"]["code"] == 108
    assert wire.ask("rpc", {"method": "no.such", "data": {}})["error"]["code"] == 108
    assert wire.ask("rpc", {"method": "guest.create", "data": {}})["error"]["code"] == 108
    for flags in ({"type": 1}, {"type": 4}):
        assert wire.ask("subscribe", {"channel": conv} | flags)["error"]["code"] in (103, 108)
    wire.send({"send": {"data": {"x": 1}}})
    wire.send({})
    reply = wire.ask("ping")
    assert reply == {"id": wire.number, "ping": {}}


def test_every_error_has_a_code_and_a_message_and_says_whether_to_try_again(wire):
    for request in ({"method": "no.such"}, {"method": "conv.open", "data": {"conv": "c_1"}},
                    {"method": "chat.send", "data": {}}, {"method": "chat.send", "data": 7},
                    {"method": "chat.send"}, {"method": "run.get", "data": {"run": "r_1"}}):
        error = wire.ask("rpc", request)["error"]
        assert error["code"] >= 100 and error["message"] and not error.get("temporary")


def test_unknown_fields_are_ignored(wire):
    wire.send({"id": 50, "x": [1, {"y": None}], "rpc": {"method": "conv.list", "z": "é",
                                                         "data": {"limit": 1, "new": {}}}})
    assert wire.reply(50)["rpc"]["data"] == {"items": []}
    conv = wire.rpc("conv.create")["conv"]["id"]
    wire.send({"id": 51, "subscribe": {"channel": f"conv:{conv}", "whatever": [], "flag": 0}})
    assert "subscribe" in wire.reply(51)


def test_a_hundred_commands_in_one_frame(wire):
    commands = [{"id": n, "rpc": {"method": "conv.create", "data": {"title": str(n)}}}
                for n in range(200, 300)]
    wire.send(*commands)
    titles = {n: r["rpc"]["data"]["conv"]["title"] for n, r in replies(wire, 100).items()}
    assert titles == {n: str(n) for n in range(200, 300)}


def test_more_than_the_unanswered_limit_wait_and_are_not_refused(server, wire, upstream):
    conv = wire.rpc("conv.create")["conv"]["id"]
    for n in range(300, 400):
        wire.send({"id": n, "rpc": {"method": "chat.send", "data": {
            "conv": conv, "cid": f"c{n}", "text": f"say {n}", "answer": False}}})
    seen = {n: r["rpc"]["data"] for n, r in replies(wire, 100).items()}
    assert [seen[n]["offset"] for n in range(300, 400)] == list(range(1, 101)), "in order"
    assert server.metric("kith_commands_waiting_total") > 0


def test_half_a_character_of_javascript_is_a_matter_of_its_command(wire):
    """JSON.stringify writes half an emoji as an escape: the text is wrong, not the client."""
    conv = wire.rpc("conv.create")["conv"]["id"]
    wire.send('{"id":70,"rpc":{"method":"chat.send","data":{"conv":"%s","cid":"x",'
              '"text":"half \\ud83d","answer":false}}}' % conv)
    reply = wire.reply(70)
    assert "rpc" in reply or reply["error"]["code"] == 107
    assert wire.ask("ping")["ping"] == {}


def test_a_trailing_newline_is_tolerated(wire):
    wire.send('{"id":60,"ping":{}}\n')
    assert wire.reply(60) == {"id": 60, "ping": {}}


def test_a_user_who_is_too_fast_is_told_so(make_server):
    server = make_server({"limits.user_commands": 1, "limits.user_commands_burst": 5})
    wire = Wire(server)
    wire.connect()
    codes = []
    for _ in range(8):
        reply = wire.ask("rpc", {"method": "conv.list", "data": {}})
        codes.append(reply.get("error", {}).get("code"))
    assert codes[:5] == [None] * 5 and codes[5:] == [111] * 3
    assert reply["error"]["temporary"] is True
    assert wire.ask("ping")["ping"] == {}


# --- the upgrade and frames ----------------------------------------------------------------------

def test_who_may_upgrade(server):
    here = f"http://127.0.0.1:{server.port}"
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1", here + ".evil.example"):
        assert Wire(server, [f"Origin: {origin}"]).status == 403, origin
    assert Wire(server, [f"Origin: {here}"]).status == 101
    assert Wire(server).status == 101
    assert Wire(server, ["Sec-WebSocket-Extensions: permessage-deflate"]).headers.get(
        "sec-websocket-extensions") is None


def test_subprotocols(server):
    for offered, answered in [
            (["Sec-WebSocket-Protocol: centrifuge-json"], "centrifuge-json"),
            (["Sec-WebSocket-Protocol: soap, centrifuge-json"], "centrifuge-json"),
            (["Sec-WebSocket-Protocol: soap"], None),
            (["Sec-WebSocket-Protocol:"], None),
            (["Sec-WebSocket-Protocol: "], None)]:
        made = Wire(server, offered)
        assert made.status == 101 and made.headers.get("sec-websocket-protocol") == answered
        made.connect()


def test_an_upgrade_that_is_none(server):
    for head in ("GET /connection/websocket HTTP/1.1\r\nHost: x\r\n\r\n",
                 "GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                 "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                 "Sec-WebSocket-Key: short\r\n\r\n"):
        line = Line(server)
        line.write(head)
        assert line.answer()[0] == 400
    line = Line(server)
    line.write("GET /connection/websocket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
               "Connection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
               "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
    status, headers, _ = line.answer()
    assert status == 426 and headers["sec-websocket-version"] == "13"


def test_pieces_with_control_frames_between_them(wire):
    text = json.dumps({"id": 70, "rpc": {"method": "conv.create", "data": {"title": "Zoë"}}},
                      ensure_ascii=False).encode()
    cut = text.index("ë".encode()) + 1  # in the middle of a character
    wire.write(frame(TEXT, text[:cut], fin=False) + frame(PING, b"are you there"))
    assert wire.frame() == (PONG, b"are you there")
    wire.write(frame(0, text[cut:cut + 3], fin=False) + frame(PONG, b"") + frame(0, b"", fin=False))
    wire.write(frame(0, text[cut + 3:]))
    assert wire.reply(70)["rpc"]["data"]["conv"]["title"] == "Zoë"


def test_one_byte_at_a_time(server):
    made = Wire(server)
    whole = frame(TEXT, '{"id":1,"connect":{}}\n{"id":2,"ping":{}}')
    for i in range(len(whole)):
        made.write(whole[i:i + 1])
    assert "connect" in made.message() and made.message() == {"id": 2, "ping": {}}


@pytest.mark.parametrize("name, bad, code", [
    ("too big at once", frame(TEXT, "x" * 65537), 1009),
    ("too big in pieces", frame(TEXT, "x" * 40000, fin=False) + frame(0, "x" * 40000), 1009),
    ("no text", frame(TEXT, b'{"id":1,"ping":{"\xff":1}}'), 1007),
    ("no text in pieces", frame(TEXT, b'{"id":1,"\xc3', fin=False) + frame(0, b'(":{}}'), 1007),
    ("half a character", frame(TEXT, b'{"id":1,"\xe2\x82'), 1007),
    ("a surrogate", frame(TEXT, b'"\xed\xa0\x80"'), 1007),
    ("not masked", frame(TEXT, "{}", masked=False), 1002),
    ("reserved bits", frame(TEXT, "{}", reserved=4), 1002),
    ("unknown kind", frame(3, "{}"), 1002),
    ("a long ping", frame(PING, "x" * 126), 1002),
    ("a ping in pieces", frame(PING, "x", fin=False), 1002),
    ("a piece of nothing", frame(0, "x"), 1002),
    ("two beginnings", frame(TEXT, "{", fin=False) + frame(TEXT, "}"), 1002),
    ("half a close code", frame(CLOSE, b"\x03"), 1002),
    ("a close code of nobody", frame(CLOSE, b"\x03\xed"), 1002),
], ids=lambda v: v if isinstance(v, str) else "")
def test_frames_that_end_the_connection(wire, name, bad, code):
    wire.write(bad)
    assert wire.goodbye()[0][0] == code


def test_the_largest_frame_is_taken(wire):
    text = json.dumps({"id": 80, "rpc": {"method": "conv.list", "data": {"limit": 1}}})
    wire.write(frame(TEXT, text + " " * (65536 - len(text))))
    assert "rpc" in wire.reply(80)


def test_binary_frames_are_not_spoken_here(wire):
    wire.write(frame(BINARY, b"\x08\x01"))
    code, _ = wire.goodbye()
    assert code[0] in (1003, 3501)


def test_a_close_is_answered(wire):
    wire.write(frame(CLOSE, b"\x03\xe8bye"))
    code, _ = wire.goodbye()
    assert code[0] == 1000


# --- readers that do not read --------------------------------------------------------------------

def test_a_reader_that_stops_is_closed_and_slows_nobody(make_server):
    server = make_server({"limits.send": "64KiB", "limits.send_ephemeral": "16KiB",
                          "limits.user_commands": 10000, "limits.user_commands_burst": 10000})
    writer = Live(server)
    conv = writer.create()
    lazy = Wire(server, receive_bytes=4096)
    lazy.connect(writer.token)
    lazy.ask("subscribe", {"channel": f"conv:{conv}"})
    reader = Live(server, token=writer.token)
    reader.subscribe(conv)
    text = "x" * 30000
    sent, worst = 0, 0.0
    while server.metric("kith_session_slow_total") == 0:
        assert sent < 1000, "30 MB were written and the lazy one is still there"
        for _ in range(20):
            began = time.monotonic()
            writer.send(conv, text, answer=False)
            worst = max(worst, time.monotonic() - began)
            sent += 1
    assert worst < 3, "a reader slowed the writer"
    reader.event(conv, lambda e: e["text"] == text and len(reader.events(conv)) >= sent)
    assert [o for o, _ in reader.events(conv)] == list(range(1, sent + 1))
    assert writer.closed is None and reader.closed is None
    code, _ = lazy.goodbye()
    assert code is None or code[0] == 3008


def test_deltas_are_left_out_for_a_slow_reader_who_loses_nothing_else(make_server, upstream):
    server = make_server({"limits.send": "64MiB", "limits.send_ephemeral": "1KiB",
                          "runs.delta": 0})
    writer = Live(server)
    conv = writer.create()
    writer.subscribe(conv)
    lazy = Wire(server, receive_bytes=4096)
    lazy.connect(writer.token)
    lazy.ask("subscribe", {"channel": f"conv:{conv}"})
    upstream.script("much", [{"text": "y" * 8000}] * 30)
    runs = 0
    while server.metric("kith_deltas_dropped_total") == 0:
        assert runs < 60, "15 MB were written and no delta was left out"
        writer.final(conv, writer.send(conv, "much")["run"])
        runs += 1
    top = 2 * runs
    seen = []
    while not seen or seen[-1] != top:
        offset = lazy.push(lambda p: p["channel"] == f"conv:{conv}")["pub"].get("offset")
        if offset:
            seen.append(offset)
    assert seen == list(range(1, top + 1))
    assert lazy.ask("ping")["ping"] == {}


def test_a_reader_that_takes_no_byte_is_closed_in_time(make_server):
    """Far below limits.send: what counts is that nothing moved for limits.send_stall."""
    server = make_server({"limits.send": "64MiB", "limits.send_stall": "1s",
                          "limits.user_commands": 10000, "limits.user_commands_burst": 10000})
    writer = Live(server)
    conv = writer.create()
    lazy = Wire(server, receive_bytes=4096)
    lazy.connect(writer.token)
    lazy.ask("subscribe", {"channel": f"conv:{conv}"})
    for _ in range(300):
        writer.send(conv, "x" * 30000, answer=False)
    writer.wait(lambda: server.metric("kith_session_slow_total") == 1, 10, "its end")
    assert server.metric("kith_sessions") == 1 and writer.closed is None


def test_a_flood_of_requests_that_nobody_reads_the_answers_of(server):
    flood = Line(server, receive_bytes=4096)
    flood.socket.settimeout(5)
    request = get("/metrics").encode() * 500
    with pytest.raises(OSError):  # reset, or not taken any more
        for _ in range(1000):
            flood.socket.sendall(request)
    began = time.monotonic()
    assert server.get("/healthz")[0] == 200 and time.monotonic() - began < 2
    assert server.metric("kith_memory_bytes") < 64 << 20
    flood.close()


# --- HTTP ----------------------------------------------------------------------------------------

def get(path, method="GET", more="", version="1.1"):
    return f"{method} {path} HTTP/{version}\r\nHost: x\r\n{more}\r\n"


def post(command, body, more=""):
    return (f"POST /kith/v1/{command} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
            f"{more}\r\n{body}")


def test_methods_and_paths(server):
    line = Line(server)
    line.write(get("/healthz"))
    assert line.answer()[::2] == (200, b"ok\n")
    line.write(get("/healthz", "HEAD"))
    status, headers, body = line.answer(body=False)
    assert status == 200 and headers["content-length"] == "3" and line.have == b""
    line.write(get("/healthz?x=1"))
    assert line.answer()[0] == 200
    for method, path, allowed in [("POST", "/healthz", "GET, HEAD"),
                                  ("PUT", "/metrics", "GET, HEAD"),
                                  ("GET", "/kith/v1/conv.list", "POST"),
                                  ("DELETE", "/kith/v1/conv.list", "POST"),
                                  ("POST", "/connection/websocket", "GET, HEAD")]:
        line.write(get(path, method))
        status, headers, _ = line.answer()
        assert (status, headers["allow"]) == (405, allowed), (method, path)
    line.write(get("/no/such/path"))
    status, headers, body = line.answer()
    assert status == 404 and json.loads(body)["error"]["code"] == 404


@pytest.mark.parametrize("bad, status", [
    ("GET / HTTP/1.1\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ("GET /\r\n\r\n", 400),
    ("G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n", 400),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
     "Transfer-Encoding: chunked\r\n\r\n{}", 400),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
     "Content-Length: 3\r\n\r\n{}", 400),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     400),
    ("GET /" + "a" * 17000 + " HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    ("GET / HTTP/1.1\r\nHost: x\r\nA: " + "a" * 33000 + "\r\n\r\n", 431),
    ("GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
    ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\n\r\n", 413),
    ("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
     + ("8000\r\n" + "x" * 0x8000 + "\r\n") * 3, 413),
], ids=range(16))
def test_requests_that_are_refused_end_the_line(server, bad, status):
    line = Line(server)
    line.write(bad)
    got, headers, body = line.answer()
    assert got == status and headers["connection"] == "close"
    assert json.loads(body)["error"]["message"]
    assert line.ended() == b""


def test_keep_alive_and_pipelining(server):
    line = Line(server)
    guest = json.dumps({"name": "Ada"})
    line.write(get("/healthz") + post("guest.create", guest) + get("/healthz", "HEAD")
               + post("conv.list", "{}") + get("/readyz"))
    assert line.answer()[2] == b"ok\n"
    status, _, body = line.answer()
    assert status == 200 and json.loads(body)["token"]
    assert line.answer(body=False)[0] == 200
    assert line.answer()[0] == 401
    assert line.ended() == b"", "an unknown caller's line ends with the refusal"
    line = Line(server)
    bearer = f"Authorization: Bearer {json.loads(body)['token']}\r\n"
    for _ in range(3):
        line.write("".join(post("conv.create", json.dumps({"title": t}), bearer) for t in "abcde"))
        assert [json.loads(line.answer()[2])["conv"]["title"] for _ in range(5)] == list("abcde")
    line.write(get("/healthz", more="Connection: close\r\n"))
    status, headers, _ = line.answer()
    assert headers["connection"] == "close" and line.ended() == b""


def test_http_1_0_closes(server):
    line = Line(server)
    line.write(get("/healthz", version="1.0"))
    assert line.answer()[0] == 200 and line.ended() == b""


def test_bodies_in_chunks_and_expectations(server):
    line = Line(server)
    head = "POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    line.write(head)
    for piece in ("2\r\n", '{"', "\r\n5;ext=1\r\n", 'name"', "\r\n6\r", '\n:"Zo\u00eb',
                  '\r\n2\r\n"}\r\n', "0\r\nTrailer: x\r\n\r\n"):
        line.write(piece)
    status, _, body = line.answer()
    assert status == 200, body
    token = json.loads(body)["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert "Zo\u00eb" in claims.values()
    line.write("POST /kith/v1/conv.list HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
               f"Authorization: Bearer {token}\r\nExpect: 100-continue\r\n\r\n")
    assert line.answer()[0] == 100
    line.write("{}")
    assert line.answer()[0] == 200


@pytest.mark.parametrize("body", ["", "{", "[]", "7", '{"conv":1}', '{"cid":"a","cid":"b"',
                                  '{"title":"\ud800"}'.encode("utf-8", "surrogatepass"),
                                  b'{"title":"\xff"}'], ids=range(8))
def test_bodies_that_are_no_command(server, wire, body):
    line = Line(server)
    body = body.encode() if isinstance(body, str) else body
    line.write((f"POST /kith/v1/conv.open HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
                f"Authorization: Bearer {wire.connected['data']['kith']['token']}\r\n\r\n").encode()
               + body)
    status, _, answer = line.answer()
    error = json.loads(answer)["error"]
    assert status == 400 and error["code"] == 107 and error["message"]


def test_slow_heads_and_bodies_are_closed(make_server):
    server = make_server({"timeouts.head": "200ms", "timeouts.body": "200ms",
                          "timeouts.keep_alive": "300ms"})
    silent, head, body, idle = (Line(server) for _ in range(4))
    head.write("GET / HTTP/1.1\r\nHo")
    body.write("POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    idle.write(get("/healthz"))
    assert idle.answer()[0] == 200
    for line in (silent, head, body, idle):
        line.ended(5)
    assert server.metric("kith_http_timeouts_total") == 4


def test_the_page_is_cached_well(server):
    line = Line(server)
    line.write(get("/"))
    status, headers, body = line.answer()
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert "default-src" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    if "etag" not in headers:
        pytest.skip("this build carries no page")
    line.write(get("/", more=f"If-None-Match: {headers['etag']}\r\n"))
    status, again, none = line.answer()
    assert status == 304 and none == b"" and again["etag"] == headers["etag"]
    line.write(get("/", more='If-None-Match: "other"\r\n'))
    assert line.answer()[2] == body
    line.write(get("/", "HEAD"))
    assert line.answer(body=False)[1]["content-length"] == str(len(body)) and line.have == b""
    script = re.search(r'"(/assets/[^"]+\.js)"', body.decode()).group(1)
    line.write(get(script, more="Accept-Encoding: br, gzip\r\n"))
    status, headers, _ = line.answer()
    assert status == 200 and headers["content-encoding"] == "br"
    assert "immutable" in headers["cache-control"]


def test_cut_lines_leave_nothing_behind(server, wire):
    """Sockets that vanish in any state: their slots come back."""
    before = server.metric("kith_connections")
    for _ in range(10):
        for head in (b"", b"GET / HT", b"POST /kith/v1/guest.create HTTP/1.1\r\nHost: x\r\n"
                     b"Content-Length: 90\r\n\r\n{"):
            line = Line(server)
            line.write(head)
            line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            line.close()
        made = Wire(server)
        made.send({"id": 1, "connect": {}}, {"id": 2, "rpc": {"method": "conv.create"}})
        made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        made.close()
    until = time.monotonic() + 10
    while server.metric("kith_connections") > before:
        assert time.monotonic() < until, server.metric("kith_connections")
    assert wire.ask("ping")["ping"] == {}
