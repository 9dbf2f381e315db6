"""Which of a tower's weights are tuned: its last blocks, all, or low-rank changes to all (LoRA)."""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize

from helpers.errors import Category, PipelineError

RANK = 16  # of a low-rank change
MIN_BLOCKS = 4
_MATRICES = ("weight", "in_proj_weight")
_PROJECTION = "proj"  # of open_clip's transformers, to the embedding


class LowRank(torch.nn.Module):
    """weight -> weight + B A: a change of low rank (Hu et al., LoRA, 2021); none at first."""

    def __init__(self, weight: torch.Tensor, random: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        start = torch.randn(RANK, columns, generator=random) / RANK
        self.a = torch.nn.Parameter(start.to(weight.device))
        self.b = torch.nn.Parameter(torch.zeros(rows, RANK, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + self.b @ self.a


def open_layers(tower: torch.nn.Module, which: str, seed: int) -> None:
    """Unfreeze `which` (of request.LAYERS) weights of the tower, and freeze the others.

    "last": the second half of its blocks and what follows them. "lora": a low-rank change to every matrix in its
    blocks, and what follows. PipelineError (Configuration Error) if there is no such matrix.
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
    if isinstance(projection := getattr(tower, _PROJECTION, None), torch.nn.Parameter):
        projection.requires_grad_()
    if which == "lora":
        _add_low_rank([module for module in modules if module in inner], torch.Generator().manual_seed(seed))


def _add_low_rank(modules: list[torch.nn.Module], random: torch.Generator) -> None:
    matrices = [
        (module, name, weight)
        for module in modules
        for name in _MATRICES
        if isinstance(weight := getattr(module, name, None), torch.nn.Parameter) and weight.ndim == 2
    ]
    if not matrices:
        raise PipelineError.of(
            Category.CONFIGURATION,
            "this model has no matrices for low-rank changes",
            details="received --layers lora; its blocks are convolutions",
            suggestion="use --layers last",
        )
    for module, name, weight in matrices:
        parametrize.register_parametrization(module, name, LowRank(weight, random))


def merged(tower: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of the tower's weights on the CPU under their usual names, low-rank changes worked in."""
    changed = {
        f"{name}.{weight}": getattr(module, weight)
        for name, module in tower.named_modules()
        if parametrize.is_parametrized(module)
        for weight in module.parametrizations
    }
    usual = {name: value for name, value in tower.state_dict().items() if ".parametrizations." not in name}
    return {name: value.detach().cpu().clone() for name, value in (usual | changed).items()}


def _blocks(tower: torch.nn.Module) -> torch.nn.Module:
    """The tower's sequence of blocks: of all sequences of MIN_BLOCKS or more, the one with the most weights."""
    sequences = [
        module
        for module in tower.modules()
        if isinstance(module, (torch.nn.Sequential, torch.nn.ModuleList)) and len(module) >= MIN_BLOCKS
    ]
    return max(sequences, key=lambda module: sum(p.numel() for p in module.parameters()), default=tower)
