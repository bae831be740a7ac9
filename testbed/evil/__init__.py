"""Servers that a malicious or mistaken tenant may name as a database: they misbehave, or are no PostgreSQL servers."""
