"""`python -m prism`, the same as `prism`."""

from .cli import main

if __name__ == "__main__":
    main()
