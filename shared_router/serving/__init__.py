"""What scores in a process; no training in sight."""
