"""Counts what can be counted of the code's order and prints it as a Markdown table.

    python tests/code_figures.py                 the table
    python tests/code_figures.py --list raises   what counts against one figure, as file:line

``test_architecture.py`` asserts the bounds. Every figure but the sizes of named files is a number of offenders, and
``--list`` takes the key in its first column. How each is counted:

- functions: of the package, with methods and nested functions; lines from ``def`` to the end, docstring included.
- complexity: McCabe's, with boolean operators, conditional expressions, comprehensions and nested functions; ruff's
  C901 counts only statements.
- public: no name on the way to it starts with an underscore. Overloads and property setters are left out, and so are
  dunder methods, except that what ``__init__`` raises belongs in the docstring of its class.
- shapes: a docstring of a function with ``Tensor`` in its signature holds a shape in brackets, such as ``[B, D]``, or
  says that it is a scalar.
- raises: a function whose own body raises an exception that it names has a section ``Raises:``.
- examples: a public class of ``model`` or ``recommender`` has ``>>>`` in its docstring or in one of a method.
- scores: modules other than ``model/scoring.py`` that multiply interests by item factors, divide by the temperature of
  scores or add a history bias to scores.
- names: top-level public classes and functions whose name is defined in two modules or more. The parts of a command,
  which every command defines, have one meaning.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "recbole_llm_interest"
#: from top to bottom: a module imports from its own room or from a level below
LEVELS = [
    {"__init__", "cli"},
    {"report", "erasure", "serving", "stream"},
    {"registration", "recommender", "export", "adaptation"},
    {"training", "peers"},
    {"model", "baselines", "data", "evaluation"},
    {"content", "patches", "conversion"},
    {"settings", "io", "distributed", "cluster"},
    {"errors", "activation"},
]
#: what each module of a command defines
PARTS_OF_A_COMMAND = {"main", "add_arguments", "parser", "run"}

#: what reads a file, by its name or of one that is open
READERS = {
    *("os.open", "os.fdopen", "io.open", "io.FileIO", "codecs.open", "mmap.mmap", "zipfile.ZipFile", "gzip.open"),
    *("np.load", "np.fromfile", "np.memmap", "np.loadtxt", "np.genfromtxt", "pd.read_csv", "pd.read_parquet"),
    *("pd.read_json", "json.load", "pickle.load", "torch.load", "safe_open", "load_file", "yaml.load"),
    *("Image.open", "av.open", "soundfile.read", "soundfile.SoundFile", "librosa.load"),
}
#: reads outside of ``io/opening.py``, by module and call, and why they may
READS = {
    ("cli.arguments", "(PROPERTIES / 'settings.txt').read_text"): "this package's own file",
    ("settings.recbole_sources", "file.read_text"): "RecBole's own sources",
    ("settings.listed_names", "(PROPERTIES / 'model' / 'LLMInterest.yaml').read_text"): "this package's own file",
    ("settings.listed_names", "(PROPERTIES / METRICS_FILE).read_text"): "this package's own file",
    ("settings.models", "path.read_text"): "RecBole's own sources",
    ("training.environment_info", "Path('/proc/cpuinfo').read_text"): "the operating system's",
    ("distributed", "(folder / 'result').read_bytes"): "a folder of this process, which others cannot write to",
    ("distributed", "path.read_bytes"): "a folder of this process, which others cannot write to",
    ("io.files", "os.open"): "locks a file, and reads nothing",
    ("io.manifest", "os.open"): "a manifest, for appending under a lock",
    ("io.files", "os.fdopen"): "a temporary file, for writing",
    ("peers.worker.__main__", "os.fdopen"): "the standard output of this process, for writing",
    ("patches.security", "np.load"): "RecBole names the file, without pickles",
    ("patches.security", "pickle.load"): "a file that RecBole opened, only if allow_pickle is set",
    ("io.checkpoints.pickles", "zipfile.ZipFile"): "the standard input of a process with limits",
    ("io.checkpoints.pickles", "open"): "the operating system's",
    ("content.encoders.network", "torch.load"): "bytes of a file whose hash is known, tensors alone",
    ("content.media.images", "Image.open"): "an open file of MediaFile",
    ("content.media.audio", "av.open"): "an open file of MediaFile",
    ("content.media.audio", "soundfile.SoundFile"): "an open file of MediaFile",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Definition:
    """A class or function of the package.

    Attributes:
        path: its file.
        parents: the classes and functions around it, the outermost first.
        node: its syntax tree.
    """

    path: Path
    parents: tuple[ast.ClassDef | Function, ...]
    node: ast.ClassDef | Function

    @property
    def name(self) -> str:
        return ".".join(node.name for node in (*self.parents, self.node))

    @property
    def is_function(self) -> bool:
        return not isinstance(self.node, ast.ClassDef)

    @property
    def is_public(self) -> bool:
        is_local = any(not isinstance(parent, ast.ClassDef) for parent in self.parents)
        decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in self.node.decorator_list}
        return not (is_local or "._" in f".{self.name}" or decorators & {"overload", "setter"})

    @property
    def docstring(self) -> str:
        return ast.get_docstring(self.node) or ""

    @property
    def lines(self) -> int:
        return (self.node.end_lineno or 0) - self.node.lineno + 1

    def __str__(self) -> str:
        return f"{self.path.relative_to(REPOSITORY)}:{self.node.lineno} {self.name}"


# --- reading the package


@cache
def trees() -> dict[Path, ast.Module]:
    """Syntax trees of the package's modules."""
    return {path: ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def module_name(path: Path) -> str:
    """``model.scoring`` for ``model/scoring.py``; a package has the name of its folder."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    """The first part of its name; ``__main__`` is a command, too."""
    return module.split(".")[0].replace("__main__", "cli")


def level_of(module: str) -> int:
    """Index in ``LEVELS``; below all of them where the room has no level."""
    return next((level for level, rooms in enumerate(LEVELS) if room_of(module) in rooms), len(LEVELS))


def imports_of(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Dotted names that a module imports, and the lines where it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a function but not in the functions and classes inside it."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            yield from own_nodes(child)


def _definitions(path: Path, node: ast.AST, parents: tuple[ast.ClassDef | Function, ...]) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield Definition(path, parents, child)
            yield from _definitions(path, child, (*parents, child))
        else:
            yield from _definitions(path, child, parents)


@cache
def definitions() -> list[Definition]:
    """Every class and function of the package."""
    return [found for path, tree in trees().items() for found in _definitions(path, tree, ())]


def public_functions() -> list[Definition]:
    """Public functions, and public methods of public classes."""
    return [definition for definition in definitions() if definition.is_function and definition.is_public]


# --- offenders of each figure


def loose_modules() -> list[str]:
    """Modules at the package's top, ``__init__`` and ``__main__`` included."""
    return [path.name for path in sorted(PACKAGE.glob("*.py"))]


def upward_imports() -> list[str]:
    """Imports from a room on the same level or above."""
    found = []
    for path, tree in trees().items():
        module = module_name(path)
        for target, line in imports_of(tree):
            name = target.removeprefix(f"{PACKAGE.name}.")
            is_inside = target != name
            if is_inside and room_of(name) != room_of(module) and level_of(name) <= level_of(module):
                found.append(f"{path.relative_to(REPOSITORY)}:{line} imports {name}")
    return found


def long_files(most: int = 350) -> list[str]:
    """Files of more than ``most`` lines, the longest first."""
    lines = {path.relative_to(REPOSITORY): len(path.read_text().splitlines()) for path in trees()}
    return [f"{path}:1 {count} lines" for path, count in _descending(lines) if count > most]


def long_functions(most: int = 40) -> list[str]:
    """Functions of more than ``most`` lines, the longest first."""
    lines = {definition: definition.lines for definition in definitions() if definition.is_function}
    return [f"{function} {count} lines" for function, count in _descending(lines) if count > most]


def complexity(function: Function) -> int:
    """Cyclomatic complexity: one, and one for each way to branch."""
    branches = 1
    for node in ast.walk(function):
        if isinstance(node, (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case)):
            branches += 1
        elif isinstance(node, ast.BoolOp):
            branches += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            branches += 1 + len(node.ifs)
    return branches


def complex_functions(most: int = 10) -> list[str]:
    """Functions with a cyclomatic complexity above ``most``, the largest first."""
    found = {definition: complexity(definition.node) for definition in definitions() if definition.is_function}
    return [f"{function} complexity {count}" for function, count in _descending(found) if count > most]


def without_docstring() -> list[str]:
    """Public modules, classes and functions without a docstring."""
    modules = [
        f"{path.relative_to(REPOSITORY)}:1 module" for path, tree in trees().items() if not ast.get_docstring(tree)
    ]
    return modules + [str(found) for found in definitions() if found.is_public and not found.docstring]


def with_tensors() -> list[Definition]:
    """Public functions with a tensor in their signature."""
    return [function for function in public_functions() if _takes_or_returns_tensors(function.node)]


def without_shapes() -> list[str]:
    """Public functions with a tensor in their signature and no shape in their docstring."""
    shape = re.compile(r"\[[^\[\]]*\b[A-Za-z0-9_]+[^\[\]]*\]``|``\[|\bscalar\b")
    return [str(function) for function in with_tensors() if not shape.search(function.docstring)]


def raising() -> list[tuple[Definition, str]]:
    """Public functions that raise, with the docstring that should say so."""
    pairs = []
    for function in (definition for definition in definitions() if definition.is_function):
        if not any(_raises(node) for node in own_nodes(function.node)):
            continue
        if function.is_public:
            pairs.append((function, function.docstring))
        elif function.node.name == "__init__":
            owner = Definition(function.path, function.parents[:-1], function.parents[-1])
            pairs += [(function, owner.docstring + function.docstring)] if owner.is_public else []
    return pairs


def without_raises() -> list[str]:
    """Public functions that raise and whose docstring does not say so."""
    return [str(function) for function, docstring in raising() if "Raises:" not in docstring]


def classes_with_examples_due() -> list[Definition]:
    """Public classes of ``model`` and ``recommender``."""
    rooms = {"model", "recommender"}
    return [
        found
        for found in definitions()
        if not found.is_function and found.is_public and room_of(module_name(found.path)) in rooms
    ]


def without_example() -> list[str]:
    """Public classes of ``model`` and ``recommender`` without an example that runs."""
    return [
        str(found)
        for found in classes_with_examples_due()
        if not any(">>>" in (ast.get_docstring(node) or "") for node in [found.node, *_methods(found.node)])
    ]


def score_places() -> list[str]:
    """Where scores are computed outside ``model/scoring.py``: one line for each place."""
    return [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {ast.unparse(node)}"
        for path, tree in trees().items()
        if module_name(path) != "model.scoring"
        for node in ast.walk(tree)
        if isinstance(node, ast.expr) and _is_scoring(node)
    ]


def score_modules() -> list[str]:
    """Modules with a line in ``score_places``."""
    return list(dict.fromkeys(place.partition(":")[0] for place in score_places()))


def reads_around_the_door() -> list[str]:
    """Calls that read a file by its name, outside ``io/opening.py``: those of ``READS`` are listed with a reason."""
    return [
        f"{path.relative_to(REPOSITORY)}:{node.lineno} {ast.unparse(node.func)}"
        for path, tree in trees().items()
        if module_name(path) != "io.opening"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_read(node)
        if not _names(node) & _opened_at_the_door(tree)
        if (module_name(path), ast.unparse(node.func)) not in READS
    ]


def doubled_names() -> list[str]:
    """Public classes and functions whose name stands for several of them."""
    by_name: dict[str, list[Definition]] = {}
    for definition in definitions():
        if definition.is_public and not definition.parents:
            by_name.setdefault(definition.node.name, []).append(definition)
    return [
        f"{name}: {', '.join(str(found).partition(' ')[0] for found in several)}"
        for name, several in sorted(by_name.items())
        if len({found.path for found in several}) > 1 and not _are_parts_of_commands(name, several)
    ]


# --- what the offenders have in common


def _descending(counts: dict) -> list[tuple]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _takes_or_returns_tensors(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    annotations = [argument.annotation for argument in arguments] + [function.returns]
    return any(re.search(r"\bTensor\b", ast.unparse(annotation)) for annotation in annotations if annotation)


def _raises(node: ast.AST) -> bool:
    return isinstance(node, ast.Raise) and node.exc is not None and "NotImplementedError" not in ast.unparse(node.exc)


def _methods(node: ast.AST) -> list[ast.AST]:
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))]


def _is_scoring(node: ast.expr) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return _mentions(node, r"interests?|seq_output|(class|item)_factors?")
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Div, ast.Mult)):
        return _ends_with(node.right, r"temperature") and not _mentions(node.left, r"ssl|(other_)?view\w*")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in {"mm", "matmul", "bmm", "baddbmm", "addmm", "einsum"}:
            return _mentions(node, r"interests?|seq_output|(class|item)_factors?")
        return node.func.attr.startswith("scatter_add") and _mentions(node, r"bonus|bias|history_bias")
    return False


def _is_read(call: ast.Call) -> bool:
    """Whether a call may read a file by its name: ``open`` for reading, or what reads files of some format."""
    called = ast.unparse(call.func)
    if called in READERS or called.endswith((".read_text", ".read_bytes")):
        return True
    if called == "open" or called.endswith(".open"):
        modes = call.args[called == "open" :] + [keyword.value for keyword in call.keywords if keyword.arg == "mode"]
        mode = modes[0] if modes else ast.Constant("r")
        return isinstance(mode, ast.Constant) and not re.fullmatch("[wxa][bt]?", str(mode.value))
    return False


def _opened_at_the_door(tree: ast.Module) -> set[str]:
    """Names of the files that ``with`` statements of a module open by ``io/opening.py``."""
    items = [item for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items]
    return {
        ast.unparse(item.optional_vars)
        for item in items
        if item.optional_vars and ast.unparse(item.context_expr).startswith(("open_regular(", "open_file("))
    }


def _names(call: ast.Call) -> set[str]:
    return {node.id for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Name)}


def _mentions(node: ast.AST, names: str) -> bool:
    return any(_ends_with(part, names) for part in ast.walk(node))


def _ends_with(node: ast.AST, names: str) -> bool:
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    return re.fullmatch(names, name.strip("_")) is not None


def _are_parts_of_commands(name: str, several: list[Definition]) -> bool:
    return name in PARTS_OF_A_COMMAND and all(room_of(module_name(found.path)) == "cli" for found in several)


# --- the table

#: what each key lists
OFFENDERS: dict[str, Callable[[], list[str]]] = {
    "loose": loose_modules,
    "upward": upward_imports,
    "files": long_files,
    "functions": long_functions,
    "complexity": complex_functions,
    "scores": score_places,
    "docstrings": without_docstring,
    "shapes": without_shapes,
    "raises": without_raises,
    "examples": without_example,
    "names": doubled_names,
    "reads": reads_around_the_door,
}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _largest(listed: list[str], unit: str) -> str:
    """``where (number unit)`` of the first of a list that ends with the number, or with it and the unit."""
    where, number = re.fullmatch(r"(.*?) (?:complexity )?(\d+)(?: lines)?", listed[0]).groups()
    return f"{where} ({number} {unit})".replace(":1 ", " ").replace(f"{PACKAGE.name}/", "")


def _share(offenders: list[str], total: int) -> str:
    return f"{total - len(offenders)} of {total}"


def table() -> str:
    """Every figure, in Markdown."""
    public = [found for found in definitions() if found.is_public]
    rows = [
        ("loose", "loose modules at the package's top", len(loose_modules()), "6"),
        ("", "levels in the architecture test", len(LEVELS), "8"),
        ("upward", "upward imports", len(upward_imports()), "0"),
        ("files", "files over 350 lines", len(long_files()), "0"),
        ("", "largest file", _largest(long_files(0), "lines"), "350"),
        ("", "lines of model/llm_interest.py", _lines(PACKAGE / "model/llm_interest.py"), "150"),
        ("functions", "functions over 40 lines", len(long_functions()), "0"),
        ("", "longest function", _largest(long_functions(0), "lines"), "40"),
        ("complexity", "functions with complexity over 10", len(complex_functions()), "0"),
        ("", "largest complexity", _largest(complex_functions(0), "branches"), "10"),
        ("scores", "modules beside model/scoring.py that compute a score", len(score_modules()), "0"),
        ("docstrings", "public with a docstring", _share(without_docstring(), len(public) + len(trees())), "all"),
        ("shapes", "with shapes where tensors pass", _share(without_shapes(), len(with_tensors())), "all"),
        ("raises", "with Raises where they raise", _share(without_raises(), len(raising())), "all"),
        (
            "examples",
            "public classes of model and recommender with an example",
            _share(without_example(), len(classes_with_examples_due())),
            "all",
        ),
        ("names", "public names with two definitions", len(doubled_names()), "0"),
        ("reads", "files that are read around io/opening.py", len(reads_around_the_door()), "0"),
        ("", "lines of README.md", _lines(REPOSITORY / "README.md"), "150"),
    ]
    cells = [("key", "figure", "now", "bound"), ("---",) * 4, *rows]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in cells)


def main(argv: list[str] | None = None) -> None:
    """Print the table, or what counts against one figure."""
    parser = argparse.ArgumentParser(description="Count how well the code is in order.")
    parser.add_argument("--list", choices=OFFENDERS, metavar="KEY", help=f"one of {', '.join(OFFENDERS)}")
    key = parser.parse_args(argv).list
    print("\n".join(OFFENDERS[key]()) if key else table())  # noqa: T201


if __name__ == "__main__":
    main()
