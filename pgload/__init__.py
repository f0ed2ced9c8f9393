"""Which PostgreSQL loads your JSON fastest, how, and why; and the load itself."""

__version__ = "0.1.0"
