#!/usr/bin/env python3
"""embed: turns the built page into a C file that carries it (src/api/assets.h).

    embed.py FOLDER OUT.c     from FOLDER/manifest.json; without one, an empty table
    embed.py --none OUT.c     an empty table

manifest.json is written by the page's build: {"version": 1, "files": [...]} with rows like

    {"path": "/", "file": "index.html", "type": "text/html; charset=utf-8", "cache": "no-cache",
     "etag": "\\"11150c\\"", "headers": {"Content-Security-Policy": "default-src 'none'; ..."}}

Of the headers the table carries the policy; those in EVERYWHERE are sent with every file, and any
other is refused, because it would be lost.

The siblings FILE.gz and FILE.br are taken along if they are there and smaller. The bytes enter by
.incbin, so that the compiler never sees them; their hashes stand in the C file, so that it changes
whenever they do. OUT.c is written only if it would change.
"""
import hashlib
import json
import os
import sys
from pathlib import Path

HEAD = """/* Written by tools/embed.py: the page, as bytes. */
#include "api/assets.h"

"""


# What the api room sends with everything; the page may say so, but cannot say otherwise.
EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Refused(Exception):
    """The manifest says something that cannot be embedded."""


def c_string(text):
    """A C literal; octal for all that is not plain, so that no escape runs into the next letter."""
    if text is None:
        return "NULL"
    out = []
    for byte in text.encode("utf-8"):
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        out.append(chr(byte) if plain else f"\\{byte:03o}")
    return '"' + "".join(out) + '"'


def read_manifest(folder):
    path = folder / "manifest.json"
    if not path.exists():
        return []
    data = json.loads(path.read_text(encoding="utf-8"))
    if data.get("version") != 1:
        raise Refused("manifest.json: only version 1 is known here")
    return [check_row(row, folder) for row in data["files"]]


def policy_of(row):
    headers = dict(row.get("headers") or {})
    policy = headers.pop("Content-Security-Policy", None)
    for name, value in headers.items():
        if EVERYWHERE.get(name) != value:
            raise Refused(f"manifest.json: {row['path']}: nobody would send {name}: {value}")
    return policy


def check_row(row, folder):
    for key in ("path", "file", "type", "cache", "etag"):
        if not isinstance(row.get(key), str) or not row[key]:
            raise Refused(f"manifest.json: a row without {key}: {row}")
    row = dict(row, csp=policy_of(row))
    for key in ("path", "type", "cache", "etag", "csp"):
        if any(ord(letter) < 32 for letter in row[key] or ""):
            raise Refused(f"manifest.json: {row['path']}: {key} has a control character")
    if not row["path"].startswith("/"):
        raise Refused(f"manifest.json: {row['path']}: a path begins with /")
    etag = row["etag"]
    if not (etag.startswith('"') or etag.startswith('W/"')):
        etag = f'"{etag}"'
    file = (folder / row["file"]).resolve()
    if folder.resolve() not in file.parents or not file.is_file():
        raise Refused(f"manifest.json: {row['path']}: no file {row['file']} in {folder}")
    return dict(row, etag=etag, file=file)


def block(symbol, file):
    """The bytes of one file as a symbol in read-only data."""
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = str(file)
    if any(letter in path for letter in '"\\\n'):
        raise Refused(f"{path}: a name that the assembler would not take")
    return (f"/* {digest} */\n"
            f'__asm__(".section .rodata\\n.balign 16\\n{symbol}:\\n"\n'
            f'        ".incbin \\"{path}\\"\\n.byte 0\\n.text\\n");\n'
            f"extern const uint8_t {symbol}[];\n\n")


def make(rows):
    """The whole C file."""
    rows = sorted(rows, key=lambda row: row["path"].encode("utf-8"))
    for one, two in zip(rows, rows[1:]):
        if one["path"] == two["path"]:
            raise Refused(f"manifest.json: {one['path']} is there twice")
    blocks, table = [], []
    for index, row in enumerate(rows):
        raw_bytes = row["file"].stat().st_size
        forms = []
        for form, tail in (("raw", ""), ("gzip", ".gz"), ("br", ".br")):
            file = row["file"].with_name(row["file"].name + tail)
            size = file.stat().st_size if file.is_file() else 0
            if tail and (size == 0 or size >= raw_bytes):
                continue
            symbol = f"asset_{index}_{form}"
            blocks.append(block(symbol, file))
            forms.append(f"        .{form} = {symbol},\n        .{form}_bytes = {size},\n")
        texts = "".join(f"        .{key} = {c_string(row[key])},\n"
                        for key in ("path", "type", "cache", "etag", "csp"))
        table.append("    {\n" + texts + "".join(forms) + "    },\n")
    body = "".join(table) if table else "    {.path = NULL},\n"
    return (HEAD + "".join(blocks) + "const struct asset assets[] = {\n" + body + "};\n\n"
            f"const size_t assets_count = {len(rows)};\n")


def write_if_changed(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        os.utime(path)
        return
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def main(arguments):
    if len(arguments) != 2:
        print("usage: embed.py FOLDER|--none OUT.c", file=sys.stderr)
        return 2
    try:
        rows = [] if arguments[0] == "--none" else read_manifest(Path(arguments[0]))
        write_if_changed(Path(arguments[1]), make(rows))
    except (Refused, OSError, ValueError, KeyError) as error:
        print(f"embed.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
