"""One answer over a line that breaks twenty times, followed to its end by three libraries."""
import asyncio
import contextlib
import json
import subprocess
import threading
import uuid
from pathlib import Path

import centrifuge
import pytest

from cutter import Cutter
from kith import Live, check_log, history
from rule import Rule

ROOT = Path(__file__).resolve().parent.parent
CUTS = 20
PACKAGES = ROOT / "sdk/js/node_modules"
NODE = str(ROOT / "tools/node.sh")
ANSWER = "".join(f"word{i} " for i in range(320))
# Two seconds of words, then what is left when the line has been cut often enough.
STEPS = [{"words": 300, "rate": 150}, {"wait": "rest"}, {"words": 20, "rate": 100}]


@pytest.fixture
def talk(make_server, upstream):
    """A conversation with a scripted answer, and somebody else who writes in it meanwhile."""
    server = make_server({"limits.connections_per_address": 10000, "limits.user_commands": 10000,
                          "limits.user_commands_burst": 10000})
    upstream.script("tell me", STEPS)
    live = Live(server)
    conv = live.create(title="cut")
    return Talk(server, upstream, live, conv)


class Talk:
    def __init__(self, server, upstream, live, conv):
        self.server, self.upstream, self.live, self.conv = server, upstream, live, conv
        self.asides = 0

    def cut_until_done(self, line):
        """Arms the line when the answer has begun; other events are stored between the cuts."""
        self.upstream.wait(requests=1, timeout=30)
        line.arm()
        other = Live(self.server, token=self.live.token)
        while not line.done.wait(0.1):
            self.asides += 1
            other.send(self.conv, f"aside {self.asides}", answer=False)
            if self.asides % 5 == 0:
                other.rpc("conv.update", conv=self.conv, title=f"title {self.asides}")
            assert self.asides < 600, f"only {line.made} cuts"
        self.upstream.release("rest")

    def check(self, line, final, heard, messages):
        """What one client has is exactly what the log has."""
        log = history(self.live, self.conv)
        check_log(log)
        assert line.made == CUTS and line.connections > CUTS
        assert final["text"] == ANSWER and final["status"] == "complete"
        assert heard == list(range(1, len(heard) + 1)), "each durable event once, in order"
        assert messages == [e for _, e in log[:len(messages)]]
        assert final in messages and self.asides > 0
        assert self.upstream.stats()["requests"] == 1


def run_node(arguments, seconds=100):
    if not (PACKAGES / "centrifuge").is_dir():
        pytest.fail("the packages of sdk/js are not installed: make deps")
    done = subprocess.run([NODE, "node", *map(str, arguments)], capture_output=True, text=True,
                          timeout=seconds, check=False)
    assert done.stdout, done.stderr
    out = json.loads(done.stdout)
    assert done.returncode == 0, (out.get("error"), done.stderr[-2000:])
    return out


@pytest.fixture(scope="session")
def client_module():
    """sdk/js as it is built for the page; built here when nobody has done so."""
    if not (ROOT / "sdk/js/dist/index.js").exists():
        subprocess.run([NODE, "npm", "run", "--silent", "build"], cwd=ROOT / "sdk/js", check=True)
    return ROOT / "sdk/js/test/harness.mjs"


def while_cutting(talk, line, work):
    """Runs `work` in a thread of its own while the line is cut; its result."""
    out = {}

    def run():
        try:
            out["result"] = work()
        except BaseException as error:
            out["error"] = error
    thread = threading.Thread(target=run)
    thread.start()
    talk.cut_until_done(line)
    thread.join(60)
    if "error" in out:
        raise out["error"]
    return out["result"]


def test_the_client_module_of_the_page(talk, client_module):
    with Cutter(talk.server.port, CUTS, seed=1) as line:
        scenario = {"text": "tell me", "conv": talk.conv, "token": talk.live.token}
        out = while_cutting(talk, line, lambda: run_node([client_module, line.url,
                                                          json.dumps(scenario)]))
    assert out["ok"], out
    assert out["text"] == ANSWER and out["status"] == "complete"
    assert out["taken_back"] == 0 and out["outgoing"] == []
    assert [o["status"] for o in out["outcomes"]] in (["accepted"], ["duplicate"])
    log = history(talk.live, talk.conv)
    final = next(e for _, e in log if e["t"] == "msg" and "run" in e)
    assert out["offsets"] == list(range(out["offsets"][0], out["offset"] + 1))
    assert out["heard"] == out["offsets"], "nothing came twice"
    shown = [(m["id"], m["text"]) for m in out["messages"]]
    path = talk.live.rpc("conv.open", conv=talk.conv, limit=200)["messages"]
    assert shown == [(m["id"], m["text"]) for m in path][:len(shown)]
    talk.check(line, final, list(range(1, len(log) + 1)), [e for _, e in log])


def test_the_client_module_cuts_its_own_line(talk, client_module, upstream):
    """As above, but the socket dies on the client's side; three turns, one of them stopped."""
    upstream.script("tell me", [{"words": 320, "rate": 150}])
    out = run_node([client_module, talk.server.base, json.dumps({
        "conv": talk.conv, "token": talk.live.token, "cuts": CUTS, "seed": 3,
        "steps": [{"send": "tell me", "wait": False}, {"send": "tell me more"},
                  {"send": "tell me again", "wait": False}, {"stop": True, "after_chars": 50},
                  {"regenerate": True, "continue": True}]})])
    assert out["ok"] and out["cuts"] == CUTS and out["taken_back"] == 0, out
    assert out["heard"] == out["offsets"] == list(range(1, len(out["offsets"]) + 1))
    begun, ended = check_log(history(talk.live, talk.conv))
    assert sorted(begun) == sorted(ended) and len(begun) == 4
    assert out["text"].startswith("word0 word1 ") and out["status"] == "complete"


def test_npm_centrifuge(talk):
    with Cutter(talk.server.port, CUTS, seed=2) as line:
        scenario = {"text": "tell me", "conv": talk.conv, "token": talk.live.token,
                    "cid": uuid.uuid4().hex}
        out = while_cutting(talk, line, lambda: run_node([ROOT / "tests/node/follow.mjs", line.ws,
                                                          json.dumps(scenario)]))
    assert out["unrecovered"] == 0 and out["taken_back"] == 0
    assert ANSWER.startswith(out["shown"]) and len(out["shown"]) > 1000
    assert out["outcome"]["status"] in ("accepted", "duplicate")
    talk.check(line, out["final"], out["heard"], out["messages"])


class Follower(centrifuge.SubscriptionEventHandler, centrifuge.ClientEventHandler):
    """PyPI centrifuge-python, by the same rule."""

    def __init__(self, conv):
        self.conv = conv
        self.rule = Rule(self.ask_run)
        self.news = asyncio.Event()
        self.connects = 0
        self.ended = None
        self.tasks = set()

    def ask_run(self, run):
        task = asyncio.ensure_future(self.asked(run))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def asked(self, run):
        try:
            self.rule.run_came((await self.client.rpc("run.get", {"run": run})).data)
        except centrifuge.CentrifugeError:
            pass  # the line broke: the next snapshot tells

    async def on_connected(self, ctx):
        self.connects += 1

    async def on_disconnected(self, ctx):
        self.ended = ctx
        self.news.set()

    async def on_unsubscribed(self, ctx):
        self.ended = ctx
        self.news.set()

    async def on_subscribed(self, ctx):
        if not hasattr(ctx, "channel"):  # the subscription, not the inbox
            self.rule.subscribed(ctx.data, ctx.was_recovering, ctx.recovered)

    async def on_publication(self, ctx):
        if not hasattr(ctx, "channel"):
            self.rule.publication(ctx.pub.offset, ctx.pub.data)
            self.news.set()

    async def send(self, text, cid):
        while True:
            try:
                return (await self.client.rpc("chat.send", {"conv": self.conv, "cid": cid,
                                                            "text": text})).data
            except centrifuge.ReplyError as error:
                assert error.temporary, error
            except centrifuge.CentrifugeError:
                with contextlib.suppress(centrifuge.CentrifugeError):
                    await self.client.ready()

    async def follow(self, url, token, text):
        self.client = centrifuge.Client(url, events=self, token=token, proxy=None,
                                        min_reconnect_delay=0.005, max_reconnect_delay=0.1)
        sub = self.client.new_subscription(f"conv:{self.conv}", events=self, recoverable=True,
                                           positioned=True, min_resubscribe_delay=0.005,
                                           max_resubscribe_delay=0.1)
        await self.client.connect()
        await sub.subscribe()
        outcome = await self.send(text, uuid.uuid4().hex)
        while self.rule.final(outcome["run"]) is None:
            assert self.ended is None, self.ended
            self.news.clear()
            await self.news.wait()
        self.ended = None
        await self.client.disconnect()
        return self.rule.final(outcome["run"])


def test_pypi_centrifuge_python(talk):
    follower = Follower(talk.conv)

    async def follow(url):
        return await asyncio.wait_for(follower.follow(url, talk.live.token, "tell me"), 60)
    with Cutter(talk.server.port, CUTS, seed=3) as line:
        final = while_cutting(talk, line, lambda: asyncio.run(follow(line.ws)))
    rule = follower.rule
    assert rule.unrecovered == 0 and follower.connects > 1
    talk.check(line, final, rule.heard, rule.messages)


def test_sdks_come_back_after_a_restart_of_the_server(talk, upstream):
    """kill -9 while three libraries follow the same answer; all come back by themselves."""
    follower = Follower(talk.conv)
    other = Live(talk.server, token=talk.live.token)
    out = {}

    async def follow():
        return await asyncio.wait_for(follower.follow(talk.server.ws, talk.live.token,
                                                      "[[gate_first:g]]"), 60)

    def python():
        out["python"] = asyncio.run(follow())

    def node():
        scenario = {"text": "[[gate_first:g]] too", "conv": talk.conv, "token": talk.live.token,
                    "cid": "from-node"}
        out["node"] = run_node([ROOT / "tests/node/follow.mjs", talk.server.ws,
                                json.dumps(scenario)])
    threads = [threading.Thread(target=work) for work in (python, node)]
    other.subscribe(talk.conv)
    for thread in threads:
        thread.start()
    other.wait(lambda: len([e for o, e in other.events(talk.conv) if o]) >= 2 or None,
               what="both messages")
    talk.server.restart()
    upstream.release("g")
    for thread in threads:
        thread.join(60)
    live = Live(talk.server, token=talk.live.token)
    log = history(live, talk.conv)
    begun, ended = check_log(log)
    assert sorted(begun) == sorted(ended) and len(begun) == 2
    events = [e for _, e in log]
    for final, heard, messages in (
            (out["python"], follower.rule.heard, follower.rule.messages),
            (out["node"]["final"], out["node"]["heard"], out["node"]["messages"])):
        assert final["text"] == "word0 word1 word2 word3 " and final in events
        assert heard == sorted(set(heard)) and messages == events[heard[0] - 1:heard[-1]]


def test_two_tabs_hold_the_same_text(talk, upstream):
    """The second tab comes in mid-answer; both show the same text, letter by letter."""
    upstream.script("tell me", [{"words": 20, "rate": 100}, {"wait": "a"}, {"words": 20},
                                {"wait": "b"}, {"words": 20, "rate": 200}])
    tabs = []

    def open_tab():
        live = Live(talk.server, token=talk.live.token)
        live.shown = Rule(lambda run: None)
        live.shown.subscribed(live.subscribe(talk.conv)["data"])
        tabs.append(live)

    def text(tab, run):
        rule, tab.at = tab.shown, getattr(tab, "at", 0)
        events = tab.events(talk.conv)
        for offset, event in events[tab.at:]:
            rule.publication(offset, event)
        tab.at = len(events)
        final = rule.final(run)
        return final["text"] if final else rule.runs.get(run, "")
    open_tab()
    run = tabs[0].send(talk.conv, "tell me")["run"]
    tabs[0].wait(lambda: text(tabs[0], run).endswith("word19 "))
    open_tab()
    assert text(tabs[1], run) == text(tabs[0], run)
    upstream.release("a")
    for tab in tabs:
        tab.wait(lambda tab=tab: text(tab, run).endswith("word39 "))
    open_tab()
    upstream.release("b")
    finals = [tab.final(talk.conv, run) for tab in tabs]
    assert {f["text"] for f in finals} == {"".join(f"word{i} " for i in range(60))}
    for tab in tabs:
        assert text(tab, run) == finals[0]["text"]
        assert tab.shown.gaps == 0
