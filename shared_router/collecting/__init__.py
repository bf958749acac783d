"""Asking models for outcomes."""
