"""Reads run directories and writes one self-contained HTML page."""
