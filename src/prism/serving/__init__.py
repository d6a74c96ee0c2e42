"""Prism as running processes: sockets, servers, the janitor's loop, signals, workers.

`process.run` serves in this process, `workers.run_workers` with several; `listening` starts the servers of an opened
app and is what tests use in-process. Nothing here knows what the services do.
"""
