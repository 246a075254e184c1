#!/usr/bin/env python3
"""Writes all-MiniLM-L6-v2 as an ONNX file, straight from its safetensors: no torch, no network.

usage: export_onnx.py MODEL_DIR OUT_DIR

MODEL_DIR holds config.json and model.safetensors. The result is deterministic, so its sha256 can be
pinned. The graph has the inputs that every BERT export has,

    input_ids, attention_mask, token_type_ids   int64 [batch, seq]

and one output, of which mean pooling and L2 normalisation make the sentence embedding:

    last_hidden_state                           float32 [batch, seq, 384]
"""

import json
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file


class Graph:
    """Collects nodes and constants. Every operation returns the name of its output."""

    def __init__(self):
        self.nodes = []
        self.constants = []
        self._constant_names = set()

    def const(self, name, value, dtype=None):
        if name not in self._constant_names:
            self._constant_names.add(name)
            # not ascontiguousarray: that turns a scalar into an array of shape [1]
            self.constants.append(numpy_helper.from_array(np.array(value, dtype=dtype, order="C"), name))
        return name

    def ints(self, name, *values):
        return self.const(name, values, np.int64)

    def float(self, name, value):
        return self.const(name, value, np.float32)

    def op(self, kind, *inputs, out=None, **attributes):
        number = len(self.nodes) + 1
        out = out or f"{kind}_{number}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"n{number}_{kind}", **attributes))
        return out


def build(model_dir):
    config = json.loads((model_dir / "config.json").read_text())
    assert config["model_type"] == "bert" and config["hidden_act"] == "gelu"
    assert config.get("position_embedding_type", "absolute") == "absolute"
    tensors = load_file(model_dir / "model.safetensors")
    weights = {
        name.removeprefix("bert."): tensor.astype(np.float32)
        for name, tensor in tensors.items()
        if tensor.dtype != np.int64
    }
    hidden, head_count, layers = config["hidden_size"], config["num_attention_heads"], config["num_hidden_layers"]
    head_size, epsilon = hidden // head_count, float(config["layer_norm_eps"])
    g = Graph()

    def linear(x, prefix):
        transposed = g.const(f"{prefix}.weight_t", weights[f"{prefix}.weight"].T)
        return g.op("Add", g.op("MatMul", x, transposed), g.const(f"{prefix}.bias", weights[f"{prefix}.bias"]))

    def layer_norm(x, prefix, out=None):
        scale = g.const(f"{prefix}.weight", weights[f"{prefix}.weight"])
        bias = g.const(f"{prefix}.bias", weights[f"{prefix}.bias"])
        return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon, out=out)

    def split_heads(x, permutation):  # [batch, seq, hidden] -> [batch, head, seq, head_size], or its transpose
        split = g.op("Reshape", x, g.ints("split_heads", 0, 0, head_count, head_size))
        return g.op("Transpose", split, perm=permutation)

    # The order of the operations below fixes the bytes of the file, and so its pinned sha256.
    shape = g.op("Shape", "input_ids")
    length = g.op("Gather", shape, g.const("one_idx", 1, np.int64), axis=0)
    positions = g.op("Range", g.const("zero_s", 0, np.int64), length, g.const("one_s", 1, np.int64))
    word = g.op("Gather", g.const("word_emb", weights["embeddings.word_embeddings.weight"]), "input_ids", axis=0)
    position = g.op("Gather", g.const("pos_emb", weights["embeddings.position_embeddings.weight"]), positions, axis=0)
    kind = g.op("Gather", g.const("type_emb", weights["embeddings.token_type_embeddings.weight"]), "token_type_ids", axis=0)
    x = layer_norm(g.op("Add", g.op("Add", word, kind), position), "embeddings.LayerNorm")

    # Added to the attention scores, broadcast over [batch, 1, 1, seq]. -1e4 and not the smallest
    # float: it keeps quantised graphs and every execution provider free of NaN.
    mask = g.op("Cast", "attention_mask", to=TensorProto.FLOAT)
    unmasked = g.op("Sub", g.float("one_f", 1.0), g.op("Unsqueeze", mask, g.ints("ax12", 1, 2)))
    mask_bias = g.op("Mul", unmasked, g.float("neg", -1e4))

    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (linear(x, f"{prefix}.attention.self.{part}") for part in ("query", "key", "value"))
        key = split_heads(key, [0, 2, 3, 1])
        scores = g.op("MatMul", split_heads(query, [0, 2, 1, 3]), key)
        scores = g.op("Div", scores, g.float("sqrt_d", np.sqrt(head_size)))
        attention = g.op("Softmax", g.op("Add", scores, mask_bias), axis=-1)
        context = g.op("MatMul", attention, split_heads(value, [0, 2, 1, 3]))
        context = g.op("Transpose", context, perm=[0, 2, 1, 3])
        context = g.op("Reshape", context, g.ints("merge_heads", 0, 0, hidden))
        attended = g.op("Add", linear(context, f"{prefix}.attention.output.dense"), x)
        x = layer_norm(attended, f"{prefix}.attention.output.LayerNorm")

        inner = linear(x, f"{prefix}.intermediate.dense")
        erf = g.op("Erf", g.op("Div", inner, g.float("sqrt2", np.sqrt(2.0))))  # the exact GELU, not its tanh form
        inner = g.op("Mul", inner, g.op("Add", erf, g.float("one_f", 1.0)))
        inner = g.op("Mul", inner, g.float("half", 0.5))
        fed_forward = g.op("Add", linear(inner, f"{prefix}.output.dense"), x)
        out = "last_hidden_state" if layer == layers - 1 else None
        x = layer_norm(fed_forward, f"{prefix}.output.LayerNorm", out=out)

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "seq"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "seq", hidden])
    model = helper.make_model(
        helper.make_graph(g.nodes, "all-MiniLM-L6-v2", inputs, [output], g.constants),
        opset_imports=[helper.make_opsetid("", 17)],
        producer_name="export_onnx.py",
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def main(model_dir, out_dir):
    out_dir = pathlib.Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    onnx.save(build(pathlib.Path(model_dir)), out_dir / "model.onnx")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
