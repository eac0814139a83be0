"""The cases of the Autobahn test suite, which is written in Python 2, loaded into Python 3.

Python 2 has one type for bytes and text. The cases keep it: their strings hold a byte in each
character (Latin-1), and the peer translates at the socket. What else has changed between the
languages is put right here, by builtins and modules of their own and two edits of the source.
"""

import ast
import binascii
import builtins
import codecs
import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace

PACKAGE = "autobahntestsuite"

# What a server without extensions has to pass. 8 and 11 are empty, 12 and 13 are about compression.
SECTIONS = ("1", "2", "3", "4", "5", "6", "7", "9", "10")

# How many cases these sections have. A loader that loses some must not pass for one that finds all.
COUNT = 301


def load(protocol):
    """Returns the case classes by name, such as 9.1.6, in the order of the suite."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise SystemExit(f"{PACKAGE} is not installed: see requirements.txt")
    suite = Suite(Path(spec.origin).parent / "case", protocol)
    classes = {name_of(case): case for case in suite.load("__init__").Cases}
    cases = {name: case for name, case in classes.items() if section_of(name) in SECTIONS}
    if len(cases) != COUNT:
        raise SystemExit(f"{len(cases)} cases were found, not {COUNT}")
    return cases


def section_of(name):
    return name.partition(".")[0]


def name_of(case):
    return case.__name__.removeprefix("Case").replace("_", ".")


class Suite:
    """The modules of the suite. They see each other and what stands in here for other packages, and
    nobody else sees them."""

    def __init__(self, folder, protocol):
        self.folder = folder
        self.builtins = {**vars(builtins), "xrange": range, "object": Object, "__import__": self.find}
        no_compression = dict.fromkeys(["Case12_X_X", "Case13_X_X"], ())
        no_titles = dict.fromkeys(["Case12_X_X_CaseSubCategories", "Case13_X_X_CaseSubCategories"], {})
        self.modules = {
            "autobahn.websocket.protocol": SimpleNamespace(WebSocketProtocol=protocol),
            "autobahn.websocket.utf8validator": SimpleNamespace(Utf8Validator=Utf8Validator),
            "binascii": SimpleNamespace(b2a_hex=b2a_hex),
            # Equal values may have different pickles, and the cases compare values by them.
            "pickle": SimpleNamespace(dumps=lambda value: value),
            # No list has it, and it needs Twisted.
            "case9_9_1": SimpleNamespace(),
            "case12_x_x": SimpleNamespace(**no_compression, **no_titles),
        }

    def find(self, name, *how):
        """Is what `import` calls."""
        if name in self.modules:
            return self.modules[name]
        if name.startswith("case"):
            return self.load(name)
        return __import__(name, *how)

    def load(self, name):
        path = self.folder / f"{name}.py"
        module = ModuleType(name)
        module.__dict__["__builtins__"] = self.builtins
        exec(compile(python3(path.read_text("latin-1")), path, "exec"), module.__dict__)
        self.modules[name] = module
        return module


def python3(source):
    """Parses Python 2, as much of it as the cases use."""
    # Only functions that nobody calls print.
    without_print = re.sub(r"^(\s*)print\b.*$", r"\1pass", source, flags=re.MULTILINE)
    return IntegerDivision().visit(ast.parse(without_print))


class IntegerDivision(ast.NodeTransformer):
    def visit_Div(self, _):
        return ast.FloorDiv()


class Object:
    """An `object` that may stand before other base classes."""


class Utf8Validator:
    """Looks at UTF-8 piece by piece."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.decoder = codecs.getincrementaldecoder("utf-8")()

    def validate(self, piece):
        """Returns whether all is valid so far, and whether it ends with a whole character."""
        try:
            self.decoder.decode(piece.encode("latin-1"))
        except UnicodeDecodeError:
            return False, False
        unfinished, _ = self.decoder.getstate()
        return True, not unfinished


def b2a_hex(text):
    return binascii.b2a_hex(text.encode("latin-1")).decode("ascii")
