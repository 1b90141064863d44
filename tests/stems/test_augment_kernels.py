"""The kernels of augmentation: the bits of their references everywhere, and the values of other libraries."""

import doctest
from pathlib import Path

import numpy as np
import pytest

import pyopt
from pyopt import augment, kernels
from pyopt.kernels.augment import AUGMENT, blend, warp
from pyopt.kernels.cpu import isa as instruction_sets
from support import contract
from support.helpers import same_bits, wild

SHAPES = ((0, 3, 4, 5, 4, 5), (1, 1, 1, 1, 1, 1), (2, 1, 1, 7, 3, 2), (3, 2, 5, 3, 4, 300), (2, 3, 17, 131, 9, 129))
SHAPES += ((40, 3, 31, 33, 31, 33),)  # enough for a second thread


def images_of(dtype, shape, seed=0, make=None):
    rng = np.random.default_rng(seed)
    if dtype == np.uint8:
        return rng.integers(0, 256, shape, np.uint8)
    return (make(int(np.prod(shape)), dtype, seed).reshape(shape)) if make else rng.normal(size=shape).astype(dtype)


def maps_of(samples, height, width, real, seed=0):
    """Return maps of all kinds: turned, scaled, flipped, moved by whole pixels, far off, constant."""
    rng = np.random.default_rng(seed)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    maps = np.zeros((samples, 2, 3))
    for n in range(samples):
        angle, factor = rng.uniform(-3, 3), rng.uniform(0.3, 2.5)
        a = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / factor
        maps[n] = np.hstack([a, (centre - a @ centre + rng.uniform(-2, 2, 2))[:, None]])
        if n % 5 == 1:
            maps[n] = [[-1, 0, width - 1], [0, 1, rng.integers(-3, 3)]]
        elif n % 5 == 2:
            maps[n] = rng.choice([0.0, -0.0, 1.0, 9e8, -9e8, 1e-40], (2, 3))
    return np.ascontiguousarray(maps.reshape(samples, 6), real)


def boxes_of(samples, height, width, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.sort(rng.integers(0, height + 1, (samples, 2))), np.sort(rng.integers(0, width + 1, (samples, 2)))
    return np.ascontiguousarray(np.stack([y[:, 0], x[:, 0], y[:, 1], x[:, 1]], 1), np.int32)


def as_nchw(a, last):
    return a.transpose(0, 3, 1, 2) if last else a


def arguments(dtype, shape, out_shape, make=None):
    real = np.float64 if dtype == np.float64 else np.float32
    samples, channels, height, width = shape
    rng = np.random.default_rng(1)
    return (
        images_of(dtype, shape, make=make),
        maps_of(samples, height, width, real),
        rng.normal(1, 0.3, (samples, 2)).astype(real),
        boxes_of(samples, *out_shape) * (np.arange(samples)[:, None] % 2).astype(np.int32),
        rng.uniform(0, 200, channels).astype(real),
    )


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("images", [np.uint8, np.float32, np.float64])
def test_warp_has_the_bits_of_the_reference(isa, images, threads):
    pyopt.set_num_threads(threads)
    for *shape, out_height, out_width in SHAPES:
        for make in (None, wild):
            given, *rest = arguments(images, tuple(shape), (out_height, out_width), make)
            for edge in (False, True):
                want = warp.reference(given, *rest, out_height, out_width, edge)
                for last in (False, True):
                    source = np.ascontiguousarray(given.transpose(0, 2, 3, 1)) if last else given
                    out = np.full(
                        (len(given), out_height, out_width, given.shape[1]) if last else want.shape, 77, images
                    )
                    warp.compute(source, *rest, out, last, edge)
                    same_bits(as_nchw(out, last), want, f"{shape} {edge=} {last=}")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("images", [np.uint8, np.float32, np.float64])
def test_blend_has_the_bits_of_the_reference(isa, images, threads):
    pyopt.set_num_threads(threads)
    for samples, channels, height, width, *_ in SHAPES:
        given, partners, pairs, boxes = blend_arguments(images, (samples, channels, height, width))
        want = blend.reference(given, given, partners, pairs, boxes)
        for last in (False, True):
            source = np.ascontiguousarray(given.transpose(0, 2, 3, 1)) if last else given
            out = np.full(source.shape, 77, images)
            blend.compute(source, source, partners, pairs, boxes, out, last)
            same_bits(as_nchw(out, last), want, f"{samples, channels, height, width} {last=}")


def blend_arguments(dtype, shape):
    rng = np.random.default_rng(2)
    weight = rng.choice([0, 0.3, 0.7, 1.0], shape[0])
    pairs = np.stack([weight, 1 - weight], 1).astype(np.float64 if dtype == np.float64 else np.float32)
    given = images_of(dtype, shape, make=wild)
    partners = rng.integers(0, max(1, shape[0]), shape[0])
    return given, partners, pairs, boxes_of(shape[0], *shape[2:]) * rng.integers(0, 2, (shape[0], 1), np.int32)


# ---- other libraries


@pytest.mark.parametrize("border", ["constant", "edge"])
def test_warp_against_scipy(border):
    ndimage = pytest.importorskip("scipy.ndimage")
    images = images_of(np.float64, (6, 2, 20, 31))
    maps = maps_of(6, 20, 31, np.float64).reshape(6, 2, 3)[[0, 1, 3, 4, 5]]
    got = augment.affine_warp(images[:5], maps, size=(23, 29), fill=0.5, border=border)
    for n, m in enumerate(maps):
        a, offset = m[::-1, 1::-1], m[::-1, 2]  # scipy counts (y, x)
        for c in range(2):
            plane = images[n, c] if border == "edge" else np.pad(images[n, c], 2, constant_values=0.5)
            shift = 0 if border == "edge" else 2  # its constant mode does not blend with what lies beyond
            want = ndimage.affine_transform(
                plane,
                a,
                offset + shift,
                (23, 29),
                order=1,
                mode="nearest" if border == "edge" else "constant",
                cval=0.5,
            )
            np.testing.assert_allclose(got[n, c], want, rtol=0, atol=1e-9)


def test_warp_against_torch(torch):
    images = images_of(np.float32, (5, 3, 24, 37))
    theta = np.random.default_rng(3).normal(0, 0.8, (5, 2, 3)).astype(np.float32)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), (5, 3, 21, 40), align_corners=False)
    want = torch.nn.functional.grid_sample(torch.from_numpy(images), grid, align_corners=False).numpy()
    # normalised coordinates: -1 and 1 are the outer edges of the first and the last pixel
    to_pixels = np.array([[37 / 2, 0, 36 / 2], [0, 24 / 2, 23 / 2], [0, 0, 1]])
    from_pixels = np.array([[2 / 40, 0, 1 / 40 - 1], [0, 2 / 21, 1 / 21 - 1], [0, 0, 1]])
    full = np.concatenate([theta.astype(np.float64), np.tile([[[0, 0, 1]]], (5, 1, 1))], 1)
    got = augment.affine_warp(images, (to_pixels @ full @ from_pixels)[:, :2], size=(21, 40))
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-4)


def test_rotation_and_bytes_against_pillow():
    image_module = pytest.importorskip("PIL.Image")
    picture = images_of(np.uint8, (1, 1, 33, 33))
    for degrees in (20.0, 90.0, -135.0):
        maps = augment.images.matrices((33, 33), (33, 33), 1, False, False, angle=np.deg2rad(degrees))
        got = augment.affine_warp(picture, maps.reshape(1, 2, 3))[0, 0, 8:25, 8:25].astype(int)
        turned = image_module.fromarray(picture[0, 0]).rotate(degrees, image_module.Resampling.BILINEAR)
        assert np.abs(got - np.asarray(turned)[8:25, 8:25]).max() <= 1, degrees


def test_bytes_are_rounded_to_nearest_and_clamped():
    images = np.array([0, 1, 2, 255], np.uint8).reshape(1, 1, 1, 4)
    half = augment.affine_warp(images, [[1, 0, 0.5], [0, 1, 0]], border="edge")
    assert half.ravel().tolist() == [1, 2, 129, 255]  # 0.5, 1.5, 128.5 and 255
    out = np.empty_like(images)
    for gain, shift, want in ((2, -1.6, [0, 0, 2, 255]), (-1, 1.4, [1, 0, 0, 0])):
        colours, none = np.array([[gain, shift]], np.float32), np.zeros((1, 4), np.int32)
        maps = np.array([[1, 0, 0, 0, 1, 0]], np.float32)
        warp.compute(images, maps, colours, none, np.zeros(1, np.float32), out, False, False)
        assert out.ravel().tolist() == want


# ---- contract


@pytest.mark.parametrize("stem", sorted(AUGMENT))
def test_stem_is_complete(stem):
    for tiles in map(instruction_sets.tiles, instruction_sets.available()):
        assert contract.augment_faults(FOLDER, stem, tiles, exported=EXPORTS[stem] in augment.__all__) == []
    assert doctest.testmod(AUGMENT[stem]).attempted > 2
    assert doctest.testmod(AUGMENT[stem]).failed == 0


FOLDER = Path(kernels.__file__).parent / "augment"
EXPORTS = {"warp": "affine_warp", "blend": "blend"}


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("warp.pxi", None, "no file warp.pxi"),
        ("warp.pxi", ("const real* colours", "const real* shades"), "warp in warp.pxi takes"),
        ("warp.py", ("def reference(images, matrices", "def reference(images, maps"), "takes"),
        ("warp.py", ("Ranges: ", "Limits: "), "no section Ranges:"),
    ],
)
def test_contract_names_what_is_broken(tmp_path, file, change, message):
    copy = contract.broken(FOLDER, tmp_path, file, change)
    found = contract.augment_faults(copy, "warp", instruction_sets.tiles(), exported=True)
    assert any(message in fault for fault in found), found
