"""What is wrong with a run, from what it logs: signals in, findings out.

Pure Python over numbers that others have measured: nothing here knows a network or a training loop.
"""

from core.diagnosis.findings import Finding, Ledger, Sign, read_findings
from core.diagnosis.rules import RULES, diagnose
from core.diagnosis.signals import Context, History, Layer, Player

__all__ = [
    "RULES",
    "Context",
    "Finding",
    "History",
    "Layer",
    "Ledger",
    "Player",
    "Sign",
    "diagnose",
    "read_findings",
]
