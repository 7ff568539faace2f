"""`python -m httpcache` is the command `httpcache`."""

import sys

from .cli import main

sys.exit(main())
