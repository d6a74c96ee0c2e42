"""The command line of the real servers: see the package."""

import sys
from pathlib import Path

from . import __doc__ as usage
from .fetching import PACKAGES, FetchError
from .keeping import ServerError
from .table import SERVERS
from .using import Checkout

HERE = Checkout(Path(__file__).resolve().parents[2] / ".cache" / "services", PACKAGES, SERVERS)


def main(arguments: list[str]) -> int:
    match arguments:
        case ["start"]:
            print(HERE.start(), end="")
        case ["stop"]:
            HERE.stop()
        case ["run", *command] if command:
            return HERE.run(command)
        case _:
            print(usage, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except (FetchError, ServerError) as error:
        sys.exit(f"services: {error}")
