"""Labels drawn anew with probability η: the mixture of Eq. (18)."""

from __future__ import annotations

import torch

from mclr.training.base import redraw_labels


def test_class_conditional_distributions_are_mixed_by_eta() -> None:
    """x is the true label: p_ref(x|c) = (1 − η) [x = c] + η / C, the mixture with weight η."""
    C, eta = 4, 0.3
    x = torch.arange(200_000) % C
    labels = redraw_labels(x, C, eta, seed=3)
    joint = torch.zeros(C, C).index_put((labels, x), torch.ones(len(x)), accumulate=True)
    found = joint / joint.sum(1, keepdim=True)
    expected = (1 - eta) * torch.eye(C) + eta / C
    torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
    wrong = (labels != x).float().mean()
    torch.testing.assert_close(wrong, torch.tensor(eta * (1 - 1 / C)), rtol=0, atol=0.005)


def test_labels_depend_on_the_seed_alone() -> None:
    labels = torch.arange(100) % 10
    assert torch.equal(redraw_labels(labels, 10, 0.5, 1), redraw_labels(labels, 10, 0.5, 1))
    assert not torch.equal(redraw_labels(labels, 10, 0.5, 1), redraw_labels(labels, 10, 0.5, 2))
    assert redraw_labels(labels, 10, 0.0, 1) is labels
