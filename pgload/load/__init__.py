"""The one hall where loads happen."""
