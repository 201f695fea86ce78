"""`python -m core …`: softtune without the UI."""

import sys

from core.cli import main

sys.exit(main())
