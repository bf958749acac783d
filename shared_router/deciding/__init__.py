"""What a router does with a score: rules, dials, guards, stickiness, attempts."""
