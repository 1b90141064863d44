"""The GPU engine in Numba CUDA, host side; ``device/`` becomes device code. docs/cuda.md says which file knows what."""
