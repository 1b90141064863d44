"""The CPU engine in Cython.

``engine`` is compiled once and knows no instruction set: arrays, tensor lists, plans, threads, the stages of a step.
``_tiles_<isa>`` are the loops over a tile, compiled once per instruction set; ``isa`` chooses among them. ``loops``
writes those of functions on one element, which ``element`` has read.
"""
