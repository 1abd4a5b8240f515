"""What the README says of sub-folders."""

from __future__ import annotations

import re
import subprocess

from checkout import ROOT, Checkout


def test_snakemake_in_a_sub_folder(fresh: Checkout) -> None:
    said = re.search(r"`snakemake` needs `(.+?)`", (ROOT / "README.md").read_text())
    assert said is not None
    command = ("snakemake", *said[1].split(), "--configfile", f"../{fresh.config}", "-n", "table1")
    done = subprocess.run(
        command, cwd=fresh.folder / "docs", env=fresh.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "rule base" in done.stderr + done.stdout
    assert not (fresh.folder / "docs" / ".snakemake").exists()
