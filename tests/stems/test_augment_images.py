"""pyopt.augment on images: what each option does, that it is repeatable, and what is refused."""

import doctest

import numpy as np
import pytest

import pyopt
from pyopt import augment
from pyopt.augment import _draw
from pyopt.augment import images as module
from support.helpers import refused, same_bits

KINDS = (np.uint8, np.float32, np.float64)
LAYOUTS = ("NCHW", "NHWC")
ALL = {
    "flip": 0.5, "vertical_flip": 0.3, "crop_padding": 3, "rotate": 20.0, "scale": (0.8, 1.2), "cutout": 5,
    "brightness": 0.2, "contrast": 0.3, "mixup": 0.4, "cutmix": 1.0, "fill": 0.25, "num_classes": 7,
}  # fmt: skip


def batch(dtype=np.float32, samples=16, layout="NCHW", size=(12, 15), seed=0):
    rng = np.random.default_rng(seed)
    shape = (samples, 3, *size) if layout == "NCHW" else (samples, *size, 3)
    return rng.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else rng.random(shape).astype(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", KINDS)
def test_identity_flips_and_crops_are_exact(dtype, layout):
    x = batch(dtype, layout=layout)
    y, z = (2, 3) if layout == "NCHW" else (1, 2)
    same_bits(augment.affine_warp(x, np.eye(2, 3), layout=layout), x)
    same_bits(augment.flip(x, layout=layout), np.flip(x, z))
    same_bits(augment.flip(x, False, True, layout=layout), np.flip(x, y))
    same_bits(augment.flip(augment.flip(x, True, True, layout=layout), True, True, layout=layout), x)
    some = np.arange(16) % 3 == 0
    same_bits(augment.flip(x, some, layout=layout)[~some], x[~some])
    same_bits(augment.flip(x, some, layout=layout)[some], np.flip(x, z)[some])
    top, left = np.arange(16) % 5 - 2, np.arange(16) % 7 - 3
    widths = [(0, 0)] * 4
    widths[y] = widths[z] = (5, 5)
    padded = np.pad(x, widths, constant_values=1)
    got = augment.crop(x, top, left, 9, 14, layout=layout, fill=1)
    for n in range(16):
        rows, columns = slice(top[n] + 5, top[n] + 14), slice(left[n] + 5, left[n] + 19)
        want = padded[n][:, rows, columns] if layout == "NCHW" else padded[n][rows, columns]
        same_bits(got[n], want)
    edged = augment.crop(x, -2, 1, 12, 15, border="edge", layout=layout)
    same_bits(edged, np.take(np.take(x, np.clip(np.arange(12) - 2, 0, 11), y), np.clip(np.arange(15) + 1, 0, 14), z))


def test_one_image_of_one_pixel_and_none():
    for shape in ((1, 1, 1, 1), (0, 3, 4, 5)):
        x = np.full(shape, 0.5, np.float32)
        same_bits(augment.flip(x), x)
        got, labels = augment.Images(**ALL)(x, np.zeros(len(x), int), seed=0)
        assert (got.shape, labels.shape) == (shape, (len(x), 7))
        got, _ = augment.Images(cutmix=1.0, num_classes=2)(x, np.zeros(len(x), int), seed=1)
        same_bits(got, x)


@pytest.mark.parametrize("dtype", KINDS)
def test_layouts_threads_and_instruction_sets_agree(isa, dtype):
    x, labels = batch(dtype, 64, size=(33, 31)), np.arange(64) % 7
    pyopt.set_num_threads(1)
    want, weights = augment.Images(**ALL)(x, labels, seed=5, step=2)
    pyopt.set_num_threads(2)
    got, again = augment.Images(**ALL)(x, labels, seed=5, step=2)
    same_bits(got, want)
    same_bits(again, weights)
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    got, _ = augment.Images(**ALL, layout="NHWC")(last, labels, seed=5, step=2)
    same_bits(got.transpose(0, 3, 1, 2), want)


def test_no_images_and_no_labels():
    images, labels = augment.Images(mixup=0.5, num_classes=3)(batch(samples=0), [], seed=0)
    assert images.shape == (0, 3, 12, 15)
    assert labels.shape == (0, 3)


def test_random_numbers_belong_to_seed_step_and_sample():
    x = batch(samples=32)
    aug = augment.Images(**{**ALL, "mixup": 0.0, "cutmix": 0.0})
    want, labels = aug(x, "kept", seed=3, step=1)
    assert labels == "kept"
    order = np.random.default_rng(0).permutation(32)
    same_bits(aug(x[order], seed=3, step=1, index=order)[0], want[order])
    same_bits(aug(x[4:9], seed=3, step=1, index=np.arange(4, 9))[0], want[4:9])
    for other in ({"seed": 4, "step": 1}, {"seed": 3, "step": 2}, {"seed": 3 + 2**40, "step": 1}):
        assert (aug(x, **other)[0] != want).reshape(32, -1).any(1).all()
    assert (aug(x, seed=3, step=1, index=np.arange(32) + 2**33)[0] != want).reshape(32, -1).any(1).all()


def test_options_draw_apart():
    x = batch(samples=40)
    flipped = augment.Images(flip=0.5)(x, seed=9)[0]
    moved = augment.Images(flip=0.5, brightness=0.5)(x, seed=9)[0]
    shift = (moved - flipped).reshape(40, -1)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-6)
    assert shift[:, 0].std() > 0.1


def test_flip_crop_and_size_do_what_they_say():
    x = batch(samples=200)
    got = augment.Images(flip=0.25)(x, seed=0)[0]
    turned = (got == x[:, :, :, ::-1]).all((1, 2, 3))
    assert ((got == x).all((1, 2, 3)) ^ turned).all()
    assert 30 < turned.sum() < 70
    got = augment.Images(vertical_flip=1.0)(x, seed=0)[0]
    same_bits(got, x[:, :, ::-1])
    got = augment.Images(crop_padding=2, size=(8, 9))(x, seed=0)[0]
    padded, found = np.pad(x, [(0, 0), (0, 0), (2, 2), (2, 2)]), set()
    for n in range(200):
        places = [(i, j) for i in range(9) for j in range(11) if (padded[n, :, i : i + 8, j : j + 9] == got[n]).all()]
        assert places
        found |= set(places)
    assert {i for i, _ in found} == set(range(9))
    assert {j for _, j in found} == set(range(11))


def test_rotation_and_scale_keep_the_centre_and_the_range():
    x = np.zeros((300, 1, 21, 21), np.float32)
    x[:, :, 10, 10] = 1
    x[:, :, 10, 16] = 4
    got = augment.Images(rotate=30.0)(x, seed=0)[0]
    np.testing.assert_allclose(got[:, 0, 10, 10], 1, atol=1e-5)
    got[:, :, 8:13, 8:13] = 0
    y, z = np.mgrid[:21, :21] - 10.0
    mass = got.sum((1, 2, 3))
    angle = np.degrees(np.arctan2(-(got[:, 0] * y).sum((1, 2)) / mass, (got[:, 0] * z).sum((1, 2)) / mass))
    assert -31 < angle.min() < -25
    assert 25 < angle.max() < 31
    got = augment.Images(scale=(2.0, 2.0))(x, seed=0)[0]
    np.testing.assert_allclose(got[:, 0, 10, 10], 1)
    assert got[0, 0, 10, 12] == 0
    same_bits(augment.Images(scale=(0.5, 0.5))(x, seed=0)[0][:, 0, 10, 13], x[:, 0, 10, 16])


@pytest.mark.parametrize("dtype", KINDS)
def test_colours(dtype):
    x = batch(dtype, 100)
    span = 255 if dtype == np.uint8 else 1
    got = augment.Images(contrast=0.5)(x, seed=0)[0].astype(float)
    middle = np.abs(x / span - 0.5) > 0.2
    factors = np.array([np.median(((a / span - 0.5) / (b / span - 0.5))[m]) for a, b, m in zip(got, x, middle)])  # noqa: B905
    assert 0.49 < factors.min() < 0.6
    assert 1.4 < factors.max() < 1.51
    inside = (x > 0.3 * span) & (x < 0.7 * span)
    got = augment.Images(brightness=0.25)(x, seed=0)[0].astype(float)
    moves = np.array([np.median((a - b)[m]) for a, b, m in zip(got, x, inside)]) / span  # noqa: B905
    assert -0.26 < moves.min() < -0.2
    assert 0.2 < moves.max() < 0.26


def test_brightness_leaves_fill():
    for dtype, fill, tolerance in ((np.uint8, 40.0, 0), (np.float64, 0.25, 1e-12)):
        x = np.full((50, 1, 9, 9), fill * 3).astype(dtype)
        got = augment.Images(rotate=180.0, brightness=0.2, contrast=0.75, cutout=3, fill=fill)(x, seed=0)[0]
        changed = np.abs(got[:, 0, 4, 4] - float(x[0, 0, 0, 0])) > 1e-3
        assert changed.mean() > 0.8
        turned = augment.Images(rotate=180.0, cutout=3, fill=fill)(x.astype(np.float64), seed=0)[0]
        beyond = turned == fill  # alone: next to it stand means of both
        assert beyond.sum() > 300
        np.testing.assert_allclose(got[beyond], fill, rtol=tolerance, atol=0)


def test_a_layout_that_looks_like_the_other_one_is_asked_about():
    x = np.ones((6, 20, 30, 3), np.uint8)
    for call in (augment.Images(rotate=20.0), augment.flip, augment.Images(mixup=1.0, num_classes=2)):
        with refused(ValueError, "20 channels of 30 x 3 pixels", "layout='NHWC'", "layout='NCHW'"):
            call(x, **({"seed": 0} if isinstance(call, augment.Images) else {}))
    for layout in ("NCHW", "NHWC"):
        got = augment.Images(rotate=20.0, size=(5, 3), crop_padding=2, mixup=1.0, layout=layout)
        assert got(x, np.ones((6, 2)), seed=0)[0].dtype == np.uint8
    for shape in ((2, 3, 20, 30), (2, 8, 4, 4), (2, 3, 20, 3), (2, 64, 1, 1)):
        assert augment.flip(np.ones(shape, np.float32)).shape == shape


def test_cutout_fills_a_square_around_a_pixel():
    x = np.ones((300, 3, 12, 15), np.float32)
    got = augment.Images(cutout=5, fill=(7.0, 8.0, 9.0))(x, seed=0)[0]
    sizes = set()
    for a in got:
        rows, columns = np.nonzero(a[0] == 7)
        box = a[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert (box == np.array([7, 8, 9])[:, None, None]).all()
        assert (a != 1).sum() == box.size
        sizes.add(box.shape[1:])
    assert max(sizes) == (5, 5)
    assert min(sizes) == (3, 3)  # half of it is outside


@pytest.mark.parametrize("dtype", KINDS)
def test_mixup_mixes_images_and_labels_alike(dtype):
    x = batch(dtype, 60)
    got, weights = augment.Images(mixup=0.7, num_classes=60)(x, np.arange(60), seed=0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    want = np.tensordot(weights.astype(np.float64), x.astype(np.float64), 1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=0.501 if dtype == np.uint8 else 1e-5)
    assert ((weights > 0.01).sum(1) == 2).sum() > 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cutmix_labels_are_the_area(layout):
    labels = np.arange(60)
    shape = (60, 3, 12, 15) if layout == "NCHW" else (60, 12, 15, 3)
    x = np.broadcast_to(labels.astype(np.float32).reshape(60, 1, 1, 1), shape).copy()
    got, weights = augment.Images(cutmix=1.0, num_classes=60, layout=layout)(x, labels, seed=0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    for n in range(60):
        share = np.bincount(got[n].astype(int).ravel(), minlength=60) / got[n].size
        np.testing.assert_allclose(weights[n], share, atol=1e-6)
    assert (weights.max(1) < 0.9).sum() > 20


def test_mixup_or_cutmix_and_soft_labels():
    x = batch(samples=400)
    soft = np.random.default_rng(0).dirichlet(np.ones(5), 400)
    got, weights = augment.Images(mixup=1.0, cutmix=1.0)(x, soft, seed=0)
    assert weights.dtype == np.float64
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    cut = ((got == x).mean((1, 2, 3)) > 0.02) & (np.abs(weights - soft).max(1) > 0.001)
    assert 120 < cut.sum() < 240


def test_beta():
    stats = pytest.importorskip("scipy.stats")
    draws = _draw.Draws(1, 0, np.arange(20_000, dtype=np.uint64))
    for alpha in (0.2, 0.5, 1.0, 4.0):
        got = _draw.beta(alpha, draws("beta_radius"), draws("beta_angle"))
        assert stats.kstest(got, stats.beta(alpha, alpha).cdf).pvalue > 0.01, alpha
    assert set(_draw.beta(1e-9, draws("beta_radius"), draws("beta_angle"))) == {0.0, 1.0}


def test_out_and_doctests():
    x = batch()
    out = np.full_like(x, np.nan)
    assert augment.flip(x, out=out) is out
    same_bits(out, x[..., ::-1])
    assert augment.affine_warp(x, np.eye(2, 3), size=(0, 4)).shape == (16, 3, 0, 4)
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 3


X, EYE = batch(samples=2), np.eye(2, 3)
READ_ONLY = np.empty_like(X)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, ("images is list",), lambda: augment.flip([[1.0]])),
        (TypeError, ("images has dtype float16", "uint8"), lambda: augment.flip(X.astype(np.float16))),
        (TypeError, ("images is a masked array",), lambda: augment.flip(np.ma.array(X))),
        (ValueError, ("images has shape (3, 12, 15)", "NCHW"), lambda: augment.flip(X[0])),
        (ValueError, ("images has shape (2, 3, 0, 15)",), lambda: augment.flip(X[:, :, :0].copy())),
        (ValueError, ("images has strides",), lambda: augment.flip(X[:, :, ::2])),
        (ValueError, ("images has strides",), lambda: augment.flip(batch(np.uint8)[:, :, ::2])),
        (ValueError, ("layout='CHWN'", "NHWC"), lambda: augment.flip(X, layout="CHWN")),
        (ValueError, ("border='wrap'", "edge"), lambda: augment.affine_warp(X, EYE, border="wrap")),
        (ValueError, ("matrices has shape (3, 3)", "(2, 2, 3)"), lambda: augment.affine_warp(X, np.eye(3))),
        (ValueError, ("matrices holds inf or NaN",), lambda: augment.affine_warp(X, EYE * np.nan)),
        (ValueError, ("matrices holds 1e+09",), lambda: augment.affine_warp(X, EYE * 1e9)),
        (TypeError, ("matrices has dtype bool",), lambda: augment.affine_warp(X, EYE > 0)),
        (ValueError, ("size=5",), lambda: augment.affine_warp(X, EYE, size=5)),
        (ValueError, ("size[1]=-1",), lambda: augment.affine_warp(X, EYE, size=(1, -1))),
        (ValueError, ("fill has shape (2,)", "each of 3 channels"), lambda: augment.affine_warp(X, EYE, fill=(1, 2))),
        (ValueError, ("fill=300", "255"), lambda: augment.affine_warp(batch(np.uint8), EYE, fill=300)),
        (ValueError, ("out shares memory",), lambda: augment.flip(X, out=X)),
        (ValueError, ("out is read-only",), lambda: augment.flip(X, out=READ_ONLY)),
        (ValueError, ("out is float64",), lambda: augment.flip(X, out=X.astype(np.float64))),
        (ValueError, ("out is float32 of shape",), lambda: augment.crop(X, 0, 0, 3, 3, out=X.copy())),
        (TypeError, ("horizontal has dtype int64",), lambda: augment.flip(X, [1, 0])),
        (ValueError, ("vertical has shape (3,)",), lambda: augment.flip(X, True, [True] * 3)),
        (TypeError, ("top=0.5", "integers"), lambda: augment.crop(X, 0.5, 0, 3, 3)),
        (TypeError, ("left has dtype float64", "integers"), lambda: augment.crop(X, 0, [0.5, 1], 3, 3)),
        (TypeError, ("fill=None", "numbers"), lambda: augment.affine_warp(X, EYE, fill=None)),
        (TypeError, ("matrices is a masked array",), lambda: augment.affine_warp(X, np.ma.array(EYE))),
        (ValueError, ("matrices has rows of different",), lambda: augment.affine_warp(X, [[1, 0, 0], [0, 1]])),
        (ValueError, ("border=array(",), lambda: augment.affine_warp(X, EYE, border=np.array(["edge", "edge"]))),
        (ValueError, ("2^24",), lambda: augment.flip(np.zeros((1, 1, 1, 2**24 + 9), np.uint8))),
        (ValueError, ("height=16777216",), lambda: augment.crop(X[:0], 0, 0, 2**24, 3)),
        (ValueError, ("left has shape (3,)",), lambda: augment.crop(X, 0, [1, 2, 3], 3, 3)),
        (ValueError, ("2^24",), lambda: augment.crop(X, 2**24, 0, 3, 3)),
        (TypeError, ("height=3.0",), lambda: augment.crop(X, 0, 0, 3.0, 3)),
        (ValueError, ("partners holds 0 to 2", "[0, 2)"), lambda: augment.blend(X, [0, 2])),
        (ValueError, ("weights=1.5",), lambda: augment.blend(X, [0, 1], 1.5)),
        (ValueError, ("weights=nan",), lambda: augment.blend(X, [0, 1], np.nan)),
        (TypeError, ("weights='a'", "[0, 1]"), lambda: augment.blend(X, [0, 1], "a")),
        (TypeError, ("weights=True",), lambda: augment.blend(X, [0, 1], True)),
        (ValueError, ("boxes has shape (3,)",), lambda: augment.blend(X, [0, 1], boxes=[1, 2, 3])),
        (ValueError, ("flip=1.5", "[0, 1]"), lambda: augment.Images(flip=1.5)),
        (ValueError, ("contrast=1.0", "[0, 1)"), lambda: augment.Images(contrast=1.0)),
        (ValueError, ("scale=(1.2, 0.8)",), lambda: augment.Images(scale=(1.2, 0.8))),
        (ValueError, ("scale=(0, 1)",), lambda: augment.Images(scale=(0, 1))),
        (TypeError, ("cutout=2.5",), lambda: augment.Images(cutout=2.5)),
        (ValueError, ("crop_padding=-1",), lambda: augment.Images(crop_padding=-1)),
        (ValueError, ("mixup=-0.1",), lambda: augment.Images(mixup=-0.1)),
        (ValueError, ("num_classes=0",), lambda: augment.Images(num_classes=0)),
        (ValueError, ("size=(13, 15)", "crop_padding"), lambda: augment.Images(size=(13, 15))(X, seed=0)),
        (ValueError, ("labels=None",), lambda: augment.Images(mixup=0.1)(X, seed=0)),
        (ValueError, ("num_classes=None",), lambda: augment.Images(mixup=0.1)(X, [0, 1], seed=0)),
        (ValueError, ("labels[1] is 3", "[0, 3)"), lambda: augment.Images(mixup=1, num_classes=3)(X, [0, 3], seed=0)),
        (ValueError, ("labels is int64 of shape (3,)",), lambda: augment.Images(mixup=0.1)(X, [0, 1, 2], seed=0)),
        (TypeError, ("labels is a masked",), lambda: augment.Images(mixup=0.1)(X, np.ma.array([0, 1]), seed=0)),
        (TypeError, ("labels has dtype bool",), lambda: augment.Images(mixup=0.1)(X, [True, False], seed=0)),
        (ValueError, ("index has rows",), lambda: augment.Images(flip=0.5)(X, seed=0, index=[[1], [1, 2]])),
        (ValueError, ("seed=-1",), lambda: augment.Images(flip=0.5)(X, seed=-1)),
        (TypeError, ("seed=1.0",), lambda: augment.Images(flip=0.5)(X, seed=1.0)),
        (ValueError, ("step=4294967296",), lambda: augment.Images(flip=0.5)(X, seed=0, step=2**32)),
        (ValueError, ("index has shape (3,)",), lambda: augment.Images(flip=0.5)(X, seed=0, index=[1, 2, 3])),
        (ValueError, ("index holds -1",), lambda: augment.Images(flip=0.5)(X, seed=0, index=[1, -1])),
        (TypeError, ("index has dtype float64",), lambda: augment.Images(flip=0.5)(X, seed=0, index=[1.0, 2.0])),
    ],
)  # fmt: skip
def test_refused(error, words, call):
    with refused(error, *words, arrays=[X]):
        call()
