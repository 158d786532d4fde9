#!/usr/bin/env python3
"""tidy: holds the house to its rules; prints FILE:LINE: what is wrong, and fails if anything is.

Of C in src/:   the arrows of src/ROOMS, private headers, one public header a room, banned calls,
                70 lines a function, a test for each file, headers that compile alone
Everywhere:     100 columns (not TypeScript), no tabs or trailing blanks, no leftover markers
Others' tools:  clang-format, tsc, prettier, Python's own parser, bash -n

    tidy.py [ROOT] [--no-tools]

src/ROOMS has one line a room, from the ground up: `name  purpose : rooms it may include`. Everyone
may include base, codec, config and diag as far as they stand above it in the file; from `net` on
also engine; from `journal` on also bus. Arrows are direct includes, not transitive.
"""
import ast
import re
import subprocess
import sys
from pathlib import Path

COMMON = ("base", "codec", "config", "diag")
SINCE = (("net", "engine"), ("journal", "bus"))
TOOLBOXES = ("base", "codec")
# Public beside their room's own header: the messages, and the table that the build writes.
MORE_PUBLIC = ("bus/messages.h", "api/assets.h")
COLUMNS_MAX = 100
NARROW_FILES = (".c", ".h", ".py", ".sh")
FUNCTION_LINES_MAX = 70
MARKERS = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")

HEAP = ("malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf "
        "aligned_alloc posix_memalign memalign")
CLOCKS = "clock_gettime gettimeofday time clock ftime timespec_get"
UNSAFE = "sprintf vsprintf strcpy strcat gets strtok"
SLEEPS = "sleep usleep nanosleep clock_nanosleep"

SOURCE_FOLDERS = ("src", "tools", "tests", "bench", "web", "sdk", "docs", "deploy", ".ci")
SKIP_FOLDERS = {"node_modules", "dist", "build", "__pycache__", "corpus", "coverage", ".deps"}
CODE_FILES = NARROW_FILES + (".ts", ".tsx", ".mjs")
TEXT_FILES = CODE_FILES + (".js", ".css", ".html", ".md", ".yaml", ".yml", ".dict", ".sql")


# What prettier keeps in shape, from web/ (.prettierrc.json).
PRETTY = ("src/**/*.{ts,tsx}", "test/**/*.{ts,mjs}", "e2e/**/*.{mjs,ts}", "tools/*.mjs", "*.ts",
          "../sdk/js/src/*.ts", "../sdk/js/test/*.{ts,mjs}", "../sdk/js/*.ts")


def calls(names):
    """A call of one of these plain functions: not `x.free(`, not `blob_free(`."""
    return re.compile(r"(?<![\w.>])(" + "|".join(names.split()) + r")\s*\(")


BANNED = (  # what, where it is allowed, does it hold for tests
    (calls(HEAP), ("base",), False, "memory comes from base"),
    (calls(CLOCKS), ("engine",), True, "the time comes from engine, as an argument"),
    (calls(SLEEPS), ("engine",), True, "nothing sleeps; wait for the thing itself"),
    (calls(UNSAFE), (), True, "it does not know how much room there is"),
)


class Report:
    def __init__(self, root):
        self.root, self.lines = root, []

    def add(self, path, line, text):
        try:
            path = path.relative_to(self.root)
        except (ValueError, AttributeError):
            pass
        self.lines.append(f"{path}:{line}: {text}" if line else f"{path}: {text}")


# ------------------------------------------------------------------------------- ROOMS

def read_rooms(text):
    """{room: rooms it may include, itself too}, in the order of the file."""
    rooms = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = re.match(r"([a-z]+)\s+(\S.*?)(?:\s+:(?:\s+(.*))?)?\s*$", line)
        if match is None:
            raise ValueError(f"line {number}: not `name  purpose : rooms`")
        name, _, arrows = match.groups()
        if name in rooms:
            raise ValueError(f"line {number}: {name} is there twice")
        allowed = {name} | {room for room in COMMON if room in rooms}
        for first, also in SINCE:
            if first == name or first in rooms:
                allowed |= {also} & set(rooms)
        for room in (arrows or "").split():
            if room not in rooms:
                raise ValueError(f"line {number}: {name} may not include {room}, "
                                 "which does not stand above it")
            allowed.add(room)
        rooms[name] = allowed
    return rooms


def check_arrow(report, rooms, path, number, target):
    room = path.parent.name if path.parent.name in rooms else None
    if "/" not in target:
        report.add(path, number, f'"{target}": includes are written room/file.h')
        return
    other = target.split("/")[0]
    if other not in rooms:
        report.add(path, number, f'"{target}": no such room')
    elif room is not None and other not in rooms[room]:
        report.add(path, number, f"{room} may not include {other}")
    if target.endswith("_priv.h") and other != room:
        report.add(path, number, f'"{target}" is private to {other}')


def check_rooms(report, root):
    src = root / "src"
    try:
        rooms = read_rooms((src / "ROOMS").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        report.add(src / "ROOMS", 0, str(error))
        return {}
    for path in sorted(src.glob("**/*.[ch]")):
        if "corpus" in path.parts:
            continue
        depth = len(path.relative_to(src).parts)
        if depth > 2 or (depth == 2 and path.parent.name not in rooms):
            report.add(path, 0, "not in a room of src/ROOMS")
            continue
        check_public_header(report, path, depth)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if match:
                check_arrow(report, rooms, path, number, match.group(1))
    return rooms


def check_public_header(report, path, depth):
    if path.suffix != ".h" or depth != 2 or path.name.endswith("_priv.h"):
        return
    room = path.parent.name
    if room in TOOLBOXES or path.stem == room or f"{room}/{path.name}" in MORE_PUBLIC:
        return
    report.add(path, 0, f"a room has one public header, {room}.h; others are *_priv.h")


def check_tests(report, root, rooms):
    for room in rooms:
        folder = root / "src" / room
        tests = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*_test.c")}
        for path in sorted(folder.glob("*.c")):
            if path.name.endswith(("_test.c", "_fuzz.c")) or f"{path.stem}_test.c" in tests:
                continue
            named = re.compile(r"(?<![\w/])(?:\w+/)?" + re.escape(path.name) + r"\b")
            if not any(named.search(text) for text in tests.values()):
                report.add(path, 0, f"no test of the room is {path.stem}_test.c or names it")


# ----------------------------------------------------------------------------------- C

def blank_out(text):
    """The same text with comments, strings and characters made blank; lines stay where they are."""
    def blank(match):
        word = match.group(0)
        if word.startswith(("/", "#")):
            return re.sub(r"[^\n]", " ", word)
        return word[0] + re.sub(r"[^\n]", " ", word[1:-1]) + word[-1]

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.DOTALL)


def without_directives(text):
    """Preprocessor lines, with what continues them, made blank."""
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  text, flags=re.MULTILINE)


def functions(text):
    """(name, first line, lines) of each function in C text that was blanked out."""
    text = without_directives(text)
    found, depth, start, name, head = [], 0, 0, None, 0
    for match in re.finditer(r"[{};]", text):
        mark, at = match.group(0), match.start()
        if mark == "{":
            if depth == 0:
                signature = text[head:at]
                called = re.search(r"([A-Za-z_]\w*)\s*\(", signature)
                is_function = called and "=" not in signature and signature.rstrip().endswith(")")
                name = called.group(1) if is_function else None
                start = head + len(signature) - len(signature.lstrip())
            depth += 1
        elif mark == "}":
            depth = max(0, depth - 1)
            if depth == 0:
                if name is not None:
                    first = text.count("\n", 0, start) + 1
                    found.append((name, first, text.count("\n", start, at) + 1))
                name, head = None, at + 1
        elif depth == 0:
            head = at + 1
    return found


def check_c(report, path, text, room):
    code = blank_out(text)
    for name, first, lines in functions(code):
        if lines > FUNCTION_LINES_MAX:
            report.add(path, first, f"{name} has {lines} lines, {FUNCTION_LINES_MAX} are allowed")
    is_test = path.name.endswith(("_test.c", "_fuzz.c")) or path.name.startswith("test_")
    for pattern, allowed, for_tests, why in BANNED:
        if room in allowed or (is_test and not for_tests):
            continue
        for match in pattern.finditer(code):
            line = code.count("\n", 0, match.start()) + 1
            report.add(path, line, f"{match.group(1)}: {why}")


# ---------------------------------------------------------------------------- all files

def project_files(root):
    for folder in SOURCE_FOLDERS:
        for path in sorted((root / folder).glob("**/*")):
            if path.is_file() and not SKIP_FOLDERS & set(path.relative_to(root).parts):
                yield path
    for name in ("Makefile", "README.md", "CHANGELOG.md"):
        if (root / name).is_file():
            yield root / name


def check_text(report, path, text):
    code = path.suffix in CODE_FILES
    for number, line in enumerate(text.split("\n"), 1):
        if path.suffix in NARROW_FILES and len(line) > COLUMNS_MAX:
            report.add(path, number, f"{len(line)} columns, {COLUMNS_MAX} are allowed")
        if code and "\t" in line:
            report.add(path, number, "a tab")
        if code and line != line.rstrip():
            report.add(path, number, "blanks at the end of the line")
        match = MARKERS.search(line)
        if match:
            report.add(path, number, f"leftover {match.group(1)}")
    if code and text and not text.endswith("\n"):
        report.add(path, 0, "no newline at the end")


def check_python(report, path, text):
    try:
        ast.parse(text, str(path))
    except SyntaxError as error:
        report.add(path, error.lineno or 0, f"Python: {error.msg}")


def check_files(report, root):
    for path in project_files(root):
        if path.suffix not in TEXT_FILES and path.name != "Makefile":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            report.add(path, 0, "not UTF-8")
            continue
        check_text(report, path, text)
        if path.suffix == ".py":
            check_python(report, path, text)
        parts = path.relative_to(root).parts
        if path.suffix in (".c", ".h") and parts[0] == "src":
            check_c(report, path, text, parts[1] if len(parts) > 2 else None)


# ------------------------------------------------------------------------ others' tools

def tool(report, root, name, command, cwd=None):
    """Run a tool; its own words are the report. One that is not here is said, not skipped."""
    try:
        done = subprocess.run(command, cwd=cwd or root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        report.add(name, 0, f"{command[0]} is not installed: run make deps")
        return
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        report.lines += [f"{name}: {line}" for line in lines[:200]] or [f"{name}: failed"]


def has_command(name):
    return subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True,
                          check=False).returncode == 0


def check_format(report, root, files):
    """One line a file: `make format` puts it right, so the places do not matter."""
    name = "clang-format-14" if has_command("clang-format-14") else "clang-format"
    try:
        done = subprocess.run([name, "--dry-run", *map(str, files)], cwd=root, text=True,
                              capture_output=True, check=False)
    except FileNotFoundError:
        report.add("clang-format", 0, "not installed: run make deps")
        return
    places = re.findall(r"^(.+?):(\d+):\d+: (?:warning|error):", done.stderr, re.MULTILINE)
    for path in sorted({path for path, _ in places}):
        lines = [int(line) for other, line in places if other == path]
        report.add(Path(path), lines[0],
                   f"not as clang-format has it, in {len(lines)} places (make format)")
    if done.returncode != 0 and not places:
        report.add("clang-format", 0, done.stderr.strip() or f"status {done.returncode}")


def check_with_tools(report, root):
    c_files = [path for path in project_files(root) if path.suffix in (".c", ".h")]
    if c_files:
        check_format(report, root, c_files)
    for path in c_files:
        if path.suffix == ".h" and "src" in path.parts:
            tool(report, root, "header alone",
                 ["gcc", "-std=c17", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Isrc",
                  "-fsyntax-only", "-include", str(path), "-x", "c", "/dev/null"])
    for path in project_files(root):
        if path.suffix == ".sh" or path.parent.name == ".ci":
            tool(report, root, "bash", ["bash", "-n", str(path)])
    for folder in ("sdk/js", "web"):
        if (root / folder / "node_modules/.bin/tsc").exists():
            tool(report, root, folder, [str(root / "tools/node.sh"), "npx", "--no-install", "tsc",
                                        "--noEmit", "-p", "."], root / folder)
    if (root / "web/node_modules/.bin/prettier").exists():
        tool(report, root, "web", [str(root / "tools/node.sh"), "npx", "--no-install", "prettier",
                                   "--check", "--log-level", "warn", *PRETTY], root / "web")


def main(arguments):
    plain = [word for word in arguments if not word.startswith("--")]
    root = Path(plain[0] if plain else Path(__file__).parent.parent).resolve()
    report = Report(root)
    rooms = check_rooms(report, root)
    check_tests(report, root, rooms)
    check_files(report, root)
    if "--no-tools" not in arguments:
        check_with_tools(report, root)
    for line in report.lines:
        print(line)
    print(f"tidy: {len(report.lines)} things to put right" if report.lines else "tidy")
    return 1 if report.lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
