"""The cost of a tier as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mclr.cost.estimate import HOUR, Estimate, RuleCost
from mclr.cost.hardware import CPU_RATE, START_SECONDS
from mclr.cost.memory import MARGIN, RESERVED, SIZES

Row = Sequence[str]


def as_text(found: Estimate) -> str:
    """Every part of the estimate with a heading."""
    machines = found.machines
    rooms = f"{', '.join(map(str, SIZES[:-1]))} and {SIZES[-1]} GB" if machines.core else ""
    parts = [
        f"{found.tier}: {found.total.jobs} jobs, {quantity(found.total.work.macs)} multiply-adds",
        f"{_whose(found)}-{_unit(found)[1]} of computing, by rule",
        *_aligned(_rules(found)),
        f"  at {_speed(found)}",
        "",
        f"Time on {_machines(found)}",
        *_aligned(_times(found), words=(0, 2)),
        "",
        f"Memory of a job, and how many samples a pass can have in {rooms}"
        if machines.core
        else "GPU memory, and how many samples a pass can have on GPUs of three sizes",
        *_aligned(_memory(found), words=(0, 1)),
        f"  with {size_text(RESERVED)} beside the fixed part, and {MARGIN:g} × what a sample needs",
        "",
        "Disk and network",
        *_aligned(_sizes(found)),
        *_released(found),
        "",
        f"What to cut first, on {_machines(found)}",
        *_aligned(_cuts(found), words=(0, 5)),
        *_bias(found),
    ]
    return "\n".join(parts)


def _whose(found: Estimate) -> str:
    return "core" if found.machines.core else "GPU"


def _speed(found: Estimate) -> str:
    """How fast computing is taken to be, in words."""
    metrics = f"{CPU_RATE / 1e9:g} Gflop/s a core"
    if core := found.machines.core:
        return f"{core.peak_32 / 1e9:.3g} Gflop/s a core ({core.source}); metrics at {metrics}"
    return f"{found.machines.utilisation:.0%} of the peak; on processors {metrics}"


def _machines(found: Estimate) -> str:
    """Such as ``8 × H100 SXM`` or ``2 cores``."""
    count, device = found.machines.gpus, found.machines.device
    if found.machines.core:
        return f"{count} core{'s' if count > 1 else ''}"
    return f"{count} × {device.label}"


def _rules(found: Estimate) -> Iterator[Row]:
    per_hour, unit = _unit(found)
    compared = found.machines.compared
    labels = ("networks" if found.machines.core else gpu.label for gpu in compared.values())
    last = "metrics" if found.machines.core else f"CPU-{unit}"
    yield ("rule", "jobs", "multiply-adds", *labels, last)

    def row(cost: RuleCost) -> Row:
        times = [found.machines.hours(cost.work, name) * per_hour for name in compared]
        on_cpu = 2 * cost.work.cpu / CPU_RATE / HOUR * per_hour
        numbers = [quantity(cost.work.macs), *map(number, times), number(on_cpu)]
        return (cost.rule, f"{cost.jobs:,}", *numbers)

    light = [cost for cost in found.rules if not cost.work.macs]
    yield from (row(cost) for cost in found.rules if cost.work.macs)
    yield ("others", f"{sum(cost.jobs for cost in light):,}")
    yield row(found.total)


def _unit(found: Estimate) -> tuple[float, str]:
    """How many of the unit of time are an hour; hours unless that makes all numbers small."""
    return (1, "hours") if found.machines.hours(found.total.work) >= 1 else (HOUR, "seconds")


def _times(found: Estimate) -> Iterator[Row]:
    plan, used = found.schedule, "cores" if found.machines.core else "GPUs"
    share = plan.busy / (plan.gpus * plan.makespan)
    yield "until all is done", duration(plan.makespan), f"({used} in use {share:.0%} of it)"
    yield "longest chain of jobs", duration(plan.chain), f"(with any number of {used})"
    yield "the longest job in it", duration(found.slowest[1]), f"({found.slowest[0]})"
    yield "each job's start", duration(START_SECONDS), "(included)"


def _memory(found: Estimate) -> Iterator[Row]:
    yield ("model", "job", "fixed", "a sample", "batch", *(f"{size} GB" for size in SIZES))
    for row in found.memory:
        fits = (f"{row.fits(size * 1e9):,}" if row.fits(size * 1e9) else "none" for size in SIZES)
        yield (row.model, row.kind, size_text(row.fixed), size_text(row.sample), f"{row.batch:,}",
               *fits)  # fmt: skip


def _sizes(found: Estimate) -> Iterator[Row]:
    names = {"state": "state, while training"}
    yield from ((names.get(kind, kind), size_text(size)) for kind, size in found.disk.items())
    yield "all", size_text(sum(found.disk.values()))
    yield "download", size_text(found.download)


def _released(found: Estimate) -> Iterator[str]:
    """The published files, if the tier has some."""
    if found.released:
        yield ""
        yield "Published files, fetched into data/raw/released"
        rows = ((f.file, size_text(f.bytes), "" if f.known else "?") for f in found.released)
        yield from _aligned(rows)
    if not all(file.known for file in found.released):
        yield "  ? estimated from the parameters; the publishers' tables give no size"


def _cuts(found: Estimate) -> Iterator[Row]:
    total, (per_hour, unit) = found.machines.hours(found.total.work), _unit(found)
    yield "", "jobs", f"{_whose(found)}-{unit}", "", "makespan", "FD"
    for cut in found.cuts:
        share = cut.gpu_hours / total if total else 0.0
        yield (cut.name, f"−{cut.jobs:,}", f"−{number(cut.gpu_hours * per_hour)}", f"−{share:.0%}",
               f"−{duration(cut.makespan)}", cut.effect)  # fmt: skip


def _bias(found: Estimate) -> Iterator[str]:
    """FD's bias by model, if it is known, and after the cut of samples."""
    if not found.bias:
        yield "FD's bias in numbers is known once the feature nets of the tier exist."
    after = {model: pair[1] for cut in found.cuts for model, pair in cut.bias.items()}
    for model, bias in found.bias.items():
        less = f"; with fewer samples {number(after[model])}" if model in after else ""
        yield f"FD's bias, {model}: {number(bias)}{less} (from the moments of real features)"


def _aligned(rows: Iterator[Row], words: tuple[int, ...] = (0,)) -> list[str]:
    """Columns of equal width: those of words to the left, numbers to the right."""
    table = list(rows)
    columns = range(max(map(len, table)))
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in columns]
    lines = []
    for row in table:
        cells = zip(columns, row, widths, strict=False)
        padded = (cell.ljust(w) if i in words else cell.rjust(w) for i, cell, w in cells)
        lines.append(f"  {'  '.join(padded)}".rstrip())
    return lines


def quantity(value: float) -> str:
    """A count with a prefix: 1.2 P."""
    for factor, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if value >= factor:
            return f"{value / factor:,.3g} {unit}"
    return f"{value / 1e6:,.3g} M"


def size_text(value: float) -> str:
    """Bytes: 1.2 GB."""
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if value >= factor:
            return f"{value / factor:,.3g} {unit}"
    return f"{value / 1e3:,.3g} kB"


def number(value: float) -> str:
    """Two digits that matter; thousands with commas."""
    if value == 0:
        return "0"
    if value < 0.001:
        return "< 0.001"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Days and hours, hours and minutes, minutes, or seconds."""
    minutes = round(seconds / 60)
    if seconds < 120:
        return f"{seconds:.0f} s"
    if minutes < 120:
        return f"{minutes} min"
    hours = round(seconds / HOUR)
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"
