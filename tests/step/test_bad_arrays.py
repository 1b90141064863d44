"""Arrays that cannot be stepped: refused in words, before anything is touched."""

import numpy as np
import pytest

import pyopt
from support.helpers import everything, like, make, outcome, refused, run, same, same_bits, stepping, tame

pytestmark = pytest.mark.any_rule

as_strided = np.lib.stride_tricks.as_strided


def misaligned(n, dtype=np.float64):
    return np.frombuffer(bytearray(n * 8 + 1), np.uint8)[1:].view(dtype)


def read_only(a):
    a.flags.writeable = False
    return a


# name: an array of shape (4, 6), or what stands for it; the error; what its message says besides the name of the array
UNFIT = {
    "int64": (lambda: np.ones((4, 6), int), TypeError, ["int64", "bfloat16 or float16"]),
    "uint16": (lambda: np.ones((4, 6), np.uint16), TypeError, ["uint16", "bfloat16 or float16"]),
    "longdouble": (lambda: np.ones((4, 6), np.longdouble), TypeError, ["bfloat16 or float16"]),
    "complex": (lambda: np.ones((4, 6), complex), TypeError, ["complex128", "bfloat16 or float16"]),
    "bool": (lambda: np.ones((4, 6), bool), TypeError, ["bool", "bfloat16 or float16"]),
    "object": (lambda: np.ones((4, 6), object), TypeError, ["object", "bfloat16 or float16"]),
    "structured": (lambda: np.zeros((4, 6), [("x", "f8")]), TypeError, ["bfloat16 or float16"]),
    "big-endian": (lambda: np.ones((4, 6), ">f8"), TypeError, [">f8", "native"]),
    "masked": (lambda: np.ma.masked_array(np.ones((4, 6))), TypeError, ["masked", "filled"]),
    "list": (lambda: [1.0, 2.0], TypeError, ["list", "NumPy array"]),
    "number": (lambda: 1.0, TypeError, ["float", "NumPy array"]),
    "scalar": (lambda: np.float64(1.0), TypeError, ["float64", "NumPy array"]),
    "text": (lambda: "w", TypeError, ["str", "NumPy array"]),
    "bytes": (lambda: b"12345678", TypeError, ["bytes", "NumPy array"]),
    "misaligned": (lambda: misaligned(24).reshape(4, 6), ValueError, ["aligned", "copy"]),
    "every second row": (lambda: np.ones((8, 6))[::2], ValueError, ["strides (96, 8)"]),
    "every second column": (lambda: np.ones((4, 12))[:, ::2], ValueError, ["strides (96, 16)"]),
    "columns of a wider one": (lambda: np.ones((4, 7))[:, :6], ValueError, ["strides (56, 8)"]),
    "backwards": (lambda: np.ones((4, 6))[::-1], ValueError, ["strides (-48, 8)"]),
    "both backwards": (lambda: np.ones((4, 6))[::-1, ::-1], ValueError, ["strides (-48, -8)"]),
    "broadcast": (lambda: np.broadcast_to(np.ones(6), (4, 6)), ValueError, ["strides (0, 8)"]),
    "rows overlap": (lambda: as_strided(np.zeros(9), (4, 6), (8, 8)), ValueError, ["strides (8, 8)"]),
    "field of a structure": (lambda: np.zeros((4, 6), "f8,f8")["f0"], ValueError, ["strides (96, 16)"]),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFIT)
def test_parameters(rule, name):
    array, error, words = UNFIT[name]
    with refused(error, "params[1]", *words):
        make(rule, [np.ones(3), array()])
    opt = make(rule, [np.ones(3)])
    with refused(error, "params[1]", *words, opt=opt):
        opt.add_param_group({"params": [array()]})
    assert len(opt.param_groups) == 1


@pytest.mark.parametrize("name", UNFIT)
def test_gradients(rule, name):
    p, q = tame((4, 6), np.float64), tame(3, np.float64)
    opt = make(rule, [q, p], **everything(rule))
    good = [np.ones(3), np.ones((4, 6))]
    opt.step(good)
    array, error, words = UNFIT[name]
    words = [word for word in words if "float32" not in word or error is TypeError]
    with refused(error, "the gradient of params[1]", *words, opt=opt, arrays=good):
        opt.step([good[0], array()], zero_grads=True)


@pytest.mark.parametrize(
    ("gradient", "error", "words"),
    [
        (np.ones((4, 6), np.int32), TypeError, ["int32", "float64, float32, bfloat16 or float16"]),
        (np.ones((6, 4)), ValueError, ["(6, 4)", "(4, 6)", "agree"]),
        (np.ones(24), ValueError, ["(24,)", "(4, 6)"]),
        (np.ones((4, 6, 1)), ValueError, ["(4, 6, 1)", "(4, 6)"]),
        (np.ones((1, 4, 6)), ValueError, ["(1, 4, 6)", "(4, 6)"]),
        (np.ones((4, 5)), ValueError, ["(4, 5)", "(4, 6)"]),
        (np.ones(()), ValueError, ["()", "(4, 6)"]),
        (np.ones((4, 6), order="F"), ValueError, ["strides (8, 32)", "(48, 8)", "same order"]),
        (np.ones((6, 4)).T, ValueError, ["strides (8, 32)", "(48, 8)", "same order"]),
    ],
)
def test_gradient_unlike_its_parameter(rule, gradient, error, words):
    p = tame((4, 6), np.float64)
    opt = make(rule, [p], **everything(rule))
    with refused(error, "the gradient of params[0]", *words, opt=opt, arrays=[gradient]):
        opt.step([gradient], zero_grads=True)


def test_gradient_of_an_empty_or_0d_parameter_has_its_shape(rule):
    for shape, wrong in (((2, 0), (2, 5)), ((0,), (1,)), ((), (1,)), ((1,), ()), ((0, 3), (3, 0)), ((2, 0), (0, 2))):
        opt = make(rule, [np.ones(shape)])
        with refused(ValueError, str(shape), str(wrong), opt=opt):
            opt.step([np.ones(wrong)])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_number_of_gradients(rule, count):
    params = [np.ones(2), np.ones(2)]
    opt = make(rule, params, **everything(rule))
    with refused(ValueError, f"{count} gradients for 2 parameters", "None", opt=opt):
        opt.step([np.ones(2)] * count)


@pytest.mark.parametrize(
    "grads", [np.ones((1, 3)), None, 1.0, "ab", {"params[0]": np.ones(3)}, [[1.0, 2.0, 3.0]]], ids=str
)
def test_grads_that_are_no_list_of_arrays(rule, grads):
    opt = make(rule, [np.ones(3)])
    with refused(TypeError, "grad", "list of arrays" if not isinstance(grads, list) else "NumPy array", opt=opt):
        opt.step(grads)


@pytest.mark.parametrize("bad", ["no", None, 1, np.array(True)], ids=repr)
def test_zero_grads_is_a_flag(rule, bad):
    p, g = np.ones(3), np.ones(3)
    opt = make(rule, [p])
    with refused(TypeError, f"zero_grads={bad!r}", "True or False", opt=opt, arrays=[p, g]):
        opt.step([g], zero_grads=bad)


def test_any_iterable_of_gradients_will_do(rule):
    params = [np.ones(3), np.ones(2)]
    grads = [np.ones(3), np.ones(2)]
    opt = make(rule, (p for p in params))
    for given in (grads, tuple(grads), iter(grads), (g for g in grads), dict(enumerate(grads)).values()):
        opt.step(given)
    assert [state["step"] for state in opt.state] == [5, 5]


@pytest.mark.parametrize("params", [[], (), iter([]), [{"params": []}]], ids=["list", "tuple", "iterator", "group"])
def test_no_parameters(rule, params):
    with refused(ValueError, "empty", "at least one"):
        make(rule, params)


@pytest.mark.parametrize("params", [np.ones(3), "w", {"params": [np.ones(3)]}, None, 3], ids=str)
def test_params_that_are_no_list(rule, params):
    with pytest.raises(TypeError, match="list of arrays"):
        make(rule, params)


def test_gradient_of_more_bits_than_its_parameter(rule):
    """float64 for float32 is a mistake more often than a wish: NumPy makes float64 of all it can."""
    opt = make(rule, [np.ones(2, np.float32)])
    with refused(TypeError, "the gradient of params[0]", "float64", "native float32, bfloat16 or float16", opt=opt):
        opt.step([np.ones(2)])


# ---- read-only memory


def test_read_only(rule, tmp_path):
    with refused(ValueError, "params[0]", "read-only"):
        make(rule, [read_only(np.ones(3))])
    path = tmp_path / "w"
    np.ones(6).tofile(path)
    with refused(ValueError, "params[0]", "read-only"):
        make(rule, [np.memmap(path, np.float64, "r")])
    p, g = np.ones(3), read_only(np.ones(3))
    opt = make(rule, [p], **everything(rule))
    with refused(ValueError, "the gradient of params[0]", "read-only", opt=opt, arrays=[g]):
        opt.step([g], zero_grads=True)
    opt.step([g])
    assert opt.state[0]["step"] == 1


# ---- shared memory


def shared_views():
    """Return pairs of views of one memory, of different extents."""
    a = np.ones(100)
    return {
        "twice": (a, a),
        "equal views": (a[10:20], a[10:20]),
        "one element": (a[10:20], a[19:29]),
        "inside": (a[10:90], a[40:50]),
        "same start": (a[10:90], a[10:50]),
        "same end": (a[10:90], a[50:90]),
    }


@pytest.mark.parametrize("name", shared_views())
@pytest.mark.parametrize("swap", [False, True])
def test_parameters_that_share_memory(rule, name, swap):
    one, two = shared_views()[name][:: -1 if swap else 1]
    with refused(ValueError, "params[0]", "params[2]", "share memory"):
        make(rule, [one, np.ones(3), two])
    opt = make(rule, [one])
    with refused(ValueError, "params[0]", "params[1]", "share memory", opt=opt):
        opt.add_param_group({"params": [two]})


def test_neighbours_share_nothing(rule):
    a = np.ones(100)
    make(rule, [a[:50], a[50:], a[50:50], a[20:20]]).step([np.ones(50), np.ones(50), np.ones(0), np.ones(0)])
    assert (a != 1).all()


def test_gradient_shares_memory_with_a_parameter(rule):
    a, memory = np.ones(20), np.ones(10)
    b = memory[:5]
    opt = make(rule, [a[:10], b], **everything(rule))
    for g in (a[:10], a[5:15], a[:10].view()):
        with refused(ValueError, "the gradient of params[0]", "params[0]", "share memory", opt=opt, arrays=[a, b]):
            opt.step([g, np.ones(5)])
    with refused(ValueError, "the gradient of params[1]", "params[0]", "share memory", opt=opt, arrays=[a, b]):
        opt.step([np.ones(10), a[3:8]])
    with refused(ValueError, "the gradient of params[0]", "params[1]", "share memory", opt=opt, arrays=[a, b]):
        opt.step([memory, None])


def test_gradient_of_a_wider_type_reaches_a_parameter(rule):
    """It begins where the one before did, which ended before the parameter."""
    memory = np.ones(15, np.float32)
    opt = make(rule, [memory[5:]], **everything(rule))
    opt.step([memory.view(np.float16)[:10]])
    with refused(ValueError, "the gradient of params[0]", "params[0]", "share memory", opt=opt, arrays=[memory]):
        opt.step([memory[:10]])


def test_gradient_shares_memory_with_a_state(rule):
    p = np.ones(10)
    opt = make(rule, [p], **everything(rule))
    for state in rule.states:
        g = opt.state[0][state.name]
        with refused(ValueError, "the gradient of params[0]", state.name, "share memory", opt=opt, arrays=[p]):
            opt.step([g])


def test_gradients_may_share_memory_unless_they_are_zeroed(rule):
    params = [np.ones(10), np.ones(10), np.ones(5)]
    theirs = [p.copy() for p in params]
    g = tame(12, np.float64)
    shared = [g[:10], g[:10], g[7:]]
    opt, other = make(rule, params, **everything(rule)), make(rule, theirs, **everything(rule))
    opt.step(shared)
    other.step([a.copy() for a in shared])
    same(outcome(opt), outcome(other))
    with refused(ValueError, "the gradient of params", "share memory", opt=opt, arrays=[g]):
        opt.step(shared, zero_grads=True)


def test_refused_step_is_forgotten(rule):
    """What was looked at in a refused step must be looked at again in the next one."""
    params, theirs = [np.ones(4), np.ones(4)], [np.ones(4), np.ones(4)]
    opt, other = make(rule, params, **everything(rule)), make(rule, theirs, **everything(rule))
    grads = [np.ones(4), np.full(4, 2.0)]
    opt.step(grads)
    for bad in ([params[1], np.ones(5)], [params[1], grads[1]], [grads[0], grads[0].astype(int)], [opt.state, None]):
        with refused((ValueError, TypeError), opt=opt):
            opt.step(bad)
    opt.step(grads)
    for _ in range(2):
        other.step(grads)
    same(outcome(opt), outcome(other))


# ---- arrays changed in place between steps


def resized(p):
    p.resize(400, refcheck=False)


def shrunk(p):
    p.resize(5, refcheck=False)


def moved(p):
    """Leave everything as it was but the address."""
    before, held = p.ctypes.data, []
    while p.ctypes.data == before:
        p.resize(10_000_000, refcheck=False)  # malloc never puts so much where the few elements were,
        held.append(np.ones(20))  # and what it gives here it does not give again
        p.resize(20, refcheck=False)


def retyped(p):
    p.dtype = np.float32


def swapped(p):
    p.dtype = ">f8"


def integers(p):
    p.dtype = np.int64


def locked(p):
    p.flags.writeable = False


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", [resized, shrunk, moved, retyped, swapped, integers, locked])
def test_parameter_changed_in_place(rule, change):
    p, q = np.ones(20), np.ones(3)
    opt = make(rule, [q, p], **everything(rule))
    opt.step([np.ones(3), np.ones(20)])
    change(p)
    for g in (np.ones(20), np.ones_like(p)):
        with refused((ValueError, TypeError), "params[1]", opt=opt, arrays=[p, q]):
            opt.step([np.ones(3), g])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("change", [resized, shrunk, moved, retyped, swapped, integers, locked])
def test_parameter_changed_in_place_before_a_step_of_rows(change):
    p = np.ones(20)
    opt = pyopt.SGD([p], lr=0.1)
    change(p)
    with refused((ValueError, TypeError), "params[0]", opt=opt, arrays=[p]):
        opt.step_rows([1], np.ones(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parameter_reshaped_in_place(rule):
    """The memory is the same: gradients must have the new shape from then on."""
    p = np.ones(20)
    want = run(rule, [np.ones(20)], [[np.arange(20.0)]] * 2, **everything(rule))["p[0]"]
    opt = make(rule, [p], **everything(rule))
    opt.step([np.arange(20.0)])
    p.shape = (4, 5)
    with refused(ValueError, "(20,)", "(4, 5)", opt=opt):
        opt.step([np.arange(20.0)])
    opt.step([np.arange(20.0).reshape(4, 5)])
    same_bits(p.ravel(), want)


def test_gradient_freed_and_its_address_used_again(rule):
    """An address that was a fitting gradient a step ago proves nothing."""
    p = np.ones(1000)
    opt = make(rule, [p], **everything(rule))
    memory = bytearray(8000)
    opt.step([np.frombuffer(memory)])
    for wrong in (np.frombuffer(memory, np.float32), np.frombuffer(memory, np.int64), np.frombuffer(memory)[:500],
                  np.frombuffer(memory)[:500:2], np.frombuffer(memory).reshape(10, 100)):  # fmt: skip
        with refused((ValueError, TypeError), "the gradient of params[0]", opt=opt):
            opt.step([wrong])
    for _ in range(50):  # with new arrays each time, of sizes that malloc hands out at one address
        opt.step([np.ones(1000)])
        with refused((ValueError, TypeError), opt=opt):
            opt.step([np.ones(2000, np.float32)])


def test_reference_refuses_parameters_too(rule):
    with stepping(), refused(ValueError, "strides"):
        make(rule, [np.ones(8)[::2]])
    opt = make(rule, [np.ones(3)])
    opt.step([like(np.ones(3), 1.0)])
