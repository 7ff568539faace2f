"""The history that can be audited: the Merkle log of all entries of logs, and what shows that nothing was rewritten."""
