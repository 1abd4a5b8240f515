"""MCLR: each sample likelier under its own class than under others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from mclr.objectives.method import LIKELIHOOD, Method
from mclr.objectives.objective import Given, Needs, Objective
from mclr.settings.section import Count, NonNegative

if TYPE_CHECKING:
    from torch import Tensor

    from mclr.objectives.contrast import Contrast
    from mclr.objectives.loss import Batch, LogLikelihood, Loss

ENTRY = Method(
    "mclr",
    "+MCLR",
    "#d55e00",
    "P",
    "cross",
    title="MCLR",
    source="Eq. (22)/(150) of the MCLR paper",
    meaning="Each image becomes likelier under its own class c than under another image's class c̃.",
    equation="minimise  −E[ ℓ_θ(x, c) − ℓ_θ(x, c̃) ]",
    note=(
        "MCLR, Eq. (22), K other classes c̃_k per image:",
        "min −mean_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)]",
        LIKELIHOOD,
    ),
    trained=True,
)
WITH_DSM = Method(
    "mclr+dsm",
    "+MCLR + DSM",
    "#0072b2",
    "X",
    "x",
    in_table=False,
    if_final=True,
    exact="+MCLR + likelihood",
    title="MCLR + DSM",
    source="Eq. (11)/(160) of the MCLR paper; β is `dsm`",
    meaning="MCLR, with the likelihood of the own class kept in the objective.",
    equation="minimise  −E[ ℓ_θ(x, c) − ℓ_θ(x, c̃) ] − β E[ ℓ_θ(x, c) ]",
    note=(
        "MCLR with a denoising term of weight β = `dsm`, Eq. (160):",
        "min −mean_k [ℓ_θ(x, c) − ℓ_θ(x, c̃_k)] − β ℓ_θ(x, c)",
        LIKELIHOOD,
    ),
    trained=True,
)


class Mclr(Objective):
    """Eq. (22)/(150); K = 1 is Approach 1, K > 1 Approach 2; dsm is β of Eq. (160)."""

    name: Literal["mclr"]
    K: Count = 1
    dsm: NonNegative = 0.0

    @property
    def method(self) -> str:
        return "mclr+dsm" if self.dsm else "mclr"

    @property
    def needs(self) -> Needs:
        return Needs(partners=self.K)

    def loss(self, given: Given, part: Tensor) -> Loss:
        return mclr_loss(self, given.policy, given.batch, given.contrast, part)


# Eq. (22)/(150), Algorithm 1; with dsm = β > 0, Eq. (160).
def mclr_loss(
    objective: Mclr, policy: LogLikelihood, batch: Batch, contrast: Contrast, part: Tensor
) -> Loss:
    """−mean[ℓ(x, c) − ℓ(x, c̃_k)] − β mean ℓ(x, c); (1 + K) rows per sample in one pass.

    Share of the samples ``part`` (P,). Source: paper Section 3.5 and Appendix G.1.
    """
    import torch

    from mclr.objectives.loss import Loss, term

    K, P, N = contrast.K, len(part), len(batch.labels)
    owner = torch.cat([part, part.repeat_interleave(K)])
    labels = torch.cat([batch.labels[part], batch.labels[contrast.index[part]].flatten()])
    positive, negative = policy(batch.x[owner], labels, batch.draw.take(owner)).split([P, P * K])
    log_ratio = positive[:, None] - negative.view(P, K)
    likelihood = positive.sum() / N
    return Loss(
        -contrast.mean(log_ratio, part) - objective.dsm * likelihood,
        {
            "log_likelihood": term(likelihood),
            "log_ratio": term(contrast.mean(log_ratio, part)),
            "accuracy": contrast.mean((log_ratio > 0).double(), part),
        },
    )
