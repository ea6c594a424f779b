"""Every parameter of the published networks, by name and shape (see `plain_reference`)."""

from __future__ import annotations

BIN = 16  # pixels along the edge of a gene bin
ATTENTION_EDGE = 16  # gene-morph attention runs where the feature maps have this edge
LEVELS = 4
SLICES_OF_KERNEL = {1: 1, 3: 4, 5: 8, 9: 16}  # z extent of the gene-gene convolution -> S


def parameter_shapes(
    genes: int,
    gene_slices: int = 4,
    patch: int = 64,
    channels: int = 64,
    gene_widths: tuple[int, int, int] = (128, 64, 32),
    time_width: int = 512,
    stains: int = 2,
) -> dict[str, tuple[int, ...]]:
    """Every parameter of a network under its published name, in the published order."""
    kernel_z = {slices: kernel for kernel, slices in SLICES_OF_KERNEL.items()}[gene_slices]
    features = gene_slices * (patch // BIN) ** 2
    widths = [channels * 2**level for level in range(LEVELS)]
    gene_channels = [genes, *gene_widths][::-1]  # by level
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = (width,)

    def map_norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = (1, width, 1, 1)

    def linear(name: str, fan_in: int, fan_out: int) -> None:
        shapes[f"{name}.weight"] = (fan_out, fan_in)
        shapes[f"{name}.bias"] = (fan_out,)

    def conv(name: str, fan_in: int, fan_out: int, *kernel: int) -> None:
        shapes[f"{name}.weight"] = (fan_out, fan_in, *kernel)
        shapes[f"{name}.bias"] = (fan_out,)

    def res(name: str, fan_in: int, fan_out: int) -> None:
        map_norm(f"{name}.in_layers.0", fan_in)
        conv(f"{name}.in_layers.2", fan_in, fan_out, 3, 3, 3)
        linear(f"{name}.emb_layers.1", time_width, 2 * fan_out)
        map_norm(f"{name}.out_layers.0", fan_out)
        conv(f"{name}.out_layers.3", fan_out, fan_out, 3, 3, 3)
        if fan_in != fan_out:
            conv(f"{name}.skip_connection", fan_in, fan_out, 1, 1, 1)

    def mlp(name: str, width: int) -> None:
        linear(f"{name}.fc1", width, 4 * width)
        linear(f"{name}.fc2", 4 * width, width)

    def gene_morph(name: str, width: int, gene_width: int) -> None:
        norm(f"{name}.norm1", width)
        for projection in ("q", "k", "v"):
            linear(f"{name}.attn.{projection}", width, width)
        norm(f"{name}.attn.q_norm", width)
        norm(f"{name}.attn.k_norm", width)
        linear(f"{name}.attn.proj", width, width)
        norm(f"{name}.norm2", width)
        mlp(f"{name}.mlp", width)
        linear(f"{name}.adaLN_modulation.1", gene_width, 7 * width)

    def gene_res(name: str, level: int, fan_in: int) -> bool:
        res(f"{name}.0", fan_in + gene_channels[level], widths[level])
        attends = patch >> level == ATTENTION_EDGE
        if attends:
            gene_morph(f"{name}.1", widths[level], gene_channels[level])
        return attends

    linear("time_embed.time_embed.0", channels, time_width)
    linear("time_embed.time_embed.2", time_width, time_width)

    linear("rna_blocks.0.0.attn.q", features, features)
    linear("rna_blocks.0.0.attn.v", features, features)
    norm("rna_blocks.0.0.attn.q_norm", features)
    linear("rna_blocks.0.0.attn.proj", features, features)
    norm("rna_blocks.0.0.norm2", features)
    mlp("rna_blocks.0.0.mlp", features)
    conv("rna_blocks.0.0.down_z", genes, genes, kernel_z, 3, 3)
    for stage, (fan_in, fan_out) in enumerate(zip([genes, *gene_widths], gene_widths, strict=False), start=1):
        conv(f"rna_blocks.{stage}.1", fan_in, fan_out, 1, 3, 3)

    conv("input_blocks.0.0", stains, channels, 1, 3, 3)
    skips, block = [channels], 1
    for level, width in enumerate(widths):
        if level > 0:
            res(f"input_blocks.{block}.0", skips[-1], skips[-1])
            skips.append(skips[-1])
            block += 1
        for _ in range(2):
            gene_res(f"input_blocks.{block}", level, skips[-1])
            skips.append(width)
            block += 1

    width = widths[-1]
    res("middle_block.0", width + genes, width)
    gene_morph("middle_block.1", width, genes)
    res("middle_block.2", width, width)

    block = 0
    for level in reversed(range(LEVELS)):
        for _ in range(3):
            attends = gene_res(f"output_blocks.{block}", level, width + skips.pop())
            width = widths[level]
            block += 1
        if level > 0:
            res(f"output_blocks.{block - 1}.{2 if attends else 1}", width, width)

    map_norm("out.0", channels)
    conv("out.2", channels, stains, 1, 3, 3)
    return shapes
