"""What ``pyopt train`` reads: columns of files, classes and numbers, scaling; and one line for whatever is wrong."""

import datetime as dt

import numpy as np
import pytest

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from pyopt.cli import data as tables  # noqa: E402
from pyopt.cli import table  # noqa: E402

NUMBERS = np.random.default_rng(0).normal(size=(12, 2))
LABELS = ["yes", "no", "no", "yes"] * 3


def lines(numbers=NUMBERS, labels=LABELS):
    return ["a,b,label", *(f"{a!r},{b!r},{label}" for (a, b), label in zip(numbers.tolist(), labels, strict=True))]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parquet(path, columns):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    pq.write_table(pa.table(columns), path)


# ---- what is read


def test_the_same_from_every_kind_of_file(here):
    (here / "a.csv").write_text("\ufeff" + "\r\n".join(lines()) + "\r\n\r\n", encoding="utf-8")
    np.savez(here / "a.npz", a=NUMBERS[:, 0], b=NUMBERS[:, 1], label=LABELS)
    parquet(here / "a.parquet", {"a": NUMBERS[:, 0], "b": NUMBERS[:, 1], "label": LABELS})
    for ending in ("csv", "npz", "parquet"):
        rows = tables.load(f"a.{ending}", "label")
        assert rows.x.tobytes() == NUMBERS.tobytes()
        assert rows.columns == ["a", "b"]
        assert rows.classes.tolist() == ["no", "yes"]
        assert rows.y.tolist() == [1, 0, 0, 1] * 3
        assert (rows.name, rows.task, rows.image_shape) == (f"a.{ending}", "classification of 2 classes", None)


def test_arrays_of_several_dimensions(here):
    images = np.arange(12 * 6.0).reshape(12, 1, 2, 3)
    np.savez(here / "images.npz", images=images, y=np.arange(12) % 3)
    rows = tables.load("images.npz", "y")
    assert rows.image_shape == (1, 2, 3)
    assert rows.x.tolist() == images.reshape(12, 6).tolist()
    assert rows.columns == [f"images[{i}]" for i in range(6)]
    np.savez(here / "grey.npz", images=images[:, 0], y=np.arange(12) % 3)
    assert tables.load("grey.npz", "y").image_shape == (1, 2, 3)
    np.savez(here / "table.npz", x=images.reshape(12, 6), y=np.arange(12) % 3)
    assert tables.load("table.npz", "y").image_shape is None
    assert tables.load("table.npz", "y", image_shape=(1, 3, 2)).image_shape == (1, 3, 2)


def test_numbers_of_any_type(here):
    columns = {"bool": [True, False] * 6, "int": np.arange(12, dtype=np.int16), "half": np.ones(12, np.float32)}
    parquet(here / "a.parquet", {**columns, "y": np.linspace(0, 1, 12)})
    rows = tables.load("a.parquet", "y")
    assert rows.x.tolist() == np.stack([np.array(c, np.float64) for c in columns.values()], 1).tolist()
    assert (rows.task, rows.classes) == ("regression", None)


@pytest.mark.parametrize(
    ("column", "task", "classes"),
    [
        (["b", "a", "b"], "auto", ["a", "b"]),
        (["2", "10", "2"], "auto", [2, 10]),
        (["1.5", "2", "3"], "auto", None),
        ([3.0, 1.0, 3.0], "auto", [1, 3]),
        ([True, False, True], "auto", [0, 1]),
        (list(range(20)), "auto", list(range(20))),
        (list(range(21)), "auto", None),
        (list(range(21)), "classification", list(range(21))),
        ([1, 2, 1], "regression", None),
        ([0.5, 1.5, 0.5], "classification", [0.5, 1.5]),
        ([1e17, 3e17, 1e17], "auto", [1e17, 3e17]),
    ],
)
def test_classes_or_numbers(column, task, classes):
    y, found = tables.targets(np.array(column), "y", task)
    assert (None if found is None else found.tolist()) == classes
    back = y if found is None else found[y]
    assert [float(x) if task != "auto" or classes != ["a", "b"] else x for x in back.tolist()] == [
        float(x) if classes != ["a", "b"] else x for x in column
    ]


@pytest.mark.parametrize("kind", [object, np.int64])
def test_numbers_that_float64_does_not_tell_apart(kind):
    """Classes are told apart by their digits."""
    column = np.array([f"{10**17 + i}" for i in range(30)]).astype(kind)
    y, found = tables.targets(column[:5], "y", "auto")
    assert found[y].tolist() == [f"{10**17 + i}" for i in range(5)]
    y, found = tables.targets(column, "y", "auto")
    assert (y.tolist(), found) == ([float(10**17 + i) for i in range(30)], None)


def test_a_number_too_large_is_no_word():
    with pytest.raises(ValueError, match="'y' has inf in row 2"):
        tables.targets(np.array(["0.5", "1e999", "1.5"], object), "y", "auto")


def test_data_that_scikit_learn_brings():
    for name, shape, task in (
        ("digits", (1797, 64), "classification of 10 classes"),
        ("breast_cancer", (569, 30), "classification of 2 classes"),
        ("diabetes", (442, 10), "regression"),
    ):
        rows = tables.load(name, None)
        assert (rows.x.shape, rows.task, len(rows.columns)) == (shape, task, shape[1])
    with pytest.raises(ValueError, match="digits has a target of its own"):
        tables.load("digits", "y")


# ---- split and scaling


@pytest.mark.parametrize(
    ("name", "other", "own"),
    [("digits", "regression", "classification"), ("diabetes", "classification", "regression")],
)
def test_the_task_of_data_that_scikit_learn_brings(name, other, own):
    with pytest.raises(ValueError, match=f"task='{other}': {name} is a {own}"):
        tables.load(name, None, other)
    assert tables.load(name, None, own).task.startswith(own)


def test_the_target_of_data_that_scikit_learn_brings_when_predicting():
    with pytest.raises(ValueError, match="target='y': diabetes has a target of its own"):
        tables.features("diabetes", ["age"], "y")


def test_a_shape_of_images_that_scikit_learn_does_not_bring():
    with pytest.raises(ValueError, match=r"image-shape=\(1, 4, 16\): digits has \(1, 8, 8\)"):
        tables.load("digits", None, image_shape=(1, 4, 16))
    with pytest.raises(ValueError, match=r"image-shape=\(1, 2, 5\): diabetes has none"):
        tables.load("diabetes", None, image_shape=(1, 2, 5))
    assert tables.load("digits", None, image_shape=(1, 8, 8)).image_shape == (1, 8, 8)


def test_a_fifth_is_held_out_by_seed():
    (train, held), again, other = (tables.split(101, seed) for seed in (0, 0, 1))
    assert (len(train), len(held)) == (81, 20)
    assert sorted([*train, *held]) == list(range(101))
    assert train.tolist() == again[0].tolist() != other[0].tolist()


def test_a_column_of_one_number_is_not_stretched():
    """Its mean is rounded: the differences from it, 6e-17, are none."""
    scaling = tables.standard(np.stack([np.full(37, 0.3), np.arange(37.0)], axis=1))
    assert scaling.scale[0] == 1.0
    assert abs(scaling(np.array([[1.3, 0.0]]))[0, 0] - 1.0) < 1e-6


def test_scaling():
    x = np.random.default_rng(1).normal(5, 3, size=(200, 3))
    x[:, 1] = 7.0
    scaling = tables.standard(x)
    z = scaling(x)
    assert z.dtype == np.float32
    assert np.abs(z.mean(axis=0)).max() < 1e-6
    assert np.abs(z[:, ::2].std(axis=0) - 1).max() < 1e-6
    assert (z[:, 1] == 0).all()
    assert np.allclose(scaling.back(z), x, atol=1e-5)
    assert tables.pixels(np.array([[0.0, 255.0], [51.0, 0.0]]))(np.array([[0.0, 51.0]])).tolist() == [
        [0, np.float32(0.2)]
    ]
    assert tables.pixels(np.zeros((2, 2)))(np.zeros((1, 2))).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match="too large for float32"):
        tables.Scaling(np.zeros(1), np.ones(1))(np.array([[1e39]]))


# ---- what is wrong


def with_line(line):
    return "\n".join([*lines()[:5], line, *lines()[5:]])


FILES = {
    "nan.csv": (with_line(",1,yes"), ["'a'", "NaN", "row 5"]),
    "nan_word.csv": (with_line("NaN,1,yes"), ["'a'", "NaN", "row 5"]),
    "inf.csv": (with_line("1,-inf,yes"), ["'b'", "-inf", "row 5"]),
    "word.csv": (with_line("1,two,yes"), ["'b'", "'two'", "row 5"]),
    "target.csv": (with_line("1,2,"), ["'label'", "missing", "row 5"]),
    "short_row.csv": (with_line("1,2"), ["line 6", "2 values", "must have 3"]),
    "one.csv": ("\n".join(lines(labels=["no"] * 12)), ["'label'", "one class only, no"]),
    "empty.csv": ("", ["no rows"]),
    "header.csv": ("a,b,label\n", ["no rows"]),
    "twice.csv": ("a,a,label\n1,2,yes\n", ["twice"]),
    "quote.csv": ('a,b,label\n"1,2,yes\n', ["cannot be read", "unexpected end"]),
    "alone.csv": ("label\nyes\nno\n", ["label", "one of several columns"]),
    "binary.csv": (bytes(range(256)), ["cannot be read", "utf-8"]),
    "bad.npz": (b"no zip file", ["cannot be read", "no NPZ file"]),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_wrong(here, name):
    text, words = FILES[name]
    (here / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refused(name, words)


def refused(name, words, target="label", **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the words are looked at
        tables.load(name, target, **options)
    assert [word for word in words if word not in str(caught.value)] == []


def test_paths_that_are_wrong(here):
    (here / "folder.csv").mkdir()
    refused("folder.csv", ["'folder.csv'", "directory"])
    refused("none.csv", ["'none.csv'", "No such file"])
    refused("none.npz", ["'none.npz'", "No such file"])
    refused("iris", ["'iris'", "digits, breast_cancer, diabetes", ".csv, .npz, .parquet"])
    refused("a.xlsx", ["'a.xlsx'", "must end in .csv, .npz, .parquet"])
    (here / "good.csv").write_text("\n".join(lines()))
    refused("good.csv", ["'lable'", "'a', 'b', 'label'"], target="lable")
    refused("good.csv", ["--target", "'a', 'b', 'label'"], target=None)
    refused("good.csv", ["'yes'", "row 1", "must be numbers"], task="regression")
    refused("good.csv", ["(1, 8, 8)", "2 features"], image_shape=(1, 8, 8))


def test_arrays_that_are_wrong(here):
    good = {"x": NUMBERS, "label": LABELS}
    for more, words in (
        ({"short": np.zeros(3)}, ["'x[0]' has 12 rows", "'short' has 3"]),
        ({"one": np.float64(3)}, ["'one'", "single number"]),
        ({"z": np.zeros(12, complex)}, ["'z'", "complex128", "numbers"]),
        ({"when": np.zeros(12, "M8[s]")}, ["'when'", "datetime64", "numbers"]),
        ({"what": np.array([{}] * 12)}, ["cannot be read", "allow_pickle"]),
    ):
        np.savez(here / "a.npz", **good, **more)
        refused("a.npz", words)


def test_parquet_that_is_wrong(here):
    for columns, words in (
        ({"a": [1.0, None] * 6}, ["'a'", "NaN", "row 2"]),
        ({"a": [1, None] * 6}, ["'a'", "NaN", "row 2"]),
        ({"a": ["u", "v"] * 6}, ["'a'", "'u'", "row 1"]),
        ({"a": [[1, 2]] * 12}, ["'a'", "must be numbers"]),
        ({"a": [dt.datetime(2020, 1, 1)] * 12}, ["'a'", "datetime64"]),
        ({"a": [None] * 12}, ["'a'", "row 1"]),
    ):
        parquet(here / "a.parquet", {**columns, "label": LABELS})
        refused("a.parquet", words)
    refused("no/such.parquet", ["such.parquet", "No such file"])
    parquet(here / "a.parquet", {"a": NUMBERS[:, 0], "label": [None, *LABELS[1:]]})
    refused("a.parquet", ["'label'", "missing", "row 1"])
    (here / "a.parquet").write_bytes(b"no parquet")
    refused("a.parquet", ["cannot be read"])


def test_a_column_is_missing_when_predicting(here):
    (here / "good.csv").write_text("\n".join(lines()))
    x, truth = tables.features("good.csv", ["b", "a"], "label")
    assert x.tolist() == NUMBERS[:, ::-1].tolist()
    assert truth.tolist() == LABELS
    with pytest.raises(ValueError, match="lacks columns that the model was trained on: 'c', 'd'"):
        tables.features("good.csv", ["a", "c", "d"], None)
    with pytest.raises(ValueError, match=r"target='y'.*'a', 'b', 'label'"):
        tables.features("good.csv", ["a"], "y")


def test_few_rows():
    with pytest.raises(ValueError, match="9 rows: at least 10"):
        tables.split(9, 0)


def test_numbers_say_where():
    assert table.numbers(np.array(["1", " 2e3 "], object), "a").tolist() == [1.0, 2000.0]
    for column in (["1", None], ["1", "null"], np.array([1.0, np.nan])):
        with pytest.raises(ValueError, match="'a' has no number, or NaN, in row 2"):
            table.numbers(np.array(column), "a")
