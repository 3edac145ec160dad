"""What several test files share."""

import pytest

from compress import display


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
