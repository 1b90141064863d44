"""Benches on a GPU: ``python -m bench.gpu --out results.json``; ``run.sh`` runs the tests before."""
