"""Port 1, bytes: `BlobStore` is the front door, `open_blob` makes one from a namespace's store configuration."""
