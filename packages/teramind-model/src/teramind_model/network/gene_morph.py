"""Gene-morph attention: image features query gene features (paper, equation 2)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from teramind_model.network.attention_kernels import single_head
from teramind_model.network.blocks import MLP, RMSNorm, upsample


class CrossAttention(nn.Module):
    """Single-head attention with normalised queries and keys and scale 1/d."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.q_norm = RMSNorm(width)
        self.k_norm = RMSNorm(width)
        self.out = nn.Linear(width, width)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """``query`` ``(b, tokens, c)`` on ``memory`` ``(b, other tokens, c)``."""
        q, k, v = self.q_norm(self.q(query)), self.k_norm(self.k(memory)), self.v(memory)
        return self.out(single_head(q, k, v))


class GeneMorphAttention(nn.Module):
    """Attention and perceptron on image tokens, both modulated by the gene features under them.

    Keys and values come from the genes' embedding (the paper takes the keys from the image; the published
    weights do not).

    Gene features are nearest-upsampled, so four neighbouring tokens are one gene token four times (collages are cut
    along even lines and keep it so). What depends on genes alone is computed once for the four: the modulation, and
    keys and values, since a softmax over every key four times is the softmax over the keys.
    """

    def __init__(self, width: int, gene_channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(gene_channels, 7 * width)
        self.norm_attention = RMSNorm(width)
        self.attention = CrossAttention(width)
        self.norm_mlp = RMSNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, genes: Tensor) -> Tensor:
        """``x`` is ``(b, y, x, z, c)``, ``genes`` ``(b, y, x, z, gene channels)``, equal within 2 x 2 pixels."""
        parts = self.modulation(functional.silu(genes[:, ::2, ::2])).chunk(7, dim=-1)
        embed = parts[3]
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = map(upsample, (*parts[:3], *parts[4:]))
        query = self.norm_attention(x) * (1 + scale_a) + shift_a
        mixed = self.attention(to_quadrants(query), to_quadrants(embed))
        x = x + gate_a * from_quadrants(mixed, x.shape)
        return x + gate_m * self.mlp(self.norm_mlp(x) * (1 + scale_m) + shift_m)


class ImageAttention(nn.Module):
    """Attention among a patch's own features and a perceptron, for networks without genes.

    Quadrant by quadrant like :class:`GeneMorphAttention`, so that a collage may cut between them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_attention = RMSNorm(width)
        self.attention = CrossAttention(width)
        self.norm_mlp = RMSNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, genes: Tensor) -> Tensor:
        """``x`` is ``(b, y, x, z, c)``; ``genes`` has no channels and is not read."""
        tokens = to_quadrants(self.norm_attention(x))
        x = x + from_quadrants(self.attention(tokens, tokens), x.shape)
        return x + self.mlp(self.norm_mlp(x))


def to_quadrants(x: Tensor) -> Tensor:
    """``(b, y, x, z, c)`` as tokens ``(4 b, z * y/2 * x/2, c)`` of the 2 x 2 quadrants.

    A quadrant never sees another: the collage cuts patches along the lines between them.
    """
    batch, height, width, slices, channels = x.shape
    blocks = x.view(batch, 2, height // 2, 2, width // 2, slices, channels)
    return blocks.permute(0, 1, 3, 5, 2, 4, 6).reshape(4 * batch, -1, channels)


def from_quadrants(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inverse of :func:`to_quadrants` for feature maps of ``shape``."""
    batch, height, width, slices, channels = shape
    blocks = tokens.view(batch, 2, 2, slices, height // 2, width // 2, channels)
    return blocks.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, height, width, slices, channels)
