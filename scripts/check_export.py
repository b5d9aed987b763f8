#!/usr/bin/env python3
"""Does stock transformers open an unrolled student, and find the same logits?

    FACTOREXE_EXPORTS=/tmp/exports cargo test --release --test main -- --ignored unrolled_students
    scripts/check_export.py /tmp/exports/*/

Beside each FOLDER lies FOLDER.expected.safetensors: `ids` (B, T) and `logits` (B, T, V).
`factorize states --model STUDENT --ids 1,2,3 --out FOLDER.expected.safetensors` writes the logits
of a real one; its ids are then given with --ids.
"""

import argparse
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

# Two float32 programs that sum in different orders, relative to the largest logit.
TOLERANCE = 1e-5


def check(folder: Path, ids: list[int] | None) -> bool:
    expected = load_file(folder.parent / f"{folder.name}.expected.safetensors")
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    complaints = {key: names for key, names in info.items() if names}
    tokens = torch.tensor([ids]) if ids else expected["ids"]
    with torch.no_grad():
        logits = model.eval()(tokens).logits
    wanted = expected["logits"].reshape(logits.shape)
    difference = ((logits - wanted).abs().max() / wanted.abs().max().clamp(min=1)).item()
    good = difference < TOLERANCE and not complaints
    layers = model.config.num_hidden_layers
    print(f"{'ok ' if good else 'BAD'} {folder.name}: {type(model).__name__}, {layers} layers, "
          f"difference {difference:.1e}", complaints or "")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--ids", type=lambda text: [int(id) for id in text.split(",")])
    arguments = parser.parse_args()
    results = [check(folder.resolve(), arguments.ids) for folder in arguments.folders]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
