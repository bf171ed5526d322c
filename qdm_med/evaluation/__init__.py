"""Metrics, baselines and benchmarks."""
