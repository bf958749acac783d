"""The artifact: a trained, calibrated router."""
