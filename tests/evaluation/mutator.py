"""Solutions with one fault, such as models write: HumanEval's own ones, each edited in one place of its text.

An edit is found on the syntax tree and made on the source, so that the rest of the text stays what a person wrote. The
list is the same every time: it depends on the problems and on the seed alone. Nothing is executed here.
"""

from __future__ import annotations

import ast
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.data.humaneval import Problem

_COMPARISONS = {
    "==": "!= >=", "!=": "==", "<": "<= >", "<=": "< >=", ">": ">= <", ">=": "> <=", "in": "==", "is": "!=",
}
_ARITHMETIC = {"+": "- *", "-": "+", "*": "+ **", "/": "// *", "//": "/", "%": "// /", "**": "*"}
_FUNCTIONS = {
    "min": "max", "max": "min", "any": "all", "all": "any", "sum": "len", "len": "sum", "sorted": "list", "set": "list",
    "list": "tuple", "int": "float", "float": "int", "ord": "str", "str": "repr", "abs": "int", "round": "int",
    "range": "list", "map": "filter", "reversed": "sorted", "upper": "lower", "lower": "upper", "swapcase": "title",
    "append": "extend", "isupper": "islower", "islower": "isupper", "startswith": "endswith", "split": "strip",
    "index": "count", "count": "index", "keys": "values",
}
_RETURNS = {
    "wrong type": ("[{}]", "({},)", "str({})", "iter([{}])", "lambda: {}", "{{{}}}"),
    "wrong result": ("not ({})", "-({})", "({}) * 2", "({})[1:]", "({}) + 1", "({}) or None"),
    "missing return": ("print({})", "yield {}"),
}


@dataclass(frozen=True)
class Mutant:
    """A completion that differs from the canonical solution in one place."""

    problem: Problem
    kind: str
    completion: str


@dataclass(frozen=True)
class _Edit:
    """Put `text` in place of what stands from `start` to `end`."""

    kind: str
    start: int
    end: int
    text: str


def mutants(problems: Sequence[Problem], count: int, seed: int = 0) -> list[Mutant]:
    """`count` distinct mutants in the problems' order, as many of each problem as can be.

    Raises:
        ValueError: there are not so many.
    """
    waiting = {problem.task_id: _of_problem(problem, seed) for problem in problems}
    taken: dict[str, list[Mutant]] = {task_id: [] for task_id in waiting}
    left = count
    while left and waiting:
        for task_id in list(waiting)[:left]:
            if (mutant := next(waiting[task_id], None)) is None:
                del waiting[task_id]
            else:
                taken[task_id].append(mutant)
                left -= 1
    if left:
        raise ValueError(f"{count - left} mutants, not {count}, can be made of {len(problems)} problems")
    return [mutant for group in taken.values() for mutant in group]


def _of_problem(problem: Problem, seed: int) -> Iterator[Mutant]:
    """All mutants of one problem, each kind in turn; no two have the same syntax tree, and none has the original's."""
    generator = random.Random(f"{seed} {problem.task_id}")
    text, begin = problem.prompt + problem.canonical_solution, len(problem.prompt)
    kinds: dict[str, list[_Edit]] = defaultdict(list)
    for edit in _Finder(text, begin, generator).found:
        if edit.start >= begin:
            kinds[edit.kind].append(edit)
    for edits in kinds.values():
        generator.shuffle(edits)
    seen = {_tree(text)}
    while kinds:
        for kind in generator.sample(list(kinds), len(kinds)):
            edit = kinds[kind].pop()
            if not kinds[kind]:
                del kinds[kind]
            changed = text[: edit.start] + edit.text + text[edit.end :]
            if (tree := _tree(changed)) not in seen:
                seen.add(tree)
                yield Mutant(problem, kind, changed[begin:])


def _tree(text: str) -> str:
    """The same for programs that differ in layout alone; the text itself where it does not parse."""
    try:
        return ast.dump(ast.parse(text))
    except SyntaxError:
        return text


class _Finder(ast.NodeVisitor):
    """Finds what can be edited. Offsets are right for ASCII, which the solutions are."""

    def __init__(self, text: str, begin: int, generator: random.Random) -> None:
        self.found: list[_Edit] = []
        self._text = text
        self._generator = generator
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        tree = ast.parse(text)
        stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self._names = sorted(stored | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)})
        end = len(text.rstrip())
        self.found.append(_Edit("cut short", generator.randrange((begin + end) // 2, end), len(text), "\n"))
        self.visit(tree)

    def visit(self, node: ast.AST) -> None:
        """What nodes of several kinds have, then what only this kind has."""
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list):
                self._block(block)
        tests = [node.test] if isinstance(node, ast.If | ast.While | ast.IfExp) else getattr(node, "ifs", [])
        for test in tests:
            self._put("negated condition", test, f"not ({self._source(test)})")
        super().visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Left alone: before Python 3.12 its parts do not know where they stand."""

    def visit_Constant(self, node: ast.Constant) -> None:
        """Numbers off by one; other words."""
        value = node.value
        if isinstance(value, bool) or value is None:
            self._put("wrong constant", node, repr(not value))
        elif isinstance(value, int | float):
            for near in (value + 1, value - 1):
                self._put("off by one", node, repr(near))
        elif isinstance(value, str):
            for other in ("", f"{value} ", value[:-1], value.swapcase()):
                self._put("wrong constant", node, repr(other))

    def visit_List(self, node: ast.List) -> None:
        """Lists that begin with something in them, or lack an element."""
        start, end = self._span(node)
        if not node.elts:
            self._put("wrong initial value", node, "[0]")
        elif len(node.elts) > 1:
            self.found.append(_Edit("wrong initial value", start + 1, self._span(node.elts[1])[0], ""))
        self.generic_visit(node)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        """A generator or a set instead of the list."""
        inner = self._source(node)[1:-1]
        self._put("wrong type", node, f"({inner})")
        self._put("wrong type", node, f"{{{inner}}}")
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Other comparisons."""
        for left, right in zip([node.left, *node.comparators], node.comparators, strict=False):
            self._operator("wrong comparison", left, right, _COMPARISONS)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Other arithmetic, and operands in the wrong order."""
        self._operator("wrong arithmetic", node.left, node.right, _ARITHMETIC)
        if not isinstance(node.op, ast.Mult) and self._plain(node.left, node.right):
            self._swap("swapped operands", node.left, node.right)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Other arithmetic."""
        self._operator("wrong arithmetic", node.target, node.value, _ARITHMETIC)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """`and` for `or`, and a part that is missing."""
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._operator("wrong boolean", left, right, {"and": "or", "or": "and"})
        self._put("wrong boolean", node, self._source(self._generator.choice(node.values)))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """A sign or a `not` that is missing."""
        self._put("missing sign or not", node, self._source(node.operand))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        """Other variables, and one that does not exist."""
        if node.id in _FUNCTIONS:
            self._put("wrong function", node, _FUNCTIONS[node.id])
        elif node.id in self._names and isinstance(node.ctx, ast.Load):
            self._put("wrong variable", node, self._generator.choice(self._names))
            if self._generator.random() < 0.1:
                self._put("unknown name", node, f"{node.id}_")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Other methods."""
        if node.attr in _FUNCTIONS:
            end = self._span(node)[1]
            self.found.append(_Edit("wrong function", end - len(node.attr), end, _FUNCTIONS[node.attr]))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """Arguments that change places or are off by one, and a call that is missing."""
        if self._plain(*node.args):
            for one, other in zip(node.args, node.args[1:], strict=False):
                self._swap("swapped arguments", one, other)
        if isinstance(node.func, ast.Name) and node.func.id == "range":
            self._off_by_one(*node.args)
        if isinstance(node.func, ast.Attribute) and not node.args:
            self._put("missing call", node, self._source(node.func.value))
        elif len(node.args) == 1 and not node.keywords:
            self._put("missing call", node, self._source(node.args[0]))
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        """Bounds off by one."""
        self._off_by_one(*(bound for bound in (node.lower, node.upper) if bound is not None))
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        """Results of another type, near the right one, or not returned at all."""
        if node.value is None:
            return
        result = self._source(node.value)
        for kind, forms in _RETURNS.items():
            for form in forms:
                statement = form.format(result)
                self._put(kind, node, statement if kind == "missing return" else f"return {statement}")
        self._put("missing return", node, result)
        self.generic_visit(node)

    def _block(self, block: list[ast.stmt]) -> None:
        """Faults of a sequence of statements: one is missing, two change places, one slips into the block before it."""
        for before, statement in zip([None, *block], block, strict=False):
            if isinstance(statement, ast.FunctionDef) or statement.lineno != statement.end_lineno:
                continue
            self._put("missing statement", statement, "pass")
            inner = [child for child in ast.iter_child_nodes(before or statement) if isinstance(child, ast.stmt)]
            if isinstance(before, ast.For | ast.While | ast.If):
                more = " " * (inner[0].col_offset - statement.col_offset)
                self._put("wrong indentation", statement, f"{more}{self._source(statement)}")
            elif before is not None and not inner:
                self._swap("wrong order", before, statement)

    def _off_by_one(self, *nodes: ast.expr) -> None:
        for node in nodes:
            if not isinstance(node, ast.Constant):
                for sign in "+-":
                    self._put("off by one", node, f"{self._source(node)} {sign} 1")

    def _operator(self, kind: str, left: ast.expr, right: ast.expr, others: dict[str, str]) -> None:
        """Other operators between two operands; besides the operator only blanks and brackets stand there."""
        begin, end = self._span(left)[1], self._span(right)[0]
        match = re.search(r"not\s+in|is\s+not|[^\s()]+", self._text[begin:end])
        assert match is not None
        bare = match[0].removesuffix("=") if match[0] not in others else match[0]
        for other in others.get(bare, "").split():
            self.found.append(_Edit(kind, begin + match.start(), begin + match.start() + len(bare), other))

    def _plain(self, *nodes: ast.expr) -> bool:
        return not any(isinstance(node, ast.Starred | ast.GeneratorExp) for node in nodes)

    def _swap(self, kind: str, one: ast.AST, other: ast.AST) -> None:
        (start, one_end), (other_start, end) = self._span(one), self._span(other)
        between = self._text[one_end:other_start]
        self.found.append(_Edit(kind, start, end, f"{self._source(other)}{between}{self._source(one)}"))

    def _put(self, kind: str, node: ast.AST, text: str) -> None:
        self.found.append(_Edit(kind, *self._span(node), text))

    def _source(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._text[start:end]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        return (self._lines[node.lineno - 1] + node.col_offset,  # type: ignore[attr-defined]
                self._lines[node.end_lineno - 1] + node.end_col_offset)  # type: ignore[attr-defined]
