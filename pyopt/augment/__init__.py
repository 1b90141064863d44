"""Augmentation: of batches of images, by kernels, and of text."""

from .images import Images, affine_warp, blend, crop, flip
from .text import Text, delete, insert, replace, swap

__all__ = ["Images", "Text", "affine_warp", "blend", "crop", "delete", "flip", "insert", "replace", "swap"]
