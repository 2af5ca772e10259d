"""CT-ViT, the image tower of CT-CLIP: attention within slabs of slices, then along them, then a code for every token.

A volume (n, 1, T, H, W) is cut into blocks of 10 x 20 x 20 voxels, each a token of 512 numbers. Four layers look
within a slab (h, w), four along the slabs (t), and a quantiser puts the most alike of 8192 codes in each token's place.
Written from a description of Hamamci et al. (arXiv 2403.17834) and checked on random weights against a second writing
in the tests; names of tensors are those of the published file.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCK = (10, 20, 20)  # voxels along T, H, W
VOXELS = 4000  # of a block
WIDTH = 512
HEADS, HEAD = 8, 32
HIDDEN = 1365
LAYERS = 4
CODES = 8192


class Blocks(nn.Module):
    """(n, 1, T, H, W) cut into (n, t, h, w, 4000)."""

    def forward(self, volume: Tensor) -> Tensor:
        """Raises :class:`ValueError` if there is more than one channel, or a side is no multiple of the block's."""
        n, channels, *size = volume.shape
        if channels != 1 or any(side < block or side % block for side, block in zip(size, BLOCK, strict=True)):
            found = " x ".join(map(str, volume.shape[1:]))
            raise ValueError(f"CT-ViT takes one channel and sides that are multiples of 10, 20, 20 voxels, not {found}")
        t, h, w = (side // block for side, block in zip(size, BLOCK, strict=True))
        cut = volume.reshape(n, t, BLOCK[0], h, BLOCK[1], w, BLOCK[2])
        return cut.permute(0, 1, 3, 5, 2, 4, 6).reshape(n, t, h, w, VOXELS)


class GammaNorm(nn.Module):
    """Layer norm whose offset ``beta`` is a constant of the file, not learned."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(WIDTH))
        self.register_buffer("beta", torch.zeros(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Any (..., 512)."""
        return F.layer_norm(x, (WIDTH,), self.gamma, self.beta)


class PositionBias(nn.Module):
    """What a token's place relative to another adds to their attention, from the logarithm of their distance."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(2, WIDTH), nn.LeakyReLU(0.1)),
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.1)),
            nn.Linear(WIDTH, HEADS),
        )

    def forward(self, h: int, w: int) -> Tensor:
        """(heads, h * w, h * w) of a slab of ``h`` x ``w`` tokens."""
        like = self.net[2].weight
        places = torch.cartesian_prod(torch.arange(h), torch.arange(w)).to(like)
        offset = places[:, None] - places
        return self.net(offset.sign() * offset.abs().log1p()).permute(2, 0, 1)


class PositionConv(nn.Module):
    """A depthwise convolution over neighbouring tokens, along T those before only."""

    def __init__(self) -> None:
        super().__init__()
        self.dsconv = nn.Conv3d(WIDTH, WIDTH, 3, groups=WIDTH)

    def forward(self, x: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
        """Tokens (sequences, length, 512) read in memory order as ``shape`` (n, t, h, w).

        In the layers along T the order in memory is (n, h, w, t), so tokens meet that are no neighbours. The
        published weights were trained so.
        """
        volume = x.reshape(*shape, WIDTH).movedim(-1, 1)
        mixed = self.dsconv(F.pad(volume, (1, 1, 1, 1, 2, 0)))
        return mixed.movedim(1, -1).reshape(x.shape)


class Attention(nn.Module):
    """Attention by cosine: queries from normalised tokens, keys and values from tokens as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = GammaNorm()
        # of the published file, for attention to other sequences, which the image tower has none of
        self.context_norm = GammaNorm()
        self.null_kv = nn.Parameter(torch.empty(HEADS, 0, HEAD))
        self.q_scale = nn.Parameter(torch.ones(HEAD))
        self.k_scale = nn.Parameter(torch.ones(HEAD))
        self.to_q = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.to_kv = nn.Linear(WIDTH, 2 * HEADS * HEAD, bias=False)
        self.to_out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """(sequences, length, 512); ``bias`` (heads, length, length) or None."""
        parts = (self.to_q(self.norm(x)), *self.to_kv(x).chunk(2, dim=-1))
        q, k, v = (part.unflatten(-1, (HEADS, HEAD)).transpose(1, 2) for part in parts)
        q, k = F.normalize(q, dim=-1) * self.q_scale, F.normalize(k, dim=-1) * self.k_scale
        seen = F.scaled_dot_product_attention(q, k, v.to(q), attn_mask=None if bias is None else bias.to(q), scale=8.0)
        return self.to_out(seen.transpose(1, 2).flatten(2))


class Gate(nn.Module):
    """The first half of the channels times GELU of the second."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., 2730) to (..., 1365)."""
        value, gate = x.chunk(2, dim=-1)
        return F.gelu(gate) * value


def feed_forward() -> nn.Sequential:
    """The two linear layers after the attention; where the published one has its dropout stands nothing."""
    return nn.Sequential(
        nn.LayerNorm(WIDTH),
        nn.Linear(WIDTH, 2 * HIDDEN, bias=False),
        Gate(),
        nn.Identity(),
        nn.Linear(HIDDEN, WIDTH, bias=False),
    )


class Transformer(nn.Module):
    """Four layers; number 2 of a layer's parts would be attention to text, which an image tower has not."""

    def __init__(self) -> None:
        super().__init__()
        parts = ({"0": PositionConv(), "1": Attention(), "3": feed_forward()} for _ in range(LAYERS))
        self.layers = nn.ModuleList(map(nn.ModuleDict, parts))
        self.norm_out = GammaNorm()

    def forward(self, x: Tensor, shape: tuple[int, int, int, int], bias: Tensor | None = None) -> Tensor:
        """(sequences, length, 512), of a volume of ``shape`` (n, t, h, w) tokens."""
        for layer in self.layers:
            x = x + layer["0"](x, shape)
            x = x + layer["1"](x, bias)
            x = x + layer["3"](x)
        return self.norm_out(x)


class Codebook(nn.Module):
    """The codes (1, 8192, 512). They are never updated, in training mode neither."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("embed", F.normalize(torch.randn(1, CODES, WIDTH), dim=-1))

    def forward(self, x: Tensor) -> Tensor:
        """The code of the highest cosine to each token (..., 512), with the length it has in the book."""
        codes = self.embed[0]
        return codes[(F.normalize(x, dim=-1) @ F.normalize(codes, dim=-1).T).argmax(dim=-1)]


class CTViT(nn.Module):
    """The encoder, 23.426 M parameters (the unused ones of its file's attention among them)."""

    def __init__(self) -> None:
        super().__init__()
        embed = (Blocks(), nn.LayerNorm(VOXELS), nn.Linear(VOXELS, WIDTH), nn.LayerNorm(WIDTH))
        self.to_patch_emb = nn.Sequential(*embed)
        self.spatial_rel_pos_bias = PositionBias()
        self.enc_spatial_transformer = Transformer()
        self.enc_temporal_transformer = Transformer()
        self.vq = nn.ModuleDict({"_codebook": Codebook()})

    def tokens(self, volume: Tensor) -> Tensor:
        """Tokens (n, t, h, w, 512) of a volume (n, 1, 10 t, 20 h, 20 w), before they are quantised."""
        x = self.to_patch_emb(volume)
        n, t, h, w, _ = shape = x.shape
        bias = self.spatial_rel_pos_bias(h, w)
        x = self.enc_spatial_transformer(x.reshape(n * t, h * w, WIDTH), shape[:4], bias).reshape(shape)
        x = x.permute(0, 2, 3, 1, 4).reshape(n * h * w, t, WIDTH)
        x = self.enc_temporal_transformer(x, shape[:4])
        return x.reshape(n, h, w, t, WIDTH).permute(0, 3, 1, 2, 4)

    def forward(self, volume: Tensor) -> Tensor:
        """Quantised tokens (n, t, h, w, 512) of a volume (n, 1, 10 t, 20 h, 20 w)."""
        return self.vq["_codebook"](self.tokens(volume))
