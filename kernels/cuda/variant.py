"""What a kernel is made for: the arrays beside the elements of a tensor, the stages, the order of the scalars."""

from __future__ import annotations

from typing import NamedTuple

from ..numerics import codecs, philox
from ..penalty import Penalty
from ..spec import Rule
from ..step import Beside, Stages
from ..view import View
from .device.intrinsics import WIDEST

SCALE, DECAY, EMA, CLIP = range(4)  # the scalars before those of the rule
FIRST = 4


class Operand(NamedTuple):
    """An array beside the elements of a tensor."""

    name: str
    kind: str  # a storage type, in short
    rounding: str = "nearest"  # or stochastic, or remainder
    number: int = 0  # of philox.py: which of the random bits are its

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return codecs.BY_SHORT[self.kind].size


class Variant(NamedTuple):
    """What an update kernel is made for. None among the states stands for one that is off."""

    rule: Rule | None  # of an update of its own; None: arrays are moved, nothing is stepped
    p: Operand
    g: Operand
    states: tuple[Operand | None, ...]
    ema: Operand | None = None
    shadow: Operand | None = None
    penalties: tuple[type[Penalty], ...] = ()
    proxes: tuple[type[Penalty], ...] = ()
    scalar_prox_step: bool = True  # one step for the proximal forms of all elements
    slopes: tuple[type[Penalty], ...] = ()  # of penalties by row
    shrink: type[Penalty] | None = None  # the proximal form by row
    clip: bool = False
    zero: bool = False
    by_index: bool = False  # some rows of one tensor, whose gradients stand in another order
    lagging: bool = False  # rows that have missed some decay

    @property
    def real(self) -> str:
        """The compute type: that of p."""
        return codecs.BY_SHORT[self.p.kind].real

    @property
    def read(self) -> tuple[Operand, ...]:
        """The columns that are read, p and g first."""
        return (self.p, self.g, *(c for c in (*self.states, self.ema) if c is not None))

    @property
    def written(self) -> tuple[Operand, ...]:
        """The columns that are written, p first."""
        return (self.p, *self.read[2:], *((self.shadow,) if self.shadow is not None else ()))

    @property
    def addresses(self) -> int:
        """Addresses of a tensor: of p, the remainder of p, g, the states, the EMA and the shadow, where there are."""
        return len(self.read) + (self.shadow is not None) + (self.p.rounding == "remainder")

    @property
    def width(self) -> int:
        """Elements that a thread takes at a time: 16 bytes of the narrowest column."""
        return WIDEST // min(c.size for c in (*self.read, *self.written))

    @property
    def by_row(self) -> bool:
        """Whether a block must take whole rows."""
        return bool(self.slopes) or self.shrink is not None or self.by_index

    @property
    def proximal(self) -> bool:
        """Whether a stage needs the step of a proximal form."""
        return bool(self.proxes) or self.shrink is not None

    @property
    def stochastic(self) -> bool:
        """Whether a column is rounded by random bits, for which a vector must be one block of them."""
        return any(c.rounding == "stochastic" for c in self.written)

    @property
    def record(self) -> int:
        """Words of a tensor in the table: an even number, so that each starts at a multiple of 16 bytes."""
        words = self.addresses + 1 + 3 * self.by_row  # without that of g; number and row; whole_rows.py has three more
        return (words + 1) // 2 * 2

    @property
    def name(self) -> str:
        """A name in words that linkers take."""
        shadow = (self.shadow,) if self.shadow else ()
        words = [self.rule.kernel if self.rule else "none"]
        words += [f"{c.name}_{c.kind}" + c.rounding[:1] * (c.rounding != "nearest") for c in (*self.read, *shadow)]
        words += [penalty.stem for penalty in (*self.penalties, *self.slopes)]
        words += [f"prox_{penalty.stem}" for penalty in (*self.proxes, *((self.shrink,) if self.shrink else ()))]
        flags = "clip", "zero", "by_index", "lagging", *["scalar_prox_step"] * bool(self.proxes)
        return "_".join(words + [word for word in flags if getattr(self, word)])


def variant_of(rule: Rule, stages: Stages, p: View, beside: Beside, g: str, clip: bool, zero: bool) -> Variant:
    """Return the variant of a tensor, of views, whose gradient is stored as ``g``."""

    def operand(name: str, v: View | None, number: int) -> Operand | None:
        if v is None:
            return None
        random = stages.rounding == "stochastic" and codecs.BY_SHORT[v.kind].stochastic is not None
        return Operand(name, v.kind, "stochastic" if random else "nearest", number if random else 0)

    return Variant(
        rule=rule.update,
        p=operand("p", p, philox.WEIGHTS) if beside.remainder is None else Operand("p", "bf16", "remainder"),  # type: ignore[arg-type]
        g=Operand("g", g),
        states=tuple(
            operand(state.name, v, philox.STATES + j)
            for j, (state, v) in enumerate(zip(rule.states, beside.states, strict=True))
        ),
        ema=operand("ema", beside.ema, philox.EMA),
        shadow=None if beside.shadow is None else Operand("shadow", beside.shadow.kind),
        penalties=stages.penalties,
        proxes=stages.proxes,
        scalar_prox_step=stages.scalar_prox_step or not stages.proxes,
        slopes=stages.slopes,
        shrink=stages.shrink,
        clip=clip,
        zero=zero,
    )


class ScalarLayout:
    """Where the scalars of a variant stand; a kernel that takes rows adds the factors of the row at the end."""

    def __init__(self, c: Variant) -> None:
        scalars = len(c.rule.scalar_names) + len(c.rule.norm_scalar_names) if c.rule else 0
        self.rule = tuple(range(FIRST, FIRST + scalars))
        self.step = FIRST + scalars  # of the proximal forms, where there are any
        self.end = self.step + c.proximal
        self.penalties = [self.take(penalty) for penalty in c.penalties]
        self.proxes = [self.take(penalty) for penalty in c.proxes]
        self.slopes = [self.take(penalty) for penalty in c.slopes]
        self.shrink = self.take(c.shrink) if c.shrink is not None else ()
        self.count = self.end
        self.shrink_factor = self.count + 2 * len(c.slopes)
        self.slope_factors = range(self.count, self.shrink_factor, 2)  # each is followed by its lift
        self.lag = self.shrink_factor + 1

    def take(self, penalty: type[Penalty]) -> tuple[int, ...]:
        """Return the places of the next coefficients."""
        first, self.end = self.end, self.end + penalty.coefficients()
        return tuple(range(first, self.end))
