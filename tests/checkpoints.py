"""Checkpoint files as the models' authors publish them: wrapped, prefixed, renamed, beside decoders and optimisers.

The names of what stands beside an encoder, and the authors' names of MedImageInsight's tensors, are written down here
from their sources; nothing is derived from the patterns by which the package leaves out or renames.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tumorbench_utils.models.base import Layout, Model

torch = pytest.importorskip("torch")

BESIDE = {  # {p} is the layout's prefix; () is a scalar
    "ct_clip": {
        "{p}to_pixels.0.weight": (40, 8),
        "{p}to_pixels_first_frame.0.weight": (4, 8),
        "{p}to_patch_emb_first_frame.1.weight": (4,),
        "{p}vq._codebook.initted": (1,),
        "{p}vq._codebook.cluster_size": (1, 8),
        "text_transformer.embeddings.position_ids": "int",
        "text_transformer.embeddings.word_embeddings.weight": (8, 4),
        "to_text_latent.weight": (4, 4),
        "to_visual_latent.weight": (4, 4),
        "temperature": (),
    },
    "pasta": {
        "tu.0.weight": (4, 2, 2, 2, 2),
        "conv_blocks_localization.0.0.blocks.0.conv.weight": (2, 4, 3, 3, 3),
        "conv_blocks_localization.0.0.blocks.0.instnorm.bias": (2,),
        "seg_outputs.0.weight": (2, 4, 1, 1, 1),
    },
    "vista3d": {
        "image_encoder.up_layers.0.upsample.deconv.weight": (4, 2, 2, 2, 2),
        "image_encoder.up_layers_auto.0.blocks.0.conv1.conv.weight": (2, 2, 3, 3, 3),
        "class_head.class_embeddings.weight": (6, 4),
        "point_head.feat_downsample.0.weight": (4, 4, 3, 3, 3),
    },
    "voco": {
        f"encoder{block}.layer.conv{number}.conv.weight": (2, 1, 3, 3, 3)
        for block in (1, 2, 3, 4, 10)
        for number in (1, 2, 3)
        if number < 3 or block == 1
    },
    "suprem": {
        "{p}up_tr256.up_conv.weight": (4, 2, 2, 2, 2),
        "{p}up_tr256.ops.0.bn1.running_mean": (2,),
        "{p}out_tr.final_conv.weight": (2, 4, 1, 1, 1),
        "module.organ_embedding": (4, 8),
        "module.controller.weight": (3, 4, 1, 1, 1),
    },
    "models_genesis": {
        "{p}up_tr256.up_conv.weight": (4, 2, 2, 2, 2),
        "{p}up_tr64.ops.1.conv1.bias": (2,),
        "{p}out_tr.final_conv.weight": (1, 4, 1, 1, 1),
    },
    "merlin": {
        "{p}classifier.weight": (6, 4, 1, 1, 1),
        "{p}classifier.bias": (6,),
        "encode_text.text_encoder.embeddings.word_embeddings.weight": (8, 4),
        "encode_text.linear_layer.weight": (4, 4),
        "logit_scale": (),
    },
    "medimageinsight": {
        "lang_encoder.token_embedding.weight": (8, 4),
        "lang_projection": (4, 4),
        "logit_scale": (),
    },
}
BESIDE_WITH_DECODER = {"ct_fm": {"up_layers.0.0.conv1.weight": (2, 4, 1, 1, 1), "up_layers.0.1.norm1.weight": (2,)}}
UNUSED_STATISTICS = ("suprem", "models_genesis")  # their batch norms keep running ones that nothing reads
OPTIMISER = {"suprem": "optimizer", "models_genesis": "optimizer_state_dict"}
DAVIT = {  # in a block; {attn} is window_attn or channel_attn
    "conv1": "conv1.fn.dw",
    "conv2": "conv2.fn.dw",
    "norm1": "{attn}.norm",
    "window_attn": "window_attn.fn",
    "channel_attn": "channel_attn.fn",
    "norm2": "ffn.norm",
    "ffn": "ffn.fn.net",
}


def davit(name: str) -> str:
    """The authors' name of a tensor of MedImageInsight's image tower, from the one in transformers."""
    parts = name.split(".")
    if parts[1:2] == ["convs"]:
        parts = ["proj" if part == "conv" else part for part in parts]
    for block, attention in (("spatial_block", "window_attn"), ("channel_block", "channel_attn")):
        if block in parts:
            at = parts.index(block) + 1
            parts[at] = DAVIT[parts[at]].format(attn=attention)
    return ".".join(parts)


def beside(model: Model, layout: Layout, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the authors' file holds, by full name, in one container with the encoder's tensors."""
    shapes = dict(BESIDE.get(model.id, {}))
    if layout.prefix:
        shapes |= BESIDE_WITH_DECODER.get(model.id, {})
    found = {name.format(p=layout.prefix): _values(shape) for name, shape in shapes.items()}
    if model.id in UNUSED_STATISTICS:
        for name, tensor in module.state_dict().items():
            if name.endswith("bn1.weight"):
                norm = layout.prefix + name.removesuffix(".weight")
                found |= {f"{norm}.running_mean": torch.zeros_like(tensor), f"{norm}.running_var": tensor.clone()}
                found |= {f"{norm}.num_batches_tracked": torch.tensor(7)}
    return found


def _values(shape: tuple[int, ...] | str) -> torch.Tensor:
    return torch.arange(4)[None] if shape == "int" else torch.full(shape, 0.5)


def upstream(model: Model, layout: Layout, module: torch.nn.Module, dtype: torch.dtype | None = None) -> dict:
    """The content of the file in which the authors of ``model`` would publish the weights of ``module``.

    With ``dtype`` its floating-point tensors are stored so.
    """
    rename = davit if model.id == "medimageinsight" else str
    state = {layout.prefix + rename(name): tensor.clone() for name, tensor in module.state_dict().items()}
    entries = state | beside(model, layout, module)
    if dtype is not None:
        entries = {name: each.to(dtype) if each.is_floating_point() else each for name, each in entries.items()}
    return wrapped(model.id, layout.container, entries)


def wrapped(model_id: str, container: str, entries: dict) -> dict:
    """``entries`` in their container, with the state of the training beside it; a flat file has neither."""
    if not container:
        return entries
    moments = {"step": torch.tensor(100.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    optimiser = {"state": {0: moments}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999), "params": [0]}]}
    return {container: entries, OPTIMISER.get(model_id, "optimizer"): optimiser, "epoch": 2100, "scheduler": None}


def write(path: str | Path, content: dict, *, safetensors: bool | None = None, legacy: bool = False) -> Path:
    """Write the content of a checkpoint; as safetensors if so called (or told), ``legacy`` as torch did before 1.6."""
    path = Path(path)
    if path.suffix == ".safetensors" if safetensors is None else safetensors:
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in content.items()}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path
