"""Each rule of tidy.py, with the smallest tree that breaks it."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tidy  # noqa: E402

ROOMS = """base      bytes: no system calls
codec     wire formats
engine    one thread's world
net       byte streams :
journal   the log      : net
talk      live         : journal
"""


@pytest.fixture(name="house")
def _house(tmp_path):
    """Writes files into a tree with ROOMS and says what tidy has to say about it."""
    def build(**files):
        rooms = files.pop("ROOMS", ROOMS)
        (tmp_path / "src").mkdir()
        (tmp_path / "src/ROOMS").write_text(rooms)
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        report = tidy.Report(tmp_path)
        read = tidy.check_rooms(report, tmp_path)
        tidy.check_tests(report, tmp_path, read)
        tidy.check_files(report, tmp_path)
        return report.lines
    return build


def test_arrows_of_rooms():
    rooms = tidy.read_rooms(ROOMS)
    assert rooms["base"] == {"base"}
    assert rooms["codec"] == {"base", "codec"}
    assert rooms["engine"] == {"base", "codec", "engine"}
    assert rooms["net"] == {"base", "codec", "engine", "net"}
    assert rooms["talk"] == {"base", "codec", "engine", "journal", "talk"}


def test_bus_is_open_from_journal_on():
    rooms = tidy.read_rooms("net  a :\nbus  b : net\njournal  c :\ntext  d :\n")
    assert "bus" not in rooms["net"]
    assert {"bus"} < rooms["journal"] and "bus" in rooms["text"]


@pytest.mark.parametrize("text", ["base  a\nbase  b\n", "net  a : engine\n", "Base\n"])
def test_rooms_that_are_wrong_are_refused(text):
    with pytest.raises(ValueError):
        tidy.read_rooms(text)


def test_the_real_rooms_can_be_read():
    rooms = tidy.read_rooms((tidy.Path(__file__).parent.parent / "src/ROOMS").read_text())
    assert rooms["base"] == {"base"}
    assert "model" in rooms["reply"] and "talk" not in rooms["reply"]
    assert not {"talk", "reply"} & rooms["session"]


def test_a_clean_house_is_clean(house):
    assert house(**{"src/net/net.h": '#include "base/base.h"\n',
                    "src/net/net.c": '#include "net/net_priv.h"\nint net(void)\n{\n'
                                     '    free_all();\n    x->free(1);\n'
                                     '    blob_free(2);\n    return 0;\n}\n',
                    "src/net/net_priv.h": "/* free(), time() and strcpy() are only words here */\n",
                    "src/net/net_test.c": '#include "net/net.h"\n',
                    "src/main.c": '#include "talk/talk.h"\n'}) == []


@pytest.mark.parametrize("path, text, says", [
    ("src/net/net.h", '#include "journal/journal.h"\n', "net may not include journal"),
    ("src/base/x.h", '#include "codec/json.h"\n', "base may not include codec"),
    ("src/talk/talk.h", '#include "net/net.h"\n', "talk may not include net"),
    ("src/net/net.h", '#include "net_priv.h"\n', "room/file.h"),
    ("src/talk/talk.h", '#include "journal/sqlite_priv.h"\n', "private to journal"),
    ("src/main.c", '#include "journal/sqlite_priv.h"\n', "private to journal"),
    ("src/net/other.h", "\n", "one public header"),
    ("src/kitchen/kitchen.h", "\n", "not in a room"),
    ("src/net/a/b.h", "\n", "not in a room"),
    ("src/net/deaf.c", "\n", "no test of the room"),
    ("src/net/net.h", "/* " + 98 * "x" + "*/\n", "columns"),
    ("src/net/net.h", "int\tx;\n", "a tab"),
    ("src/net/net.h", "/* TO" "DO */\n", "leftover"),
    ("docs/x.md", "FIX" "ME\n", "leftover"),
    ("tools/x.py", "def x(:\n", "Python"),
    ("src/net/net_test.c", "void f(void)\n{\n    (void)time(NULL);\n}\n", "time:"),
    ("src/net/net_test.c", "void f(void)\n{\n    usleep(1);\n}\n", "nothing sleeps"),
    ("src/net/net.h", "static inline void f(void)\n{\n    free(NULL);\n}\n", "free: memory"),
    ("src/base/x.h", "static inline void f(char *a)\n{\n    strcpy(a, a);\n}\n", "strcpy:"),
])
def test_each_rule_says_so(house, path, text, says):
    lines = house(**{path: text})
    assert len(lines) == 1 and says in lines[0] and lines[0].startswith(path), lines


def test_heap_is_allowed_in_base_and_in_tests(house):
    body = "void f(void)\n{\n    free(malloc(1));\n}\n"
    assert house(**{"src/base/mem_test.c": body, "src/base/mem.c": body,
                    "src/net/net_test.c": body}) == []


def function_of(lines):
    return "int long_one(int a)\n{\n" + (lines - 3) * "    a++;\n" + "}\n"


def test_seventy_lines_are_allowed_and_no_more(house):
    tables = "static const int rows[] = {\n" + 80 * "    1,\n" + "};\n"
    macro = "#define TABLE(X) \\\n" + 80 * "    X(1) \\\n" + "\n"
    lines = house(**{"src/base/a.h": macro + tables + function_of(70) + function_of(71)})
    assert len(lines) == 1 and "long_one has 71 lines" in lines[0], lines


def test_a_test_may_name_a_file_instead_of_being_named_like_it(house):
    assert house(**{"src/net/a.c": "\n", "src/net/b.c": "\n",
                    "src/net/all_test.c": "/* a.c and net/b.c */\n"}) == []
