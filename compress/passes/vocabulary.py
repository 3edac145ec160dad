"""Keep the word pieces that the user's text is made of, in the tokenizer and in the embedding."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from compress.errors import InputError
from compress.passes.base import Context, ModelPlan, Pass
from compress.passes.recovery import check_recovery, recover

if TYPE_CHECKING:
    import datasets
    from torch import nn

    from compress.artifact import Artifact
    from compress.pruning.vocabulary.backend import State


class Vocabulary(Pass):
    """Drop the word pieces that the training text does not use, their embedding rows and output rows.

    Text whose pieces all stay is cut as before and answered bit for bit as before; this is checked on every
    training text. Elsewhere a word falls into smaller pieces that stayed: special tokens, single characters and
    bytes never go. Notes say what share of held-out text that is. The idea is TextPruner's (Yang et al. 2022).

    About as large a share of new text are pieces never seen as of the training text are pieces seen once
    (Good-Turing), so with `min_count: 2` both fall apart alike, and a `finetune` or `distill` after it teaches
    the model to read such words.

    Example:
        - {pass: vocabulary}
        - {pass: vocabulary, min_count: 1, max_size: 10000, keep: words.txt}
    """

    name: ClassVar[str] = "vocabulary"
    pass_: Literal["vocabulary"] = Field("vocabulary", alias="pass")
    min_count: PositiveInt = Field(2, description="pieces seen at least this often in the training text stay")
    max_size: PositiveInt | None = Field(None, description="rows to keep at most, the most frequent first")
    keep: Path | None = Field(None, description="a file of words or texts, one a line, whose pieces all stay")

    recover: PositiveFloat | None = Field(
        None, description="epochs of training on the labels and on the answers of the model as it came in"
    )

    def input_files(self) -> tuple[Path, ...]:
        """Return the file of words to keep."""
        return () if self.keep is None else (self.keep,)

    def check(self, plan: ModelPlan) -> None:
        """Refuse a wrong order, missing data, a model without a vocabulary and a file that cannot be read."""
        if plan.quantized or plan.exported:
            done = "an exported" if plan.exported else "a quantized"
            plan.refuse(
                f"the vocabulary of {done} model cannot be pruned",
                "Put vocabulary before quantize and export.",
            )
        if plan.data is None:
            plan.refuse("the pieces to keep are those of the training text", "Give data.")
        if plan.config is not None and getattr(plan.config, "vocab_size", None) is None:
            plan.refuse(
                f"the config of {plan.config.model_type} has no vocab_size", "Drop this pass for this model."
            )
        check_recovery(self.recover, plan)
        try:
            self._texts_to_keep()
        except InputError as error:
            plan.refuse(f"{error.place}: {error.cause}", error.remedy)

    def apply(self, artifact: Artifact, context: Context) -> Artifact:
        """Return the artifact with fewer pieces; notes say what went and what that does to held-out text.

        Raises:
            InputError: the tokenizer is not a fast one or does not fit the model or the text, or `max_size` is
                less than what must stay.
            CompressError: transformers would build or cut differently than it should; nothing was saved.
        """
        from compress.pruning.vocabulary import backend, pieces, proof, rows

        assert context.data is not None  # check() refused it otherwise
        model, tokenizer, data = artifact.model, artifact.tokenizer, context.data
        state, old = backend.state_of(tokenizer), backend.plain_backend(tokenizer)
        before, bytes_before = rows.table_rows(model), _bytes(model)
        _check_fits(state, before)
        train = _texts(data.train)
        counts = proof.count_pieces(old, train)
        unknown = backend.unknown_id(state)
        if counts.total() == 0 or (unknown is not None and 2 * counts[unknown] > counts.total()):
            raise InputError(
                "most of the training text is unknown to the tokenizer",
                place=f"data {data.name}",
                remedy="Give text of the language that the model was trained on.",
            )
        always = pieces.floor(state) | rows.named_in_configs(model)
        always.update(proof.count_pieces(old, self._texts_to_keep()))
        if rows.counts_positions_from_pad(model):
            always.update(range(model.config.pad_token_id + 1))
        kept = pieces.choose(counts, always, state, self.min_count, self.max_size)
        new_id = {index: row for row, index in enumerate(kept)}

        rows.keep_rows(model, kept)
        tokenizer = backend.rebuilt(tokenizer, backend.with_ids(state, new_id), model.config)
        new = backend.plain_backend(tokenizer)
        same = proof.check_unchanged(old, new, new_id, train)
        saved = bytes_before - _bytes(model)
        context.notes.append(
            f"rows: {before:,} to {len(kept):,}, {100 * (1 - len(kept) / before):.1f}% less; {saved / 1e6:.1f} MB "
            f"of {bytes_before / 1e6:.1f} MB of weights saved"
        )
        context.notes.append(
            f"training text: {same:,} of {len(train):,} texts keep all pieces, checked one by one"
        )
        held_out = _texts(data.validation) + _texts(data.test)
        change = proof.change(old, new, new_id, unknown, held_out)
        tokens = max(1, change.tokens)
        context.notes.append(
            f"held-out text: {100 * change.gone / tokens:.2f}% of its tokens have no piece any more; "
            f"{100 * change.unknown / tokens:.3f}% fall to unknown, sequences get "
            f"{100 * (change.new_tokens - change.tokens) / tokens:.2f}% longer"
        )
        fewer = artifact.evolve(tokenizer=tokenizer)
        return fewer if self.recover is None else recover(fewer, context, self.recover)

    def _texts_to_keep(self) -> list[str]:
        """Return the lines of `keep`, each also as it stands after a space, which byte-level BPE tells apart."""
        if self.keep is None:
            return []
        try:
            lines = self.keep.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise InputError(
                f"cannot be read ({cause})",
                place=f"keep: {self.keep}",
                remedy="Give a text file with one word or text a line.",
            ) from error
        return [text for line in lines if line.strip() for text in (line, f" {line}")]


def _texts(split: datasets.Dataset) -> list[str]:
    columns = [name for name in ("text", "text_pair") if name in split.column_names]
    return [text for name in columns for text in split[name]]


def _check_fits(state: State, rows: int) -> None:
    from compress.pruning.vocabulary.backend import piece_ids

    piece, index = max(piece_ids(state).items(), key=lambda item: item[1])
    if index >= rows:
        raise InputError(
            f"the tokenizer has ids up to {index} ({piece!r}), the embedding only {rows} rows",
            place="tokenizer",
            remedy="Give the model with the tokenizer that it was trained with.",
        )


def _bytes(model: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
