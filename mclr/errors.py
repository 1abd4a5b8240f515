"""The one exception for mistakes a user can make."""


def printable(text: str) -> str:
    """Text for a terminal, which would obey control characters out of somebody's file."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


class UserError(Exception):
    """Bad input: the message names the file or key, what was expected and what to do.

    The command line prints the message on one line and exits with status 2; a traceback is shown
    only with ``--debug``.
    """
