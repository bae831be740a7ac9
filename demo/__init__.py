"""The main job of ledgergate, shown on a real API server and a real PostgreSQL."""
