"""What a service can be asked, an agent or Ray's dashboard, and what its responses mean. Pure."""
