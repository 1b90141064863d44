"""The parameters of real models, shape by shape, in the order in which the models list them."""

from __future__ import annotations

Shapes = list[tuple[int, ...]]


def resnet50() -> Shapes:
    """ResNet-50 for 1000 classes: 25.56 M parameters in 161 tensors."""
    shapes: Shapes = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for outputs, inputs, side in ((width, before, 1), (width, width, 3), (4 * width, width, 1)):
                shapes += [(outputs, inputs, side, side), (outputs,), (outputs,)]
            if block == 0:  # the shortcut changes the number of channels
                shapes += [(4 * width, before, 1, 1), (4 * width,), (4 * width,)]
            before = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2_small() -> Shapes:
    """GPT-2 small: 124.4 M parameters in 148 tensors; the output layer shares the embedding."""
    width = 768
    layer: Shapes = [
        (width,), (width,), (width, 3 * width), (3 * width,), (width, width), (width,),
        (width,), (width,), (width, 4 * width), (4 * width,), (4 * width, width), (width,),
    ]  # fmt: skip
    return [(50257, width), (1024, width), *12 * layer, (width,), (width,)]


def bert_base() -> Shapes:
    """BERT-base, uncased, with its pooler: 109.5 M parameters in 199 tensors."""
    width = 768
    norm: Shapes = [(width,), (width,)]
    layer: Shapes = [
        *4 * [(width, width), (width,)], *norm,
        (4 * width, width), (4 * width,), (width, 4 * width), (width,), *norm,
    ]  # fmt: skip
    return [(30522, width), (512, width), (2, width), *norm, *12 * layer, (width, width), (width,)]
