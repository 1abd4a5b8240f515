"""Run the code of a notebook in plain Python, and write the notebook with what came out.

    python workflow/notebook.py docs/quickstart.ipynb [--output run.ipynb]

The environment has no Jupyter. What is kept: printed text, matplotlib's figures, and the value of
a cell's last line. Jupyter's own commands (% and !) are not understood.
"""

from __future__ import annotations

import argparse
import ast
import base64
import hashlib
import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

EXECUTED = "executed_sha256"
"""Metadata of a notebook: the digest of the code whose outputs it has."""


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that hold code, in order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def digest(notebook: dict[str, Any]) -> str:
    """SHA-256 of the code of all cells."""
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def execute(notebook: dict[str, Any]) -> None:
    """Run all code cells in order, in one namespace; put their outputs into them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for count, cell in enumerate(code_cells(notebook), 1):
        printed, outputs = io.StringIO(), []
        with redirect_stdout(printed):
            value = run("".join(cell["source"]), names, f"<cell {count}>")
        if text := printed.getvalue():
            outputs.append({"output_type": "stream", "name": "stdout", "text": text})
        for number in plt.get_fignums():
            outputs.append(output("display_data", plt.figure(number)))
        plt.close("all")
        if value is not None:
            outputs.append(output("execute_result", value) | {"execution_count": count})
        cell |= {"outputs": outputs, "execution_count": count}
    notebook["metadata"][EXECUTED] = digest(notebook)


def run(source: str, names: dict[str, Any], name: str) -> Any:
    """Run a cell; the value of its last line, if that is an expression."""
    body = ast.parse(source, name).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), name, "eval"), names)


def output(kind: str, value: Any) -> dict[str, Any]:
    """An output of a cell: a value, as pages show it, by media type."""
    if isinstance(value, Figure):
        stream = io.BytesIO()
        value.savefig(stream, format="png", bbox_inches="tight")
        data = {"image/png": base64.b64encode(stream.getvalue()).decode()}
    elif hasattr(value, "_repr_png_"):
        data = {"image/png": base64.b64encode(value._repr_png_()).decode()}
    elif hasattr(value, "_repr_html_"):
        data = {"text/html": value._repr_html_(), "text/plain": repr(value)}
    else:
        data = {"text/plain": repr(value)}
    return {"output_type": kind, "data": data, "metadata": {}}


def main() -> None:
    """Run the notebook that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("--output", type=Path, help="where to write; in place without it")
    given = parser.parse_args()
    path = (given.output or given.notebook).resolve()  # a cell may change the working directory
    notebook = json.loads(given.notebook.read_text())
    matplotlib.use("agg")
    execute(notebook)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
