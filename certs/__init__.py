"""Certificates of the admission server: an authority of our own, and short-lived leaves signed in memory.

Knows neither Kubernetes nor PostgreSQL: what it keeps and where it is published are Protocols of `certs.rotation`.
"""
