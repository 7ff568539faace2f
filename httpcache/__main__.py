"""`python -m httpcache` is the command `httpcache`."""

import sys

from httpcache.command.cli import main

sys.exit(main())
