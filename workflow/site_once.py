"""Documents what a package exports where it is defined, once (mkdocs.yml, mkdocstrings)."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Module


class Once(Extension):
    """Drops the names that a package imports from its own modules."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Called with each package that has been read."""
        for name in [name for name, member in pkg.members.items() if member.is_alias]:
            pkg.del_member(name)
        for module in pkg.modules.values():
            if module.is_init_module:
                self.on_package(pkg=module)
