"""A family of one's own: configuration, and the class to derive from."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mclr.models.own.family import OwnFamily
else:

    def __getattr__(name: str) -> object:
        if name != "OwnFamily":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from mclr.models.own.family import OwnFamily

        return OwnFamily


__all__ = ["OwnFamily"]
