"""Build the site: `python docs/site/build.py [FOLDER]`, by default into `site/`.

Its pages are those of docs/, the README as the first one, the files that they link to, and two kinds that are
made here and nowhere else, so that they cannot drift: every option of every command, from the YAML files and
their comments, and the public names, from their docstrings.
"""

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from core.cli.choices import BY_OPTIMIZER, YamlFile, find
from core.cli.comments import comments, explanations, of_groups
from core.cli.compose import FOR_LAUNCHER
from core.cli.groups import choices_of
from core.config import config_dir

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
PICTURE = re.compile(r"""((?:src|srcset)=")([^"]+)(")""")
BOTH = re.compile(
    r'<picture>\n<source [^>]*srcset="([^"]+)">\n(<img alt="[^"]*" src=")([^"]+)(">)\n</picture>'
)
TEXT = re.compile(r"(?P<output>^```\n\n?)?^```text\n(?P<body>.*?)^```$", re.M | re.S)
COLUMNS = 84  # of a block at a window of 1280 pixels
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md",
             "tests/README.md": "tests.md"}  # fmt: skip
PUBLIC = ("core", "core.gradients", "core.noise", "core.curvature", "core.optim", "core.landscape",
          "core.diagnosis", "gradrl", "gradgan")  # fmt: skip
NAV = {  # headings and their pages; a page that is not there yet is left out, one in no list ends the build
    "Start": ["index", "tour", "glossary"],
    "Train": ["agents", "agents/*", "gans", "losses/*", "descend"],
    "Scale": ["scaling", "sweeps", "performance"],
    "Your own loop": ["watch", "watch_frameworks", "core"],
    "Read": ["curves", "gradients", "diagnosis", "replay", "landscapes"],
    "Use what was trained": ["use"],
    "Configure": ["configuration", "command_line", "configure/*"],
    "Extend": ["extend", "loggers", "callbacks", "contributing"],
    "Examples": ["source/examples*"],
    "Results": ["results", "told"],
    "Inside": ["architecture", "tests", "changelog", "source/*"],
    "API": ["api/*"],
}


def main(out: Path) -> int:
    """The exit status of the build; warnings of the site's generator fail it."""
    with tempfile.TemporaryDirectory() as name:
        stage = Path(name)
        gather(stage / "pages")
        config = HERE.joinpath("mkdocs.yml").read_text(encoding="utf-8")
        nav = yaml.safe_dump({"nav": navigation(stage / "pages")}, allow_unicode=True, sort_keys=False)
        config = config.replace("        python:\n", f"        python:\n          paths: ['{ROOT}']\n")
        stage.joinpath("mkdocs.yml").write_text(f"{config}{nav}", encoding="utf-8")
        command = [sys.executable, "-m", "zensical", "build", "--strict", "-f", "mkdocs.yml"]
        status = subprocess.run(command, cwd=stage, check=False).returncode
        if not status:
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(stage / "html", out)
    return status


def gather(pages: Path) -> None:
    """Every page and picture of the site, in a folder of its own."""
    shutil.copytree(
        ROOT / "docs", pages, ignore=shutil.ignore_patterns("site", "results", "*.py", "__pycache__")
    )
    shutil.copy(HERE / "site.css", pages)
    for path, page in ELSEWHERE.items():
        if (ROOT / path).is_file():
            shutil.copy(ROOT / path, pages / page)
    homes = {page: ROOT / path for path, page in ELSEWHERE.items()}
    for page in sorted(pages.rglob("*.md")):
        name = page.relative_to(pages).as_posix()
        relink(page, homes.get(name, ROOT / "docs" / name), pages)
    for page, text in (*option_pages(), *api_pages()):
        (pages / page).parent.mkdir(exist_ok=True)
        (pages / page).write_text(text, encoding="utf-8")


def relink(page: Path, home: Path, pages: Path) -> None:
    """Let the links of a page, which lead through the repository, lead through the site."""

    def linked(found: re.Match) -> str:
        target = found[2]
        path = (home.parent / target).resolve()
        if "://" in target or target.startswith("mailto:") or not path.is_relative_to(ROOT):
            return found[0]
        there = pages / staged(path, pages)
        up = "../" * len(page.relative_to(pages).parent.parts)
        return f"{found[1]}{up}{there.relative_to(pages).as_posix()}{found[3]}"

    text = PICTURE.sub(linked, LINK.sub(linked, page.read_text(encoding="utf-8")))
    page.write_text(TEXT.sub(wrapped, BOTH.sub(switched, text)), encoding="utf-8")


def switched(found: re.Match) -> str:
    """A picture that follows the site's own switch to dark; `<picture>` asks the system alone."""
    dark, start, light, end = found.groups()
    return f"{start}{light}#only-light{end}{start}{dark}#only-dark{end}"


def wrapped(found: re.Match) -> str:
    """A block of text whose long lines are wrapped: what a command says above all; no drawing in columns."""
    wide = any(len(line) > COLUMNS for line in found["body"].splitlines())
    drawn = not found["output"] and re.search(r"\S {4,}\S", found["body"])
    if drawn or not wide:
        return found[0]
    return f"{found['output'] or ''}```{{.text .wrapped}}\n{found['body']}```"


def staged(path: Path, pages: Path) -> Path:
    """Where a file of the repository is in the site, put there if it is not yet."""
    name = path.relative_to(ROOT).as_posix()
    if name in ELSEWHERE:
        return Path(ELSEWHERE[name])
    if path.is_relative_to(ROOT / "docs") and (pages / path.relative_to(ROOT / "docs")).exists():
        return path.relative_to(ROOT / "docs")
    page = Path("source") / f"{name.rstrip('/').replace('/', '.')}.md"
    (pages / "source").mkdir(exist_ok=True)
    (pages / page).write_text(shown(path, name), encoding="utf-8")
    return page


def shown(path: Path, name: str) -> str:
    """A file as a page, or what is in a folder."""
    if path.is_dir():
        inside = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith((".", "__")))
        return "\n".join([f"# {name}", "", *(f"- `{entry}`" for entry in inside)])
    label = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".sh": "sh"}.get(path.suffix, "text")
    return f"# {name}\n\n````{label}\n{path.read_text(encoding='utf-8')}````\n"


def option_pages() -> Iterator[tuple[str, str]]:
    """One page for each command: its groups, and every option of every choice."""
    for path in sorted(config_dir().glob("*.yaml")):
        root = find(path.stem, (config_dir(),))
        assert root is not None
        explained = explanations(path.stem, dict.fromkeys(of_groups(path)), [config_dir()])
        lines = [f"# Options of {path.stem}", "", *_head(path), "", *table(path, "", explained)]
        for group, comment in of_groups(path).items():
            lines += ["", f"## {group}=", "", plain(comment), ""]
            for choice in choices_of(group, root, (config_dir(),)):
                file = config_dir() / group / f"{choice}.yaml"
                lines += [f"### {group}={choice}", "", *_head(file), ""]
                lines += table(file, group, explained) if group != "experiment" else verbatim(file)
        yield f"configure/{path.stem}.md", "\n".join(lines) + "\n"


def table(path: Path, group: str, elsewhere: Mapping[str, str]) -> list[str]:
    """The options of one file, their values and what its comments say, or those of a file beside it."""
    explained = elsewhere | comments(path, group)
    hidden = ("defaults", "hydra", *FOR_LAUNCHER)
    content = {key: value for key, value in YamlFile(path).content.items() if key not in hidden}
    header = re.search(r"^# @package (\S+)", path.read_text(encoding="utf-8"), re.M)
    package = header[1] if header and header[1] != "_global_" else "" if header else group.replace("/", ".")
    rows = [
        f"| `{name}` | {code(value)} | {plain(meaning(name, explained))} |"
        for name, value in leaves(content, package)
        if (name, value) != (group, None)  # the choice `none`
    ]
    return ["| option | default | meaning |", "|---|---|---|", *rows, ""] if rows else []


def meaning(name: str, explained: Mapping[str, str]) -> str:
    """What an option is: its own comment, or that of what it is part of."""
    if name.startswith(BY_OPTIMIZER):
        return "instead of the optimizer's own"
    while name and not explained.get(name):
        name = name.rpartition(".")[0]
    return explained.get(name, "")


def leaves(tree: dict, above: str) -> Iterator[tuple[str, object]]:
    """Options with their full names; a mapping is its entries."""
    for key, value in tree.items():
        name = f"{above}.{key}" if above else str(key)
        if isinstance(value, dict) and value:
            yield from leaves(value, name)
        else:
            yield name, value


def verbatim(path: Path) -> list[str]:
    """A file of the configuration as it is."""
    return ["```yaml", path.read_text(encoding="utf-8").rstrip(), "```", ""]


def code(value: object) -> str:
    """A value as it is typed."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    return f"`{escaped(text)}`"


def escaped(text: str) -> str:
    """A text that is no border of a table's cell."""
    return text.replace("|", "\\|")


def plain(text: str) -> str:
    """A text that is shown as it is: `[value.*,"*.bias"]` is no link, and its stars make no emphasis."""

    def kept(found: re.Match) -> str:
        return found[0] if found["code"] else "&lt;" if found[0] == "<" else f"\\{found[0]}"

    return re.sub(r"(?P<code>`[^`]+`)|[\\*_\[\]<|]", kept, text)


def _head(path: Path) -> list[str]:
    """What a file says of itself in its first lines."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(f"    {line[2:].strip()}" if line.startswith("#  ") else plain(line[2:]))
    gap = next((i for i, line in enumerate(lines) if line.startswith("    ")), len(lines))
    return [*lines[:gap], "", *lines[gap:]]


def api_pages() -> Iterator[tuple[str, str]]:
    """One page for each package that users may rely on, from its `__all__` and the docstrings."""
    for package in PUBLIC:
        module = importlib.import_module(package)
        lines = [f"# {package}", "", (module.__doc__ or "").strip(), ""]
        for name in sorted(module.__all__):
            value = getattr(module, name)
            told = inspect.isclass(value) or inspect.isfunction(value)
            lines += [f"::: {value.__module__}.{value.__name__}\n" if told else alias(name, value)]
        yield f"api/{package}.md", "\n".join(lines)


def alias(name: str, value: object) -> str:
    """What has no docstring: a type alias without its modules, or objects by their classes."""
    kind = re.sub(r"\b(?:\w+\.)+(?=\w)", "", str(value))
    if isinstance(value, tuple):
        kind = "".join(["(\n", *(f"    {type(each).__name__}(),\n" for each in value), ")"])
    return f"## {name}\n\n```python\n{name} = {kind}\n```\n"


def navigation(pages: Path) -> list[dict[str, list[dict[str, str]]]]:
    """The headings with their pages.

    Raises:
        ValueError: a page is under no heading.
    """
    there = {path.relative_to(pages).with_suffix("").as_posix() for path in pages.rglob("*.md")}
    found = []
    for heading, patterns in NAV.items():
        names = [
            n
            for p in patterns
            for n in (sorted(_below(p, there)) if p.endswith("*") else [p] if p in there else [])
        ]
        found.append({heading: [{title(pages / f"{name}.md"): f"{name}.md"} for name in names]})
        there -= set(names)
    if there:
        raise ValueError(f"pages under no heading of docs/site/build.py: {', '.join(sorted(there))}")
    return found


def _below(pattern: str, there: set[str]) -> set[str]:
    return {name for name in there if name.startswith(pattern[:-1])}


def title(page: Path) -> str:
    """The first heading of a page."""
    match = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.M)
    return match[1].replace("`", "") if match else page.stem


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "site"))
