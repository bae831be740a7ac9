"""Database servers of tenants who mean no good, or whose server is none."""
