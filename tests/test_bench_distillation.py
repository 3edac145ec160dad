"""The suite of distillations: means over seeds, and paired intervals."""

from dataclasses import replace

import numpy as np
import pytest

from bench.distillation import cells
from bench.distillation.cells import Cell, _cell
from bench.distillation.plot import draw
from bench.distillation.record import Record, difference_interval, measured, merged, read, write
from bench.distillation.report import table
from bench.distillation.rows import ROWS, SETTINGS
from compress.passes.distill import Distill


def cell(wrong):
    """Two hundred answers, the given share of them wrong, spread evenly."""
    flipped = np.arange(200) % round(1 / wrong) == 0 if wrong else np.zeros(200, bool)
    return Cell(np.stack([~flipped, np.ones(200)], -1).astype(np.float64))


def test_the_interval_is_paired_and_of_means_over_seeds():
    # Both rows miss every tenth text, and the second row every fifth besides: what they share does not widen it.
    low, high = difference_interval([cell(0.1)], [cell(0.1)], "accuracy")
    assert (low, high) == (0, 0)
    low, high = difference_interval([cell(0)], [cell(0.2)], "accuracy")
    # 20 points; the standard error of a share of 0.2 of 200 is 2.83, twice that either way about 5.5.
    assert low == pytest.approx(14.5, abs=1)
    assert high == pytest.approx(25.5, abs=1)


def test_correlations_are_resampled_alike():
    numbers = np.arange(100.0)
    noisy = numbers + np.random.default_rng(0).normal(0, 40, 100)
    right, worse = (Cell(np.stack([values, numbers], -1)) for values in (numbers, noisy))
    low, high = difference_interval([right], [worse], "spearman")
    assert 0 < low < high < 1


def test_the_table_has_a_line_a_row_with_its_difference():
    found = {("movie-reviews", "l6", "3 layers"): {"labels": [cell(0.2), cell(0.1)], "kd": [cell(0)]}}
    lines = table(measured(found, {("movie-reviews", "l6"): cell(0.05)}, "this machine"))
    assert lines[1] == "## movie-reviews, 3 layers, taught by minilm-l6 (95.00)"
    assert lines[5].startswith("| labels alone | 85.00 | ± 7.07 |  | 2 |")
    # From the mean of 80 and 90 to 100.
    assert lines[6].startswith("| + soft targets | 100.00 |  | +15.00 [")
    assert lines[-1] == "movie-reviews, 3 layers: this machine"


def record(row, scores, machine="old", student="3 layers", teacher_score=86.0):
    return Record("movie-reviews", "l6", student, row, scores, [1.0, 0.5, 1.5], teacher_score, machine)


def test_the_picture_has_a_panel_for_each_group_with_a_difference(tmp_path):
    alone = replace(record("labels", [84.0]), against_labels=None)
    records = [alone, record("kd", [85.0, 86.0]), record("kd", [85.0], student="6 layers")]
    draw(records, tmp_path / "all.svg")
    drawn = (tmp_path / "all.svg").read_text()
    draw(records, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == drawn
    assert [title in drawn for title in ("movie-reviews, 3 layers", "movie-reviews, 6 layers", "stsb")] == [
        True,
        True,
        False,
    ]
    assert (drawn.count("2 seeds"), drawn.count("soft targets")) == (1, 2)
    draw([alone], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_a_run_changes_only_its_own_rows(tmp_path):
    earlier = [record("labels", [84.0, 83.0]), record("kd", [85.0]), record("mse", [84.5])]
    # Labels alone by one seed do not displace those of two; soft targets, as often measured, are newer.
    # Squared error without labels alone beside it would lose its difference.
    alone = replace(record("mse", [90.0, 91.0], "new"), against_labels=None)
    now = [record("labels", [80.0], "new"), record("kd", [86.0], "new", teacher_score=87.0), alone]
    write(merged(earlier, now), tmp_path / "kept.json")
    kept = read(tmp_path / "kept.json")
    assert [(each.row, each.scores, each.machine) for each in kept] == [
        ("labels", [84.0, 83.0], "old"),
        ("kd", [86.0], "new"),
        ("mse", [84.5], "old"),
    ]
    lines = table(kept)
    assert lines[1].endswith("(86.00, 87.00)")
    assert lines[-3:] == [
        "movie-reviews, 3 layers (“labels alone”, “soft targets by squared error”): old",
        "",
        "movie-reviews, 3 layers (“+ soft targets”): new",
    ]
    assert read(tmp_path / "none.json") == []


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder whose teachers are there, with a content that is their name."""
    monkeypatch.setattr("bench.distillation.cells.content_hash", lambda folder: folder.name)
    return tmp_path


@pytest.mark.parametrize("data", SETTINGS)
def test_every_row_is_a_distillation_that_can_be_asked_for(data, work):
    for student, made in SETTINGS[data].students.items():
        assert made.teacher in SETTINGS[data].teachers
        assert SETTINGS[data].strongest in SETTINGS[data].teachers
        for row in ROWS:
            steps, file = _cell(data, student, row, 0, work)
            assert all(isinstance(step.pass_, Distill) for step in steps)
            assert steps[-1].folder.name == file.stem


def test_rows_share_a_stage_on_raw_text_and_nothing_else(work):
    cells = {row: _cell("movie-reviews", "3 layers", row, 0, work) for row in ROWS}
    assert cells["raw"][0][0] == cells["all"][0][0]
    assert cells["raw"][0][0].pass_.unlabelled == ("brown-pos",)
    assert cells["kindred"][0][0].pass_.unlabelled == ("movie-reviews/unlabelled", "film-reviews")
    assert cells["kindred"][0][0].folder != cells["raw"][0][0].folder
    assert len({file for _, file in cells.values()}) == len(ROWS)
    assert _cell("movie-reviews", "3 layers", "raw", 1, work)[0][0].folder != cells["raw"][0][0].folder
    assert cells["raw"][0][1].pass_.teacher.endswith("movie-reviews-l6")
    assert cells["all"][0][1].pass_.teacher.endswith("movie-reviews-mpnet")


def test_a_row_that_adds_nothing_to_a_setting_is_left_out():
    left_out = {data: {row for row in ROWS if not ROWS[row].differs(SETTINGS[data])} for data in SETTINGS}
    no_mixes = {"mixes", "kindred"}
    assert left_out == {
        "movie-reviews": {"anew"},
        "stsb": no_mixes | {"mse"},
        "reuters-r8": no_mixes | {"anew", "unlabelled", "ensemble"},
        "brown-pos": no_mixes | {"anew", "unlabelled", "ensemble"},
    }


def test_a_cells_key_knows_the_objective_and_the_method(work):
    keys = {
        _cell("stsb", "3 layers", row, 0, work)[1].stem.rsplit("-", 1)[1]
        for row in ("hidden", "relations", "unlabelled")
    }
    assert len(keys) == 3
    steps, _ = _cell("stsb", "3 layers", "unlabelled", 0, work)
    written = steps[0].pass_.model_dump(mode="json", exclude_unset=True)
    assert written["augment"] == [{"method": "near-texts", "copies": 4}]


def test_a_teacher_made_anew_answers_anew(work, monkeypatch):
    setting = SETTINGS["stsb"]
    (work / "teachers").mkdir(parents=True, exist_ok=True)
    old = work / "teachers" / "stsb-anew.npz"
    old.write_bytes(b"of a teacher that was deleted since")
    monkeypatch.setattr(cells.api, "apply", lambda steps, model, data: None)
    monkeypatch.setattr(cells, "_answered", lambda folder, setting, file: file.exists())
    monkeypatch.setitem(setting.teachers, "anew", setting.teachers["l6"])
    folder, read_from_disk = cells.teacher_cell(setting, "anew", work)
    assert folder.with_suffix(".npz") == old
    assert not read_from_disk
