"""run_tests.py counts what ran and takes no crash, hang or empty run for success."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import run_tests  # noqa: E402

CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] one
[       OK ] one
[ RUN      ] two
[  ERROR   ] --- 0x1 != 0x2
[  FAILED  ] two
[ RUN      ] three
[       OK ] three
[==========] 3 test(s) run.
[  PASSED  ] 2 test(s).
[  FAILED  ] 1 test(s), listed below:
[  FAILED  ] two

 1 FAILED TEST(S)
"""


def triple(counts):
    return counts.passed, counts.failed, counts.skipped


def test_cmocka_is_counted():
    assert triple(run_tests.read_cmocka(1, CMOCKA)) == (2, 1, 0)


def test_a_report_shows_what_went_wrong_only():
    text = run_tests.without_what_went_right(CMOCKA)
    assert "two" in text and "0x1 != 0x2" in text and "three" not in text and "one" not in text


def test_cmocka_groups_add_up():
    assert triple(run_tests.read_cmocka(2, CMOCKA + CMOCKA)) == (4, 2, 0)


def test_a_crash_in_the_middle_is_a_failure():
    text = "[==========] Running 2 test(s).\n[ RUN      ] one\n[       OK ] one\n[ RUN      ] two\n"
    assert triple(run_tests.read_cmocka(-11, text)) == (1, 1, 0)


def test_a_program_without_tests_is_a_failure():
    assert triple(run_tests.read_cmocka(0, "")) == (0, 1, 0)


def test_junit_is_counted():
    text = ('<testsuites><testsuite tests="7" failures="1" errors="1" skipped="2">'
            "</testsuite></testsuites>")
    assert triple(run_tests.read_junit(1, text)) == (3, 2, 2)


def test_pytest_that_dies_without_a_report_is_a_failure():
    assert triple(run_tests.read_junit(3, "")) == (0, 1, 0)
    assert triple(run_tests.read_junit(None, "")) == (0, 1, 0)
    assert triple(run_tests.read_junit(5, "")) == (0, 0, 0)


def test_vitest_is_counted():
    text = '{"numPassedTests":4,"numFailedTests":0,"numPendingTests":1,"success":true}'
    assert triple(run_tests.read_vitest(0, text)) == (4, 0, 1)


def test_vitest_whose_file_does_not_load_is_a_failure():
    text = '{"numPassedTests":4,"numFailedTests":0,"numPendingTests":0,"success":false}'
    assert triple(run_tests.read_vitest(1, text)) == (4, 1, 0)
    assert triple(run_tests.read_vitest(1, "")) == (0, 1, 0)


def test_the_last_plain_line_counts():
    assert triple(run_tests.read_plain(0, "1 passed, 0 failed\nx\n12 passed, 0 failed\n")) == \
        (12, 0, 0)
    assert triple(run_tests.read_plain(1, "12 passed, 0 failed\n")) == (12, 1, 0)
    assert triple(run_tests.read_plain(0, "nothing\n")) == (0, 1, 0)


def test_a_program_that_is_not_there_is_a_failure():
    status, output = run_tests.run(["/nowhere/x"], 1)
    assert status == 127 and "/nowhere/x" in output
    assert triple(run_tests.read_cmocka(status, output)) == (0, 1, 0)


def test_a_hang_is_ended_with_all_that_it_started():
    status, output = run_tests.run(["sh", "-c", "sleep 60 & echo begun; wait"], 0.3)
    assert status is None and "begun" in output and "ended after" in output
