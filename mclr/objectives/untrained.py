"""The methods that need no training, or only sample what another one trained."""

from __future__ import annotations

from mclr.objectives.method import Method

BASE = Method(
    "base",
    "",
    "#7f7f7f",
    "o",
    "circle",
    note=(
        "Base model: maximum likelihood (VAR) or denoising score matching (EDM2). Its points with "
        "guidance > 0 are CFG, Eq. (7):",
        "∇ log p_t(x|c) + γ (∇ log p_t(x|c) − ∇ log p_t(x))",
        "γ = 0 is without guidance.",
    ),
)
CFG = Method("cfg", "+CFG", "#e69f00", "s", "square", title="CFG")
MCLR_CFG = Method("mclr+cfg", "+MCLR + CFG", "#8c510a", "p", "pentagon", in_table=False)
MCLR_AUTOGUIDANCE = Method(
    "mclr+autoguidance", "+MCLR + autoguidance", "#5e4fa2", "<", "triangle-left", in_table=False
)
CFG_INTERVAL = Method(
    "cfg-interval", "+CFG in an interval", "#b8860b", "h", "hexagon", in_table=False
)
MCLR_DIAL = Method("mclr-dial", "+MCLR, dialled", "#1b7837", ">", "triangle-right", in_table=False)
REAL = Method("real", "Real images", "#6b6b6b", "d", "diamond-tall", in_table=False)

STUDIES = (MCLR_CFG, MCLR_AUTOGUIDANCE, CFG_INTERVAL)
"""Guided ways to sample a checkpoint, along γ."""
