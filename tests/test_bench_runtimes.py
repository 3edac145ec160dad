"""The table of runtimes counts what is equal and hides nothing that was not run."""

import subprocess

import numpy as np
import pytest

from bench.runtimes.__main__ import ask
from bench.runtimes.clients import Answers
from bench.runtimes.environments import Missing, browser, program
from bench.runtimes.report import Row, to_markdown

TORCH = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])


def test_row_counts_equal_answers_and_the_largest_difference():
    other = np.array([[0.9, 0.1], [0.55, 0.45], [0.2, 0.8]])  # the second answer differs, by 0.15
    row = Row("OpenVINO, f32", "int8", Answers("1.0", other, 0.5, 12.34), TORCH)
    assert row.cells() == ["OpenVINO, f32", "int8", "1.0", "2", "1.5e-01", "0.50", "12.3"]


def test_what_was_not_run_is_said():
    rows = [Row("torch", "int8", Answers("2", TORCH, np.nan, np.nan), TORCH)]
    rows.append(Row("onnxruntime-node", "int8", "no node on this machine", TORCH))
    text = to_markdown("small", 3, rows)
    assert "| onnxruntime-node | int8 | not run: no node on this machine |" in text
    assert "| torch            | int8 | 2                                |          3 |" in text


def test_failures_of_one_runtime_do_not_end_the_others(tmp_path, monkeypatch):
    from bench.runtimes import clients

    def missing(place, texts):
        raise Missing("no chromium on this machine")

    def failing(place, texts):
        stderr = "Traceback\nImportError: no such library\nNode.js v20"
        raise subprocess.CalledProcessError(1, "client", stderr=stderr)

    def equal(place, texts, precision="f32"):
        return Answers("1", TORCH, 1.0, 1.0)

    monkeypatch.setattr("bench.runtimes.__main__.PICTURE", tmp_path / "images" / "page.png")
    for name in ("runner", "node", "transformers_js", "openvino"):
        monkeypatch.setattr(clients, name, equal)
    monkeypatch.setattr(clients, "page", lambda place, texts, picture: missing(place, texts))
    monkeypatch.setattr(clients, "optimum", failing)
    rows = {row.runtime: row.answers for row in ask("int8", tmp_path, tmp_path, ["a"] * 3, TORCH)}
    assert rows.pop("onnxruntime-web in Chromium") == "no chromium on this machine"
    assert rows.pop("optimum ORTModel") == "ImportError: no such library"
    assert len(rows) == 6
    assert all(isinstance(answers, Answers) for answers in rows.values())


def test_missing_programs_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CHROMIUM", raising=False)
    with pytest.raises(Missing, match="no node on this machine"):
        program("node")
    with pytest.raises(Missing, match="no chromium on this machine"):
        browser()
    monkeypatch.setenv("CHROMIUM", "/opt/browser")
    assert browser() == "/opt/browser"
