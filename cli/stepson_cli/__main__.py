"""``python -m stepson_cli``: the command `stepson`."""

import sys

from stepson_cli.start import main

sys.exit(main())
