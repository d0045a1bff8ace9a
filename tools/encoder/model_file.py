"""A model file as a PyTorch model: what src/encoder/weights.rs wrote, read back."""

import struct

import numpy as np
import torch

from bert import OWN, STATUSES, Encoder

BLOCK, HEAD = 16, 32


def sections(path):
    """The sections of the container by tag (docs/index-format.md)."""
    with open(path, "rb") as f:
        data = f.read()
    if data[:8] != b"\x89ttpkb\r\n":
        raise ValueError(f"{path}: not a file of ttpmap")
    (count,) = struct.unpack_from("<I", data, 12)
    out = {}
    for i in range(count):
        tag, _, offset, length = struct.unpack_from("<4sIQQ", data, 64 + 24 * i)
        out[tag.decode()] = data[offset : offset + length]
    return out


def load(path):
    """The encoder of a model file and its pieces."""
    file = sections(path)
    width, inner, layers, alone, classes, rest = np.frombuffer(file["ESIZ"], "<u4").tolist()
    eight, floats = np.frombuffer(file["EWEI"], "i1"), np.frombuffer(file["EFLO"], "<f4")
    at = [0, 0]

    def numbers(*shape):
        start, at[1] = at[1], at[1] + int(np.prod(shape))
        return torch.tensor(floats[start : at[1]].reshape(shape))

    def matrix(rows, columns):
        padded = -(-rows // BLOCK) * BLOCK
        start, at[0] = at[0], at[0] + padded * columns
        whole = eight[start : at[0]].reshape(padded // BLOCK, columns // 2, BLOCK, 2).transpose(0, 2, 1, 3).reshape(padded, columns)[:rows]
        scales, biases = numbers(rows), numbers(rows)
        return torch.tensor(whole.astype(np.float32)) * scales[:, None], biases

    pieces = file["EPIE"].decode().split("\n")
    config = {
        "hidden_size": width,
        "layer_norm_eps": 1e-12,
        "vocab_size": len(pieces),
        "max_position_embeddings": OWN,
        "intermediate_size": inner,
        "num_attention_heads": width // HEAD,
        "num_hidden_layers": layers,
    }
    model = Encoder(config, classes)
    if model.alone != alone:
        raise ValueError(f"{path}: {alone} of {layers} layers read a text by itself, and bert.py has {model.alone}")
    # The first type is in the places already.
    state = {"places.weight": numbers(OWN, width), "types.weight": torch.zeros(2, width), "marks.weight": numbers(2, width)}
    state |= {"norm.weight": numbers(width), "norm.bias": numbers(width)}
    for i in range(layers):
        for name, rows, columns in [("qkv", 3 * width, width), ("out", width, width), ("up", inner, width), ("down", width, inner)]:
            state[f"layers.{i}.{name}.weight"], state[f"layers.{i}.{name}.bias"] = matrix(rows, columns)
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            state[f"layers.{i}.{name}"] = numbers(width)
    for names, rows in [((("techniques", classes), ("look", classes)), 2 * classes), ((("behaviour", 1), ("statuses", len(STATUSES))), rest)]:
        weights, biases = matrix(rows, width)
        first = 0
        for name, count in names:
            state[f"{name}.weight"], state[f"{name}.bias"] = weights[first : first + count], biases[first : first + count]
            first += count
    words = np.frombuffer(file["EWRD"], "i1").reshape(len(pieces), width).astype(np.float32)
    state["words.weight"] = torch.tensor(words * np.frombuffer(file["EWRS"], "<f4")[:, None])
    model.load_state_dict(state)
    return model.eval(), pieces
