"""From saved files to tables, charts and a decision; needs no driver and no server."""
