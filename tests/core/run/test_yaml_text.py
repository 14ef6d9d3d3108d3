import os

import pytest

from core.cli.yaml_file import read_yaml
from core.run.yaml_text import safe_text

NESTED = "\n".join(
    ["a0: &a0 [1, 1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
DAMAGES = {
    "aliases": (NESTED, "aliases"),
    "an alias inside of itself": ("a: &a [1, *a]", "aliases"),
    "nesting": ("[" * 5000, "nested too deeply"),
    "no YAML": ("a: [", "expected"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_yaml_that_cannot_be_loaded_is_refused_in_one_line(what, tmp_path):
    text, words = DAMAGES[what]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=words) as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [safe_text, read_yaml])
def test_what_is_no_file_or_no_utf_8_is_refused(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin").write_bytes("a: ü".encode("latin-1"))
    (tmp_path / "folder").mkdir()
    for name, words in {
        "pipe": "no file",
        "folder": "no file",
        "latin": "utf-8",
        "none": "No such file",
    }.items():
        with pytest.raises(ValueError, match=words):
            read(tmp_path / name)


def test_a_few_aliases_are_allowed(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: &a [1, 2]\nb: *a\n")
    assert safe_text(path) == path.read_text()
    assert read_yaml(path)["b"] == [1, 2]
