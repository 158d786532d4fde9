#!/usr/bin/env python3
"""llama_child: one language (or embedding) model behind llama.cpp's own HTTP server.

kith starts this process, watches it and starts it again; it never outlives its parent. The server
listens on 127.0.0.1 only. When it can answer, one line goes to standard output:

    event=listening port=N

Everything the engine has to say goes to standard error. Ends of the process:

    0  --help                           4  the model file is missing or damaged
    2  bad usage                        5  the port is taken
    3  the processor or the Python      6  the parent died before we could watch it
       module cannot do it              7  the server came up but never became healthy
    SIGTERM ends it at once, also while the model is being read.

If LLAMA_CHILD_KEY is in the environment, requests must carry it as `Authorization: Bearer`, so
that other users of the machine cannot use the model or read what is said to it.
"""
import argparse
import ctypes
import http.client
import os
import platform
import re
import signal
import socket
import sys
import time

CPU_NEEDS = ("avx2", "fma", "f16c", "bmi2")
PR_SET_PDEATHSIG = 1
HEALTHY_WITHIN_S = 120
GGUF_HEAD_BYTES = 24

EXIT_UNABLE, EXIT_MODEL, EXIT_PORT, EXIT_ORPHAN, EXIT_SICK = 3, 4, 5, 6, 7


def leave(code, message):
    """Say why in one line and end without running destructors of a half-built server."""
    print(f"llama_child: {message}", file=sys.stderr, flush=True)
    os._exit(code)


def die_with_parent(expected):
    """Ask the kernel to kill us with our parent, then make sure that we were not too late."""
    before = expected if expected else os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        leave(EXIT_UNABLE, f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != before:
        leave(EXIT_ORPHAN, "the parent is gone")


def cpu_lacks(cpuinfo):
    """The features of CPU_NEEDS that this text of /proc/cpuinfo does not show on every core."""
    rows = re.findall(r"^flags\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    if not rows:
        return list(CPU_NEEDS)
    have = set.intersection(*(set(row.split()) for row in rows))
    return [need for need in CPU_NEEDS if need not in have]


def check_cpu():
    if platform.machine() not in ("x86_64", "AMD64"):
        return
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            lacks = cpu_lacks(file.read())
    except OSError:
        lacks = list(CPU_NEEDS)
    if lacks:
        leave(EXIT_UNABLE, f"this processor lacks {' '.join(lacks)}: no local model runs here")


def check_model(path):
    """A cheap look at the head; the engine checks the rest against the file's real length."""
    try:
        with open(path, "rb") as file:
            head = file.read(GGUF_HEAD_BYTES)
    except OSError as error:
        leave(EXIT_MODEL, f"model {path}: {error.strerror}")
    if len(head) < GGUF_HEAD_BYTES or head[:4] != b"GGUF":
        leave(EXIT_MODEL, f"model {path}: not a GGUF file")


def choose_port(port):
    """Find out now whether the port is free: the engine would only say that it did not start."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            leave(EXIT_PORT, f"port {port}: {error.strerror}")
        return probe.getsockname()[1]


def import_engine():
    # The engine's threads meet many times a token and spin while they wait. Where others use the
    # cores too, the library's 300,000 turns took the small model from 15 tokens a second to 2, and
    # the large one to 1; a short spin, then sleep. It is read when the library is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        import xllamacpp
    except ImportError as error:
        leave(EXIT_UNABLE, f"the module xllamacpp is missing ({error}): run make deps")
    return xllamacpp


def make_params(engine, options, port):
    params = engine.CommonParams()
    params.model.path = options.model
    # Clients see a name, never a path of this machine.
    name = options.alias or os.path.splitext(os.path.basename(options.model))[0]
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = options.ctx
    params.n_parallel = options.parallel
    params.kv_unified = False
    # The context is given, so there is nothing to fit; the try would read the model twice.
    params.fit_params = False
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    # Each open answer holds one HTTP thread; the rest is for health, metrics and those who wait.
    params.n_threads_http = options.parallel + 6
    params.cache_ram_mib = options.cache_mib
    params.use_jinja = True
    params.ui = False
    params.cors_origins = "null"
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.verbosity = options.verbosity
    if options.embed:
        params.embedding = True
    key = os.environ.pop("LLAMA_CHILD_KEY", "")
    if key:
        params.api_keys = [key]
    return params


def wait_healthy(port):
    """The engine answers /health without a key, and with 200 only once the model is loaded."""
    end = time.monotonic() + HEALTHY_WITHIN_S
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    leave(EXIT_SICK, f"not healthy after {HEALTHY_WITHIN_S} s")


def parse(arguments):
    def bounded(low, high):
        def convert(text):
            value = int(text)
            if not low <= value <= high:
                raise argparse.ArgumentTypeError(f"must be {low} to {high}")
            return value
        return convert

    parser = argparse.ArgumentParser(prog="llama_child", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--alias", default="", help="its name in answers; else the file's")
    parser.add_argument("--port", type=bounded(0, 65535), default=0, help="0 = any free one")
    parser.add_argument("--threads", type=bounded(1, 256), default=max(1, os.cpu_count() or 1))
    parser.add_argument("--parallel", type=bounded(1, 64), default=2, help="answers at a time")
    parser.add_argument("--ctx", type=bounded(256, 1 << 20), default=8192,
                        help="tokens for all parallel answers together; each gets its share")
    parser.add_argument("--cache-mib", type=bounded(0, 1 << 20), default=256,
                        help="memory for the prompts of past conversations")
    parser.add_argument("--embed", action="store_true", help="serve embeddings")
    parser.add_argument("--parent", type=bounded(1, 1 << 30), default=0,
                        help="process that started this one; if it is gone, so are we")
    parser.add_argument("--verbosity", type=bounded(0, 5), default=1)
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    die_with_parent(options.parent)
    if options.parent:
        # A Ctrl-C reaches the whole group; the parent decides when we go, after its drain.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    check_cpu()
    check_model(options.model)
    port = choose_port(options.port)
    engine = import_engine()
    try:
        server = engine.Server(make_params(engine, options, port))
    except Exception as error:  # the engine raises whatever it likes
        leave(EXIT_MODEL, f"model {options.model}: {error}")
    wait_healthy(port)
    print(f"event=listening port={port}", flush=True)
    # The default actions of SIGTERM and SIGINT end the process; Python handlers would have to
    # wait for the engine's C code. The name keeps the server alive.
    while server:
        signal.pause()


if __name__ == "__main__":
    main()
