"""Error rates, and their confidence intervals from a bootstrap over identities."""
