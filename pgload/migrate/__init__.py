"""The `migrate` command: plan, load with a ledger, outputs."""
