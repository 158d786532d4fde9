"""embed.py: the C file that it writes is compiled and asked."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))
import embed  # noqa: E402

ASK = r"""
#include "api/assets.h"
#include <stdio.h>
#include <string.h>
int main(void)
{
    for (size_t i = 0; i < assets_count; i++) {
        const struct asset *a = &assets[i];
        printf("%s|%s|%s|%s|%s|", a->path, a->type, a->cache, a->etag, a->csp ? a->csp : "-");
        fwrite(a->raw, 1, a->raw_bytes, stdout);
        printf("|%zu %d|%zu %d\n", a->gzip_bytes, a->gzip != NULL, a->br_bytes, a->br != NULL);
    }
    return 0;
}
"""


def row(path, file, **more):
    headers = {"X-Content-Type-Options": "nosniff"}
    if "csp" in more:
        headers["Content-Security-Policy"] = more.pop("csp")
    return dict({"path": path, "file": file, "type": "text/plain", "cache": "no-cache",
                 "etag": '"e"', "headers": headers}, **more)


def compiled(folder, arguments):
    out = folder / "gen/assets.c"
    assert embed.main([*arguments, str(out)]) == 0
    (folder / "ask.c").write_text(ASK)
    subprocess.run(["gcc", "-std=c17", "-Wall", "-Wextra", "-Wconversion", "-Werror",
                    f"-I{ROOT / 'src'}", "-o", folder / "ask", folder / "ask.c", out], check=True)
    return subprocess.run([folder / "ask"], capture_output=True, check=True).stdout


def web(folder, rows, **files):
    (folder / "web").mkdir()
    for name, data in files.items():
        (folder / "web" / name).write_bytes(data)
    (folder / "web/manifest.json").write_text(json.dumps({"version": 1, "files": rows}))
    return str(folder / "web")


def test_bytes_and_heads_come_out_as_they_went_in(tmp_path):
    csp = "default-src 'none'; script-src 'sha256-a\"b\\?'"
    folder = web(tmp_path, [row("/b", "b.txt", csp=csp), row("/", "a.txt", etag="bare")],
                 **{"a.txt": b"root\0\xff", "b.txt": b"bbbbbbbb", "b.txt.gz": b"ggg",
                    "b.txt.br": b"bbbbbbbbbbbb"})
    assert compiled(tmp_path, [folder]) == (
        b'/|text/plain|no-cache|"bare"|-|root\0\xff|0 0|0 0\n'
        b'/b|text/plain|no-cache|"e"|' + csp.encode() + b"|bbbbbbbb|3 1|0 0\n")


@pytest.mark.parametrize("arguments", [["--none"], ["/nowhere"]])
def test_without_a_page_the_table_is_empty(tmp_path, arguments):
    assert compiled(tmp_path, arguments) == b""


def test_the_file_stays_as_it_was_if_nothing_changed(tmp_path):
    folder = web(tmp_path, [row("/", "a.txt")], **{"a.txt": b"one"})
    out = tmp_path / "assets.c"
    embed.main([folder, str(out)])
    before = out.stat().st_ino
    embed.main([folder, str(out)])
    assert out.stat().st_ino == before
    (tmp_path / "web/a.txt").write_bytes(b"two")
    embed.main([folder, str(out)])
    assert out.stat().st_ino != before


@pytest.mark.parametrize("rows", [
    [row("/", "gone.txt")], [row("/", "../web.txt")], [row("x", "a.txt")],
    [row("/", "a.txt"), row("/", "a.txt")], [row("/", "a.txt", csp="a\r\nb")],
    [row("/", "a.txt", type="")], [row("/", "a.txt", headers={"Set-Cookie": "a"})],
    [row("/", "a.txt", headers={"Referrer-Policy": "origin"})],
])
def test_a_manifest_that_is_wrong_is_refused(tmp_path, rows):
    (tmp_path / "web.txt").write_text("outside")
    assert embed.main([web(tmp_path, rows, **{"a.txt": b"a"}), str(tmp_path / "x.c")]) == 1
