"""`python -m aozora_tui` is `aozora-tui`."""

import sys

from aozora_tui.cli import main

sys.exit(main())
