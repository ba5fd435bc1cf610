"""The command line: `main.py` is the parser, `deform.py`, `points.py` and `demo` the commands, `files` the formats."""
