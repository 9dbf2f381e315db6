"""Which of a tower's weights are tuned: its last blocks, all, or low-rank changes to all (LoRA)."""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize

RANK = 16  # of a low-rank change
MIN_BLOCKS = 4
_WEIGHTS = ("weight", "in_proj_weight")


class LowRank(torch.nn.Module):
    """weight -> weight + B A: a change of low rank (Hu et al., LoRA, 2021); none at first."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.a = torch.nn.Parameter(torch.randn(RANK, columns, device=weight.device) / RANK)
        self.b = torch.nn.Parameter(torch.zeros(rows, RANK, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.b @ self.a


def open_layers(tower: torch.nn.Module, which: str) -> None:
    """Let `which` of request.LAYERS be tuned, the others keep their weights.

    "last": the second half of its blocks, and what follows. "lora": a low-rank change to every matrix in its blocks,
    and what follows them.
    """
    tower.requires_grad_(which == "all")
    if which == "all":
        return
    blocks = _blocks(tower)
    inner, modules = set(blocks.modules()), list(tower.modules())
    after = [module for module in modules[modules.index(blocks) :] if module not in inner]
    if which == "last":
        children = list(blocks.children())
        after += children[len(children) // 2 :]
    for module in after:
        module.requires_grad_()
    for parameter in tower.parameters(recurse=False):  # a transformer's projection, its position embedding
        parameter.requires_grad_()
    if which == "lora":
        for module in inner:
            for name in _WEIGHTS:
                weight = getattr(module, name, None)
                if isinstance(weight, torch.nn.Parameter) and weight.ndim == 2:
                    parametrize.register_parametrization(module, name, LowRank(weight))


def merged(tower: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The tower's weights with every low-rank change worked in, float32 on the CPU, under their usual names."""
    changed = {
        f"{name}.{weight}" if name else weight: getattr(module, weight)
        for name, module in tower.named_modules()
        if parametrize.is_parametrized(module)
        for weight in module.parametrizations
    }
    usual = {name: value for name, value in tower.state_dict().items() if ".parametrizations." not in name}
    return {
        name: (value.detach().float() if value.is_floating_point() else value).cpu().clone()
        for name, value in (usual | changed).items()
    }


def _blocks(tower: torch.nn.Module) -> torch.nn.Module:
    """The tower's sequence of blocks: of all sequences of MIN_BLOCKS or more, the one with the most weights."""
    sequences = [
        module
        for module in tower.modules()
        if isinstance(module, (torch.nn.Sequential, torch.nn.ModuleList)) and len(module) >= MIN_BLOCKS
    ]
    return max(sequences, key=lambda module: sum(p.numel() for p in module.parameters()), default=tower)
