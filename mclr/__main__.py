"""`python -m mclr` is `mclr`."""

import os
import sys

# Python puts the working directory first, and there files of others may lie, such as a `torch.py`.
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _CHECKOUT:
    del sys.path[0]

if os.environ.get("MCLR_FORKSERVER"):
    from mclr.forks.handover import hand_over

    hand_over()

from mclr.cli import main  # noqa: E402
from mclr.forks.ending import end_with  # noqa: E402

if "RANK" in os.environ:  # of the processes that torchrun starts, which leave each other in order
    main()
else:
    end_with(main)
