"""What several test files share."""

import sys

import pytest
from tiny_models import tiny_artifact, tiny_model

from compress import display
from compress.artifact import save
from compress.commands.app import main


@pytest.fixture(autouse=True)
def _not_silenced(monkeypatch):
    """`--quiet` lasts as long as the process, which many tests share."""
    monkeypatch.setattr(display.console, "quiet", False)


@pytest.fixture
def nothing_but_here(tmp_path, monkeypatch):
    """Work in an empty folder, with no hub and with caches of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A teacher on disk, and a cache of its own."""
    monkeypatch.setenv("COMPRESS_CACHE", str(tmp_path / "cache"))
    save(tiny_artifact(tiny_model("bert")), tmp_path / "teacher")
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    """The command line as a function."""

    def run_command(*arguments):
        """Return (exit code, stdout, stderr)."""
        monkeypatch.setattr(sys, "argv", ["compress", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return run_command
