"""Whole epochs of a linear model in one call: for steps so small that calling one would cost more than taking it."""
