"""Layers of a model: forward and backward."""
