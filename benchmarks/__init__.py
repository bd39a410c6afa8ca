"""Benchmarks: what a task costs, beside others in the same run."""
