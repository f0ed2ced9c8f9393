"""`python -m pgload`."""

import sys

from pgload.cli import main

sys.exit(main())
