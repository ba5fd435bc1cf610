"""Functions and streams that fail, to replace those that the command line uses."""

import errno
import io


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


class FullStream(io.StringIO):
    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


class BrokenPipe(io.StringIO):
    def write(self, _):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")
