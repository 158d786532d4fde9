#!/usr/bin/env python3
"""WebSocket echo: CPU time of the server per message, kith beside the floor, in one run.

    run_echo.py [FOLDER] [--rounds N] [--seconds S]

FOLDER (build/release/bench) holds the programs echo_floor, echo_kith and echo_load, from bench/*.c.
Floor and kith take turns, so that what else the machine does meets both; each figure is the median
over the rounds, and the ratio is the median of the rounds' ratios. With two processors or more,
server and load have one each.
"""
import argparse
import os
import statistics
import subprocess
from pathlib import Path

BUILT = Path(__file__).resolve().parent.parent / "build/release/bench"

# what, connections, messages in flight on each, bytes, kind of frame
CASES = (
    ("1 connection, one at a time, 128 B", 1, 1, 128, "binary"),
    ("50 connections, one at a time, 128 B", 50, 1, 128, "binary"),
    ("50 connections, one at a time, 128 B text", 50, 1, 128, "text"),
    ("50 connections, 32 in flight, 128 B", 50, 32, 128, "binary"),
    ("50 connections, 32 in flight, 128 B text", 50, 32, 128, "text"),
    ("50 connections, one at a time, 4 KiB", 50, 1, 4096, "binary"),
)


def on_processor(number):
    """A preexec function that binds the child to one processor, where there are two."""
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        return None
    return lambda: os.sched_setaffinity(0, {processors[number]})


class Server:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdout=subprocess.PIPE, preexec_fn=on_processor(0))
        self.port = int(self.process.stdout.readline())

    def measure(self, load, case, seconds):
        """(messages a second, CPU nanoseconds of the server per message)"""
        _, connections, batch, size, kind = case
        words = [load, self.port, self.process.pid, connections, batch, size, seconds, kind]
        done = subprocess.run([str(word) for word in words], stdout=subprocess.PIPE, check=True,
                              preexec_fn=on_processor(1))
        messages, spent, cpu = (float(word) for word in done.stdout.split())
        return messages / spent, cpu / messages

    def stop(self):
        self.process.kill()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?", default=BUILT)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    load = options.folder / "echo_load"
    servers = [Server(options.folder / name) for name in ("echo_floor", "echo_kith")]
    print(f"{'what':44} {'floor':>12} {'kith':>12} {'ratio':>7}   CPU ns per message (messages/s)")
    try:
        for case in CASES:
            rounds = [[server.measure(load, case, options.seconds) for server in servers]
                      for _ in range(options.rounds)]
            floor, kith = (statistics.median(one[side][1] for one in rounds) for side in (0, 1))
            rates = [statistics.median(one[side][0] for one in rounds) for side in (0, 1)]
            ratio = statistics.median(one[1][1] / one[0][1] for one in rounds)
            print(f"{case[0]:44} {floor:12.0f} {kith:12.0f} {ratio:7.3f}   "
                  f"({rates[0]:.0f}, {rates[1]:.0f})", flush=True)
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
