"""What makes an answer good: metrics with a stated range, and judges that are models."""
