"""The servers behind the cloud names."""
