"""The command line as a module: ``python -m elasticnd``."""

import sys

from ._cli.main import main

if __name__ == "__main__":
    sys.exit(main())
