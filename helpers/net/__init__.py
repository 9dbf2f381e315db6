"""How to ask a server: whose turn it is, what its answers mean, large files in pieces."""
