"""What every room stands on: names, warnings, extras, and what a process does."""
