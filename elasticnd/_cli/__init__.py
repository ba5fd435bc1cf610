"""The command line: its parser is in `main.py`, its commands are in `deform.py` and `demo`, the formats in `files`."""
