"""What an operator's rules and advisories withhold."""
