"""A whole search on a tiny model: the winner, its recipe, a second call, limits that nothing can keep."""

import json
import subprocess
import sys

import pytest
import torch
import yaml
from tiny_data import write_reviews
from tiny_models import Artifact, Manifest, logits, tiny_model, tiny_tokenizer

from compress import running
from compress.artifact import content_hash, load, read_manifest, save
from compress.benchmark.report import read_report
from compress.errors import InputError
from compress.quantization import quantize_model
from compress.search import halving, proof, run, space, table
from compress.search.halving import Job
from compress.search.limits import Limits
from compress.search.run import expected_seconds, search
from compress.search.setting import Options

# Any tiny model is some ten times as fast in ONNX Runtime as in torch: two leaves room for all, 1,000 for none.
EASY, HARD = Limits(max_drop=100, min_speedup=2, max_size_mb=50), Limits(max_drop=100, min_speedup=1000)


def last_rung(structure, results):
    """The job that a structure came to last."""
    return next(job for rung in reversed(halving.RUNGS) if (job := Job(structure, rung)) in results)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search over three depths, two sparsities and no widths, its benches short."""
    folder = tmp_path_factory.mktemp("search")
    save(Artifact(tiny_model("bert", 3), tiny_tokenizer(), Manifest(source="tiny")), folder / "model")
    write_reviews(folder / "reviews.csv")
    patch = pytest.MonkeyPatch()
    patch.setattr(space, "_DEPTHS", (1 / 3,))
    patch.setattr(space, "_WIDTHS", (1,))
    patch.setattr(space, "_SPARSITIES", (0.0, 0.5))
    patch.setattr(space, "_KEEPS", (1.0,))
    patch.setattr(halving, "LONG", 1)
    # So little data teaches nothing and all rungs score alike: take the one with the most to make again.
    patch.setattr(halving, "_best", last_rung)
    for module in (table, proof):
        patch.setattr(module, "_SECONDS", 1.0)
        variants = [
            each for each in module.sensible_variants((), True, False)[0] if each.name == "int8-dynamic"
        ]
        patch.setattr(module, "sensible_variants", lambda *_, kept=variants, **__: (kept, []))
    found = search(
        str(folder / "model"), str(folder / "reviews.csv"), EASY, folder / "out", options=Options(epochs=1)
    )
    yield folder, found
    patch.undo()


def test_the_winner_is_ready_to_ship(found):
    folder, result = found

    assert result.missed == ()
    assert result.winner.job == Job(space.Structure(1, 32, 0.0, 1.0, 20), "long")
    assert content_hash(folder / "out" / "winner") == content_hash(result.winner.folder)
    assert (folder / "out" / "winner" / "onnx" / "model_quantized.onnx").exists()
    history = [record.name for record in read_manifest(folder / "out" / "winner").history]
    assert history == ["finetune", "distill", "distill", "distill", "quantize", "export"]


def test_its_numbers_are_those_of_the_bench(found):
    folder, result = found

    report = read_report(folder / "out" / "bench" / "report.json")
    row = next(row for row in report.rows if row.name == result.winner.name and row.sequence_length == 0)
    assert result.winner.speedup == (row.speedup_vs_first.value, *row.speedup_vs_first.ci95)
    assert result.winner.measured.size_mb == row.size_mb
    scored = next(each for each in report.accuracy if each.name == result.winner.name)
    assert result.winner.test == scored.metric.value
    told = json.loads((folder / "out" / "search.json").read_text())
    assert told["speedup"] == list(result.winner.speedup)
    assert told["missed"] == []
    text = (folder / "out" / "search.md").read_text()
    assert "keeps all limits" in text
    assert "1 of 3 layers" in text


def test_the_recipe_makes_the_winner_again(found, tmp_path):
    folder, result = found
    recipe = yaml.safe_load((folder / "out" / "recipe.yaml").read_text())
    assert [each["pass"] for each in recipe["passes"]][:2] == ["finetune", "distill"]
    assert recipe["passes"][2]["teacher"] == "step:1"

    again = running.run(folder / "out" / "recipe.yaml", tmp_path / "again").steps[-1]

    assert torch.equal(logits(load(again).model), logits(load(folder / "out" / "winner").model))


def test_a_second_call_does_nothing_again(found, monkeypatch):
    folder, result = found
    monkeypatch.setattr(run, "do", lambda *_: pytest.fail("a job was done again"))

    again = search(
        str(folder / "model"), str(folder / "reviews.csv"), EASY, folder / "out", options=Options(epochs=1)
    )

    assert again.winner.speedup == result.winner.speedup
    assert again.results == result.results


def test_the_nearest_is_saved_where_nothing_is_within(found):
    folder, result = found

    near = search(
        str(folder / "model"), str(folder / "reviews.csv"), HARD, folder / "out", options=Options(epochs=1)
    )

    assert len(near.missed) == 1
    assert near.missed[0].endswith("× of 1000×")
    assert load(near.folder).model is not None
    assert len(near.shortlist.structures) == 1
    assert "**misses" in (folder / "out" / "search.md").read_text()


def test_jobs_are_expected_to_take_what_such_jobs_took(found):
    _, result = found
    job = Job(space.Structure(1, 32, 0.0, 1.0, 20), "short")
    results = {job: halving.Result(score=1, seconds=10)}

    assert (
        expected_seconds(Job(job.structure, "long"), results, result.setting) == 10
    )  # as many epochs and texts
    assert expected_seconds(Job(space.Structure(3, 32, 0.0, 1.0, 20), "short"), results, result.setting) == 30
    assert expected_seconds(Job(job.structure, "shape"), {}, result.setting) == 0


def test_nothing_is_begun_that_would_end_late(found):
    folder, _ = found
    with pytest.raises(InputError, match="no time for any structure"):
        search(
            str(folder / "model"),
            str(folder / "reviews.csv"),
            EASY,
            folder / "out",
            options=Options(epochs=2),
            time_limit=1,
        )


def test_an_int8_model_is_refused(found, tmp_path):
    folder, _ = found
    model = load(folder / "out" / "reference")
    quantize_model(model.model)
    save(model, tmp_path / "int8")
    with pytest.raises(InputError, match="int8 already"):
        search(str(tmp_path / "int8"), str(folder / "reviews.csv"), EASY, tmp_path / "out")


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--max-drop", "1"], "--min-speedup"),
        (["--min-speedup", "-2"], "min_speedup"),
        (["--min-speedup", "2", "--time-limit", "soon"], "'soon' is no time"),
        (["--min-speedup", "2"], "--data"),
    ],
)
def test_bad_input_is_one_message(found, tmp_path, arguments, cause):
    folder, _ = found
    done = subprocess.run(
        [
            sys.executable,
            "cli.py",
            "search",
            str(folder / "model"),
            *arguments,
            "--out",
            str(tmp_path / "out"),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert cause in done.stderr
    assert "Traceback" not in done.stderr
