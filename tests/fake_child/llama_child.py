#!/usr/bin/env python3
"""A stand-in for tools/llama_child.py: the same flags, the same line, the scripted upstream inside.

The "model file" is JSON that says how to misbehave:

    {"exit": 3}                 ends at once with this code
    {"hold": "/path/of/fifo"}   is slow to start: waits until somebody has written to the FIFO
    {"mute": true}              listens, but never says so
    {"arguments": "/path"}      notes its arguments and environment there, as JSON

Directives in the prompt ([[exit:7]], [[freeze]], ...) do the rest: see upstream.py.
"""
import argparse
import asyncio
import ctypes
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), ".."))
import upstream  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    for flag in ("--port", "--threads", "--parallel", "--ctx", "--parent"):
        parser.add_argument(flag, type=int, default=0)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
    with open(options.model, encoding="utf-8") as file:
        how = json.load(file)
    if "arguments" in how:
        with open(how["arguments"], "w", encoding="utf-8") as file:
            json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, file)
    if "exit" in how:
        sys.exit(how["exit"])
    if "hold" in how:
        with open(how["hold"], encoding="utf-8") as fifo:
            fifo.read()
    if how.get("mute"):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    asyncio.run(upstream.serve(options.port))


if __name__ == "__main__":
    main()
