"""Recipes: what is read, what is refused, and that every shipped one is right."""

from pathlib import Path

import pytest

from compress.errors import InputError
from compress.recipe import Recipe

SHIPPED = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
GOOD = {"name": "x", "model": "m", "passes": [{"pass": "finetune"}]}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_survives_its_own_yaml(path, tmp_path):
    recipe = Recipe.read(path)
    (tmp_path / "again.yaml").write_text(recipe.yaml())
    assert Recipe.read(tmp_path / "again.yaml") == recipe


def test_there_is_a_shipped_recipe():
    assert [path.stem for path in SHIPPED].count("quickstart") == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"passs": []}, r"passs: unknown key; did you mean passes\?"),
        (
            {"passes": [{"pass": "prune", "head": 0.5}]},
            r"passes\[0\] \(prune\): head: unknown key; did you mean heads\?",
        ),
        (
            {"passes": [{"pass": "prune", "heads": 1.0}]},
            r"passes\[0\] \(prune\): heads: input should be less than 1, not 1.0",
        ),
        (
            {"passes": [{"pass": "prune", "ffn": -0.1}]},
            r"ffn: input should be greater than or equal to 0, not -0.1",
        ),
        (
            {"passes": [{"pass": "factorize", "keep": 1.5}]},
            r"passes\[0\] \(factorize\): keep: input should be less than 1",
        ),
        (
            {"passes": [{"pass": "factorize", "target_speedup": 1}]},
            r"passes\[0\] \(factorize\): target_speedup: input should be greater than 1",
        ),
        (
            {"passes": [{"pass": "finetune", "epochs": "many"}]},
            r"epochs: input should be a valid number.*not 'many'",
        ),
        (
            {"passes": [{"pass": "prone"}]},
            r"passes\[0\]: there is no 'prone'; did you mean prune\? Known: finetune,",
        ),
        ({"passes": [{"heads": 0.5}]}, r"passes\[0\]: `pass` is missing, which says what {'heads': 0.5} is"),
        ({"passes": {"pass": "prune"}}, r"passes: should be a list, not {'pass'"),
        ({"passes": ["prune"]}, r"passes\[0\]: should be keys with values, not 'prune'"),
        (
            {"passes": [{"pass": "distill", "match": [{"objective": "hidden", "layer": "last"}]}]},
            r"passes\[0\] \(distill\): match\[0\]\.hidden\.layer: unknown key; did you mean layers\? "
            r"Known: weight, objective, layers\.$",
        ),
        (
            {"passes": [{"pass": "distill", "augment": [{"method": "word-swop"}]}]},
            r"augment\[0\]: there is no 'word-swop'; did you mean word-swap\?",
        ),
        (
            {"passes": [{"pass": "distill", "temperature": [4, 2, 1], "teacher_weights": "best"}]},
            r"2 mistake(?s:.*)teacher_weights: should be equal, dev, or a list of numbers, not 'best'\."
            r"(?s:.*)temperature: should be a number, or two, \[from, to\], not \[4, 2, 1\]\.$",
        ),
        (
            {"passes": [{"pass": "distill", "match": [{"objective": "hidden", "layers": "first"}]}]},
            r"1 mistake(?s:.*)layers: should be uniform, last, or pairs .*, not 'first'\.$",
        ),
        (
            {"passes": [{"pass": "finetune", "freeze": ["head"]}]},
            r"1 mistake(?s:.*)freeze\[0\]: should be a layer's",
        ),
        ({"passes": []}, r"passes: give at least one pass"),
        ({"model": 3}, r"model: input should be a valid string, not 3"),
        ({"name": "../up"}, r"name: string should match pattern"),
        ({"data": {"source": "x", "txt": "y"}}, r"data\.txt: unknown key; did you mean text\?"),
        ({"bench": {"threads": 0}}, r"bench.threads: input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_recipe_is_refused_with_place_and_cause(change, message):
    with pytest.raises(InputError, match=message):
        Recipe.parse(GOOD | change, "r.yaml")


def test_all_mistakes_are_told_at_once():
    with pytest.raises(InputError) as caught:
        Recipe.parse({"name": "x", "passes": [{"pass": "prune", "heads": 2}], "sed": 1}, "r.yaml")
    message = str(caught.value)
    assert message.startswith("r.yaml: 3 mistake(s)")
    assert all(
        part in message for part in ("model: field required", "heads", "sed: unknown key; did you mean seed?")
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not YAML"),
        ("just words", "not a recipe"),
        ("", "not a recipe"),
        ("!!python/object:os.x {}", "not YAML"),
    ],
)
def test_a_file_that_holds_no_recipe_is_refused(tmp_path, text, message):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        Recipe.read(tmp_path / "r.yaml")


def test_a_missing_recipe_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        Recipe.read(tmp_path / "none.yaml")


def test_keys_are_changed_from_the_command_line(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "{name: x, model: m, data: d.csv, passes: [{pass: finetune}, {pass: quantize}]}"
    )
    changes = ["passes.0.epochs=1", "seed=7", "passes.1.embeddings=false", "bench.threads=2"]
    recipe = Recipe.read(tmp_path / "r.yaml", changes)
    assert recipe.passes[0].epochs == 1
    assert recipe.passes[1].embeddings is False
    assert recipe.seed == 7
    assert recipe.bench.threads == 2


@pytest.mark.parametrize(
    "change", ["passes.9.epochs=1", "passes.x.epochs=1", "seed", "name.x.y=1", "passes.0.epochs=[1"]
)
def test_a_change_that_finds_no_place_is_refused(tmp_path, change):
    (tmp_path / "r.yaml").write_text("{name: x, model: m, passes: [{pass: finetune}]}")
    with pytest.raises(InputError, match="--set"):
        Recipe.read(tmp_path / "r.yaml", [change])
