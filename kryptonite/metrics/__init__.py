"""Error rates and their intervals from a bootstrap over identities."""
