"""Every transaction there is on the life of a blob: promised, referenced, condemned.

Each function here is a transition: pure over the transaction it is handed, safe to run twice, and it returns what
became true. A refusal that must leave something behind (a condemned promise) is a returned value, never a raised error,
because a body that raises leaves nothing. The clock is an argument. This room knows `meta` and no other port: it never
touches bytes or messages. One namespace is one partition, so every transition is one partition's transaction.
"""
