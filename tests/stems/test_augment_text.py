"""pyopt.augment on text: what each operation changes, that a seed repeats it, and what is refused."""

import collections
import doctest
import re
import sys
import types

import numpy as np
import pytest

from pyopt import augment
from pyopt.augment import text as module
from support.helpers import refused

TABLE = {"quick": ["fast", "rapid"], "dog": ["hound"], "brown": []}
TEXT = "the quick brown fox jumps over the Quick lazy dog quick"
WORDS = TEXT.split()


def test_replace():
    seen = set()
    for seed in range(40):
        got = augment.replace(TEXT, n=1, seed=seed, synonyms=TABLE).split()
        changed = [(a, b) for a, b in zip(WORDS, got, strict=True) if a != b]
        assert len({a for a, _ in changed}) == 1
        assert all(b.lower() in TABLE[a.lower()] and b[0].isupper() == a[0].isupper() for a, b in changed)
        assert len(changed) == WORDS.count(changed[0][0])
        seen |= set(changed)
    assert seen == {("quick", "fast"), ("quick", "rapid"), ("Quick", "Fast"), ("Quick", "Rapid"), ("dog", "hound")}
    got = augment.replace(WORDS, n=9, seed=0, synonyms=TABLE)
    assert isinstance(got, list)
    assert not {"quick", "Quick", "dog"} & set(got)
    assert augment.replace("the dog", n=1, seed=0, synonyms={"the": ["a"]}) == "the dog"  # a stop word


def test_insert():
    seen = set()
    for seed in range(40):
        got = augment.insert(WORDS, n=2, seed=seed, synonyms=TABLE)
        more = collections.Counter(got) - collections.Counter(WORDS)
        assert more.total() == 2
        assert set(more) <= {"fast", "rapid", "hound"}
        assert [word for word in got if word not in more] == WORDS
        seen |= {i for i, word in enumerate(got) if word in more}
    assert {0, len(WORDS) + 1} <= seen
    assert augment.insert("a b c", n=2, seed=0, synonyms=TABLE) == "a b c"


def test_swap():
    for seed in range(40):
        got = augment.swap(WORDS, n=1, seed=seed)
        places = [i for i, (a, b) in enumerate(zip(WORDS, got, strict=True)) if a != b]
        assert len(places) == 2 or got == WORDS  # a word and its like
        if places:
            assert (got[places[0]], got[places[1]]) == (WORDS[places[1]], WORDS[places[0]])
    letters = [chr(97 + i) for i in range(10)]
    pairs = {tuple(i for i in range(10) if augment.swap(letters, n=1, seed=s)[i] != letters[i]) for s in range(999)}
    assert len(pairs) == 45
    assert augment.swap("one", n=3, seed=0) == "one"


def test_what_stands_between_words_stays():
    table = {"happy": ["glad"], "quick": ["fast"]}
    text = "  Quick, he said: (quick)\tQUICK -- happy.\n"
    assert augment.replace(text, n=9, seed=0, synonyms=table) == "  Fast, he said: (fast)\tFAST -- glad.\n"
    for seed in range(20):
        assert re.sub(r"\w+", "", augment.swap(text, n=3, seed=seed)) == re.sub(r"\w+", "", text)
        more = augment.insert(text, n=1, seed=seed, synonyms=table)
        assert re.sub(r"\b(fast|glad) | (fast|glad)\b", "", more, count=1) == text
    found = {augment.delete("so happy, he's well-known.", 0.5, seed=seed) for seed in range(99)}
    assert {"so, he's well-known.", "so happy, well-known.", "so happy, he's.", "happy, he's well-known."} <= found
    assert all(piece not in text for text in found for piece in ("  ", " .", " ,"))


def test_the_numbers_of_texts():
    aug = augment.Text(synonyms=TABLE)
    whole = aug([TEXT] * 50, seed=1, step=2)
    assert aug([TEXT] * 3, seed=1, step=2, index=[7, 7, np.int64(49)]) == [whole[7], whole[7], whole[49]]
    for error, index in ((ValueError, [1]), (ValueError, [0, -1]), (TypeError, [0, 0.5])):
        with refused(error, "index"):
            aug([TEXT] * 2, seed=1, index=index)


def test_delete():
    words = [str(i) for i in range(2000)]
    got = augment.delete(words, 0.3, seed=1)
    assert 500 < 2000 - len(got) < 700
    assert got == [word for word in words if word in set(got)]
    assert augment.delete(words, 0.0, seed=1) == words
    assert {augment.delete("a b", 1.0, seed=s) for s in range(20)} == {"a", "b"}


@pytest.mark.parametrize(
    ("alpha", "n", "count"), [(0.0, None, 0), (0.1, None, 1), (0.5, None, 5), (0.5, 2, 2), (1.0, 0, 0)]
)
def test_alpha_and_n(alpha, n, count):
    words = [f"w{i}" for i in range(10)]
    table = {word: [word.upper()] for word in words}
    got = augment.replace(words, alpha, n, seed=0, synonyms=table)
    assert sum(word.isupper() for word in got) == count
    assert len(augment.insert(words, alpha, n, seed=0, synonyms=table)) == 10 + count


def test_empty_text_stays_empty():
    for empty in ("", []):
        assert augment.replace(empty, seed=0, synonyms=TABLE) == empty
        assert augment.insert(empty, seed=0, synonyms=TABLE) == empty
        assert augment.swap(empty, seed=0) == empty
        assert augment.delete(empty, seed=0) == empty


def test_seed_repeats_and_leaves_the_text():
    for operation in (augment.swap, augment.delete):
        words = list(WORDS)
        assert operation(words, 0.4, seed=7) == operation(words, 0.4, seed=7)
        assert words == WORDS
        assert len({tuple(operation(words, 0.4, seed=s)) for s in range(10)}) > 5
        assert operation(TEXT, 0.4, seed=7) == " ".join(operation(WORDS, 0.4, seed=7))


def test_all_operations_together():
    aug = augment.Text(synonyms=TABLE)
    got = aug([TEXT] * 200, seed=1, step=2)
    assert got == aug([TEXT] * 200, seed=1, step=2)
    assert got[5:9] != aug([TEXT] * 200, seed=1, step=3)[5:9]
    lengths = collections.Counter(len(text.split()) for text in got)
    assert lengths[len(WORDS) + 1] > 25  # inserted
    assert sum(lengths[n] for n in range(len(WORDS))) > 20  # deleted
    assert sum("hound" in text.split() and "dog" not in text.split() for text in got) > 5  # replaced
    assert sum(text != TEXT and sorted(text.split()) == sorted(WORDS) for text in got) > 25  # swapped
    only = augment.Text(replace=0.0, insert=0.0, delete=0.0, swap=1.0)([WORDS, TEXT], seed=0)
    assert sorted(only[0]) == sorted(WORDS)
    assert isinstance(only[1], str)


def test_wordnet_is_taken_where_it_is_installed(monkeypatch):
    class Corpus:
        def ensure_loaded(self):
            pass

        def synsets(self, word):
            return [types.SimpleNamespace(lemmas=lambda: [self.name("Dog"), self.name("hot_dog")])] * (word == "dog")

        def name(self, text):
            return types.SimpleNamespace(name=lambda: text)

    fake = types.ModuleType("nltk.corpus")
    fake.wordnet = Corpus()
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", fake)
    module.wordnet.cache_clear()
    try:
        assert augment.replace("a dog xyz", n=2, seed=0) == "a hot dog xyz"
    finally:
        module.wordnet.cache_clear()


def test_wordnet_is_missed_clearly(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    module.wordnet.cache_clear()
    with refused(ImportError, "pip install nltk", "nltk.downloader wordnet", "synonyms="):
        augment.replace("a dog", seed=0)
    fake = types.ModuleType("nltk.corpus")
    fake.wordnet = types.SimpleNamespace(ensure_loaded=lambda: {}["corpora/wordnet"])
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", fake)
    with refused(ImportError, "nltk is there, its data is not", "nltk.downloader wordnet"):
        augment.replace("a dog", seed=0)


def test_integers_of_numpy_are_integers():
    assert augment.swap(WORDS, n=np.int64(2), seed=np.int32(3)) == augment.swap(WORDS, n=2, seed=3)
    text = augment.Text(synonyms=TABLE)
    assert text([TEXT], seed=np.uint8(3), step=np.int64(1)) == text([TEXT], seed=3, step=1)


def test_doctest():
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 3


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (TypeError, ("text=3",), lambda: augment.swap(3, seed=0)),
        (TypeError, ("text=['a', 1]",), lambda: augment.swap(["a", 1], seed=0)),
        (ValueError, ("alpha=1.5", "[0, 1]"), lambda: augment.swap("a b", 1.5, seed=0)),
        (TypeError, ("n=1.5",), lambda: augment.swap("a b", n=1.5, seed=0)),
        (ValueError, ("n=-1",), lambda: augment.swap("a b", n=-1, seed=0)),
        (ValueError, ("p=-0.1", "[0, 1]"), lambda: augment.delete("a b", -0.1, seed=0)),
        (ValueError, ("seed=-1",), lambda: augment.swap("a b", seed=-1)),
        (TypeError, ("seed=0.5",), lambda: augment.swap("a b", seed=0.5)),
        (TypeError, ("synonyms=['a']",), lambda: augment.replace("a b", seed=0, synonyms=["a"])),
        (TypeError, ("synonyms['a']='b'",), lambda: augment.replace("a b", seed=0, synonyms={"a": "b"})),
        (TypeError, ("synonyms['a']=5",), lambda: augment.replace("a b", seed=0, synonyms={"a": 5})),
        (TypeError, ("synonyms['a']={'b': 1}",), lambda: augment.insert("a b", seed=0, synonyms={"a": {"b": 1}})),
        (TypeError, ("synonyms['a']=['b', 1]",), lambda: augment.insert(["c"], seed=0, synonyms={"a": ["b", 1]})),
        (TypeError, ("synonyms=5",), lambda: augment.Text(synonyms=5)),
        (TypeError, ("texts=None",), lambda: augment.Text()(None, seed=0)),
        (ValueError, ("replace=2",), lambda: augment.Text(replace=2)),
        (ValueError, ("are all 0",), lambda: augment.Text(0.0, 0.0, 0.0, 0.0)),
        (TypeError, ("texts='a b'",), lambda: augment.Text()("a b", seed=0)),
        (ValueError, ("step=-1",), lambda: augment.Text()(["a"], seed=0, step=-1)),
    ],
)
def test_refused(error, words, call):
    with refused(error, *words):
        call()
