"""What is wrong with a run, from what it logs: signals in, findings out.

Pure Python over numbers that others have measured: nothing here knows a network or a training loop. The rules
here hold for any network. A trainer adds its own, and says by `Remedies` what its options can do.
"""

from core.diagnosis.context import Context, Layer, Overrides, Player, Remedies
from core.diagnosis.findings import Finding, Ledger, Severity, Sign, known
from core.diagnosis.rules import RULES, Rule, diagnose, network_rules
from core.diagnosis.signals import History

__all__ = [
    "RULES",
    "Context",
    "Finding",
    "History",
    "Layer",
    "Ledger",
    "Overrides",
    "Player",
    "Remedies",
    "Rule",
    "Severity",
    "Sign",
    "diagnose",
    "known",
    "network_rules",
]
