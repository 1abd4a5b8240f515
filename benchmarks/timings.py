"""Wall time of what people wait for, on clones of this repository: `python benchmarks/timings.py`.

Prints one JSON object: seconds per command, the cores, and the size of the DVC store. The
environment must exist (`make env`); it is shared by the clones. Run it on a quiet machine; compare
only figures of one run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def seconds(command: str, folder: Path) -> float:
    """Wall time of a shell command that must succeed."""
    tools = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    start = time.monotonic()
    result = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if result.returncode:
        sys.exit(f"{command} failed:\n{result.stdout[-3000:]}")
    return round(time.monotonic() - start, 1)


def clone(folder: Path) -> Path:
    """A git clone that uses this checkout's environment."""
    subprocess.run(("git", "clone", "--quiet", str(ROOT), str(folder)), check=True)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in ("requirements.lock", "pyproject.toml"):
        os.utime(folder / name, (0, 0))  # older than the environment: make need not make it again
    return folder


def main() -> None:
    """Measure and print."""
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        pulled, demo = clone(Path(scratch, "pulled")), clone(Path(scratch, "demo"))
        for name, command in {
            "dvc pull": "dvc pull",
            "snakemake, nothing to do": "snakemake --cores 2 all",
            "dvc repro, nothing to do": "dvc repro",
            "mclr --help": "mclr --help",
        }.items():
            times[name] = seconds(command, pulled)
        times["make demo"] = seconds("make demo", demo)
    store = sum(path.stat().st_size for path in (ROOT / "data" / "store").rglob("*"))
    print(json.dumps({"cores": os.cpu_count(), "seconds": times, "store_bytes": store}, indent=2))


if __name__ == "__main__":
    main()
