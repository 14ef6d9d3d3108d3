"""The order of findings: causes on top, and below each what it has brought about."""

from core.diagnosis.findings import Finding, Ledger, Sign, ordered


def finding(name, severity="warning", first=1, player="", explains=()):
    return Finding(
        name=name, severity=severity, player=player, layer=None, first_step=first, last_step=9, active=True,
        evidence={}, what="", cause="", remedy=(), explains=explains,
    )  # fmt: skip


def order(*found):
    return [(f.name, f.consequence_of) for f in ordered(found)]


def test_a_cause_stands_above_a_worse_and_earlier_consequence():
    effect = finding("nan", "error", first=1)
    cause = finding("rate", first=5, explains=("nan",))
    assert order(effect, cause, finding("other", first=7)) == [("rate", ""), ("nan", "rate"), ("other", "")]


def test_a_chain_leads_to_its_beginning_and_a_circle_explains_nothing():
    chain = finding("a", explains=("b",)), finding("b", explains=("c",)), finding("c")
    assert order(*chain) == [("a", ""), ("b", "a"), ("c", "a")]
    circle = finding("a", explains=("b",)), finding("b", explains=("a",))
    assert order(*circle) == [("a", ""), ("b", "")]


def test_neither_a_note_nor_another_player_explains_anything():
    assert order(finding("a", "note", explains=("b",)), finding("b")) == [("b", ""), ("a", "")]
    apart = finding("a", player="one", explains=("b",)), finding("b", player="two")
    assert order(*apart) == [("a", ""), ("b", "")]


def test_a_file_of_findings_keeps_kinds_order_and_cause():
    ledger = Ledger(1)
    signs = [
        Sign(name="nan", severity="error", evidence={}, what="", cause="", kinds=("loss",)),
        Sign(name="rate", severity="warning", evidence={}, what="", cause="", explains=("nan",)),
    ]
    ledger.update(1, signs)
    entries = ledger.as_json(1)["findings"]
    read = [Finding.from_json(entry) for entry in entries]
    assert [(f.name, f.kinds, f.consequence_of) for f in read] == [
        ("rate", (), ""),
        ("nan", ("loss",), "rate"),
    ]
    assert ordered(read) == read


def test_what_is_seen_at_the_end_opens_at_once_and_closes_nothing():
    ledger = Ledger(3)
    sign = Sign(name="a", severity="warning", evidence={}, what="", cause="")
    for step in range(3):
        ledger.update(step, [sign])
    opened = ledger.conclude(9, [Sign(name="b", severity="warning", evidence={}, what="", cause="")])
    assert [(f.name, f.first_step) for f in opened] == [("b", 9)]
    assert [f.active for f in ledger.findings] == [True, True]
