"""How the world comes in: one module per protocol, one table of status codes; no server decides anything."""
