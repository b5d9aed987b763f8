#!/usr/bin/env python3
"""Makes tests/fixtures/gguf: small GGUF files, and what must come out of them.

    pip install gguf numpy safetensors tokenizers transformers jinja2
    python scripts/make_gguf_fixtures.py

`gguf` packs, and unpacks what is expected; `tokenizers` and `transformers` give the expected ids
and prompts. Nothing of this project takes part.
"""

import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type, GGUFWriter
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as cuts
from tokenizers import trainers
from transformers import PreTrainedTokenizerFast

OUT = Path(__file__).parent.parent / "tests" / "fixtures" / "gguf"
TEXTS = [
    "The capital of France is",
    "it's 2015 and we'll see 1234 things",
    "  spaces   and\n\nlines \n",
    "<|im_start|>user\nhi<tool>x<|im_end|>",
    "na\u00efve caf\u00e9, e\u0301t\u00e9 \u2014 \u65e5\u672c\u8a9e!",
]
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As published in the tokenizer.json of Qwen2.
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def blocks(rng):
    """Two rows of random blocks of every type, and their numbers."""
    out = {}
    for name in "F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K".split():
        kind = Type[name]
        numbers, size = GGML_QUANT_SIZES[kind]
        count = 512 // numbers
        if numbers == 1:
            raw = quantize(rng.normal(size=512).astype(np.float32), kind).view(np.uint8)
        else:
            raw = rng.integers(0, 256, (count, size), dtype=np.uint8)
            scale = rng.normal(size=(count, 2)).astype(np.float16).view(np.uint8)
            halves = {"Q4_1": 4, "Q5_1": 4, "Q4_K": 4, "Q5_K": 4}.get(name, 2)
            at = size - 2 if name == "Q6_K" else 0
            raw[:, at : at + halves] = scale[:, :halves]
        out[f"{name}.bytes"] = raw.reshape(-1)
        out[f"{name}.numbers"] = dequantize(raw.reshape(-1), kind).reshape(-1).astype(np.float32)
    save_file(out, OUT / "blocks.safetensors")


def permute(rows, heads):
    """convert_hf_to_gguf.py, LlamaModel.permute."""
    shape = rows.shape
    return rows.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


class Model:
    """A GGUF file being written, and the tensors expected from it."""

    def __init__(self, name, family, seed, **sizes):
        self.name, self.family, self.sizes = name, family, sizes
        self.rng = np.random.default_rng(seed)
        self.writer = GGUFWriter(OUT / f"{name}.gguf", family)
        self.expected = {}
        key = f"{family}."
        for name, value in sizes.items():
            path = {
                "layers": "block_count", "width": "embedding_length", "mlp": "feed_forward_length",
                "heads": "attention.head_count", "kv_heads": "attention.head_count_kv",
                "head_width": "attention.key_length", "positions": "context_length",
            }.get(name)
            if path:
                self.writer.add_uint32(key + path, value)
        self.writer.add_float32(key + "attention.layer_norm_rms_epsilon", 1e-5)

    def add(self, ours, theirs, shape, kind, heads=None):
        """A tensor in the usual order; `heads` says that the file interleaves its rows."""
        values = (self.rng.normal(size=shape) * 0.1).astype(np.float32)
        stored = permute(values, heads) if heads else values
        packed = quantize(np.ascontiguousarray(stored), kind)
        self.writer.add_tensor(theirs, packed, raw_dtype=kind)
        expected = dequantize(quantize(values, kind), kind).reshape(shape)
        self.expected[ours] = np.ascontiguousarray(expected.astype(np.float32))

    def layers(self, kinds, bias=False, qk_norm=False, interleaved=False):
        s = self.sizes
        width, mlp, head = s["width"], s["mlp"], s["head_width"]
        query, key = s["heads"] * head, s["kv_heads"] * head
        for i in range(s["layers"]):
            kind = kinds[i % len(kinds)]
            ours, theirs = f"layers.{i}.", f"blk.{i}."
            self.add(ours + "attention_norm.weight", theirs + "attn_norm.weight", (width,), Type.F32)
            self.add(ours + "mlp_norm.weight", theirs + "ffn_norm.weight", (width,), Type.F32)
            for letter, rows, heads in [
                ("q", query, s["heads"]), ("k", key, s["kv_heads"]), ("v", key, None),
            ]:
                heads = heads if interleaved else None
                ours_, theirs_ = f"{ours}attention.{letter}.", f"{theirs}attn_{letter}."
                self.add(ours_ + "weight", theirs_ + "weight", (rows, width), kind, heads)
                if bias:
                    self.add(ours_ + "bias", theirs_ + "bias", (rows,), Type.F32, heads)
            self.add(ours + "attention.o.weight", theirs + "attn_output.weight", (width, query), kind)
            if qk_norm:
                for letter in "qk":
                    self.add(f"{ours}attention.{letter}_norm.weight",
                             f"{theirs}attn_{letter}_norm.weight", (head,), Type.F32)
            for part, shape in [("gate", (mlp, width)), ("up", (mlp, width)), ("down", (width, mlp))]:
                self.add(f"{ours}mlp.{part}.weight", f"{theirs}ffn_{part}.weight", shape, kind)

    def outer(self, vocabulary, kind, tied):
        width = self.sizes["width"]
        self.add("embed.weight", "token_embd.weight", (vocabulary, width), kind)
        self.add("norm.weight", "output_norm.weight", (width,), Type.F32)
        if not tied:
            self.add("head.weight", "output.weight", (vocabulary, width), kind)

    def finish(self, keep_tensors=True):
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        if keep_tensors:
            save_file(self.expected, OUT / f"{self.name}.safetensors")


def write_tokenizer(writer, model, pre, tokenizer, specials, user, scores=None, kinds=None):
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokens = [token for token, _ in vocabulary]
    kind = lambda t: 3 if t in specials else 4 if t in user else (kinds or {}).get(t, 1)
    writer.add_tokenizer_model(model)
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([kind(token) for token in tokens])
    if scores:
        writer.add_token_scores([scores.get(token, 0.0) for token in tokens])
    else:
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        writer.add_token_merges([" ".join(pair) for pair in merges])
    return tokens


def corpus():
    return [text * (i + 2) for i, text in enumerate(TEXTS)] * 3


def expectation(name, tokenizer, extra):
    record = {"texts": [[t, tokenizer.encode(t, add_special_tokens=False).ids] for t in TEXTS]}
    record |= extra
    text = json.dumps(record, ensure_ascii=True, indent=1)
    (OUT / f"{name}.json").write_text(text + "\n")


def byte_level(pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=150, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    return tokenizer, specials


def llama():
    """Interleaved rows, several packings, tied head, Llama 3.1 frequencies, smollm tokenizer."""
    pre = cuts.Sequence([cuts.Digits(individual_digits=True), cuts.ByteLevel(add_prefix_space=False)])
    tokenizer, specials = byte_level(pre)
    model = Model("llama", "llama", 1, layers=2, width=32, mlp=32, heads=4, kv_heads=2,
                  head_width=8, positions=128)
    writer = model.writer
    writer.add_rope_freq_base(500000.0)
    tokens = write_tokenizer(writer, "gpt2", "smollm", tokenizer, specials, ["<tool>"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_eot_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    model.outer(len(tokens) + 2, Type.Q8_0, tied=True)
    model.layers([Type.Q4_1, Type.Q5_0], interleaved=True)
    frequency = 500000.0 ** (-np.arange(0, 8, 2) / 8)
    turns = 8192 * frequency / (2 * np.pi)
    smooth = np.clip((turns - 1) / 3, 0, 1)
    writer.add_tensor("rope_freqs.weight", (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32))
    model.finish()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=CHATML)
    messages = [["user", "What is 2+2?"], ["assistant", "4."], ["user", "Sure?"]]
    as_dicts = [{"role": role, "content": content} for role, content in messages]
    prompt = fast.apply_chat_template(as_dicts, tokenize=False, add_generation_prompt=True)
    expectation("llama", tokenizer, {"messages": messages, "prompt": prompt})


def qwen2():
    """Biases, untied head, no re-ordering, the Qwen2 cuts and NFC."""
    pre = cuts.Sequence([
        cuts.Split(Regex(QWEN2), "isolated"), cuts.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer, specials = byte_level(pre, normalizers.NFC())
    model = Model("qwen2", "qwen2", 2, layers=1, width=32, mlp=32, heads=4, kv_heads=2,
                  head_width=8, positions=64)
    model.writer.add_rope_freq_base(1000000.0)
    tokens = write_tokenizer(model.writer, "gpt2", "qwen2", tokenizer, specials, ["<tool>"])
    model.writer.add_eos_token_id(2)
    model.writer.add_bos_token_id(0)
    model.outer(len(tokens), Type.F16, tied=False)
    model.layers([Type.Q8_0], bias=True)
    model.finish()
    expectation("qwen2", tokenizer, {})


def qwen3():
    """Query and key norms, heads wider than width / heads, no tokenizer."""
    model = Model("qwen3", "qwen3", 3, layers=1, width=32, mlp=32, heads=2, kv_heads=1,
                  head_width=32, positions=64)
    model.writer.add_rope_freq_base(1000000.0)
    model.outer(16, Type.BF16, tied=False)
    model.layers([Type.BF16], qk_norm=True)
    model.finish()


def pieces():
    """A biased Llama with linear scaling and a SentencePiece tokenizer."""
    specials = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.pre_tokenizer = cuts.Split("\u2581", "merged_with_next")
    latin = [t for t in TEXTS if t.isascii()]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=specials + byte_tokens,
                                  show_progress=False)
    tokenizer.train_from_iterator(latin * 3, trainer)
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    # Unique scores in the order of the merges, as SentencePiece gives them.
    scores = {"".join(pair): -float(rank) for rank, pair in enumerate(state["model"]["merges"])}
    kinds = {t: 6 for t in byte_tokens} | {"<unk>": 2}
    model = Model("pieces", "llama", 4, layers=1, width=32, mlp=32, heads=2, kv_heads=1,
                  head_width=16, positions=64)
    model.writer.add_rope_scaling_type(__import__("gguf").RopeScalingType.LINEAR)
    model.writer.add_rope_scaling_factor(4.0)
    tokens = write_tokenizer(model.writer, "llama", None, tokenizer, ["<s>", "</s>"], [],
                             scores=scores, kinds=kinds)
    model.writer.add_bos_token_id(1)
    model.writer.add_eos_token_id(2)
    model.writer.add_unk_token_id(0)
    model.outer(len(tokens), Type.Q8_0, tied=True)
    model.layers([Type.Q4_0], bias=True, interleaved=True)
    # The embedding is large and says nothing new.
    del model.expected["embed.weight"]
    model.finish()
    expectation("pieces", tokenizer, {"add_bos": tokenizer.token_to_id("<s>")})


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    blocks(np.random.default_rng(0))
    llama()
    qwen2()
    qwen3()
    pieces()
    for path in sorted(OUT.iterdir()):
        print(f"{path.stat().st_size:8} {path.name}")
