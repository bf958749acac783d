"""Faults at random over loopback servers: who still answers, and does every call end rightly."""
