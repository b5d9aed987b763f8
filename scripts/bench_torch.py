#!/usr/bin/env python3
"""The work of `factorize bench step`, `prefill` and `decode`, done by PyTorch on the CPU.

  bench_torch.py step --width 256 --ffn 768 --core 2 --repetitions 4 --heads 4 --batch 16 --tokens 128 --vocab 512
  bench_torch.py prefill --model model.gguf --batch 4 --tokens 256
  bench_torch.py decode --model model.gguf --tokens 64      transformers; --llama: llama.cpp
  bench_torch.py table --measured bench_vs_torch.jsonl      what scripts/bench_vs_torch.sh wrote

All but the last print one line of JSON: medians over steps after two that do not count, and the most memory held.
  pip install torch transformers gguf safetensors
"""

import argparse
import collections
import json
import pathlib
import resource
import time

import torch
import torch.nn.functional as F
import torch.utils.checkpoint

WARM_UP = 2
# A repetition past these reads a given state again, as in `factorize bench step`.
GIVEN_STATES = 8


def middle(values):
    return sorted(values)[len(values) // 2] if values else None


def table(path):
    """Medians over rounds, row by row; `of peak` is the arithmetic of `factorize` a second over
    what its matrix product reaches, `of better` the time of the better of the two over ours."""
    rows = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in pathlib.Path(path).read_text().splitlines():
        found = json.loads(line)
        rows[found["row"]][found["measured"]].append(found)
    shown = lambda value, form: "-" if value is None else format(value, form)
    engines = ["ours", "eager", "compiled"]
    lines = [["row", *(f"{e}, s" for e in engines), "of better", "of peak", *(f"{e}, MiB" for e in engines)]]
    for row, by_engine in rows.items():
        median = lambda engine, key: middle([f[key] for f in by_engine[engine] if f.get(key) is not None])
        ours, *theirs = (median(engine, "wall_s") for engine in engines)
        known = [seconds for seconds in theirs if seconds is not None]
        better = min(known) / ours if known and ours else None
        peak = max((f["gflop_per_s"] for f in by_engine["peak"]), default=None)
        of_peak = median("ours", "gflop") / ours / peak if ours and peak else None
        memory = [median(engine, "peak_rss_mib") for engine in engines]
        times = [shown(seconds, ".4f") for seconds in (ours, *theirs)]
        fractions = [shown(better, ".2f"), shown(of_peak, ".0%")]
        lines.append([row, *times, *fractions, *(shown(mib, ".0f") for mib in memory)])
    widths = [max(len(cell) for cell in column) for column in zip(*lines)]
    for line in lines:
        cells = [line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:]))]
        print("  ".join(cells))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    step, prefill, decode = (verbs.add_parser(verb) for verb in ("step", "prefill", "decode"))
    verbs.add_parser("table").add_argument("--measured", required=True, help="a file of JSON lines")
    sizes = dict(width=256, ffn=768, core=2, repetitions=4, heads=4, batch=16, tokens=128, vocab=512)
    for name, default in sizes.items():
        step.add_argument(f"--{name}", type=int, default=default)
    step.add_argument("--checkpoint", action="store_true", help="compute repetitions anew on the way back")
    prefill.add_argument("--model", required=True, help="a file.gguf or a folder of transformers")
    prefill.add_argument("--batch", type=int, default=4)
    prefill.add_argument("--tokens", type=int, default=256)
    decode.add_argument("--model", required=True, help="a file.gguf or a folder of transformers")
    decode.add_argument("--tokens", type=int, default=64)
    decode.add_argument("--llama", action="store_true", help="by llama.cpp, on the file as it is")
    for verb in (step, prefill, decode):
        verb.add_argument("--steps", type=int, default=6)
        verb.add_argument("--threads", type=int, default=torch.get_num_threads())
        verb.add_argument("--compile", action="store_true", help="through torch.compile")
    return parser.parse_args()


class Layer(torch.nn.Module):
    """Pre-norm causal attention with rotated heads, then a gated mlp."""

    def __init__(self, width, ffn, heads):
        super().__init__()
        self.heads = heads
        matrix = lambda out, inner: torch.nn.Parameter(torch.randn(out, inner) * 0.02)
        self.attention_norm = torch.nn.Parameter(torch.ones(width))
        self.q, self.k, self.v, self.o = (matrix(width, width) for _ in range(4))
        self.mlp_norm = torch.nn.Parameter(torch.ones(width))
        self.gate, self.up, self.down = matrix(ffn, width), matrix(ffn, width), matrix(width, ffn)

    def forward(self, x, cos, sin):
        batch, tokens, width = x.shape
        y = F.rms_norm(x, (width,), self.attention_norm, 1e-5)

        def in_heads(weight):
            return F.linear(y, weight).view(batch, tokens, self.heads, -1).transpose(1, 2)

        def rotated(z):
            low, high = z.chunk(2, dim=-1)
            return torch.cat((low * cos - high * sin, low * sin + high * cos), dim=-1)

        q, k, v = rotated(in_heads(self.q)), rotated(in_heads(self.k)), in_heads(self.v)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + F.linear(mixed.transpose(1, 2).reshape(batch, tokens, width), self.o)
        y = F.rms_norm(x, (width,), self.mlp_norm, 1e-5)
        return x + F.linear(F.silu(F.linear(y, self.gate)) * F.linear(y, self.up), self.down)


class Student(torch.nn.Module):
    """A core of layers applied again and again between an embedding and the same matrix as head."""

    def __init__(self, a):
        super().__init__()
        self.repetitions, self.recomputes = a.repetitions, a.checkpoint
        self.embed = torch.nn.Parameter(torch.randn(a.vocab, a.width) * 0.02)
        self.core = torch.nn.ModuleList(Layer(a.width, a.ffn, a.heads) for _ in range(a.core))
        self.norm = torch.nn.Parameter(torch.ones(a.width))
        head_width = a.width // a.heads
        frequencies = 1e4 ** (-torch.arange(0, head_width, 2) / head_width)
        angles = torch.arange(a.tokens)[:, None] * frequencies
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        if a.compile:
            for layer in self.core:
                layer.compile()

    def repeat(self, x, given):
        for layer in self.core:
            x = layer(x, self.cos, self.sin)
        return x, (x - given).square().sum() / given.square().sum()

    def forward(self, ids, given):
        x, hidden = self.embed[ids], 0.0
        for repetition in range(self.repetitions):
            target = given[repetition % len(given)]
            if self.recomputes:
                x, error = torch.utils.checkpoint.checkpoint(self.repeat, x, target, use_reentrant=False)
            else:
                x, error = self.repeat(x, target)
            hidden = hidden + error
        x = F.rms_norm(x, (x.shape[-1],), self.norm, 1e-5)
        return F.linear(x, self.embed).flatten(0, 1), hidden


def training_step(a):
    """One step as a function that gives the loss, on data that was drawn once."""
    student = Student(a)
    parameters = list(student.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)
    rows = a.batch * a.tokens
    ids, labels = torch.randint(a.vocab, (a.batch, a.tokens)), torch.randint(a.vocab, (rows,))
    given = [torch.randn(a.batch, a.tokens, a.width) for _ in range(min(a.repetitions, GIVEN_STATES))]
    teacher = torch.randn(rows, a.vocab).log_softmax(-1)

    def step():
        logits, hidden = student(ids, given)
        kl = F.kl_div(logits.log_softmax(-1), teacher, reduction="batchmean", log_target=True)
        loss = F.cross_entropy(logits, labels) + kl + hidden
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss.item()

    return step


def published(path):
    """A model of transformers in f32."""
    import transformers

    transformers.logging.set_verbosity_error()
    path = pathlib.Path(path)
    where = dict(pretrained_model_name_or_path=str(path))
    if path.is_file():
        where = dict(pretrained_model_name_or_path=str(path.parent), gguf_file=path.name)
    return transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()


def writing(a):
    """The likeliest tokens after 16 others, one by one: as many seconds as they take."""
    prompt = [i * 97 for i in range(16)]
    if a.llama:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path, params.n_ctx, params.n_parallel, params.verbosity = a.model, 64 + a.tokens, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = a.threads
        server = xllamacpp.Server(params)
        request = dict(prompt=prompt, n_predict=a.tokens, temperature=0.0, ignore_eos=True, cache_prompt=False)
        return lambda: server.handle_completions(request)["timings"]["predicted_ms"] / 1e3
    model = published(a.model)
    forward = torch.compile(model) if a.compile else model

    def write():
        with torch.inference_mode():
            found = forward(input_ids=torch.tensor([prompt]), use_cache=True)
            start = time.perf_counter()
            for _ in range(a.tokens):
                last = found.logits[:, -1:].argmax(-1)
                found = forward(input_ids=last, past_key_values=found.past_key_values, use_cache=True)
            return time.perf_counter() - start

    return write


def reading(a):
    """One forward pass of a published model, logits of every position included."""
    model = published(a.model)
    forward = torch.compile(model) if a.compile else model
    ids = torch.randint(model.config.vocab_size, (a.batch, a.tokens))

    def step():
        with torch.inference_mode():
            logits = forward(input_ids=ids, use_cache=False).logits
        assert logits.shape[:2] == ids.shape
        return logits[0, 0, 0].item()

    return step


def main():
    a = arguments()
    if a.verb == "table":
        return table(a.measured)
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    work = {"step": training_step, "prefill": reading, "decode": writing}[a.verb](a)
    wall, cpu, last = [], [], None
    for round_ in range(WARM_UP + a.steps):
        began, worked = time.perf_counter(), time.process_time()
        last = work()
        if round_ >= WARM_UP:
            # Writing tells the time without the prompt.
            wall.append(last if a.verb == "decode" else time.perf_counter() - began)
            cpu.append(time.process_time() - worked)
    found = dict(vars(a), engine=f"torch {torch.__version__}", wall_s=middle(wall), cpu_s=middle(cpu))
    found["tokens_per_s"] = (a.tokens if a.verb == "decode" else a.batch * a.tokens) / middle(wall)
    found["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if a.verb == "step":
        found["loss"] = last
    print(json.dumps(found))


if __name__ == "__main__":
    main()
