"""`httpcache resurrect`."""
