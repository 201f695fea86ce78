"""From what a model wrote to what follows the prompt: text in, text out; nothing is executed.

A level does all that the levels before it do, and more. Cumulative are the levels, not the order of their steps: fences
and prose go before anything is cut, or the cut would take the code with them.

    level     adds to the levels before it                                     its steps, in order
    none      nothing: the decoder ended the text at the first stop sequence
    post_v1   cut before the first top-level statement after the function      cut
    post_v2   code out of its Markdown fences, prose before it away            fences, prose, cut
    post_v3   a repeated signature or docstring removed, indentation mended    fences, prose, repeated, indented, cut
    post_v4   the longest prefix that parses and defines the entry point       … cut, prefix
    post_v5   missing imports of what the standard library has                 … cut, prefix, imports

"The function" is the one that the prompt began. A completion that gives it no body, and defines it anew at the top
level, is cut after that definition instead, which stands behind the prompt's and replaces it.
"""

from __future__ import annotations

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from core.data.humaneval import Problem

Level = Literal["none", "post_v1", "post_v2", "post_v3", "post_v4", "post_v5"]
LEVELS: tuple[Level, ...] = get_args(Level)

LONGEST_PARSED = 40_000
"""Characters of a program that is looked at as Python: parsing a hostile text may take quadratic time. What is longer
is still taken out of its fences and cut, and not otherwise changed."""
INDENT = 4
"""Columns of a tab, and of a body where the prompt has none yet."""
_FAR = 99
"""Columns that no prompt indents a body by."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def post_process(completion: str, problem: Problem, level: Level) -> str:
    """What follows the problem's prompt, of a completion that was decoded without stop sequences.

    It ends with a newline unless it is empty. Processing the result again changes nothing.
    """
    number = LEVELS.index(level)
    if number == 0:
        return completion
    place = Place.of(problem)
    head, text = place.taken_up(completion.replace("\r\n", "\n").replace("\r", "\n"))
    if number >= 2:
        text = without_prose(without_fences(text, problem.entry_point))
    begun = bool(head.strip())
    if number >= 3 and not begun:
        text = indented(without_repetition(text, place), place)
    text = cut(text, problem.entry_point, begun=begun)
    if number >= 4:  # the definition that the cut was made behind may be lost by that
        text = cut(longest_sound_prefix(text, place, head), problem.entry_point, begun=begun)
    if number >= 5:
        text = with_imports(text, place, head)
    return place.put_back(head, text)


@dataclass(frozen=True)
class Place:
    """Where a completion stands: behind `before`, in the body of a function."""

    before: str
    """The prompt, without the spaces of a line that is only begun."""
    spaces: str
    """Those spaces."""
    entry_point: str
    parameters: tuple[str, ...] | None
    """Of the function; None where the prompt does not say in Python."""
    indent: int
    """Columns of its body."""
    documented: bool
    """Whether the prompt gives it a docstring."""

    @classmethod
    def of(cls, problem: Problem) -> Place:
        """That of a problem's completions."""
        prompt = problem.prompt
        before = prompt.rstrip(" \t") if prompt[prompt.rfind("\n") + 1 :].isspace() else prompt
        tree = parsed(before) or parsed(f"{before.rstrip()}\n{' ' * _FAR}pass\n")
        function = function_in(tree, problem.entry_point)
        if function is None:
            return cls(before, prompt[len(before) :], problem.entry_point, None, INDENT, False)
        column = function.body[0].col_offset
        return cls(
            before, prompt[len(before) :], problem.entry_point, _parameters(function),
            column if column < _FAR else function.col_offset + INDENT, ast.get_docstring(function) is not None,
        )

    def taken_up(self, completion: str) -> tuple[str, str]:
        """What ends the prompt's last line, where that is more than spaces; and whole lines after it."""
        if not self.before or self.before.endswith("\n"):
            return "", self.spaces + completion
        line, newline, rest = completion.partition("\n")
        return line + newline, rest

    def put_back(self, head: str, text: str) -> str:
        """A completion of head and text."""
        if not self.spaces:
            return head + text
        return text[len(self.spaces) :] if text.startswith(self.spaces) else f"\n{text}" if text else ""


# Lines


@dataclass(frozen=True)
class Line:
    """One line without its end."""

    text: str
    begins: bool
    """It does not begin inside brackets or a string."""

    @property
    def stands(self) -> bool:
        """Whether a statement begins in it."""
        return self.begins and bool(self.text.strip()) and self.text.lstrip()[0] != "#"

    @property
    def indent(self) -> int:
        """Its columns of indentation."""
        return len(self.text) - len(self.text.lstrip(" \t"))

    @property
    def top(self) -> bool:
        """Whether a statement of the top level begins in it."""
        return self.stands and self.indent == 0

    def shifted(self, columns: int) -> Line:
        """The line further right, or left; one that begins inside something is left as it is."""
        if not self.begins or not self.text.strip():
            return self
        return replace(self, text=" " * max(self.indent + columns, 0) + self.text.lstrip(" \t"))


_TOKEN = re.compile(
    r"""#[^\n]*"""
    r"""|(?P<quotes>\"{3}|'{3})(?:[^\\"']+|\\.|(?!(?P=quotes)).)*(?:(?P=quotes)|\Z)"""
    r"""|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?"""
    r"""|[()\[\]{}]|\\\n|\n""",
    re.DOTALL,
)
_SURELY_BEGINS = re.compile(r"(?:async )?def \w|class \w|import \w|from [\w.]+ import\b|@\w")
"""At the start of a line it is in no bracket, whatever was opened before and never closed."""


def lines_of(text: str) -> list[Line]:
    """The lines of Python or of something like it; a line that comes last without an end counts."""
    inside: set[int] = set()
    depth = 0
    for match in _TOKEN.finditer(text):
        token, end = match.group(), match.end()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth = max(depth - 1, 0)
        elif token == "\n":
            depth = 0 if depth and _SURELY_BEGINS.match(text, end) else depth
            inside.update([end] if depth else [])
        elif "\n" in token:
            inside.update(match.start() + place.end() for place in re.finditer("\n", token))
    lines, start = [], 0
    for line in text.split("\n"):
        lines.append(Line(line, start not in inside))
        start += len(line) + 1
    return lines if lines[-1].text else lines[:-1]


def text_of(lines: Sequence[Line]) -> str:
    """Lines as text, which ends with a newline unless it is empty."""
    return "".join(f"{line.text}\n" for line in lines)


def _statements(lines: Sequence[Line]) -> Iterator[tuple[int, int]]:
    """(first line, line after the last) of each statement's head, with blank lines and comments after it."""
    return pairwise([*(index for index, line in enumerate(lines) if line.stands), len(lines)])


def _defines(line: Line, name: str) -> bool:
    return line.begins and re.match(rf"[ \t]*(?:async[ \t]+)?def[ \t]+{re.escape(name)}[ \t]*\(", line.text) is not None


# Python


def parsed(source: str) -> ast.Module | None:
    """The syntax tree, None for what is no Python or too long to be looked at."""
    if len(source) > LONGEST_PARSED:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _fault(source: str) -> SyntaxError | None:
    """What a compiler finds wrong with a program, such as a `return` outside of a function; None for nothing.

    A fault in no line in particular counts as one in the first.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(source, "<completion>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error
        except (ValueError, RecursionError, MemoryError) as error:
            return SyntaxError(str(error), ("<completion>", 1, 1, None))
    return None


def function_in(tree: ast.Module | None, name: str) -> Function | None:
    """The last function of that name at the top level: the one that a call gets."""
    found = [node for node in tree.body if isinstance(node, Function) and node.name == name] if tree else []
    return found[-1] if found else None


def _parameters(function: Function) -> tuple[str, ...]:
    args = function.args
    named = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, [args.vararg, args.kwarg])]
    return tuple(arg.arg for arg in named)


def _returns(function: Function | None) -> bool:
    """Whether a function returns or yields something itself."""
    waiting = list(ast.iter_child_nodes(function)) if function else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting += ast.iter_child_nodes(node)
    return False


# The steps


def cut(text: str, entry_point: str, *, begun: bool = False) -> str:
    """The text up to the first top-level statement after the function, and to the comments and blank lines above it.

    Args:
        begun: the function has a body already, before this text.
    """
    lines = lines_of(text)
    tops = [index for index, line in enumerate(lines) if line.top]
    if not begun and not any(line.stands for line in lines[: tops[0] if tops else len(lines)]):
        anew = next((index for index in tops if _defines(lines[index], entry_point)), -1)
        tops = [index for index in tops if index > anew] if anew >= 0 else tops
    kept = lines[: tops[0]] if tops else lines
    while kept and kept[-1].begins and (not kept[-1].text.strip() or kept[-1].text[0] == "#"):
        kept.pop()
    return text_of(kept) if any(line.stands for line in kept) else ""


_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[^\n]*(?:\n|\Z)", re.MULTILINE)


def without_fences(text: str, entry_point: str) -> str:
    """The code between Markdown fences, or before them where that is the function's body.

    Of several pieces it is the first that defines the entry point, else the first that is code. A model may close a
    fence that it believes the prompt to have opened, so which fence opens is no guide; what stands there is.
    """
    pieces = _FENCE.split(text)
    if len(pieces) == 1:
        return text
    if next((line for line in lines_of(pieces[0]) if line.stands), Line("", True)).indent:
        return pieces[0]
    defining = (piece for piece in pieces if any(_defines(line, entry_point) for line in lines_of(piece)))
    return next(defining, None) or next((piece for piece in pieces if without_prose(piece)), "")


def without_prose(text: str, *, docstrings: bool = False) -> str:
    """The text from its first statement on; all of it where nothing but comments comes before that.

    What a text begins with is a body, and no prose, where it is indented.

    Args:
        docstrings: leave out those before it too.
    """
    lines = lines_of(text)
    prose = False
    for number, (start, end) in enumerate(_statements(lines)):
        if docstrings and _is_docstring(lines[start:end]):
            continue
        if lines[start].indent and not prose or _is_code(text_of(lines[start:end]).strip()):
            return text if number == 0 else text_of(lines[start:])
        prose = True
    return ""


def _is_code(head: str) -> bool:
    """Whether a statement, or the head of one, is meant as Python: words that happen to parse are not."""
    tree = parsed(head.removeprefix("@")) or parsed(f"{head}\n pass")
    if tree is None or not tree.body or head.startswith("@"):
        return tree is not None
    first = tree.body[0]
    if isinstance(first, ast.AnnAssign):
        return first.value is not None  # "Output: [1, 2]"
    if not isinstance(first, ast.Expr) or isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return True
    return any(isinstance(node, ast.Call | ast.Await | ast.Yield) for node in ast.walk(first))


def without_repetition(text: str, place: Place) -> str:
    """The text without a signature or docstring that the prompt has already; a body moves under the prompt's own.

    What stood before a repeated signature, imports or helpers, goes into the body's beginning. A definition with other
    parameters than the prompt's repeats nothing, and stays.
    """
    lines = lines_of(without_prose(text, docstrings=True) if place.documented else text)
    lines = [replace(line, text=_spaced(line.text)) if line.begins else line for line in lines]
    first = next((index for index, line in enumerate(lines) if line.stands), 0)
    base = lines[first].indent if lines else 0
    for start, line in enumerate(lines):
        if line.indent == base and _defines(line, place.entry_point):
            body = _body_of(lines, start, place)
            if body:
                before = lines[first:start]
                return text_of([*(line.shifted(place.indent - base) for line in before), *body])
        if line.stands and (line.indent < base or _STAR.match(line.text)):
            break  # it could not stand in a body
    return text_of(lines)


_STAR = re.compile(r"[ \t]*from .* import[ \t]*\*")


def _spaced(text: str) -> str:
    """A line whose indentation has no tabs."""
    code = text.lstrip(" \t")
    return text[: len(text) - len(code)].expandtabs(INDENT) + code


def _is_docstring(statement: Sequence[Line]) -> bool:
    """Whether a statement is a string and nothing more, be it one that is never closed."""
    text = text_of(statement).strip()
    opened = re.match(r"""[rRuU]?(\"{3}|'{3})""", text)
    if opened and opened[1] not in text[opened.end() :]:
        return True
    tree = parsed(text)
    value = tree.body[0].value if tree and len(tree.body) == 1 and isinstance(tree.body[0], ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _body_of(lines: Sequence[Line], start: int, place: Place) -> list[Line]:
    """The body of the definition whose head is at `start`, for under the prompt's head; none where it has to stay."""
    base = lines[start].indent
    body = next((index for index in range(start + 1, len(lines)) if lines[index].stands), len(lines))
    end = next((index for index in range(body, len(lines)) if lines[index].stands and lines[index].indent <= base),
               len(lines))
    if base and end < len(lines) and lines[end].indent:
        return []  # it is a function within the body, which goes on
    if any(line.stands and line.text.lstrip()[0] == "@" for line in lines[max(start - 1, 0) : start]):
        return []
    function = function_in(parsed(f"{text_of(lines[start:body]).strip()}\n pass"), place.entry_point)
    if function is None or _parameters(function) != place.parameters:
        return []
    statements = [(body + one, body + other) for one, other in _statements(lines[body:end])]
    while statements and _is_docstring(lines[statements[0][0] : statements[0][1]]):
        statements = statements[1:]
    first = statements[0][0] if statements else end
    return [line.shifted(place.indent - lines[first].indent) for line in lines[first:end]]


def indented(text: str, place: Place) -> str:
    """The text as a body at the right columns: all of it moved, or its first line alone, whichever makes more of it
    Python. Statements at the top level are a body that lost its indentation only if they return something."""
    lines = lines_of(text)
    first = next((index for index, line in enumerate(lines) if line.stands), None)
    if first is None:
        return text
    tops = [index for index, line in enumerate(lines) if line.top]
    if lines[first].indent:
        lines = lines[: tops[0]] if tops else lines
    elif any(_defines(lines[index], place.entry_point) for index in tops):
        return text
    columns = place.indent - lines[first].indent
    moved = text_of([line.shifted(columns) for line in lines])
    alone = text_of([*lines[:first], lines[first].shifted(columns), *lines[first + 1 :]])
    best, most = text_of(lines), _sound_lines(text, place)
    for candidate in (moved, alone) if columns else ():
        count = _sound_lines(candidate, place, returning=not lines[first].indent)
        if count > most:
            best, most = candidate, count
    return best


def _sound_lines(text: str, place: Place, *, returning: bool = False) -> int:
    """How many lines with statements would be left of a text; 0 for one that is no body, or does not return."""
    kept = longest_sound_prefix(cut(text, place.entry_point), place)
    program = place.before + kept
    if _fault(program) or returning and not _returns(function_in(parsed(program), place.entry_point)):
        return 0
    return sum(line.stands for line in lines_of(kept))


def longest_sound_prefix(text: str, place: Place, head: str = "") -> str:
    """As many lines of the text as make a program with the entry point behind the prompt; all if none do.

    A compiler reads from the front, so nothing that has the line of its first complaint whole can do.
    """
    before = place.before + head
    if len(before) + len(text) > LONGEST_PARSED:
        return text
    taken, lines = before.count("\n"), text.split("\n")
    count = len(lines)
    while count >= 0:
        kept = "".join(f"{line}\n" for line in lines[:count]) if count < len(lines) else text
        fault = _fault(before + kept)
        if fault is None:
            return kept if function_in(parsed(before + kept), place.entry_point) else text
        count = min(count - 1, (fault.lineno or 1) - 1 - taken)
    return text


_STANDARD = {
    "bisect": "bisect bisect_left bisect_right insort insort_left insort_right",
    "collections": "ChainMap Counter OrderedDict defaultdict deque namedtuple",
    "copy": "copy deepcopy",
    "dataclasses": "dataclass field",
    "datetime": "date datetime timedelta timezone",
    "decimal": "Decimal getcontext",
    "fractions": "Fraction",
    "functools": "cache cmp_to_key lru_cache partial reduce",
    "hashlib": "md5 sha256",
    "heapq": "heapify heappop heappush heapreplace nlargest nsmallest",
    "itertools": "accumulate chain combinations combinations_with_replacement count cycle groupby islice permutations "
                 "product starmap takewhile zip_longest",
    "json": "",
    "math": "ceil comb cos factorial floor gcd inf isqrt lcm log log10 log2 pi prod radians sin sqrt tan",
    "operator": "add attrgetter itemgetter mul",
    "random": "choice randint shuffle",
    "re": "",
    "statistics": "mean median mode stdev",
    "string": "ascii_letters ascii_lowercase ascii_uppercase digits punctuation",
    "sys": "maxsize",
    "typing": "Any Callable Dict FrozenSet Generator Iterable Iterator List Optional Sequence Set Tuple Type TypeVar "
              "Union",
}
"""What gets imported: modules by name, and those of their names by which people know them."""
_HOMES = {name: module for module, names in _STANDARD.items() for name in names.split()}


def with_imports(text: str, place: Place, head: str = "") -> str:
    """The text with imports in front of what it takes from the standard library and nothing binds."""
    before = place.before + head
    tree = parsed(before + text)
    lines = lines_of(text)
    first = next((line for line in lines if line.stands), None)
    if tree is None or first is None:
        return text
    wanted = _imports(tree, since=before.count("\n") + 1)
    return text_of([*(Line(" " * first.indent + line, True) for line in wanted), *lines])


def _imports(tree: ast.Module, since: int) -> list[str]:
    """Import statements for names that are used from line `since` on; none where a `*` may bind anything."""
    used: set[str] = set()
    attributes: dict[str, set[str]] = {}
    bound = set(dir(builtins))
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name)):
                attributes.setdefault(name, set()).add(node.attr)
            case ast.Name(id=name, ctx=ast.Load()):
                used |= {name} if node.lineno >= since else set()
            case ast.Name(id=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.arg(arg=name):
                bound.add(name)
            case ast.ClassDef(name=name) | ast.MatchStar(name=name) | ast.ExceptHandler(name=name):
                bound.add(name or "")
            case ast.MatchAs(name=name) | ast.MatchMapping(rest=name):
                bound.add(name or "")
            case ast.alias():
                bound.add((node.asname or node.name).partition(".")[0])
    if "*" in bound:
        return []
    found = []
    for name in sorted(used - bound):
        parts = attributes.get(name, set()) if name in _STANDARD else set()
        if parts and (name not in _HOMES or parts & set(_STANDARD[name].split())):
            found.append(f"import {name}")
        elif name in _HOMES:
            found.append(f"from {_HOMES[name]} import {name}")
    return found
