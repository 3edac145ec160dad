"""CoNLL-style files: a word a line with its tag in the last column, sentences apart by blank lines."""

from __future__ import annotations

from compress.data.table import Table
from compress.errors import InputError


def conll_table(place: str, text: str) -> Table:
    """Return columns `tokens` and `tags`: the first and the last column of each line.

    Lines that mark a new document (`-DOCSTART-`) or begin with `# ` are left out.

    Raises:
        InputError: a line has a word and no tag.
    """
    tokens: list[list[str]] = []
    tags: list[list[str]] = []
    lines: list[int] = []
    inside = False
    for number, line in enumerate(text.split("\n"), start=1):
        cells = line.split()
        if not cells:
            inside = False
        elif cells[0] != "-DOCSTART-" and not (line.startswith("# ") and not inside):
            if len(cells) < 2:
                raise InputError(
                    f"line {number} has one column: {cells[0]!r}",
                    place=place,
                    remedy="Each line is a word, and its tag in the last column",
                )
            if not inside:
                tokens.append([])
                tags.append([])
                lines.append(number)
                inside = True
            tokens[-1].append(cells[0])
            tags[-1].append(cells[-1])
    return Table(place, {"tokens": tokens, "tags": tags}, lines=lines)
