"""MCLR: guidance-free conditional generation by inter-class likelihood-ratio maximization."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # Read when asked for: every command pays for what is imported here.
        from importlib.metadata import version

        return version(__name__)
