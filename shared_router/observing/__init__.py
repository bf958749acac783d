"""What routing leaves behind."""
