"""Which table a file goes to, its columns, its DDL; matching to a table that exists."""
