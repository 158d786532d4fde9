"""What every end-to-end test starts from: a scripted upstream and a kith in front of it."""
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from kith import Live, Server  # noqa: E402
from upstream import Process  # noqa: E402


@pytest.fixture(scope="session")
def shared_upstream():
    with Process() as process:
        yield process


@pytest.fixture
def upstream(shared_upstream):
    shared_upstream.reset()
    return shared_upstream


@pytest.fixture
def make_server(tmp_path, upstream):
    """make_server(settings=..., models=..., data=...): servers that end with the test."""
    servers = []

    def make(settings=None, models=None, data="data", **options):
        if models is None:
            models = [{"name": "default", "url": upstream.url, "model": "words"}]
        server = Server(tmp_path / data, models, settings, **options)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()
        if os.environ.get("KITH_SHOW_LOG"):
            print("".join(server.lines))


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def live(server):
    session = Live(server)
    yield session
    session.close()
