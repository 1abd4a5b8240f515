"""When the last job ends: list scheduling of a DAG on a number of GPUs.

A free GPU takes the job, among those whose inputs exist, behind which the longest chain of work
waits. Jobs without a GPU wait for their inputs alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """Seconds of a job, whether it holds a GPU, and the jobs it waits for."""

    seconds: float
    on_gpu: bool
    needs: Sequence[str]


@dataclass(frozen=True)
class Schedule:
    """Seconds until all is done, and of all GPUs together; the longest chain of tasks.

    No schedule is shorter than ``bound``; this one takes at most chain + busy / gpus (Graham 1966):
    while the chain waits, all GPUs are busy.
    """

    makespan: float
    busy: float
    gpus: int
    chain: float
    path: tuple[str, ...]

    @property
    def bound(self) -> float:
        return max(self.chain, self.busy / self.gpus)


def schedule(tasks: Mapping[str, Task], gpus: int) -> Schedule:
    """Simulate the tasks, of which each comes after those it needs, on ``gpus`` GPUs."""
    ahead = _chains(tasks)
    waiting = {name: len(set(task.needs)) for name, task in tasks.items()}
    followers: dict[str, list[str]] = {name: [] for name in tasks}
    for name, task in tasks.items():
        for need in set(task.needs):
            followers[need].append(name)
    ready: list[tuple[float, str]] = []
    running: list[tuple[float, str]] = []
    now, free = 0.0, gpus

    def arrive(name: str) -> None:
        if tasks[name].on_gpu:
            heapq.heappush(ready, (-ahead[name], name))
        else:
            heapq.heappush(running, (now + tasks[name].seconds, name))

    for name, count in waiting.items():
        if count == 0:
            arrive(name)
    while ready or running:
        while ready and free:
            _, name = heapq.heappop(ready)
            heapq.heappush(running, (now + tasks[name].seconds, name))
            free -= 1
        now, done = heapq.heappop(running)
        free += tasks[done].on_gpu
        for follower in followers[done]:
            waiting[follower] -= 1
            if waiting[follower] == 0:
                arrive(follower)
    busy = sum(task.seconds for task in tasks.values() if task.on_gpu)
    path = _path(ahead, followers)
    return Schedule(now, busy, gpus, ahead[path[0]] if path else 0.0, path)


def _chains(tasks: Mapping[str, Task]) -> dict[str, float]:
    """Seconds from the start of each task to the end of the longest chain behind it."""
    ahead = {name: task.seconds for name, task in tasks.items()}
    for name in reversed(_order(tasks)):
        for need in tasks[name].needs:
            ahead[need] = max(ahead[need], tasks[need].seconds + ahead[name])
    return ahead


def _path(ahead: Mapping[str, float], followers: Mapping[str, list[str]]) -> tuple[str, ...]:
    """The tasks of the longest chain, in order."""
    path: list[str] = []
    options = list(ahead)
    while options:
        path.append(max(options, key=lambda name: ahead[name]))
        options = followers[path[-1]]
    return tuple(path)


def _order(tasks: Mapping[str, Task]) -> list[str]:
    """Names such that each comes after what it needs."""
    order: dict[str, None] = {}
    pending = list(tasks)[::-1]
    while pending:
        name = pending[-1]
        missing = [need for need in tasks[name].needs if need not in order]
        if name in order or not missing:
            order[pending.pop()] = None
        else:
            pending.extend(missing)
    return list(order)
