"""Whole files at once: a log scored, recorded answers judged, on one machine or on several."""
