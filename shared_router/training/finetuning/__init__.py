"""Fine-tuning the encoder."""
