"""How the sample's procurement notices are made; `generator` is the entry point."""
