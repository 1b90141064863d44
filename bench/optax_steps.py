"""The whole step in optax, compiled by XLA, on donated buffers of its own: NumPy cannot lend JAX any to write to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

try:
    import jax
    import optax
    from jax import numpy as jnp
except ImportError as error:
    optax, MISSING = None, f"no optax contender: {error}"
else:
    MISSING = None


def chain(arrays: Sequence[np.ndarray], l1: float, max_norm: float, ema_decay: float, scale: float,
          lr: float) -> tuple[Callable[[], object], Callable[[], object]]:  # fmt: skip
    """Return the step, and what fills the gradients again: unscale, clip, L1, AdamW, moving average, zeroed gradients.

    Without the check for what is not finite, as the compiled step of torch.
    """
    rule = optax.chain(
        optax.clip_by_global_norm(max_norm),
        optax.stateless(lambda g, p: jax.tree.map(lambda a, b: a + l1 * jnp.sign(b), g, p)),
        optax.adamw(lr, weight_decay=1e-2),
    )

    def step(params: Any, grads: Any, state: Any, average: Any) -> Any:
        updates, state = rule.update(jax.tree.map(lambda g: g / scale, grads), state, params)
        params = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda e, p: e + (1 - ema_decay) * (p - e), average, params)
        return params, jax.tree.map(jnp.zeros_like, grads), state, average

    def fill(grads: Any) -> Any:
        return jax.tree.map(lambda g: jnp.full_like(g, 0.01), grads)

    compiled, filled = jax.jit(step, donate_argnums=(0, 1, 2, 3)), jax.jit(fill, donate_argnums=0)
    params = [jnp.array(a) for a in arrays]
    held = [params, [jnp.zeros_like(p) for p in params], rule.init(params), [jnp.array(p) for p in params]]

    def call() -> None:
        held[:] = jax.block_until_ready(compiled(*held))

    def refill() -> None:
        held[1] = jax.block_until_ready(filled(held[1]))

    return call, refill
