"""Augmentation of images: a warp of each, a blend of two. ``AUGMENT`` maps the stem of every file to its module.

A module has ``reference(...)``, which returns new images from a view of any strides in the order (samples, channels,
height, width), and ``compute(...)``, which fills ``out`` from arrays of one layout, NHWC or NCHW.
"""

from ..spec import discover

AUGMENT = discover(__name__, __path__)
