"""The one exception for mistakes a user can make."""


class UserError(Exception):
    """Bad input: the message names the file or key, what was expected and what to do.

    The command line prints the message on one line and exits with status 2; a traceback is shown
    only with ``--debug``.
    """
