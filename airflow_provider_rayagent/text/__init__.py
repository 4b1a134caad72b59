"""Foreign text: made fit to be shown or stored, and free of secrets. Pure; internal."""
