"""The admission servers that ledgergate's is compared with, and the load generator: pinned, built once into a cache."""
