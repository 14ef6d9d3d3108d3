"""Names beside the rows of a picture."""

from core.draw.layer_page import LONGEST, NAMED, named_every, shortened, titled

STEM = "generator.encoder.blocks.{}.attention.query.parametrizations.weight."


def test_shortened_names_say_what_differs():
    long = [STEM.format(i) + "0.original" for i in (3, 12)]
    assert shortened(long) == ["generator.encoder.blocks.3…", "generator.encoder.blocks.12…"]
    deep = ["a." * 30 + name for name in ("conv.weight", "norm.weight")]
    assert shortened(deep) == ["…" + 12 * "a." + "conv…", "…" + 12 * "a." + "norm…"]
    assert shortened(["actor.0", "critic.0"]) == ["actor.0", "critic.0"]
    alike = [50 * "x" + letter + 50 * "y" for letter in "ab"]
    assert len(set(shortened(alike))) == 2
    for names in (long, deep, alike):
        assert max(map(len, shortened(names))) <= LONGEST


def test_at_most_48_rows_are_named():
    assert [named_every(["a"] * n) for n in (0, 1, NAMED, NAMED + 1, 300)] == [1, 1, 1, 2, 7]


def test_a_title_says_whose_layers_they_are():
    assert titled("Norms", "") == "Norms"
    assert titled("Norms", "critic") == "Norms of the critic"
