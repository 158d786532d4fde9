"""/metrics as a Prometheus client reads it, /healthz and /readyz."""
import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kith import Http, Live
from wire import Wire


def scrape(server):
    status, text = server.get("/metrics")
    assert status == 200
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(server):
    """name -> value of everything without labels."""
    return {sample.name: sample.value for family in scrape(server).values()
            for sample in family.samples if not sample.labels}


class Steps:
    """How much each number moved since the last look."""

    def __init__(self, server):
        self.server = server
        self.before = values(server)

    def __call__(self, *names):
        now = values(self.server)
        moved = tuple(now[f"kith_{name}"] - self.before[f"kith_{name}"] for name in names)
        return moved if len(moved) > 1 else moved[0]


def test_the_text_is_what_prometheus_reads(server):
    families = scrape(server)
    assert len(families) > 60
    for name, family in families.items():
        assert name.startswith("kith_") and family.documentation, name
        assert family.type in ("counter", "gauge", "histogram"), (name, family.type)
        assert family.samples, name
    for name in ("kith_send_to_commit_seconds", "kith_commit_seconds", "kith_first_token_seconds"):
        assert families[name].type == "histogram"
    assert server.get("/metrics")[1].endswith("\n")


def test_histograms_add_up(server):
    live = Live(server)
    conv = live.create()
    live.subscribe(conv)
    for i in range(3):
        live.final(conv, live.send(conv, f"[[words:3]] {i}")["run"])
    for name, at_least in (("send_to_commit", 3), ("commit", 6), ("first_token", 3),
                           ("run_time", 3), ("turn", 10)):
        samples = scrape(server)[f"kith_{name}_seconds"].samples
        buckets = [s for s in samples if s.name.endswith("_bucket")]
        counts = [s.value for s in buckets]
        assert counts == sorted(counts) and buckets[-1].labels["le"] == "+Inf"
        limits = [float(s.labels["le"]) for s in buckets]
        assert limits == sorted(limits)
        count = next(s.value for s in samples if s.name.endswith("_count"))
        total = next(s.value for s in samples if s.name.endswith("_sum"))
        assert counts[-1] == count >= at_least, name
        assert 0 < total < 60 * count


def test_counters_move_with_what_happens(server, upstream):
    step = Steps(server)
    live = Live(server)
    assert step("ws_opened_total", "sessions", "subscriptions") == (1, 1, 1)
    conv = live.create()
    live.subscribe(conv)
    assert step("subscriptions", "conversations_loaded") == (2, 1)
    out = live.send(conv, "[[words:3]]", cid="a")
    live.final(conv, out["run"])
    assert step("messages_accepted_total", "runs_started_total", "runs_complete_total",
                "model_requests_total") == (1, 1, 1, 1)
    assert step("deltas_total") >= 1 and step("model_tokens_total") >= 1
    assert step("journal_commits_total") >= 3 and step("journal_ops_total") >= 3
    live.send(conv, "[[words:3]]", cid="a")
    assert step("messages_duplicate_total", "messages_accepted_total") == (1, 1)
    live.send(conv, "x" * 40000)
    assert step("messages_refused_total") >= 1
    live.final(conv, live.send(conv, "[[cut]]")["run"])
    assert step("runs_failed_total", "model_errors_total") == (1, 1)
    gated = live.send(conv, "[[gate:g]]")
    live.event(conv, lambda e: e["t"] == "d" and e["r"] == gated["run"])
    waiting = live.send(conv, "[[words:1]]")
    assert step("runs_active", "runs_queued", "model_inflight") == (1, 1, 1)
    live.rpc("run.stop", conv=conv)
    live.final(conv, gated["run"])
    live.final(conv, waiting["run"])
    assert step("runs_stopped_total", "runs_active", "runs_queued") == (2, 0, 0)
    live.ask("unsubscribe", {"channel": f"conv:{conv}"})
    live.subscribe(conv, recover=True, offset=1, epoch="")
    assert step("recoveries_total") == 1
    live.ask("unsubscribe", {"channel": f"conv:{conv}"})
    live.subscribe(conv, recover=True, offset=1, epoch="_")
    assert step("recoveries_failed_total") == 1


def test_bad_clients_are_counted(server):
    step = Steps(server)
    for bad in ({"id": 1, "connect": {"token": "x"}}, {"id": 1, "ping": {}}):
        wire = Wire(server)
        wire.send(bad)
        wire.goodbye()
    assert step("session_bad_token_total", "session_bad_request_total") == (1, 1)
    wire = Wire(server)
    wire.write(b"\x83\x80\0\0\0\0")
    wire.goodbye()
    assert step("ws_bad_total") == 1
    Http(server).raw("no.such")
    assert step("http_requests_total") >= 4


def test_gauges_come_back(server):
    step = Steps(server)
    sessions = [Live(server) for _ in range(5)]
    conv = sessions[0].create()
    sessions[0].subscribe(conv)
    assert step("sessions", "subscriptions") == (5, 6)
    for session in sessions:
        session.close()
    other = Live(server)
    other.wait(lambda: step("sessions", "subscriptions") == (1, 1), what="the sessions to go")


def test_healthz_is_about_the_process_and_readyz_about_the_work(make_server, upstream):
    server = make_server()
    assert server.get("/healthz") == (200, "ok\n")
    status, body = server.get("/readyz")
    assert status == 200 and json.loads(body) == {"ready": True}
    lonely = make_server(models=[], data="other")
    assert lonely.get("/healthz") == (200, "ok\n")
    status, body = lonely.get("/readyz")
    told = json.loads(body)
    assert status == 503 and told["ready"] is False and told["reason"] and told["message"]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_they_are_never_cached(server, path):
    with urllib.request.urlopen(server.base + path, timeout=10) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
