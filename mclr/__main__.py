"""`python -m mclr` is `mclr`."""

import os
import sys

# Python puts the working directory first, and there files of others may lie, such as a `torch.py`.
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _CHECKOUT:
    del sys.path[0]

from mclr.cli import main  # noqa: E402

main()
