"""Augmentation of text: synonyms, insertion, deletion and swap of words, in pure Python.

A text is a string, whose white space and punctuation stay where they are, or a list of words, which gives a list. The
same seed gives the same result, with any version of Python from 3.2 on: only ``random()`` of its generator is used.

Source: J. Wei, K. Zou, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text Classification Tasks",
2019, https://arxiv.org/abs/1901.11196

>>> import pyopt
>>> pyopt.augment.swap("one two three four", n=1, seed=3)
'three two one four'
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import Any, TypeVar, cast

from ..kernels.hyper import Hyper

Words = TypeVar("Words", str, list[str])
Table = Mapping[str, Sequence[str]]

# words that carry little meaning, which are not replaced
STOP_WORDS = """
a about after all am an and any are as at be because been before being between both but by can could did do does
doing down during each few for from had has have having he her here hers him his how i if in into is it its just me
more most my no nor not now of off on once only or other our out over own same she should so some such than that the
their them then there these they this those through to too under until up very was we were what when where which
while who whom why will with would you your
"""
STOP = frozenset(STOP_WORDS.split())
WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")  # don't, well-known


def replace(
    text: Words, alpha: float = 0.1, n: int | None = None, *, seed: int, synonyms: Table | None = None
) -> Words:
    """Return the text with up to ``n`` different words replaced by a synonym, everywhere that they stand.

    Where a word begins with a capital, or is all capitals, its synonym does, too.

    Parameters
    ----------
    text : str or list of str
    alpha : float in [0, 1]
        The share of the words: n = max(1, int(alpha * number of words)), and 0 for alpha = 0.
    n : int >= 0
        The number itself, instead of ``alpha``.
    seed : int >= 0
    synonyms : dict of word to list of synonyms, looked up as it stands, then in lower case
        None takes WordNet through nltk.

    Raises
    ------
    TypeError, ValueError
        Where an argument is out of range.
    ImportError
        Where WordNet is wanted, but nltk or the data for it is missing.
    """
    pieces, rng, count, find = _start(text, alpha, n, seed, synonyms)
    words = pieces.words
    places: dict[str, list[int]] = {}
    for i, word in enumerate(words):
        places.setdefault(word, []).append(i)
    candidates = [word for word in places if word.lower() not in STOP]
    _shuffle(candidates, rng)
    for word in candidates:
        if count == 0:
            break
        if choices := find(word):
            count -= 1
            chosen = _in_case_of(word, choices[_below(len(choices), rng)])
            for i in places[word]:
                words[i] = chosen
    return cast("Words", pieces.joined())


def insert(text: Words, alpha: float = 0.1, n: int | None = None, *, seed: int, synonyms: Table | None = None) -> Words:
    """Return the text with ``n`` synonyms of its words inserted at random places; see ``replace`` for the arguments."""
    pieces, rng, count, find = _start(text, alpha, n, seed, synonyms)
    sources = [choices for word in pieces.words if word.lower() not in STOP and (choices := find(word))]
    for _ in range(count if sources else 0):
        choices = sources[_below(len(sources), rng)]
        pieces.insert(_below(len(pieces.words) + 1, rng), choices[_below(len(choices), rng)])
    return cast("Words", pieces.joined())


def swap(text: Words, alpha: float = 0.1, n: int | None = None, *, seed: int) -> Words:
    """Return the text with two of its words swapped, ``n`` times; see ``replace`` for the arguments."""
    pieces, rng, count, _ = _start(text, alpha, n, seed, {})
    words = pieces.words
    for _ in range(count if len(words) > 1 else 0):
        i = _below(len(words), rng)
        j = (i + 1 + _below(len(words) - 1, rng)) % len(words)
        words[i], words[j] = words[j], words[i]
    return cast("Words", pieces.joined())


def delete(text: Words, p: float = 0.1, *, seed: int) -> Words:
    """Return the text without some of its words, each deleted with probability ``p`` in [0, 1]; one is always left."""
    pieces, rng, _, _ = _start(text, 0.0, None, seed, {})
    Hyper("p", 0.0, high=1.0, closed=True).check(p)
    count = len(pieces.words)
    if not count:
        return cast("Words", pieces.joined())
    kept = {i for i in range(count) if rng.random() >= p} or {_below(count, rng)}
    for i in reversed(range(count)):
        if i not in kept:
            pieces.delete(i)
    return cast("Words", pieces.joined())


@dataclass(frozen=True)
class Text:
    """A random augmentation of texts: each one goes through one of the four operations, all equally likely.

    Parameters
    ----------
    replace, insert, swap : alpha in [0, 1] of ``replace``, ``insert``, ``swap``; 0 leaves the operation out
    delete : p in [0, 1] of ``delete``; 0 leaves it out
    synonyms : dict of word to list of synonyms; None takes WordNet through nltk

    >>> augment = Text(replace=0.5, insert=0.0, swap=0.0, delete=0.0, synonyms={"quick": ["fast"]})
    >>> augment(["the quick fox", "a quick one"], seed=0)
    ['the fast fox', 'a fast one']
    """

    replace: float = 0.1
    insert: float = 0.1
    swap: float = 0.1
    delete: float = 0.1
    synonyms: Table | None = None

    def __post_init__(self) -> None:
        for name in ("replace", "insert", "swap", "delete"):
            Hyper(name, 0.0, high=1.0, closed=True).check(getattr(self, name))
        if not any((self.replace, self.insert, self.swap, self.delete)):
            raise ValueError("replace, insert, swap and delete are all 0: at least one must be above")
        if self.synonyms is not None:
            _table(self.synonyms)

    def __call__(self, texts: Sequence[Words], *, seed: int, step: int = 0, index: Any = None) -> list[Words]:
        """Return each text augmented once.

        ``seed`` and ``step``, for instance the epoch, choose the random numbers, together with ``index``, the numbers
        >= 0 of the texts in the data set (None: their places in ``texts``).
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise TypeError(f"texts={texts!r}: must be a list of texts")
        seed, step = _natural("seed", seed), _natural("step", step)
        texts = list(texts)
        numbers = range(len(texts)) if index is None else [_natural("index", i) for i in index]
        if len(numbers) != len(texts):
            raise ValueError(f"index has {len(numbers)} numbers for {len(texts)} texts: one for each is needed")
        return [self._one(text, random.Random(f"{seed} {step} {i}")) for i, text in zip(numbers, texts, strict=True)]

    def _one(self, text: Words, rng: random.Random) -> Words:
        names = [name for name in ("replace", "insert", "swap", "delete") if getattr(self, name) > 0]
        name = names[_below(len(names), rng)]
        seed = int(rng.random() * 2.0**53)
        if name == "delete":
            return delete(text, self.delete, seed=seed)
        if name == "swap":
            return swap(text, self.swap, seed=seed)
        operation = replace if name == "replace" else insert
        return operation(text, getattr(self, name), seed=seed, synonyms=self.synonyms)


@lru_cache(maxsize=1)
def wordnet() -> Callable[[str], list[str]]:
    """Return the function from a word to its synonyms in WordNet, sorted; raise ImportError where it is missing."""
    try:
        from nltk.corpus import wordnet as corpus

        corpus.ensure_loaded()
    except (ImportError, LookupError) as error:
        need = "`pip install nltk`, " if isinstance(error, ImportError) else "nltk is there, its data is not: "
        raise ImportError(
            f"synonyms=None takes WordNet: {need}`python -m nltk.downloader wordnet`, or give synonyms={{word: "
            "[synonym, ...]}"
        ) from error

    @lru_cache(maxsize=65536)
    def find(word: str) -> list[str]:
        names = {lemma.name().replace("_", " ") for group in corpus.synsets(word) for lemma in group.lemmas()}
        return sorted(name for name in names if name.lower() != word.lower())

    return find


class _Pieces:
    """The words of a text, and of a string what stands before, between and behind them."""

    def __init__(self, text: Any) -> None:
        self.gaps: list[str] | None = None
        if isinstance(text, str):
            self.words, self.gaps = WORD.findall(text), WORD.split(text)
        elif isinstance(text, list) and all(isinstance(word, str) for word in text):
            self.words = list(text)
        else:
            raise TypeError(f"text={text!r}: must be a string or a list of strings")

    def insert(self, i: int, word: str) -> None:
        """Put a word before word ``i``, or behind the last one."""
        if self.gaps is not None:
            self.gaps.insert(i + (i < len(self.words)), " ")
        self.words.insert(i, word)

    def delete(self, i: int) -> None:
        """Take word ``i`` out, and the white space that is then too much."""
        del self.words[i]
        if self.gaps is None:
            return
        before, after = self.gaps[i : i + 2]
        if after[:1].isspace() and (not before or before[-1].isspace()):
            after = after.lstrip()
        elif not after[:1].isspace():
            before = before.rstrip()
        self.gaps[i : i + 2] = [before + after]

    def joined(self) -> str | list[str]:
        """Return what the text is now."""
        if self.gaps is None:
            return self.words
        return self.gaps[0] + "".join(map("".join, zip(self.words, self.gaps[1:], strict=True)))


def _in_case_of(word: str, synonym: str) -> str:
    if word.isupper() and len(word) > 1:
        return synonym.upper()
    return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym


def _start(
    text: Any, alpha: float, n: int | None, seed: int, synonyms: Table | None
) -> tuple[_Pieces, random.Random, int, Callable[[str], Sequence[str]]]:
    """Return the text in pieces, generator, number of changes, and how to find synonyms, all checked."""
    pieces = _Pieces(text)
    words = pieces.words
    Hyper("alpha", 0.0, high=1.0, closed=True).check(alpha)
    if n is None:
        n = max(1, int(alpha * len(words))) if alpha > 0 else 0
    else:
        n = _natural("n", n, "None or an integer >= 0")
    rng = random.Random(_natural("seed", seed))
    if synonyms is None:
        return pieces, rng, n, wordnet()
    table = _table(synonyms)
    return pieces, rng, n, lambda word: table.get(word) or table.get(word.lower()) or ()


def _table(synonyms: Any) -> Table:
    """Return the synonyms, checked."""
    if not isinstance(synonyms, Mapping):
        raise TypeError(f"synonyms={synonyms!r}: must be None or a dict of word to list of synonyms")
    for word, choices in synonyms.items():
        if not isinstance(choices, (list, tuple)) or not all(isinstance(choice, str) for choice in choices):
            raise TypeError(f"synonyms[{word!r}]={choices!r}: must be a list of synonyms")
    return synonyms


def _natural(name: str, value: Any, allowed: str = "an integer >= 0") -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}={value!r}: must be {allowed}")
    if value < 0:
        raise ValueError(f"{name}={value!r}: must be {allowed}")
    return int(value)


def _below(n: int, rng: random.Random) -> int:
    return min(int(rng.random() * n), n - 1)


def _shuffle(items: list[str], rng: random.Random) -> None:
    for i in range(len(items) - 1, 0, -1):
        j = _below(i + 1, rng)
        items[i], items[j] = items[j], items[i]
