"""AdamW on one tensor, from memory and in cache, alone and with a penalty; and on real models."""

import pytest

from .harness import faster, within
from .shapes import bert_base, gpt2_small, resnet50
from .steps import Case, Memory, run, views
from .torch_steps import bare

ONE = [
    Case(
        "AdamW, 1 x 32 M",
        [(32_000_000,)],
        bar=[faster("limit", 0.95), faster("torch fused", 0.98), faster("numpy", 4.5), faster("numpy blocked", 4.5)],
    ),
    Case("AdamW, 1 x 1 M", [(1_000_000,)], bar=[faster("numpy", 3.0)]),
    Case("AdamW, 1 x 64 k, in L2", [(64_000,)], bar=[faster("torch fused", 2.5)]),
]
PENALTY = Case(
    "AdamW + scale + L1, 1 x 32 M", [(32_000_000,)], bar=[faster("limit", 0.95)], l1=1e-5, grad_scale=2.0, rounds=15
)
MANY = Case("AdamW, 3000 x 3500", [(3500,)] * 3000, bar=[within("one flat tensor", 1.15), faster("torch fused", 1.05)])
SHAPES = [
    Case("AdamW, 500 x 256", [(256,)] * 500, bar=[faster("torch fused", 60.0)]),
    Case("AdamW, ResNet-50", resnet50(), bar=[faster("torch fused", 1.05)]),
    Case("AdamW, GPT-2 small", gpt2_small(), bar=[faster("torch fused", 0.99)], rounds=9),
    Case("AdamW, BERT-base", bert_base(), rounds=9),
]


@pytest.mark.parametrize("case", [*ONE, *SHAPES], ids=str)
def bench_adamw(case, benchmark):
    run(benchmark, Memory(case), bare)


def bench_penalty(benchmark):
    run(benchmark, Memory(PENALTY))


def bench_many_small_beside_one_flat(benchmark):
    """The small tensors are parts of the flat one, their states of its states."""
    flat = Memory(Case("flat", [(3500 * 3000,)]))
    run(benchmark, views(flat, MANY), lambda many: [flat.pyopt("one flat tensor"), *bare(many)])
