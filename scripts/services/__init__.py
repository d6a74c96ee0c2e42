"""The real servers that tests run against: fetched once into `.cache/services`, started on free loopback ports.

    python -m scripts.services start        start what does not run, print where everything is; they stay
    python -m scripts.services stop         end all of them
    python -m scripts.services run COMMAND  start, run the command with the variables set, end what it started

Everything belongs to this checkout: two checkouts share nothing but the package managers' own caches. Only processes
that were started here are ever ended.
"""
