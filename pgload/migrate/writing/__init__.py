"""How a batch is written: retried, upserted, without its bad records."""
