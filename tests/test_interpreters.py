"""Subinterpreters cannot load the compiled core: the import fails with a message, and does not hang."""

import subprocess
import sys

import pytest

IMPORT = """
try:
    import elasticnd
except ImportError as error:
    assert "subinterpreter" in str(error), error
else:
    raise AssertionError("imported")
"""
RUN = {
    "_xxsubinterpreters": "interpreters.run_string(number, text)",
    "_interpreters": "assert interpreters.exec(number, text) is None",
}
CODE = """
import sys
import {module} as interpreters
{before}
number = interpreters.create({config})
text = {text!r}
{run}
import elasticnd
elasticnd.show_config()
"""


@pytest.mark.parametrize("before", ["", "import elasticnd"], ids=["alone", "beside the main interpreter"])
@pytest.mark.parametrize("config", ["", "isolated=False", "'legacy'"])
def test_import_in_a_subinterpreter(config, before):
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    if (config == "'legacy'") != (module == "_interpreters") and config:
        pytest.skip("only another version of Python has this option")
    code = CODE.format(module=module, before=before, config=config, text=IMPORT, run=RUN[module])
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
