"""A second, plain implementation of the Tera-MIND network and of the paper's two loops.

The twin that the real network is measured against (arXiv 2503.01220, equations 1 and 2, and the
authors' published weights where the two disagree). It is written from the specification alone: one
function a building block, on the published parameter names, no modules, no batching tricks, no
caching. It shares no code with the packages and imports none of them; keep it so, and keep it slow
and obvious. `plain_steps` has what is done to grids and time steps, `plain_names` the published
parameters' names and shapes.

Names: `B` crops, `n` genes, `S` gene slices, `Z` image slices, `k` stains, `P` patch edge in pixels,
`g = P / 16` gene bins along a patch edge, `C` base channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.model.plain_names import ATTENTION_EDGE, BIN, LEVELS, SLICES_OF_KERNEL
from tests.model.plain_steps import (
    alphas_cumprod,
    collage,
    cut,
    ddim_timesteps,
    dpmpp_2m,
    enlarge,
    four_neighbours,
    shrink,
)


class PlainModel:
    """The network, given as a mapping of the published parameter names to arrays.

    `forward` and `loss` take 2 x 2 blocks of patches; `sample` takes a whole canvas.
    """

    def __init__(self, state_dict: Mapping[str, Any], dtype: torch.dtype = torch.float32) -> None:
        self.w = {name: torch.as_tensor(value).to(dtype) for name, value in state_dict.items()}
        self.dtype = dtype
        self.channels, self.stains = self.w["input_blocks.0.0.weight"].shape[:2]
        conv = self.w["rna_blocks.0.0.down_z.weight"]
        self.genes = conv.shape[0]
        self.gene_slices = SLICES_OF_KERNEL[conv.shape[2]]
        self.image_slices = self.gene_slices - conv.shape[2] + 1
        features = self.w["rna_blocks.0.0.attn.q.weight"].shape[0]
        self.bins = math.isqrt(features // self.gene_slices)
        self.patch = BIN * self.bins

    # ---------------------------------------------------------------- the four public calls

    def forward(self, x: Tensor, t: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Noise predicted by the patch path and by the boundary-aware path.

        x `(B*4, k*Z, P, P)`, t `(B,)`, counts `(B*4, S, n, g, g)`: the four patches of a 2 x 2 block
        follow each other, row by row. Gives `(B*4, k*Z, P, P)` and `(B, k*Z, P, P)`.
        """
        emb = self.time_embedding(t)
        emb_patch = emb.repeat_interleave(4, dim=0)
        genes = self.gene_features(counts)
        h, skips = self.encode(x, emb_patch, genes)
        eps_patch = self.decode(h, skips, emb_patch, genes)
        return eps_patch, self._decode_collage(h, skips, emb, genes)

    def gene_gene_attention(self, counts: Tensor) -> Tensor:
        """`Attn_gg` of equation 1, `(B, n, n)`, for counts `(B, S, n, g, g)`."""
        return self._gene_gene_attention(self._gene_tokens(counts))

    def loss(self, image: Tensor, noise: Tensor, counts: Tensor, t: Tensor, block: tuple[int, int]) -> Tensor:
        """The training objective on the 2 x 2 block of patches that starts at grid (row, column).

        image `(B, k*Z, H, H)` in [-1, 1] and noise `(B, k*Z, H + P, H + P)`, counts
        `(B, S, n, H/16, H/16)` under the image, t `(B,)`.
        """
        size, half = self.patch, self.patch // 2
        x0 = F.pad(image.to(self.dtype), (half, half, half, half))
        mask = F.pad(torch.ones_like(image, dtype=self.dtype), (half, half, half, half))
        bins = F.pad(counts.to(self.dtype), (self.bins // 2,) * 4)
        noise = noise.to(self.dtype)
        a = alphas_cumprod()[t].to(self.dtype)[:, None, None, None]
        x_t = (a.sqrt() * x0 + (1 - a).sqrt() * noise) * mask

        top, left = block[0] * size, block[1] * size
        here = (..., slice(top, top + 2 * size), slice(left, left + 2 * size))
        bins_here = (
            ...,
            slice(top // BIN, top // BIN + 2 * self.bins),
            slice(left // BIN, left // BIN + 2 * self.bins),
        )
        eps_patch, eps_collage = self.forward(cut(x_t[here], size), t, cut(bins[bins_here], self.bins))
        patch_error = (cut(noise[here], size) - eps_patch) ** 2 * cut(mask[here], size)
        centre = noise[here][..., half : half + size, half : half + size]
        return patch_error.mean() + ((centre - eps_collage) ** 2).mean()

    def sample(
        self,
        x_T: Tensor,
        counts: Tensor,
        steps: int = 15,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """DDIM (eta 0) on a canvas, tile by tile.

        x_T `(k*Z, H, W)`, counts `(S, n, H/16 + g, W/16 + g)` over the canvas and half a patch on each
        side. `on_step(i, x)` sees the canvas after step i = 1 .. steps.
        """
        x = x_T.to(self.dtype)
        alphas = alphas_cumprod()
        timesteps = ddim_timesteps(steps)
        for i in reversed(range(steps)):
            a = alphas[timesteps[i]].item()
            a_next = alphas[timesteps[i - 1]].item() if i > 0 else 1.0
            eps = self._canvas_noise(x, torch.tensor([timesteps[i]]), counts)
            x0 = ((x - math.sqrt(1 - a) * eps) / math.sqrt(a)).clamp(-1, 1)
            eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
            x = math.sqrt(a_next) * x0 + math.sqrt(1 - a_next) * eps
            if on_step is not None:
                on_step(steps - i, x)
        return x

    def sample_dpmpp_2m(
        self,
        x_T: Tensor,
        counts: Tensor,
        steps: int,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Tensor:
        """DPM-Solver++ 2M on a canvas; shapes and `on_step` as `sample`."""

        def noise(x: Tensor, t: int) -> Tensor:
            return self._canvas_noise(x, torch.tensor([t]), counts)

        return dpmpp_2m(noise, x_T.to(self.dtype), steps, on_step)

    def _canvas_noise(self, x: Tensor, t: Tensor, counts: Tensor) -> Tensor:
        """The boundary-aware noise of each tile, from its four patches of grid A. -1 outside the canvas.

        One row of grid A is encoded at a time; tile (i, j) is decoded from patches (i, j) .. (i+1, j+1).
        """
        size, half = self.patch, self.patch // 2
        padded = F.pad(x, (half, half, half, half), value=-1.0)
        emb = self.time_embedding(t)
        eps = torch.full_like(x, math.nan)  # a tile that is missed must show
        upper = self._encode_grid_row(padded, counts, emb, 0)
        for row in range(x.shape[1] // size):
            lower = self._encode_grid_row(padded, counts, emb, row + 1)
            maps = [four_neighbours(u, v) for u, v in zip(upper, lower, strict=True)]
            h, skips, genes = maps[0], maps[1:-4], maps[-4:]
            tiles = self._decode_collage(h, skips, emb.expand(len(h) // 4, -1), genes)
            for col, tile in enumerate(tiles):
                eps[:, row * size : (row + 1) * size, col * size : (col + 1) * size] = tile
            upper = lower
        return eps

    def _encode_grid_row(self, padded: Tensor, counts: Tensor, emb: Tensor, row: int) -> list[Tensor]:
        """The middle's output, the skips and the gene features of one row of grid A's patches."""
        size, bins = self.patch, self.bins
        columns = range(padded.shape[2] // size)
        patches = [padded[:, row * size : (row + 1) * size, c * size : (c + 1) * size] for c in columns]
        under = [counts[..., row * bins : (row + 1) * bins, c * bins : (c + 1) * bins] for c in columns]
        genes = self.gene_features(torch.stack(under))
        h, skips = self.encode(torch.stack(patches), emb.expand(len(columns), -1), genes)
        return [h, *skips, *genes]

    # ---------------------------------------------------------------- genes (equation 1)

    def _gene_tokens(self, counts: Tensor) -> Tensor:
        """`(B, S, n, g, g)` to `(B, n, S*g*g)`: one token a gene, features in (z, y, x) order."""
        return counts.to(self.dtype).transpose(1, 2).flatten(2)

    def _gene_gene_attention(self, tokens: Tensor) -> Tensor:
        q = self._norm(self._linear(tokens, "rna_blocks.0.0.attn.q"), "rna_blocks.0.0.attn.q_norm")
        return torch.softmax(q @ q.transpose(1, 2) / q.shape[-1], dim=-1)  # k is q

    def gene_features(self, counts: Tensor) -> list[Tensor]:
        """`g_0 .. g_3`, each `(B, channels, Z, edge, edge)` at edges P/8, P/4, P/2, P."""
        tokens = self._gene_tokens(counts)
        h = self._gene_gene_attention(tokens) @ self._linear(tokens, "rna_blocks.0.0.attn.v")
        h = self._linear(h, "rna_blocks.0.0.attn.proj")
        h = self._mlp(self._norm(h, "rna_blocks.0.0.norm2"), "rna_blocks.0.0.mlp")
        h = h.reshape(len(h), self.genes, self.gene_slices, self.bins, self.bins)
        h = self._conv(h, "rna_blocks.0.0.down_z", padding=(0, 1, 1))
        features = [enlarge(h)]
        for stage in (1, 2, 3):
            h = self._conv(F.silu(features[-1]), f"rna_blocks.{stage}.1", padding=(0, 1, 1))
            features.append(enlarge(h))
        return features

    # ---------------------------------------------------------------- U-Net

    def time_embedding(self, t: Tensor) -> Tensor:
        """`(B,)` integer steps to `(B, time width)`."""
        half = self.channels // 2
        frequency = 10000.0 ** (-torch.arange(half, dtype=self.dtype) / half)
        angle = t.to(self.dtype)[:, None] * frequency
        h = torch.cat([angle.cos(), angle.sin()], dim=1)
        h = self._linear(h, "time_embed.time_embed.0")
        return self._linear(F.silu(h), "time_embed.time_embed.2")

    def encode(self, x: Tensor, emb: Tensor, genes: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The encoder and the middle: `(b, k*Z, P, P)` to the middle's output and twelve skips."""
        x = x.to(self.dtype).unflatten(1, (self.stains, self.image_slices))  # stain is the slow index
        h = self._conv(x, "input_blocks.0.0", padding=(0, 1, 1))
        skips = [h]
        block = 1
        for level in range(LEVELS):
            if level > 0:
                h = self._res(h, emb, f"input_blocks.{block}.0", resize=shrink)
                skips.append(h)
                block += 1
            for _ in range(2):
                h = self._gene_res(h, emb, genes[3 - level], f"input_blocks.{block}")
                skips.append(h)
                block += 1
        h = self._res(torch.cat([h, genes[0]], dim=1), emb, "middle_block.0")
        h = self._gene_morph(h, genes[0], "middle_block.1")
        h = self._res(h, emb, "middle_block.2")
        return h, skips

    def decode(self, h: Tensor, skips: list[Tensor], emb: Tensor, genes: list[Tensor]) -> Tensor:
        """The decoder and the head: to the predicted noise `(b, k*Z, P, P)`."""
        left = list(skips)
        block = 0
        for level in reversed(range(LEVELS)):
            for _ in range(3):
                h = torch.cat([h, left.pop()], dim=1)
                h = self._gene_res(h, emb, genes[3 - level], f"output_blocks.{block}")
                block += 1
            if level > 0:
                up = 2 if self._attends(h) else 1  # an attention block, where there is one, stands between
                h = self._res(h, emb, f"output_blocks.{block - 1}.{up}", resize=enlarge)
        h = F.silu(self._norm(h, "out.0"))
        return self._conv(h, "out.2", padding=(0, 1, 1)).flatten(1, 2)

    def _decode_collage(self, h: Tensor, skips: list[Tensor], emb: Tensor, genes: list[Tensor]) -> Tensor:
        """The boundary-aware path: every feature map re-cut, then the same decoder."""
        return self.decode(collage(h), [collage(s) for s in skips], emb, [collage(g) for g in genes])

    def _gene_res(self, h: Tensor, emb: Tensor, gene: Tensor, name: str) -> Tensor:
        """A ResBlock on the features beside the genes', and attention at the 16 x 16 level."""
        h = self._res(torch.cat([h, gene], dim=1), emb, f"{name}.0")
        return self._gene_morph(h, gene, f"{name}.1") if self._attends(h) else h

    def _attends(self, h: Tensor) -> bool:
        return bool(h.shape[-1] == ATTENTION_EDGE)

    def _res(
        self, x: Tensor, emb: Tensor, name: str, resize: Callable[[Tensor], Tensor] | None = None
    ) -> Tensor:
        h = F.silu(self._norm(x, f"{name}.in_layers.0"))
        if resize is not None:
            h, x = resize(h), resize(x)
        h = self._conv(h, f"{name}.in_layers.2", padding=1)
        modulation = self._linear(F.silu(emb), f"{name}.emb_layers.1")[:, :, None, None, None]
        scale, shift = modulation.chunk(2, dim=1)
        h = self._norm(h, f"{name}.out_layers.0") * (1 + scale) + shift
        h = self._conv(F.silu(h), f"{name}.out_layers.3", padding=1)
        if f"{name}.skip_connection.weight" in self.w:
            x = self._conv(x, f"{name}.skip_connection", padding=0)
        return x + h

    def _gene_morph(self, x: Tensor, gene: Tensor, name: str) -> Tensor:
        """Equation 2 on `(b, C_i, Z, e, e)`, quadrant by quadrant."""
        half = x.shape[-1] // 2
        out = torch.empty_like(x)
        for rows in (slice(0, half), slice(half, None)):
            for cols in (slice(0, half), slice(half, None)):
                quadrant = x[..., rows, cols]
                tokens = quadrant.flatten(2).transpose(1, 2)  # (b, z*y*x, C_i)
                gene_tokens = gene[..., rows, cols].flatten(2).transpose(1, 2)
                tokens = self._gene_morph_tokens(tokens, gene_tokens, name)
                out[..., rows, cols] = tokens.transpose(1, 2).reshape(quadrant.shape)
        return out

    def _gene_morph_tokens(self, x: Tensor, gene: Tensor, name: str) -> Tensor:
        modulation = self._linear(F.silu(gene), f"{name}.adaLN_modulation.1")
        shift_a, scale_a, gate_a, embed, shift_m, scale_m, gate_m = modulation.chunk(7, dim=-1)
        h = self._norm(x, f"{name}.norm1") * (1 + scale_a) + shift_a
        q = self._norm(self._linear(h, f"{name}.attn.q"), f"{name}.attn.q_norm")
        k = self._norm(self._linear(embed, f"{name}.attn.k"), f"{name}.attn.k_norm")
        v = self._linear(embed, f"{name}.attn.v")
        attention = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1], dim=-1)
        x = x + gate_a * self._linear(attention @ v, f"{name}.attn.proj")
        h = self._norm(x, f"{name}.norm2") * (1 + scale_m) + shift_m
        return x + gate_m * self._mlp(h, f"{name}.mlp")

    # ---------------------------------------------------------------- layers, by parameter name

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def _conv(self, x: Tensor, name: str, padding: int | tuple[int, int, int]) -> Tensor:
        return F.conv3d(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"], padding=padding)

    def _mlp(self, x: Tensor, name: str) -> Tensor:
        return self._linear(F.gelu(self._linear(x, f"{name}.fc1"), approximate="tanh"), f"{name}.fc2")

    def _norm(self, x: Tensor, name: str) -> Tensor:
        """RMSNorm over channels: axis 1 of feature maps `(b, c, z, y, x)`, the last axis of tokens."""
        weight = self.w[f"{name}.weight"].flatten()
        axis = 1 if x.ndim == 5 else -1
        if axis == 1:
            weight = weight[:, None, None, None]
        return weight * x * torch.rsqrt((x * x).mean(dim=axis, keepdim=True) + 1e-6)
