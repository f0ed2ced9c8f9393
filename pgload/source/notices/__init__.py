"""How the sample's procurement notices are made; `pgload.source.sample` is the door."""
