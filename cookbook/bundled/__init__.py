"""How the router that ships with the package is made, from public measurements alone."""
