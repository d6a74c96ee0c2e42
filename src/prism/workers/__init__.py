"""Work that nobody asks for: relay, verification, expiry, purges, deletion of garbage, and the check that all is
named."""
