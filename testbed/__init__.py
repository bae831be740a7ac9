"""The environment of tests, demo and benchmarks: PostgreSQL, a control plane and migration tools, all of them real."""
