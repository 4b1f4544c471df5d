"""The one family of errors that this package raises on purpose."""

import signal
import traceback

LONGEST = 2000  # letters of a message; a value that takes more is cut in its middle


class ClusterToolsError(Exception):
    """Bad input, or an artefact that is missing, damaged or made with other parameters.

    The message is one sentence: the file, column or parameter, what was found, what was
    expected, and the command or value that mends it. In a notebook it is shown without a
    traceback, which would only point into this package.
    """

    exit_code = 1  # of a command that ends so

    def __str__(self):
        message = super().__str__()
        return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"

    def _render_traceback_(self):
        # IPython calls this hook instead of printing the stack.
        return [f"{type(self).__name__}: {self}"]


def signal_handlers() -> set:
    """The code of all Python functions that handle signals now."""
    handlers = filter(callable, map(signal.getsignal, signal.valid_signals()))
    functions = (getattr(handler, "func", handler) for handler in handlers)  # of functools.partial
    return {getattr(each, "__code__", getattr(type(each).__call__, "__code__", None)) for each in functions} - {None}


def raised_by(handlers: set, error: BaseException | None) -> BaseException | None:
    """The error that one of the `signal_handlers` raised: this one, or one that it hides; None if there is none."""
    while error and not any(frame.f_code in handlers for frame, _ in traceback.walk_tb(error.__traceback__)):
        error = error.__context__
    return error


class WrongUsage(ClusterToolsError):
    """Parameters or options that do not go together, whatever their values are."""

    exit_code = 2
