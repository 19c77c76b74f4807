"""A causal transformer over item sequences: small, gated, cheap on a CPU.

SASRec's task (Kang and McAuley, ICDM 2018) with a gated attention block as in HSTU (Zhai et al.,
ICML 2024), SwiGLU (Shazeer 2020), distance biases (Press et al., ALiBi, ICLR 2022; Raffel et al.,
JMLR 2020) and a width-3 causal convolution before attention (So et al., Primer, NeurIPS 2021).
"""

import math
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

_BUCKETS: Final = 32
_NEAR: Final = 16
"""Distances up to here have a bucket each, larger ones share by logarithm."""


class Shape(BaseModel):
    """Size of the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dimensions: int = Field(default=64, ge=4)
    hidden: int = Field(default=160, ge=4)
    blocks: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    window: int = Field(default=200, ge=2)
    dropout: float = Field(default=0.15, ge=0, lt=1)


class Block(nn.Module):
    """Gated causal attention, then SwiGLU; both residual, norms before."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, hidden = shape.dimensions, shape.hidden
        self.heads = shape.heads
        self.first, self.second = nn.RMSNorm(d, eps=1e-6), nn.RMSNorm(d, eps=1e-6)
        self.shift = nn.Parameter(torch.zeros(2, d))
        self.near = nn.Parameter(torch.zeros(shape.heads, _BUCKETS))
        self.mix = nn.Linear(d, 4 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, d, bias=False)
        self.drop = nn.Dropout(shape.dropout)
        for wide in (self.mix, self.up):
            nn.init.normal_(wide.weight, std=d**-0.5)
        for back in (self.out, self.down):
            nn.init.normal_(back.weight, std=0.5 * back.in_features**-0.5)

    def forward(self, x: Tensor, bias: Tensor, gap: Tensor) -> Tensor:
        """Map [B, L, d] to [B, L, d]; `bias` [heads, L, L], `gap` [L, L]: a distance's bucket."""
        batch, length, d = x.shape
        z = self.first(x)
        z = (
            z
            + self.shift[0] * functional.pad(z, (0, 0, 1, 0))[:, :length]
            + self.shift[1] * functional.pad(z, (0, 0, 2, 0))[:, :length]
        )
        parts = self.mix(z).chunk(4, -1)
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts[:3]
        )
        logits = query @ key.transpose(-1, -2) * (d // self.heads) ** -0.5
        share = (logits + (self.near[:, gap] + bias).to(logits.dtype)).softmax(-1)
        mixed = (share.to(value.dtype) @ value).transpose(1, 2).reshape(batch, length, d)
        x = x + self.drop(self.out(mixed * functional.silu(parts[3])))
        gate, wide = self.up(self.second(x)).chunk(2, -1)
        grown: Tensor = x + self.drop(self.down(functional.silu(gate) * wide))
        return grown


class SequenceNetwork(nn.Module):
    """Item embeddings in and out are one table; row 0 is padding, item i stands at row i + 1.

    Where items have attributes, a learned vector each is added to the items that have it.
    """

    bias: Tensor
    gap: Tensor
    attributes: Tensor | None

    def __init__(self, n_items: int, shape: Shape, attributes: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(n_items + 1, shape.dimensions)
        nn.init.normal_(self.items.weight, std=0.05)
        # Sparse [n_items + 1, kinds], rows adding up to the root of their length.
        self.register_buffer("attributes", attributes, persistent=False)
        if attributes is not None:
            self.kinds = nn.Parameter(0.05 * torch.randn(attributes.shape[1], shape.dimensions))
        self.drop = nn.Dropout(shape.dropout)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.RMSNorm(shape.dimensions, eps=1e-6)
        place = torch.arange(shape.window)
        distance = (place[:, None] - place[None, :]).float()
        slope = [2.0 ** -(1 + 2 * head) if head % 2 == 0 else 0.0 for head in range(shape.heads)]
        bias = -torch.tensor(slope)[:, None, None] * distance
        self.register_buffer("bias", bias.masked_fill(distance < 0, -math.inf), persistent=False)
        far = torch.log(distance.clamp(min=_NEAR) / _NEAR) / math.log(max(2, shape.window / _NEAR))
        gap = torch.where(distance < _NEAR, distance, _NEAR + (_BUCKETS - _NEAR - 1) * far)
        self.register_buffer("gap", gap.clamp(0, _BUCKETS - 1).long(), persistent=False)

    def table(self) -> Tensor:
        """Give the embedding of padding and every item, [n_items + 1, d]."""
        if self.attributes is None:
            return self.items.weight
        whole: Tensor = self.items.weight + torch.sparse.mm(self.attributes, self.kinds)
        return whole

    def forward(self, rows: Tensor, table: Tensor) -> Tensor:
        """Encode table rows [B, L], padded at the end: [B, L, d]."""
        x = self.drop(functional.embedding(rows, table) / 0.05)
        length = rows.shape[1]
        bias, gap = self.bias[:, :length, :length], self.gap[:length, :length]
        for block in self.blocks:
            x = block(x, bias, gap)
        normed: Tensor = self.norm(x)
        return normed


class SampledSoftmax(torch.autograd.Function):
    """Mean cross-entropy of `states @ table.T` at `wanted`, never holding all logits at once.

    A fresh uniform sample of items, shared by the batch, stands for the whole table; its logits
    are raised by log(items / sample), which keeps the partition function unbiased. With a sample
    of all items it is the full softmax. Gradients are computed on the way, a chunk at a time.
    """

    @staticmethod
    def forward(
        context: Any,  # noqa: ANN401 - torch's own
        states: Tensor,
        table: Tensor,
        wanted: Tensor,
        sample: int,
        low: torch.dtype,
    ) -> Tensor:
        """Give the loss of [n, d] states whose `wanted` [n] is a row of the table [m, d]."""
        items, chunk = len(table), 512
        everything = sample >= items
        pick = torch.arange(items) if everything else torch.randperm(items)[:sample]
        pick = pick.to(table.device)
        place = torch.full((items,), -1, device=table.device)
        place[pick] = torch.arange(len(pick), device=table.device)
        own = table.detach().to(low)
        rest, lift = own[pick].contiguous(), math.log(items / len(pick))
        state, right = states.detach().to(low), own[wanted]
        hit_logits = (state.float() * right.float()).sum(1)
        state_grad, rest_grad = torch.empty_like(state), torch.zeros_like(rest, dtype=torch.float32)
        miss, total = torch.empty(len(state), device=table.device), 0.0
        for start in range(0, len(state), chunk):
            part = slice(start, start + chunk)
            x, reached = state[part], hit_logits[part]
            logits = (x @ rest.T).float() + lift
            at = place[wanted[part]]
            there = (at >= 0).nonzero()[:, 0]
            logits[there, at[there]] = -math.inf  # the wanted one counts once, without the lift
            top = torch.maximum(logits.amax(1), reached)
            mass = logits.sub_(top[:, None]).exp_()
            hit = (reached - top).exp()
            norm = mass.sum(1) + hit
            total += float((norm.log() + top - reached).sum())
            miss[part] = hit / norm - 1
            share = (mass / norm[:, None]).to(low)
            state_grad[part] = share @ rest
            rest_grad += (share.T @ x).float()
        table_grad = torch.zeros_like(table, dtype=torch.float32).index_add_(0, pick, rest_grad)
        table_grad.index_add_(0, wanted, miss[:, None] * state.float())
        full = state_grad.float() + miss[:, None] * right.float()
        context.save_for_backward(
            full.div_(len(state)).to(states.dtype), table_grad.div_(len(state))
        )
        return torch.tensor(total / len(state), device=table.device)

    @staticmethod
    def backward(context: Any, *grads: Any) -> Any:  # noqa: ANN401
        """Scale what was computed on the way."""
        states, table = context.saved_tensors
        return states * grads[0], table * grads[0], None, None, None
