"""What slowpool asks of Linux. Elsewhere these do nothing, or the next best. Standard library only."""
