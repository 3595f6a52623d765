# SPDX-License-Identifier: Apache-2.0
"""Check of names: ``python -m dev.naming`` lists duplicate class names and private words.

A class name exists once in the package. No identifier of the repository (module, class, function, parameter, variable,
attribute) contains a word that only this project would understand.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "airflow_provider_wan"
#: Every folder with Python code.
FOLDERS = tuple(ROOT / name for name in ("airflow_provider_wan", "benchmarks", "dags", "deploy", "dev", "tests"))

#: Words that no identifier may contain, with the standard term for each.
PRIVATE_WORDS = {
    "backstop": "timeout grace",
    "had": "existing",
    "held": "stored",
    "kept": "stored",
    "look": "poll, or scan for the list",
    "looked": "polled",
    "looks": "polls",
    "mistyped": "suggest_column",
    "occasion": "key",
    "paying": "submitter",
    "quote": "estimate",
    "reckon": "compute",
    "reckoned": "computed",
    "said": "reported",
    "settle": "confirm, reconcile or minimum deferral",
    "settled": "confirmed",
    "shown": "reported",
    "stands": "status",
    "stray": "duplicate charge",
    "taken": "last row",
    "tell": "report, notify or log",
    "telling": "report",
    "tells": "reports",
    "told": "message",
    "unsaid": "without a response",
    "untold": "inconclusive",
    "verdict": "decision or error",
    "waves": "deferral cycles",
    "wish": "option",
}
#: Private words that are plain English in a sentence, as the name of a test is one.
SENTENCE_WORDS = {"had", "held", "kept", "look", "shown", "taken"}
#: Whole identifiers that were replaced, as words.
PRIVATE_NAMES = {
    "after post",
    "at once",
    "bad row",
    "in between",
    "keeper",
    "list health",
    "post within",
    "read back",
    "run here",
    "situation",
    "turns",
    "under way",
    "wait here",
    "waiter",
}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def split_words(identifier: str) -> list[str]:
    """Split a snake_case or CamelCase identifier into lower-case words."""
    return [word.lower() for word in _WORD.findall(identifier)]


def find_identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every identifier that a module defines, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name
        elif isinstance(node, ast.alias) and node.asname:
            yield node.lineno, node.asname
        elif isinstance(node, ast.MatchAs | ast.MatchStar) and node.name:
            yield node.lineno, node.name


def check_identifier(identifier: str) -> str | None:
    """Return what is wrong with an identifier, or None."""
    if " ".join(split_words(identifier)) in PRIVATE_NAMES:
        return "is a private name"
    if identifier.endswith("_of") and len(identifier) > 3:
        return "does not say what it does: parse_, build_, fetch_, hash_ …"
    allowed = SENTENCE_WORDS if identifier.startswith("test_") else set()
    for word in split_words(identifier):
        if word in PRIVATE_WORDS and word not in allowed:
            return f"contains {word!r}; standard: {PRIVATE_WORDS[word]}"
    return None


def find_private_names(*folders: Path) -> list[str]:
    """Return a line for each identifier with a private word.

    :param folders: where to search; by default :data:`FOLDERS`.
    """
    problems = []
    modules = [(path, folder) for folder in folders or FOLDERS for path in sorted(folder.rglob("*.py"))]
    for path, folder in modules:
        place = path.relative_to(folder.parent)
        if problem := check_identifier(path.stem):
            problems.append(f"{place}: module {path.stem} {problem}")
        found = set(find_identifiers(ast.parse(path.read_text(encoding="utf-8"))))
        for line, identifier in sorted(found):
            if problem := check_identifier(identifier):
                problems.append(f"{place}:{line}: {identifier} {problem}")
    return problems


def find_duplicate_classes(package: Path = PACKAGE) -> list[str]:
    """Return a line for each class name that is defined more than once."""
    places = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{path.relative_to(package.parent)}:{node.lineno}")
    return [
        f"class {name} exists {len(found)} times: {', '.join(found)}" for name, found in places.items() if found[1:]
    ]


def main() -> int:
    """Print all problems.

    :returns: the exit code.
    """
    problems = [*find_duplicate_classes(), *find_private_names()]
    print("\n".join(problems) or "All names are standard.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
