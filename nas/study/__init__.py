"""Studies of how supernets are trained."""
