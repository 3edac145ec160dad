"""`python cli.py …` is `compress …`."""

from compress.commands.app import main

if __name__ == "__main__":
    main()
