"""Options that take several values in a row: `--batch-size 1 8` is `--batch-size 1 --batch-size 8`."""

from __future__ import annotations

from typing import Any, get_args

from typer.core import TyperCommand, TyperOption


class SpreadCommand(TyperCommand):
    """A command whose repeatable options may also be given as one flag with several values."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the flag before every further value, then parse as usual."""
        repeatable = {
            flag: option
            for option in self.params
            if isinstance(option, TyperOption) and option.multiple
            for flag in option.opts
        }
        spread: list[str] = []
        current: str | None = None  # the repeatable flag that further words belong to
        waiting = False  # whether it still needs its first value, which is the parser's to judge
        for position, arg in enumerate(args):
            if arg == "--":
                spread += args[position:]
                break
            if arg in repeatable:
                current, waiting = arg, True
            elif arg.startswith("-") or current is None:
                current = None
                spread.append(arg)
            elif waiting or _accepts(repeatable[current], arg):
                waiting = False
                spread += [current, arg]
            else:  # a model's name after `--runtime torch`, say
                current = None
                spread.append(arg)
        return super().parse_args(ctx, spread + ([current] if current is not None and waiting else []))


def _accepts(option: TyperOption, value: str) -> bool:
    """Say whether a repeatable option, annotated `list[kind]`, takes `value`: an int, or a name of an enum."""
    (kind,) = get_args(option.type_descriptor.annotation)
    try:
        kind(value)
    except ValueError:
        return False
    return True
