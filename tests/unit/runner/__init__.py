"""How the checks are run."""
