"""Lets `python -m httpcache` run the `httpcache` command."""

import sys

from httpcache.command.cli import main

sys.exit(main())
