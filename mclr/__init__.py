"""MCLR: guidance-free conditional generation by inter-class likelihood-ratio maximization."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mclr.training.library import finetune

    __version__: str
else:

    def __getattr__(name: str) -> object:
        # Read when asked for: every command pays for what is imported here.
        if name == "finetune":
            from mclr.training.library import finetune

            return finetune
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version(__name__)


__all__ = ["finetune"]
