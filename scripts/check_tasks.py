#!/usr/bin/env python3
"""Does Python find the same chains and answers as `factorize task`?

    factorize task word --count 1000 --json | scripts/check_tasks.py word
    scripts/check_tasks.py addition examples.json
    pip install reasoning-gym    optional: it then also computes and scores sums and products

Reads an array of objects, or one object a line, with `input`, `chain` (one array a step) and
`answer` in the names of the tokens. Words over z2 and zm need --modulus; examples with the setting
chains=shuffled need --shuffled, and only their answers are checked. The random tables of the task
`table` are not rebuilt: its steps must agree with each other over all examples.
"""

import argparse
import itertools
import json
import sys

try:
    from reasoning_gym.arithmetic import chain_sum, products
except ImportError:
    chain_sum = products = None


def number(digits):
    return int("".join(reversed(digits)))


def digits(value, width):
    return list(str(value).zfill(width)[::-1])


def word(example, _tables, modulus):
    if modulus:
        sums = itertools.accumulate(int(name) for name in example["input"])
        return [[str(value % modulus)] for value in sums]
    maps = [[int(point) for point in name] for name in example["input"]]
    composed = itertools.accumulate(maps, lambda a, b: [a[point] for point in b])
    return [["".join(map(str, product))] for product in composed]


def pointer(example, _tables, _modulus):
    *written, start = example["input"]
    edges = [name.split(">") for name in written]
    if any(len(edge) == 2 and int(edge[0]) != place for place, edge in enumerate(edges)):
        raise ValueError("an edge stands in another node's place")
    pointers, node = [int(edge[-1]) for edge in edges], int(start)
    seen = [node]
    while len(seen) <= len(pointers):
        seen.append(pointers[seen[-1]])
    if sorted(seen[:-1]) != list(range(len(pointers))):
        raise ValueError("the pointers are no single cycle")
    return [[str(seen[step % len(pointers)])] for step in range(1, len(example["chain"]) + 1)]


def revcirc(example, _tables, _modulus):
    steps = len(example["chain"])
    bits, gates = example["input"][:-steps], example["input"][-steps:]
    # Wire 0 is the lowest bit of one integer.
    state = sum(int(bit) << wire for wire, bit in enumerate(bits))
    chain = []
    for gate in gates:
        kind, wires = gate.split(":")
        *controls, target = map(int, wires.replace(">", ",").split(","))
        if len(controls) != ["not", "cnot", "toffoli"].index(kind) or target in controls:
            raise ValueError(f"{gate} is no gate")
        mask = sum(1 << wire for wire in controls)
        state ^= (state & mask == mask) << target
        chain.append([str(state >> wire & 1) for wire in range(len(bits))])
    return chain


def addition(example, _tables, _modulus):
    width = len(example["input"]) // len(example["chain"])
    operands = [number(example["input"][at : at + width])
                for at in range(0, len(example["input"]), width)]
    if chain_sum:
        ask_reasoning_gym(chain_sum.ChainSumDataset(chain_sum.ChainSumConfig()), operands, example)
    return [digits(total, len(example["answer"])) for total in itertools.accumulate(operands)]


def multiplication(example, _tables, _modulus):
    steps = len(example["chain"])
    first, second = number(example["input"][:-steps]), number(example["input"][-steps:])
    if products:
        factors = [first, second]
        ask_reasoning_gym(products.ProductsDataset(products.ProductsConfig()), factors, example)
    width = len(example["answer"])
    return [digits(first * (second % 10 ** (step + 1)), width) for step in range(steps)]


def table(example, tables, _modulus):
    state, *keys = example["input"]
    for step, (key, [after]) in enumerate(zip(keys, example["chain"], strict=True)):
        forward, backward = tables.setdefault((step, key), ({}, {}))
        if forward.setdefault(state, after) != after or backward.setdefault(after, state) != state:
            raise ValueError(f"step {step + 1} has another table than in an example before")
        state = after
    return example["chain"]


def path_star(example, _tables, _modulus):
    *edges, centre, goal = example["input"]
    after = {}
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        after.setdefault(begin, []).append(end)
    for node in after[centre]:
        way = [node]
        while way[-1] in after:
            [node] = after[way[-1]]
            way.append(node)
        if way[-1] == goal:
            return [[node] for node in way]
    raise ValueError("no arm leads to the goal")


TASKS = {"word": word, "pointer": pointer, "revcirc": revcirc, "addition": addition,
         "multiplication": multiplication, "table": table, "path-star": path_star}


class Script:
    """Stands in for a random generator, so that reasoning-gym makes the problem given here."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def randint(self, _least, _most):
        return next(self.numbers)

    def choice(self, _operators):
        return "+"


def ask_reasoning_gym(dataset, numbers, example):
    _, result = dataset._generate_task(Script(numbers), len(numbers), 0, 9)
    if dataset.score_answer(str(number(example["answer"])), {"answer": str(result)}) != 1.0:
        raise ValueError(f"reasoning-gym finds {result}")


def check(example, task, arguments, tables):
    """What is wrong with an example, or None."""
    if task is table and arguments.shuffled:
        return "shuffled chains of the task table cannot be checked"
    try:
        chain = task(example, tables, arguments.modulus)
    except (ValueError, KeyError, IndexError) as error:
        return str(error)
    if not arguments.shuffled and chain != example["chain"]:
        return f"the chain is {chain}"
    answer = sum(chain, []) if task is path_star else chain[-1]
    return None if answer == example["answer"] else f"the answer is {answer}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("file", nargs="?", type=argparse.FileType(), default=sys.stdin)
    parser.add_argument("--modulus", type=int)
    parser.add_argument("--shuffled", action="store_true")
    arguments = parser.parse_args()
    text = arguments.file.read().strip()
    lines = text.splitlines()
    examples = json.loads(text) if text.startswith("[") else [json.loads(line) for line in lines]
    tables = {}
    found = [check(example, TASKS[arguments.task], arguments, tables) for example in examples]
    wrong = [(index, complaint) for index, complaint in enumerate(found) if complaint]
    for index, complaint in wrong[:10]:
        print(f"BAD example {index}: {complaint}\n    {json.dumps(examples[index])}")
    by = "Python and reasoning-gym" if chain_sum and arguments.task in (
        "addition", "multiplication") else "Python"
    print(f"{arguments.task}: {len(found) - len(wrong)} of {len(found)} examples are right, by {by}")
    return 1 if wrong or not found else 0


if __name__ == "__main__":
    sys.exit(main())
