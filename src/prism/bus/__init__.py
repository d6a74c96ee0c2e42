"""Port 3, durable ordered messages: `Bus` is the front door, `open_bus` makes one from a URL."""
