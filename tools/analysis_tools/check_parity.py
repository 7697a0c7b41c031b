"""As the command `mmmim parity`."""

import sys

from mmmim.cli.parity import main

if __name__ == '__main__':
    sys.exit(main())
