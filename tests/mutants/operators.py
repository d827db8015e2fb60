"""Single mutations of a module, made on its syntax tree: which there are, and the code with one of them made.

Not mutated, since no test could or should notice: docstrings, annotations, decorators, `__all__`, and the wording of
exceptions, logs and type variables.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import CodeType

Replace = Callable[[], ast.AST]
Function = ast.FunctionDef | ast.AsyncFunctionDef

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}  # fmt: skip
_EXITS = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_LOGGERS = frozenset({"log", "_log", "logger", "logging", "warnings"})
_TYPING = frozenset({"TypeVar", "NewType", "ParamSpec", "cast"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mutation: where, what stood there, what stands there now."""

    number: int
    """Its place among the mutations of the module as the module is now."""
    line: int
    lines: frozenset[int]
    """The lines of which a test must run one to notice it."""
    within: str
    """The qualified name of the function or class around it; empty at module level."""
    operator: str
    before: str
    after: str
    function: tuple[str, int] | None
    """Qualified name and first line of the outermost function whose body it is in; None if it acts at import."""
    nth: int = 1
    """Which of several alike in one function."""

    @property
    def key(self) -> str:
        """A name that survives changes elsewhere in the module."""
        nth = f" #{self.nth}" if self.nth > 1 else ""
        return f"{self.within}: {self.operator}: {self.before} -> {self.after}{nth}"


def mutants(source: str) -> list[Mutant]:
    """Returns every mutation of a module.

    >>> [mutant.key for mutant in mutants("def f(x):\\n    return x < 2\\n")]
    ['f: return nothing: return x < 2 -> return None', 'f: comparison: x < 2 -> x <= 2', 'f: constant: 2 -> 3']
    """
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for number, site in enumerate(_sites(ast.parse(source))):
        mutant = _describe(number, site)
        seen[mutant.key] += 1
        found.append(replace(mutant, nth=seen[mutant.key]) if seen[mutant.key] > 1 else mutant)
    return found


def mutated(source: str, number: int, path: str) -> CodeType:
    """Returns the compiled module with one mutation made; line numbers stay."""
    tree = ast.parse(source)
    site = next(site for n, site in enumerate(_sites(tree)) if n == number)
    site.make()
    return compile(ast.fix_missing_locations(tree), path, "exec")


@dataclass(slots=True)
class _Site:
    """A node with one replacement; `around` are its ancestors, outermost first, each with the field that holds the
    next."""

    node: ast.AST
    around: tuple[tuple[ast.AST, str, int | None], ...]
    operator: str
    replacement: Replace

    def make(self) -> ast.AST:
        parent, field, index = self.around[-1]
        new = ast.copy_location(self.replacement(), self.node)
        if index is None:
            setattr(parent, field, new)
        else:
            getattr(parent, field)[index] = new
        return new


def _sites(tree: ast.Module) -> Iterator[_Site]:
    yield from _walk(tree, ())


def _walk(node: ast.AST, around: tuple[tuple[ast.AST, str, int | None], ...]) -> Iterator[_Site]:
    for operator, replacement in _replacements(node):
        yield _Site(node, around, operator, replacement)
    for field, value in ast.iter_fields(node):
        if _skipped(node, field):
            continue
        if isinstance(value, ast.AST):
            yield from _walk(value, (*around, (node, field, None)))
        elif isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST) and not _is_docstring(child):
                    yield from _walk(child, (*around, (node, field, index)))


def _skipped(node: ast.AST, field: str) -> bool:
    """Whether nothing below this field is mutated."""
    if field in {"annotation", "returns", "decorator_list", "type_params"}:
        return True
    if isinstance(node, ast.Raise | ast.Assert):
        return True
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    if isinstance(node, ast.Call) and field != "func":
        name = node.func
        owner = name.value if isinstance(name, ast.Attribute) else name
        return isinstance(owner, ast.Name) and owner.id in _LOGGERS | _TYPING
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_docstring(child: ast.AST) -> bool:
    return isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)


def _replacements(node: ast.AST) -> Iterator[tuple[str, Replace]]:
    """The mutations of one node: (operator, function that builds the replacement)."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield "comparison", lambda: _with(node, ops=[_COMPARISONS[type(op)]()])
        case ast.BoolOp(op=op, values=values):
            other = ast.Or() if isinstance(op, ast.And) else ast.And()
            yield "and, or", lambda: _with(node, op=other)
            for index in range(len(values)):
                yield f"operand {index + 1} dropped", lambda index=index: _without(node, index)
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", lambda: node.operand
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC and not _formats(node):
            yield "arithmetic", lambda: _with(node, op=_ARITHMETIC[type(op)]())
        case ast.IfExp():
            yield "always", lambda: node.body
            yield "never", lambda: node.orelse
        case ast.If(orelse=[]) if isinstance(node.body[-1], _EXITS):
            yield "guard removed", ast.Pass
        case ast.comprehension(ifs=ifs):
            for index in range(len(ifs)):
                yield f"filter {index + 1} dropped", lambda index=index: _with(node, ifs=ifs[:index] + ifs[index + 1 :])
        case ast.Continue():
            yield "continue, break", ast.Break
        case ast.Break():
            yield "continue, break", ast.Continue
        case ast.Expr(value=ast.Call(func=called)) if not _logs(called):
            yield "call removed", ast.Pass
        case ast.Return(value=value) if value is not None and not _is_none(value):
            yield "return nothing", lambda: ast.Return(value=ast.Constant(value=None))
        case ast.Constant(value=bool() as value):
            yield "constant", lambda: ast.Constant(value=not value)
        case ast.Constant(value=(int() | float()) as value):
            yield "constant", lambda: ast.Constant(value=value + 1)
        case ast.Constant(value=str() as value):
            yield "string", lambda: ast.Constant(value=f"{value}~")


def _with(node: ast.AST, **changes: object) -> ast.AST:
    new = copy.copy(node)
    for field, value in changes.items():
        setattr(new, field, value)
    return new


def _without(node: ast.BoolOp, index: int) -> ast.AST:
    kept = node.values[:index] + node.values[index + 1 :]
    return kept[0] if len(kept) == 1 else _with(node, values=kept)


def _formats(node: ast.BinOp) -> bool:
    """Whether an operand is text: adding text cannot become subtracting it. Types joined by | are no numbers either."""
    operands = (node.left, node.right)
    return any(isinstance(part, ast.JoinedStr) for part in operands) or any(
        isinstance(part, ast.Constant) and (isinstance(part.value, str) or part.value is None) for part in operands
    )


def _logs(called: ast.expr) -> bool:
    return isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in _LOGGERS


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _describe(number: int, site: _Site) -> Mutant:
    chain = [node for node, _, _ in site.around]
    names = [node.name for node in chain if isinstance(node, Function | ast.ClassDef)]
    statement = next(node for node in reversed((*chain, site.node)) if isinstance(node, ast.stmt))
    place = site.node if hasattr(site.node, "lineno") else _first_with_line(site.node)
    first, last = place.lineno, getattr(place, "end_lineno", place.lineno)
    if isinstance(place, ast.If):  # a guard: its condition is what a test must reach
        last = place.test.end_lineno
    before = _text(site.node)
    return Mutant(
        number=number,
        line=first,
        lines=frozenset({statement.lineno, *range(first, (last or first) + 1)}),
        within=".".join(names),
        operator=site.operator,
        before=before,
        after=_text(site.replacement()) if site.operator != "guard removed" else "pass",
        function=_outermost_function(site),
    )


def _first_with_line(node: ast.AST) -> ast.AST:
    return next(child for child in ast.walk(node) if hasattr(child, "lineno"))


def _outermost_function(site: _Site) -> tuple[str, int] | None:
    """The outermost function whose body holds the node: its default values and decorators are of its outside."""
    names = []
    for node, field, _ in site.around:
        if isinstance(node, ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, Function) and field == "body":
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return ".".join([*names, node.name]), first
        elif isinstance(node, Function):
            return None
    return None


def _text(node: ast.AST) -> str:
    """One line of at most 90 characters that shows a node."""
    if isinstance(node, ast.comprehension):
        text = " if ".join([f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}", *map(ast.unparse, node.ifs)])
    else:
        text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:87]}..."
