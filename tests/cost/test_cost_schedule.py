"""The simulated schedule: known makespans, and the bounds that hold for every list schedule."""

from __future__ import annotations

import random

import pytest

from mclr.cost.schedule import Task, schedule


def test_a_chain_takes_its_sum_on_any_number_of_gpus() -> None:
    tasks = {"c": Task(3, True, ["b"]), "a": Task(1, True, []), "b": Task(2, False, ["a"])}
    for gpus in (1, 4):
        found = schedule(tasks, gpus)
        assert (found.makespan, found.chain, found.busy) == (6, 6, 4)
        assert found.path == ("a", "b", "c")


@pytest.mark.parametrize(("gpus", "makespan"), [(1, 12), (2, 6), (4, 4), (6, 2), (100, 2)])
def test_independent_jobs_share_the_gpus(gpus: int, makespan: float) -> None:
    found = schedule({str(i): Task(2, True, []) for i in range(6)}, gpus)
    assert found.makespan == makespan
    assert found.bound <= makespan


def test_jobs_without_a_gpu_wait_for_nothing_but_their_inputs() -> None:
    tasks = {str(i): Task(5, False, []) for i in range(9)}
    assert schedule(tasks | {"gpu": Task(5, True, [])}, 1).makespan == 5


def test_the_longest_chain_goes_first() -> None:
    """Alone on one GPU, a short job before the long chain would make the second GPU's work late."""
    tasks = {f"short{i}": Task(2, True, []) for i in range(3)}
    tasks |= {"first": Task(1, True, []), "second": Task(5, True, ["first"])}
    assert schedule(tasks, 2).makespan == 6


def test_the_same_need_twice_is_one() -> None:
    assert schedule({"a": Task(1, True, []), "b": Task(1, True, ["a", "a"])}, 1).makespan == 2


def test_bounds_of_random_dags() -> None:
    """max(chain, work / gpus) ≤ makespan ≤ chain + work / gpus (Graham)."""
    for seed in range(30):
        draw = random.Random(seed)
        tasks: dict[str, Task] = {}
        for i in range(40):
            needs = draw.sample(sorted(tasks), min(len(tasks), draw.randrange(3)))
            tasks[f"job{i:02d}"] = Task(draw.uniform(1, 9), True, needs)
        gpus = draw.randint(1, 6)
        found = schedule(tasks, gpus)
        assert found.bound <= found.makespan + 1e-9
        assert found.makespan <= found.chain + found.busy / gpus + 1e-9


def test_nothing_to_do_takes_no_time() -> None:
    assert schedule({}, 3).makespan == 0
