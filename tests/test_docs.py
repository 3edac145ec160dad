"""What the documentation shows is what the toolkit takes."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from compress.data.augmentation import AnyAugmentation
from compress.recipe import Recipe

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = [
    pytest.param(yaml.safe_load(block), id=f"{file.stem}-{number}")
    for file in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", file.read_text(), flags=re.S), 1)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_every_recipe_in_the_docs_parses(block):
    assert block
    if isinstance(block, list) and "method" in block[0]:
        assert TypeAdapter(list[AnyAugmentation]).validate_python(block)
        return
    recipe = block if isinstance(block, dict) else {"passes": block}
    if set(recipe) == {"passes"}:  # an excerpt; with any other key it is a recipe to be run as it stands
        recipe = {"name": "docs", "model": "minilm-l6"} | recipe
    assert Recipe.model_validate(recipe).passes
