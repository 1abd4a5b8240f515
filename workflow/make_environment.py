"""Write environment.yml, the conda twin of requirements.lock."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# Made from requirements.lock by `make lock` (workflow/make_environment.py).\n"


def environment(lock: str) -> str:
    """The text of environment.yml for the text of a lock file: each pin with its hashes.

    Not ``-r requirements.lock``: Snakemake installs from a copy of the file in another folder.
    """
    lines = re.sub(r"\s*\\\n\s*", " ", lock).splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    content = {
        "name": "mclr",
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "pip", "git", {"pip": pins}],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=80)


if __name__ == "__main__":
    lock_file = ROOT / "requirements.lock"
    (ROOT / "environment.yml").write_text(environment(lock_file.read_text()))
