"""The deep family's network in torch; `models/deep.py` is the same forward pass in NumPy."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.base import FloatArray
from models.deep import N_TYPES, DeepConfig


class Block(nn.Module):
    """One causal transformer block, normalised before each half."""

    def __init__(self, config: DeepConfig, dropout: float) -> None:
        super().__init__()
        width = config.dimensions
        self.heads = config.heads
        self.norm_att, self.norm_ff = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(config.heads, config.window))
        self.ff = nn.Sequential(
            nn.Linear(width, config.hidden), nn.ReLU(), nn.Linear(config.hidden, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, distance: Tensor) -> Tensor:
        """Map [B, L, d] to [B, L, d]; `mask` [B, 1, L, L] is added to the logits."""
        batch, length, width = x.shape
        normed = self.norm_att(x)

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, -1).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(normed)),
            split(self.key(normed)),
            split(self.value(normed)),
            attn_mask=self.bias[:, distance] + mask,
        )
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, width)))
        return x + cast(Tensor, self.dropout(self.ff(self.norm_ff(x))))


class TwoTower(nn.Module):
    """Item tower (id + content) and viewer tower (causal transformer over item vectors)."""

    side: Tensor
    acted: Tensor
    prior: Tensor

    def __init__(
        self, config: DeepConfig, side: FloatArray, counts: FloatArray, dropout: float
    ) -> None:
        """Set up both towers.

        `side` [n_items, c]: content vector and topic shares; `counts` [n_items]: people who acted
        on the item. Without any it has no id of its own.
        """
        super().__init__()
        self.config = config
        width = config.dimensions
        self.register_buffer("side", torch.from_numpy(side), persistent=False)
        known = torch.from_numpy((counts > 0).astype(np.float32))[:, None]
        self.register_buffer("acted", known, persistent=False)
        prior = torch.from_numpy(appeal(counts))[:, None]
        self.register_buffer("prior", prior, persistent=False)
        self.appeal = nn.Parameter(torch.ones(1))
        self.ids = nn.Parameter(torch.randn(len(side), width) * 0.01)
        self.item = nn.Sequential(
            nn.Linear(side.shape[1], config.hidden), nn.ReLU(), nn.Linear(config.hidden, width)
        )
        self.types = nn.Parameter(torch.randn(N_TYPES, width) * 0.02)
        self.blocks = nn.ModuleList(Block(config, dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def encode_items(self, rows: Tensor, id_dropout: float = 0.0) -> Tensor:
        """Give vectors of item rows [k]: [k, d + 1], ids left out with probability `id_dropout`.

        The last coordinate is the appeal prior: the softmax starts as popularity and learns what
        differs from it, as a language model's does from word frequency.
        """
        ids = self.ids[rows] * self.acted[rows]
        if self.training and id_dropout > 0.0:
            keep = torch.rand(len(rows), 1) >= id_dropout
            ids = ids * keep
        learned = ids + cast(Tensor, self.item(self.side[rows]))
        return torch.cat([learned, self.prior[rows]], dim=1)

    def viewers(self, items: Tensor, types: Tensor, valid: Tensor) -> Tensor:
        """Run the viewer tower at every position: item vectors [B, L, d + 1] to [B, L, d + 1]."""
        length = items.shape[1]
        distance = torch.arange(length)[:, None] - torch.arange(length)[None, :]
        hidden = torch.zeros(length, length).masked_fill(distance < 0, -1e9)
        mask = hidden + torch.zeros(valid.shape).masked_fill(~valid, -1e9)[:, None, None, :]
        x = self.dropout((items[:, :, :-1] + self.types[types]) * valid[:, :, None])
        for block in self.blocks:
            x = block(x, mask, distance.clamp(min=0))
        return torch.cat([self.norm(x), self.appeal.expand(*x.shape[:2], 1)], dim=2)

    def export(self) -> dict[str, FloatArray]:
        """Give the weights that the NumPy forward pass needs, without the ids."""
        return {
            name.removeprefix("blocks."): np.ascontiguousarray(value.detach().numpy())
            for name, value in self.state_dict().items()
            if name != "ids"
        }

    def resume(self, weights: dict[str, FloatArray], vectors: FloatArray) -> None:
        """Begin from what `export` gave; ids are what item vectors [n, d + 1] hold beside content.

        Items without a vector begin with an id of 0.
        """
        named = {f"blocks.{k}" if k[0].isdigit() else k: v for k, v in weights.items()}
        self.load_state_dict({k: torch.from_numpy(v) for k, v in named.items()}, strict=False)
        with torch.no_grad():
            ids = torch.from_numpy(vectors[:, :-1].copy()) - self.item(self.side)
            self.ids.copy_(torch.nan_to_num(ids))


def appeal(counts: FloatArray) -> FloatArray:
    """Give each item's log popularity less the mean over items with actions, [n_items].

    Items without actions may be new: they get the median of the others.
    """
    acted = counts > 0
    if not acted.any():
        return np.zeros(len(counts), dtype=np.float32)
    logs = np.log(np.maximum(counts, 1.0))
    centred = logs - logs[acted].mean()
    prior: FloatArray = np.where(acted, centred, np.median(centred[acted])).astype(np.float32)
    return prior
