"""What a look at the cheaper model's answer buys in dollars, on recorded answers."""
