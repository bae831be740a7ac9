"""Everything that faces PostgreSQL: ledgers, the runner that writes ours, the reader of all. Knows no Kubernetes."""
