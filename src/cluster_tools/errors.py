"""The one family of errors that this package raises on purpose."""

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


class WrongUsage(ClusterToolsError):
    """Parameters or options that do not go together, whatever their values are."""

    exit_code = 2
