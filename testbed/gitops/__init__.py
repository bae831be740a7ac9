"""Argo CD, the real programs, as processes on a test control plane; the version is pinned here."""
