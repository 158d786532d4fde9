#!/usr/bin/env python3
"""run_tests: runs suites one after the other, shows what failed, and adds everything up.

    run_tests.py [--build DIR] [--variant V] [--replay V] [--binary FILE] [--room "A B"] SUITE...

    tools      the tests of tools/ themselves (pytest)
    unit       the cmocka programs of the variant            tsan   those of build/tsan
    corpus     each fuzz target over its seeds               fuzz   each for --fuzz-seconds
    sdk, web   types and tests of sdk/js and of web/ (tsc, vitest)
    e2e        tests/ without a browser      e2e-web    tests marked `web`, and web's own script
    e2e-model  tests marked `chat_model`: they need the default chat model

A program that dies, hangs or runs no test at all counts as one failure. The last line is always
`N passed, N failed`; the exit status is 1 if anything failed or nothing ran.
"""
import argparse
import concurrent.futures
import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = {"tools": 300, "unit": 60, "corpus": 120, "types": 180, "vitest": 300,
             "e2e": 1800, "e2e-web": 1800, "e2e-model": 1800, "web-script": 1800}
HEARTBEAT_S = 60
OUTPUT_LINES_MAX = 400


class Counts:
    """What a suite came to; `details` is what a person must see of its failures."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped
        self.details = []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.details += other.details

    def blame(self, title, output):
        lines = output.rstrip().splitlines()
        if len(lines) > OUTPUT_LINES_MAX:
            lines = [f"({len(lines) - OUTPUT_LINES_MAX} lines before)"] + lines[-OUTPUT_LINES_MAX:]
        self.details.append(f"---- {title}\n" + "\n".join("  " + line for line in lines))


def end_group(child):
    """End a program of ours and all that it started: it leads its own session."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, timeout_s, environment=None, cwd=ROOT):
    """Status and output of a command; a status of None says that it took too long."""
    try:
        child = subprocess.Popen([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 env=dict(os.environ, **(environment or {})),
                                 start_new_session=True)
    except OSError as error:
        return 127, f"{command[0]}: {error.strerror}"
    started = time.monotonic()
    try:
        while True:
            left = timeout_s - (time.monotonic() - started)
            try:
                output = child.communicate(timeout=max(0.01, min(left, HEARTBEAT_S)))[0]
                return child.returncode, output.decode("utf-8", "replace")
            except subprocess.TimeoutExpired:
                if time.monotonic() - started >= timeout_s:
                    end_group(child)
                    output = child.communicate()[0].decode("utf-8", "replace")
                    return None, output + f"\n(ended after {timeout_s} s)"
                print(f"    {Path(str(command[0])).name} runs for "
                      f"{int(time.monotonic() - started)} s", flush=True)
    finally:
        # What a test left running would go on using the machine and hold its files.
        end_group(child)


def ended(status):
    if status is None:
        return "too slow"
    return f"signal {-status}" if status < 0 else f"status {status}"


# ------------------------------------------------------------------------------ readers

def read_cmocka(status, output):
    """Counts from cmocka's text. A crash ends the text early, so the status has the last word."""
    counts = Counts(passed=len(re.findall(r"^\[       OK \]", output, re.MULTILINE)),
                    skipped=len(re.findall(r"^\[  SKIPPED \] \D", output, re.MULTILINE)))
    counts.failed = sum(int(n) for n in re.findall(
        r"^\[  FAILED  \] (\d+) test\(s\), listed below", output, re.MULTILINE))
    if status != 0 or not counts.passed + counts.skipped:
        counts.failed = max(counts.failed, 1)
    return counts


def without_what_went_right(output):
    return re.sub(r"^\[ RUN      \] (.*)\n\[       OK \] \1\n", "", output, flags=re.MULTILINE)


def read_junit(status, text):
    """Counts from pytest's XML. Status 5 says that no test was chosen, which is legal."""
    counts = Counts()
    for suite in ElementTree.fromstring(text).iter("testsuite") if text else ():
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        counts.failed += bad
        counts.skipped += skipped
        counts.passed += max(0, int(suite.get("tests", 0)) - bad - skipped)
    if status not in (0, 5):
        counts.failed = max(counts.failed, 1)
    return counts


def read_vitest(status, text):
    data = json.loads(text) if text else {}
    counts = Counts(data.get("numPassedTests", 0), data.get("numFailedTests", 0),
                    data.get("numPendingTests", 0) + data.get("numTodoTests", 0))
    if status != 0 or not data.get("success") or not counts.passed + counts.failed:
        counts.failed = max(counts.failed, 1)
    return counts


def read_plain(status, output):
    """Counts of a script of ours that closes with `N passed, N failed`."""
    lines = re.findall(r"^\D*(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", output,
                       re.MULTILINE)
    passed, failed, skipped = (int(n or 0) for n in lines[-1]) if lines else (0, 0, 0)
    if status != 0 or not passed:
        failed = max(failed, 1)
    return Counts(passed, failed, skipped)


# ------------------------------------------------------------------------------- suites

def sources(options, tail):
    rooms = options.room.split()
    found = sorted(ROOT.glob(f"src/*/*{tail}.c"))
    return [path for path in found if not rooms or path.parent.name in rooms]


def in_parallel(work, items):
    total = Counts()
    with concurrent.futures.ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        for counts in pool.map(work, items):
            total.add(counts)
    return total


def cmocka_programs(options, variant, rooms=None):
    def one(source):
        name = f"{source.parent.name}/{source.stem}"
        status, output = run([options.build / variant / "test" / name], TIMEOUT_S["unit"],
                             {"UBSAN_OPTIONS": "print_stacktrace=1"})
        counts = read_cmocka(status, output)
        if counts.failed:
            counts.blame(f"{variant} {name}: {ended(status)}", without_what_went_right(output))
        return counts

    chosen = [source for source in sources(options, "_test")
              if rooms is None or source.parent.name in rooms]
    return in_parallel(one, chosen)


def suite_unit(options):
    return cmocka_programs(options, options.variant)


def suite_tsan(options):
    folder = options.build / "tsan/test"
    return cmocka_programs(options, "tsan", {path.name for path in folder.glob("*")})


def fuzz_parts(options, source, variant):
    thing = source.stem.removesuffix("_fuzz")
    seeds = source.parent / "corpus" / thing
    name = f"{source.parent.name}/{source.stem}"
    return name, options.build / variant / "fuzz" / name, seeds, source.with_name(thing + ".dict")


def suite_corpus(options):
    def one(source):
        name, program, seeds, _ = fuzz_parts(options, source, options.replay)
        folders = [seeds] if seeds.is_dir() else []
        status, output = run([program, "-runs=0", *folders], TIMEOUT_S["corpus"])
        counts = Counts(passed=int(status == 0), failed=int(status != 0))
        if status != 0:
            counts.blame(f"corpus {name}: {ended(status)}", output)
        return counts

    return in_parallel(one, sources(options, "_fuzz"))


def suite_fuzz(options):
    def one(source):
        name, program, seeds, words = fuzz_parts(options, source, "fuzz")
        found = options.build / "fuzz/corpus" / name
        crashes = options.build / "fuzz/crashes" / name
        found.mkdir(parents=True, exist_ok=True)
        crashes.mkdir(parents=True, exist_ok=True)
        command = [program, f"-max_total_time={options.fuzz_seconds}", "-timeout=10",
                   "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={crashes}/"]
        command += [f"-dict={words}"] if words.exists() else []
        command += [found] + ([seeds] if seeds.is_dir() else [])
        status, output = run(command, options.fuzz_seconds + 120)
        runs = re.search(r"stat::number_of_executed_units:\s*(\d+)", output)
        print(f"    {name}: {runs.group(1) if runs else '?'} runs, {ended(status)}", flush=True)
        counts = Counts(passed=int(status == 0), failed=int(status != 0))
        if status != 0:
            counts.blame(f"fuzz {name}: {ended(status)}, input kept in {crashes}", output)
        return counts

    return in_parallel(one, sources(options, "_fuzz"))


def pytest(options, name, arguments, environment=None):
    report = options.build / f"{name}.xml"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    status, output = run([sys.executable, "-m", "pytest", "-q", f"--junitxml={report}",
                          "-p", "no:cacheprovider", *arguments], TIMEOUT_S[name], environment)
    counts = read_junit(status, report.read_text() if report.exists() else "")
    if counts.failed:
        counts.blame(f"{name}: {ended(status)}", output)
    return counts


def suite_tools(options):
    return pytest(options, "tools", ["-p", "no:asyncio", *sorted(ROOT.glob("tools/*_test.py"))])


def node_package(options, folder):
    """Types, then tests, of one package; a package that is not in the tree has none."""
    name = folder.replace("/", "-")
    total = Counts()
    if not (ROOT / folder / "package.json").exists():
        return total
    node = ROOT / "tools/node.sh"
    scripts = json.loads((ROOT / folder / "package.json").read_text()).get("scripts", {})
    if "check" in scripts:
        status, output = run([node, "npm", "run", "--silent", "check"], TIMEOUT_S["types"],
                             cwd=ROOT / folder)
        total.add(Counts(int(status == 0), int(status != 0)))
        if status != 0:
            total.blame(f"{folder} types: {ended(status)}", output)
    report = options.build / f"{name}.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    status, output = run([node, "npx", "--no-install", "vitest", "run", "--reporter=default",
                          "--reporter=json", f"--outputFile.json={report}",
                          "--testTimeout=30000"], TIMEOUT_S["vitest"],
                         {"CI": "true", "NO_COLOR": "1"}, ROOT / folder)
    counts = read_vitest(status, report.read_text() if report.exists() else "")
    if counts.failed:
        counts.blame(f"{folder} vitest: {ended(status)}", output)
    total.add(counts)
    return total


def suite_sdk(options):
    return node_package(options, "sdk/js")


def suite_web(options):
    return node_package(options, "web")


def test_environment(options):
    """What tests/ needs to know: the program under test, the models, the browser."""
    environment = {"KITH_BIN": str(options.binary)}
    for name in ("test", "chat"):
        status, output = run([sys.executable, ROOT / "tools/models.py", "path", name], 60)
        if status == 0:
            environment[f"KITH_{name.upper()}_MODEL"] = output.strip()
    for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"):
        if os.path.exists(path):
            environment.setdefault("KITH_CHROMIUM", path)
    return environment


def end_to_end(options, name, marks):
    if not list(ROOT.glob("tests/**/*test*.py")):
        return Counts()
    return pytest(options, name, ["tests", "-m", marks], test_environment(options))


def suite_e2e(options):
    return end_to_end(options, "e2e", "not web and not chat_model")


def suite_e2e_web(options):
    total = end_to_end(options, "e2e-web", "web and not chat_model")
    package = ROOT / "web/package.json"
    if package.exists() and "e2e" in json.loads(package.read_text()).get("scripts", {}):
        status, output = run([ROOT / "tools/node.sh", "npm", "run", "--silent", "e2e"],
                             TIMEOUT_S["web-script"], test_environment(options), ROOT / "web")
        counts = read_plain(status, output)
        if counts.failed:
            counts.blame(f"web e2e: {ended(status)}", output)
        total.add(counts)
    return total


def suite_e2e_model(options):
    status, _ = run([sys.executable, ROOT / "tools/models.py", "path", "chat"], 60)
    if status != 0:
        subprocess.run([sys.executable, ROOT / "tools/models.py", "fetch", "chat"], check=False)
    return end_to_end(options, "e2e-model", "chat_model")


SUITES = {"tools": suite_tools, "unit": suite_unit, "tsan": suite_tsan, "corpus": suite_corpus,
          "fuzz": suite_fuzz, "sdk": suite_sdk, "web": suite_web, "e2e": suite_e2e,
          "e2e-web": suite_e2e_web, "e2e-model": suite_e2e_model}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, default=Path("build"))
    parser.add_argument("--variant", default="release")
    parser.add_argument("--replay", default="fuzz", help="the variant of the fuzz programs")
    parser.add_argument("--binary", type=Path, help="the program that the e2e suites drive")
    parser.add_argument("--room", default="", help="only these rooms")
    parser.add_argument("--fuzz-seconds", type=int, default=60)
    parser.add_argument("suites", nargs="+", choices=SUITES, metavar="SUITE")
    options = parser.parse_args()
    options.build = (ROOT / options.build).resolve()
    binary = options.binary or Path(os.environ.get("KITH_BIN") or options.build / "kith")
    options.binary = (ROOT / binary).resolve()

    total = Counts()
    for name in options.suites:
        started = time.monotonic()
        print(f"{name} ...", flush=True)
        counts = SUITES[name](options)
        for detail in counts.details:
            print(detail, flush=True)
        note = f", {counts.skipped} left out" if counts.skipped else ""
        print(f"{name}: {counts.passed} right, {counts.failed} wrong{note} "
              f"in {time.monotonic() - started:.1f} s", flush=True)
        total.add(counts)
    print(f"{total.passed} passed, {total.failed} failed", flush=True)
    return 0 if total.failed == 0 and total.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
