"""`python -m compress …` is `compress …`."""

from compress.commands.app import main

main()
