"""Models and checkpoints: what would run code, what is damaged, and what asks for too much is one line, exit code 2."""

import json
import os
import re
import zipfile

import numpy as np
import pytest

from support import ROOT

for extra in ("matplotlib", "rich", "sklearn", "typer"):
    pytest.importorskip(extra)

from pyopt.cli import archive, checkpoint, model  # noqa: E402
from pyopt.estimators import LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor  # noqa: E402
from support.cli_runs import OUTPUTS, parts, refused, rewritten, trained  # noqa: E402

# ---- files that would run code


def node(loader, module, name, **more):
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


def words(text):
    return node("JsonNode", "builtins", "str", content=json.dumps(text), is_json=True)


def several(*parts):
    return node("TupleNode", "builtins", "tuple", content=list(parts))


def listed(*parts):
    return node("ListNode", "builtins", "list", content=list(parts))


def mapping(**parts):
    text = node("TypeNode", "builtins", "str")
    return node("DictNode", "builtins", "dict", content=parts, key_types=listed(*(text for _ in parts)))


def write_skops(path, schema):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("schema.json", json.dumps({**schema, "protocol": 2, "_skops_version": "0.11"}))


def harmful():
    """Return schemas in the format of skops that remove or write a file, where all names of pyopt are trusted."""
    victim = node("ConstructorFromReduceNode", "pyopt.cli.model", "Path", content=several(words("victim")))
    method = node("MethodNode", "pyopt.cli.model", "Path", content={"obj": victim, "func": "unlink"})
    parts = {"func": method, "args": several(), "kwds": mapping(), "namespace": mapping()}
    part = node("PartialNode", "pyopt.cli.model", "partial", content=parts)
    command = listed(*map(words, ["plot-schedule", "Cosine(1, 9)", "--output", "written.png"]))

    def called(features):
        inside = mapping(columns=listed(words("age")), members=listed(), features=features)
        return node("ObjectNode", "pyopt.cli.model", "Model", content=inside)

    return {
        "method": called(method),
        "partial": called(part),
        "reduce": node("ConstructorFromReduceNode", "pyopt.cli", "main", content=several(command)),
    }


@pytest.mark.parametrize("kind", ["method", "partial", "reduce"])
def test_what_was_written_for_skops_runs_nothing(command, tmp_path, kind):
    (tmp_path / "victim").touch()
    for ending in (".skops", ".npz"):
        write_skops(tmp_path / f"evil{ending}", harmful()[kind])
        refused(command("predict", f"evil{ending}", "diabetes"), f"evil{ending}", "older version", "save again")
        refused(command("train", "--resume", f"evil{ending}"), f"evil{ending}", "older version", "save again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.npz", "evil.skops", "victim"]


def test_the_guide_trusts_what_skops_needs_and_no_more(tmp_path):
    io = pytest.importorskip("skops.io")
    guide = (ROOT / "docs" / "estimators.md").read_text()
    (text,) = [block for block in re.findall("```python\n(.*?)```", guide, re.DOTALL) if "TRUSTED" in block]
    x = np.random.default_rng(0).normal(size=(40, 3))
    for kind in (LinearClassifier, LinearRegressor, MLPClassifier, MLPRegressor):
        names = {"network": kind(batch_size=7, tol=None, max_iter=3, random_state=0).fit(x, x[:, 0] > 0)}
        before = names["network"].predict(x)
        exec(text, names)
        assert (names["network"].predict(x) == before).all()
    for schema in harmful().values():
        write_skops(tmp_path / "evil.skops", schema)
        with pytest.raises(io.exceptions.UntrustedTypesFoundException):
            io.load(tmp_path / "evil.skops", trusted=names["TRUSTED"])


class Harm:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_pickles_run_nothing(command, tmp_path):
    model.save(trained(data="diabetes").model(), tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    for name in ("columns", "header", "0/w1", "more"):
        np.savez(tmp_path / "evil.npz", **{**arrays, name: np.array([Harm()], object)})
        refused(command("predict", "evil.npz", "diabetes"), "evil.npz", name, "object")
        refused(command("train", "--resume", "evil.npz"), "evil.npz", "no checkpoint")
    assert not (tmp_path / "ran").exists()


# ---- damaged files


ROW = np.zeros((1, 1 << 20), np.float32)  # a million units, from which a million times a million weights would follow
MODELS = [
    (dict(activation="tanh"), {}, ["activation='tanh'", "relu"]),
    (dict(activation=3), {}, ["activation=3", "str"]),
    (dict(version=2), {}, ["version 2", "reads version 1"]),
    (dict(version=True), {}, ["version True"]),
    (dict(format="pyopt checkpoint"), {}, ["it is a checkpoint"]),
    (dict(format="other"), {}, ["none of pyopt"]),
    (dict(more=1), {}, ["wrong keys", "'more'"]),
    ({}, {"y_scale": np.zeros(0)}, ["y_scale", "damaged"]),
    ({}, {"y_scale": np.ones(2)}, ["y_scale", "(2,)", "(1)"]),
    ({}, {"y_scale": np.zeros(1)}, ["y_scale", "> 0"]),
    ({}, {"x_shift": None}, ["lacks x_shift"]),
    ({}, {"x_shift": np.full(10, np.nan)}, ["x_shift", "not finite"]),
    ({}, {"columns": np.array(["age"] * 10)}, ["columns", "twice"]),
    ({}, {"columns": np.arange(10)}, ["columns is int64", "str_"]),
    ({}, {"classes": np.array(["a", "a"])}, ["classes", "2 labels"]),
    ({}, {"classes": np.arange(3)}, ["3 outputs"]),
    ({}, {"classes": np.array([1j, 2j])}, ["classes is of type complex128", "numbers or words"]),
    ({}, {"0/w1": None}, ["0/w1"]),
    ({}, {"0/w2": None}, ["1 outputs"]),
    ({}, {"0/w1": ROW}, ["0/w1", "(10, outputs)"]),
    ({}, {"0/w2": ROW}, ["0/w2", "(6, outputs)"]),
    ({}, {"0/w1": np.zeros((10, 6))}, ["0/w1 is float64", "float32"]),
    ({}, {"0/b1": None}, ["lacks 0/b1"]),
    ({}, {"0/b1": np.zeros((4, 5), np.float32)}, ["0/b1", "(4, 5)"]),
    ({}, {"0/variance1": np.full(6, -1, np.float32)}, ["variance1", ">= 0"]),
    ({}, {"1/scale1": None}, ["1/mean1", "does not belong"]),
    ({}, {"3/w1": ROW}, ["'3/w1'", "does not belong"]),
]


def test_damaged_models_are_one_line(command, tmp_path):
    run = trained(data="diabetes", model="mlp", hidden="6", batch_norm=True, ensemble=2, epochs=8)
    model.save(run.model(), tmp_path / "m.npz")
    header, arrays = parts(tmp_path / "m.npz")
    for others, changed, said in MODELS:
        kept = {name: array for name, array in {**arrays, **changed}.items() if array is not None}
        rewritten(tmp_path / "bad.npz", {**header, **others}, kept)
        refused(command("predict", "bad.npz", "diabetes"), "bad.npz", *said)
    for text, said in (
        (b" " * archive.HEADER + b"{}", "must have 1048576 at most"),
        (b"[" * 100_000, "no model"),
        (b"[1]", "none of pyopt"),
        (b"{", "no model"),
    ):
        rewritten(tmp_path / "bad.npz", text, arrays)
        refused(command("predict", "bad.npz", "diabetes"), "bad.npz", said)
    np.savez_compressed(tmp_path / "bad.npz", **arrays, header=np.zeros(4, np.uint8))
    refused(command("predict", "bad.npz", "diabetes"), "compressed")
    rewritten(tmp_path / "bad.npz", header, arrays)
    with zipfile.ZipFile(tmp_path / "bad.npz", "a") as file:
        file.filelist.extend([file.getinfo("0/w1.npy")] * 100)
        file.writestr("more.npy", b"")
    refused(command("predict", "bad.npz", "diabetes"), "parts overlap")


def test_any_change_of_a_file_is_refused_or_harmless(tmp_path):
    run = trained(data="breast_cancer")
    model.save(run.model(), tmp_path / "m.npz")
    checkpoint.save(run, tmp_path / "c.npz", OUTPUTS)
    rng = np.random.default_rng(0)
    for name, load in (("m.npz", model.load), ("c.npz", checkpoint.load)):
        whole = (tmp_path / name).read_bytes()
        for i in range(60):
            data = bytearray(whole)
            at = int(rng.integers(len(data)))
            data[at:] = data[at + 1 :] if i % 3 == 0 else b"" if i % 3 == 1 else bytes([data[at] ^ 1]) + data[at + 1 :]
            (tmp_path / "bad.npz").write_bytes(data)
            try:
                load(tmp_path / "bad.npz")
            except ValueError as error:
                assert "bad.npz' is no " in str(error)  # noqa: PT017 - which of them are refused is up to chance


def test_an_array_has_the_size_that_it_says(tmp_path):
    """Else a file of some bytes could ask for any amount of memory."""
    for shape, descr, body in (("(1099511627776,)", "<f4", 4), ("(1099511627776,)", "<U0", 0),
                               ("(0, 1099511627776)", "<f4", 0), ("(-1, -1)", "<f4", 4)):  # fmt: skip
        text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
        with zipfile.ZipFile(tmp_path / "bad.npz", "w") as file:
            file.writestr("header.npy", b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + b"\0" * body)
        with pytest.raises(ValueError, match=r"bad\.npz' is no model of .*: it is damaged"):
            model.load(tmp_path / "bad.npz")


CHECKPOINTS = [
    (["settings", "epochs"], -1, ["epochs=-1", ">= 1"]),
    (["settings", "epochs"], "4", ["epochs='4'", "int"]),
    (["settings", "epochs"], 1, ["epoch=2", "1"]),
    (["settings", "cv"], True, ["cv=True"]),
    (["settings", "penalty"], [1], ["words"]),
    (["settings", "penalty"], ["l1:1", "l9:1"], ["l9"]),
    (["settings", "model"], "os.system", ["'os.system'", "linear, mlp"]),
    (["settings", "more"], 1, ["'more'"]),
    (["settings", "optimizer"], "sgd", ["no checkpoint"]),
    (["outputs", "plot"], None, ["plot=None"]),
    (["outputs", "save"], "../.profile", ["'../.profile'", "must end in .npz"]),
    (["sha256"], "0", ["breast_cancer is not what it was"]),
    (["courses"], {}, ["courses={}"]),
    (["courses", 0, "epoch"], 3, ["train_loss"]),
    (["courses", 0, "epoch"], 0, ["epoch=0"]),
    (["courses", 0, "t"], -1, ["t=-1"]),
    (["courses", 0, "generator", "bit_generator"], "MT19937", ["no checkpoint"]),
    (["courses", 0, "generator", "state", "inc"], 1 << 140, ["no checkpoint"]),
    (["courses", 0, "states", 0, "step"], -1, ["step", "-1"]),
    (["courses", 0, "states", 0, "carry"], "x", ["carry='x'"]),
    (["courses", 0, "stopper"], None, ["early stopping"]),
    (["courses", 0, "stopper", "best_epoch"], 9, ["early stopping"]),
    (["courses", 0, "stopper", "wait"], -1, ["wait=-1"]),
]


def test_damaged_checkpoints_are_one_line(command, tmp_path):
    checkpoint.save(trained(data="breast_cancer", early_stopping=True), tmp_path / "c.npz", OUTPUTS)
    for path, value, said in CHECKPOINTS:
        header, arrays = parts(tmp_path / "c.npz")
        inner = header
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        rewritten(tmp_path / "bad.npz", header, arrays)
        refused(command("train", "--resume", "bad.npz"), *said)
    header, arrays = parts(tmp_path / "c.npz")
    rewritten(tmp_path / "bad.npz", {**header, "courses": header["courses"] * 2}, arrays)
    refused(command("train", "--resume", "bad.npz"), "fewer")
    for name, array in (("0/state0/exp_avg", np.zeros(3, np.float32)), ("0/best1", arrays["0/w1"]),
                        ("0/held_loss", np.zeros(3)), ("more", np.ones(1))):  # fmt: skip
        rewritten(tmp_path / "bad.npz", header, {**arrays, name: array})
        refused(command("train", "--resume", "bad.npz"), name.rpartition("/")[2].strip("0"))
    model.save(trained(data="diabetes").model(), tmp_path / "m.npz")
    refused(command("train", "--resume", "m.npz"), "m.npz", "it is a model")
    refused(command("train", "--resume", "none.npz"), "none.npz", "No such file")


def test_more_columns_than_memory_is_for(command, tmp_path):
    np.savez_compressed(tmp_path / "wide.npz", x=np.zeros((1, 3_000_000), np.int8), y=np.zeros(1))
    refused(command("train", "--data", "wide.npz", "--target", "y"), "wide.npz", "3000000 columns", "262144")
    (tmp_path / "wide.csv").write_text("," * 300_000 + "\n")
    refused(command("train", "--data", "wide.csv", "--target", "y"), "wide.csv", "300001 columns", "262144")
