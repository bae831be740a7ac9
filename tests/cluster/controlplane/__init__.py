"""The test control plane: real Kubernetes programs, found or built, started and stopped.

`python -m tests.cluster.controlplane --help` explains what a developer can do with it.
"""
