"""Losses: value and gradient in one call."""
