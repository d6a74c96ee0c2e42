"""Who may do what: one decision function for every API, the audit record, and the counting of operations.

`Access.operation` is the only door: it decides (deny by default), and on leaving writes one audit record and the metrics
of the operation. Services call it; servers call it for routes that reach no service (health, docs, metrics).
"""
