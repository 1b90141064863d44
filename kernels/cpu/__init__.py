"""The CPU's side of the kernels: how the loops of the tiles are made."""
