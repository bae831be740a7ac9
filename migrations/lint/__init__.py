"""`ledgergate migrate lint`: statements that lock or break a live system, found with PostgreSQL's own grammar."""
