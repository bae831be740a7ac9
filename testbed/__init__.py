"""What tests, demo and benchmarks stand on: real PostgreSQL, a real control plane, real migration tools."""
