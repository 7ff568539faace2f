"""The speed benchmark: this mirror beside nginx, proxpi and devpi-server in one run, see `__main__`."""
