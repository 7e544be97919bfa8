"""slowpool: Tornado processes in a fast and a slow pool, so that one slow request holds up no other."""
