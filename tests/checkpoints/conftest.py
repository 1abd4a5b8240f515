"""Files as the official code writes them, made once for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from official_edm2 import Official

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory) -> Official:
    """Stand-ins for the official packages, for use in another process."""
    return Official(tmp_path_factory.mktemp("official"))


@pytest.fixture(scope="session")
def edm2_pickle(official: Official, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden network as an official snapshot: float16, with the RGB encoder."""
    out = tmp_path_factory.mktemp("pickles") / "edm2_net.pkl"
    return official.write(GOLDEN / "edm2_net.safetensors", out)
