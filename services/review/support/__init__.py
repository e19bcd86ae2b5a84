"""Decision support before issue: choices with their sources, offered to a doctor who decides."""
