#!/usr/bin/env python3
"""Makes tests/fixtures: tiny random checkpoints of every family and option, as transformers saves
them, each with `reference.safetensors`: `ids` (2, T), `logits` (2, T, V) and the residual stream
`hidden.0` (embedding) to `hidden.L` (after the last layer, before the final norm), all computed by
transformers in float32 with eager attention.

    pip install torch transformers
    python scripts/make_fixtures.py tests/fixtures

Weights are drawn wide, norms and biases too, so that a forgotten one shows in the logits.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 20
SMALL = dict(
    vocab_size=56, hidden_size=32, intermediate_size=40, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
    rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2, use_cache=False,
)
# The trained context is shorter than the ids, and one of the wavelengths falls between the two
# limits: kept, blended and divided frequencies all occur.
LLAMA3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
    high_freq_factor=4.0, original_max_position_embeddings=32,
)
LINEAR = dict(rope_type="linear", rope_theta=500.0, factor=4.0)

# name: (model_type, options, how it is stored)
FIXTURES = {
    "llama-tied": ("llama", dict(tie_word_embeddings=True), {}),
    "llama-rope-llama3": ("llama", dict(rope_parameters=LLAMA3, head_dim=16), {}),
    "llama-rope-linear": ("llama", dict(rope_parameters=LINEAR), dict(legacy=True)),
    "llama-rope-llama3-legacy": (
        "llama", dict(rope_parameters=LLAMA3, head_dim=16, num_hidden_layers=2), dict(legacy=True)),
    "llama-biases": (
        "llama", dict(attention_bias=True, mlp_bias=True, num_key_value_heads=4), {}),
    "llama-head-dim": ("llama", dict(head_dim=12, num_key_value_heads=1), {}),
    "llama-sharded": ("llama", dict(eos_token_id=[2, 5]), dict(shard="40KB")),
    "llama-f16": ("llama", dict(num_hidden_layers=2), dict(dtype=torch.float16)),
    "mistral-window": ("mistral", dict(sliding_window=5), {}),
    "mistral-full": ("mistral", dict(sliding_window=None, num_hidden_layers=2), dict(legacy=True)),
    "qwen2-tied": ("qwen2", dict(tie_word_embeddings=True), {}),
    "qwen2-window": (
        "qwen2", dict(use_sliding_window=True, sliding_window=6, max_window_layers=1),
        dict(legacy=True)),
    "qwen2-bf16": ("qwen2", dict(num_hidden_layers=2), dict(dtype=torch.bfloat16)),
    "qwen3": ("qwen3", dict(head_dim=16), {}),
    "qwen3-biases": (
        "qwen3", dict(head_dim=8, attention_bias=True, tie_word_embeddings=True), dict(legacy=True)),
}


def draw(model):
    """Wide random weights: every kind of parameter matters."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.3 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "embed" in name:
                parameter.copy_(0.7 * noise)
            else:
                parameter.copy_(1.2 * noise / parameter.shape[-1] ** 0.5)


def reference(model, ids):
    states = {}
    hooks = [model.model.embed_tokens.register_forward_hook(
        lambda _module, _inputs, output: states.__setitem__("hidden.0", output))]
    for index, layer in enumerate(model.model.layers):
        def keep(_module, _inputs, output, name=f"hidden.{index + 1}"):
            states[name] = output[0] if isinstance(output, tuple) else output
        hooks.append(layer.register_forward_hook(keep))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
    for hook in hooks:
        hook.remove()
    tensors = {name: state.contiguous().float() for name, state in states.items()}
    return {"ids": ids.int(), "logits": logits.contiguous().float(), **tensors}


def to_legacy(config):
    """The spelling of transformers 4."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] == "linear":
        rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)


def make(name, folder):
    model_type, options, storage = FIXTURES[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    options = {**SMALL, **options}
    config = AutoConfig.for_model(model_type, **options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    draw(model)
    stored = model.to(storage.get("dtype", torch.float32))
    stored.save_pretrained(folder, max_shard_size=storage.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(config.vocab_size, (2, TOKENS))
    # The reference reads what was stored, with float32 arithmetic.
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager").eval()
    save_file(reference(model, ids), folder / "reference.safetensors")
    path = folder / "config.json"
    written = json.loads(path.read_text())
    written.pop("transformers_version", None)
    if storage.get("legacy"):
        to_legacy(written)
    path.write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures")
    torch.set_num_threads(1)
    for name in FIXTURES:
        make(name, root / name)
        size = sum(file.stat().st_size for file in (root / name).iterdir())
        print(f"{name:28} {size:8} bytes")


if __name__ == "__main__":
    main()
