"""Do the working tree and another revision give the same numbers, to the bit? `python -m tests.golden REV`.

Both are copied into a temporary folder and run the commands of commands.toml there (see run.py). Digests of a
revision are kept in the user's cache; none is committed.
"""

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

from platformdirs import user_cache_path

from tests.golden.compare import compare, old_line

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
Lines = dict[str, list[str]]


def main() -> int:
    """0 if every digest is equal or its difference wanted, else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__.splitlines()[0])
    parser.add_argument("revision", help="what the working tree is compared with")
    parser.add_argument("--only", default="*", help="commands to run, such as 'ppo_*'")
    args = parser.parse_args()
    settings = tomllib.loads((HERE / "renames.toml").read_text())
    everything = read_commands(HERE / "commands.toml")
    lines = {name: its for name, its in everything.items() if fnmatchcase(name, args.only)}
    if not lines:
        parser.error(f"no command is called {args.only}")
    old_lines = {name: [old_line(line, settings["overrides"]) for line in its] for name, its in lines.items()}
    commit = git("rev-parse", "--verify", f"{args.revision}^{{commit}}").decode().strip()
    old = run_revision(commit, old_lines)
    new = run_tree(None, lines)
    differences, equal = compare(old, new, settings, settings.get("wanted", []))
    for difference in differences:
        print(difference)
    unwanted = sum(difference.wanted is None for difference in differences)
    print(
        f"{len(lines)} commands, working tree against {commit[:10]}: {equal} digests equal, "
        f"{unwanted} differ, {len(differences) - unwanted} differ as wanted"
    )
    return int(unwanted > 0)


def read_commands(path: Path) -> Lines:
    """Every command's lines with their program's common overrides."""
    content = tomllib.loads(path.read_text())
    common = {program: arguments.split() for program, arguments in content["common"].items()}
    return {name: [whole(line, common) for line in lines] for name, lines in content["commands"].items()}


def whole(line: str, common: dict[str, list[str]]) -> str:
    """The line with its program's common overrides, except for those that it sets itself."""
    arguments = line.split()
    first = 2 if arguments[0] == "stopped" else 1
    own = {key(argument) for argument in arguments}
    shared = (
        []
        if "resume" in own
        else [each for each in common.get(arguments[first - 1], []) if key(each) not in own]
    )
    return " ".join([*arguments[:first], *shared, *arguments[first:]])


def key(argument: str) -> str:
    """The option that an argument sets."""
    return argument.partition("=")[0]


def run_revision(commit: str, lines: Lines) -> dict:
    """The results of a commit, from the cache as far as they are there."""
    installed = sorted(f"{d.name} {d.version}" for d in importlib.metadata.distributions())
    facts = [commit, sys.version, platform.processor(), (HERE / "run.py").read_text(), *installed]
    cache = user_cache_path("gradsight") / "golden" / f"{digest(facts)}.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    missing = {name: its for name, its in lines.items() if digest(its) not in known}
    if missing:
        found = run_tree(commit, missing)
        known |= {digest(missing[name]): result for name, result in found.items() if "error" not in result}
        cache.parent.mkdir(parents=True, exist_ok=True)
        written = cache.with_suffix(f".{os.getpid()}")
        written.write_text(json.dumps(known))
        written.replace(cache)  # whole or not at all, should another comparison write it too
    else:
        found = {}
    return {name: found.get(name) or known[digest(its)] for name, its in lines.items()}


def digest(parts: list[str]) -> str:
    """A name for these texts in this order."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def run_tree(commit: str | None, lines: Lines) -> dict:
    """The results of a copy of a commit, or of the working tree (None), in a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        place = Path(folder).resolve()
        (place / "tree").mkdir()
        (place / "commands.json").write_text(json.dumps(lines))
        if commit is None:
            names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
            there = "\0".join(name for name in names if name and (ROOT / name).exists()).encode()
            packed = command("tar", "-c", "--null", "-T", "-", given=there)
        else:
            packed = git("archive", commit)
        command("tar", "-x", "-C", str(place / "tree"), given=packed)
        # A cache of their own: what one revision has trained and kept, the other must not read.
        own = {
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(place / "cache"),
            "PYGAME_HIDE_SUPPORT_PROMPT": "1",
        }
        env = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        } | own
        call = [sys.executable, "-P", HERE / "run.py", "tree", "commands.json", "results.json"]
        subprocess.run(call, cwd=place, env=env, check=True)
        results = json.loads((place / "results.json").read_text())
    seconds = time.monotonic() - began
    print(
        f"{commit[:10] if commit else 'working tree'}: {len(lines)} commands in {seconds:.0f} s", flush=True
    )
    return results


def git(*arguments: str) -> bytes:
    """What git says about this checkout."""
    return command("git", *arguments)


def command(*arguments: str, given: bytes | None = None) -> bytes:
    """Output of a program run in the checkout."""
    return subprocess.run(arguments, cwd=ROOT, input=given, stdout=subprocess.PIPE, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
