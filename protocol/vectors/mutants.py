#!/usr/bin/env python3
"""Shows that the vectors notice every mistake in a codec: makes each small mistake in motion.py that a
machine can think of, and checks that motion.txt tells.

Run:  python3 protocol/vectors/mutants.py [--list]

A mistake is a number that is off by one, another operator or comparison, a branch the other way
round, a missing statement or clamp. Ends with an error if the vectors do not notice one that is not
in EQUIVALENT. Takes half a minute on two cores.
"""

import ast
import collections
import multiprocessing
import pathlib
import signal
import sys
import types

import check_motion

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = (HERE / "motion.py").read_text()
# Seconds of computing after which a mutant is one that never ends.
PATIENCE = 3

# Mistakes that change nothing: why nobody can tell, where they are, and what they make of a line.
EQUIVALENT = {
    "a decoder does not use what an encoder would say": """
Tick.code: wanted = ids.index(waking[done]) - at if waking else 0 => wanted = ids.index(waking[done]) - at if waking else -1
Tick.code: wanted = ids.index(waking[done]) - at if waking else 0 => wanted = ids.index(waking[done]) - at if waking else 1
Tick.jump: largest, turn_steps = turned or (0, NOTHING) => largest, turn_steps = turned or (-1, NOTHING)
Tick.jump: largest, turn_steps = turned or (0, NOTHING) => largest, turn_steps = turned or (1, NOTHING)
Tick.residual: off, largest, turns = fields or (NOTHING, 0, NOTHING) => off, largest, turns = fields or (NOTHING, -1, NOTHING)
Tick.residual: off, largest, turns = fields or (NOTHING, 0, NOTHING) => off, largest, turns = fields or (NOTHING, 1, NOTHING)
""",
    "0 does not come here, and an encoder of ours does not send -1": """
View.number: negative = self.ask(1, value < 0) => negative = self.ask(1, value < -1)
View.number: negative = self.ask(1, value < 0) => negative = self.ask(1, value < 1)
View.number: negative = self.ask(1, value < 0) => negative = self.ask(1, value <= 0)
""",
    "0 is 0 by either way": """
quot: return a // b if a >= 0 else -(-a // b) => return a // b if a > 0 else -(-a // b)
quot: return a // b if a >= 0 else -(-a // b) => return a // b if a >= 1 else -(-a // b)
""",
    "the rule for larger sizes gives the same for size 3": """
numbers_of: if size < 4: => if size < 3:
""",
    "eight bits are gone after eight ticks and after more": """
State.advance: self.history = self.history << min(ticks, 8) & 255 => self.history = self.history << min(ticks, 9) & 255
State.advance: self.history = self.history << min(ticks, 8) & 255 => self.history = self.history << ticks & 255
""",
    "a jump in so many ticks gains as little by either number": """
State.correct: n = clamp(self.age, 1, 65536) => n = clamp(self.age, 1, 65535)
""",
    "a number that is forced into bounds is shorter than 9 bytes, and the longer form is refused": """
Reader.pose: position = into_world([self.zigzag(32) for _ in range(3)]) => position = into_world([self.zigzag(33) for _ in range(3)])
State.read: state.velocity = [clamp(reader.zigzag(32), -top, top) for _ in range(3)] => state.velocity = [clamp(reader.zigzag(33), -top, top) for _ in range(3)]
State.read: state.acceleration = [clamp(reader.zigzag(32), -top_acceleration, top_acceleration) for _ in range(3)] => state.acceleration = [clamp(reader.zigzag(33), -top_acceleration, top_acceleration) for _ in range(3)]
""",
    "of more woken cubes than there are, one is not there or not settled": """
Tick.code: if woken > len(settled): => if False:
Tick.code: raise Malformed('more cubes wake than are settled') => pass
""",
    "P is 65,535 for 175 as for 176, and is asked for no more": """
View.ask: return self.coder.decide(PROBABILITIES[clamp(total, -176, 176)], answer) => return self.coder.decide(PROBABILITIES[clamp(total, -175, 176)], answer)
View.ask: return self.coder.decide(PROBABILITIES[clamp(total, -176, 176)], answer) => return self.coder.decide(PROBABILITIES[clamp(total, -176, 175)], answer)
logistic: for s in range(177): => for s in range(178):
""",
    "the 353 values are the same by a factor that is 1 of 2^60 off": """
logistic: power = power * 1083069521826238951 >> 60 => power = power * 1083069521826238950 >> 60
logistic: power = power * 1083069521826238951 >> 60 => power = power * 1083069521826238952 >> 60
""",
    "the last bit is 0 after a shift": """
RangeEncoder.decide: self.low = self.low << 8 & 4294967295 => self.low = self.low << 8 & 4294967294
""",
    "a byte earlier or later, the encoder writes the same: from a range of exactly 2^24 all bounds are 256 times as large": """
RangeEncoder.decide: while self.range < 1 << 24: => while self.range <= 1 << 24:
""",
    "low is below 2^32, so both give 1, or 0 for 0": """
RangeEncoder.finish: end, last = (self.low + self.range, -(-self.low >> 32) << 32) => end, last = (self.low + self.range, -(-self.low >> 33) << 32)
""",
}


# What a machine can think of. Each function yields changed copies of a node.

BINARY = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Add],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.LShift: [ast.RShift],
    ast.RShift: [ast.LShift],
    ast.BitOr: [ast.BitAnd],
    ast.BitAnd: [ast.BitOr],
}
COMPARED = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
# Calls that a careless author leaves out, or puts in the wrong place.
FIRST_ARGUMENT = {"clamp", "abs", "min", "max", "into_world", "limited", "class_of"}


def changed(node, **fields):
    copy = type(node)(**{name: getattr(node, name) for name in node._fields})
    for name, value in fields.items():
        setattr(copy, name, value)
    return ast.copy_location(copy, node)


def mutations(node, parent):
    match node:
        case ast.Constant(value=bool()):
            yield changed(node, value=not node.value)
        case ast.Constant(value=int()):
            yield changed(node, value=node.value + 1)
            yield changed(node, value=node.value - 1)
        case ast.BinOp() | ast.AugAssign():
            for op in BINARY.get(type(node.op), []):
                yield changed(node, op=op())
        case ast.Compare(ops=[op]):
            for other in COMPARED[type(op)]:
                yield changed(node, ops=[other()])
        case ast.BoolOp():
            yield changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
            yield from (one for one in node.values if len(node.values) == 2)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield node.operand
        case ast.If() | ast.While():
            yield changed(node, test=ast.copy_location(ast.Constant(False), node))
            if isinstance(node, ast.If):
                yield changed(node, test=ast.copy_location(ast.Constant(True), node))
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.Call(func=ast.Name(id=name)):
            if name in CALLS:
                yield changed(node, func=ast.copy_location(ast.Name(CALLS[name], ast.Load()), node))
            if name in FIRST_ARGUMENT and not isinstance(node.args[0], ast.Starred):
                yield node.args[0]
            if name == "quot":
                yield ast.copy_location(ast.BinOp(node.args[0], ast.FloorDiv(), node.args[1]), node)
        case ast.Assign() | ast.Expr() | ast.Raise():
            if not isinstance(getattr(node, "value", None), ast.Constant):
                yield ast.copy_location(ast.Pass(), node)
    # The places of two parts changed: a reader takes x for y.
    if isinstance(node, (ast.Tuple, ast.List)) and not isinstance(parent, ast.comprehension):
        for at in range(len(node.elts) - 1):
            elts = list(node.elts)
            elts[at : at + 2] = elts[at + 1], elts[at]
            yield changed(node, elts=elts)


def places(tree):
    """Yields each node that can be changed: its holder, field and index there, where it is."""

    def inside(parent, where):
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    is_named = isinstance(node, (ast.ClassDef, ast.FunctionDef))
                    path = where + [node.name] if is_named else where
                    if not isinstance(node, (ast.Assert, ast.JoinedStr, ast.arguments)):
                        yield parent, field, index, node, path
                        yield from inside(node, path)

    yield from inside(tree, [])


def statements(tree):
    """Returns the statement around each node, by identity."""
    around = {}

    def mark(node, statement):
        statement = node if isinstance(node, ast.stmt) else statement
        around[id(node)] = statement
        for child in ast.iter_child_nodes(node):
            mark(child, statement)

    mark(tree, tree)
    return around


def head(statement):
    """The first line of a statement, as Python would write it."""
    return ast.unparse(statement).split("\n")[0]


class Mutants:
    """The code of motion.py, a top level statement each, of which one is changed at a time."""

    def __init__(self):
        self.tree = ast.parse(SOURCE)
        self.code = [self.compiled(part) for part in self.tree.body]

    @staticmethod
    def compiled(part):
        return compile(ast.Module([part], []), "motion.py", "exec")

    def all(self):
        """Yields the name and the code of each mutant."""
        seen = collections.Counter()
        for index, part in enumerate(self.tree.body):
            around = statements(part)
            for parent, field, at, node, where in list(places(ast.Module([part], []))):
                statement = around[id(node)]
                before = head(statement)
                for other in mutations(node, parent):
                    self.put(parent, field, at, other)
                    changed_part = other if node is part else part
                    is_gone = statement is node and isinstance(other, ast.Pass)
                    after = "pass" if is_gone else head(other if statement is node else statement)
                    if after != before:
                        name = f"{'.'.join(where)}: {before} => {after}"
                        seen[name] += 1
                        name = name if seen[name] == 1 else f"{name} ({seen[name]})"
                        yield name, index, changed_part
                    self.put(parent, field, at, node)

    @staticmethod
    def put(parent, field, at, node):
        if at is None:
            setattr(parent, field, node)
        else:
            getattr(parent, field)[at] = node

    def module(self, index=None, part=None):
        """Returns motion.py, with another part in one place."""
        module = types.ModuleType("motion")
        module.__file__ = str(HERE / "motion.py")
        for at, code in enumerate(self.code):
            exec(self.compiled(part) if at == index else code, module.__dict__)
        return module


def traces():
    """Returns the lines of each trace: they do not depend on each other."""
    traces = []
    for line in (HERE / "motion.txt").read_text().splitlines():
        if line.startswith("trace"):
            traces.append([])
        if line and not line.startswith("#"):
            traces[-1].append(line.split())
    return traces


def too_long(*_):
    raise TimeoutError


def survives(mutants, change, traces):
    """Whether no trace tells. The one that tells comes first from then on."""
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    trace = traces[0]
    try:
        module = mutants.module(*change)
        for trace in traces:
            check = check_motion.Check(module)
            for words in trace:
                check.line(words)
    except Exception:
        traces.insert(0, traces.pop(traces.index(trace)))
        return False
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return True


def part(share):
    """Tries every mutant of a share: each `of`th one from `first`."""
    first, of = share
    signal.signal(signal.SIGVTALRM, too_long)
    mutants, lines = Mutants(), traces()
    survivors, count = [], 0
    for number, (name, *change) in enumerate(mutants.all()):
        if number % of == first:
            count += 1
            if survives(mutants, change, lines):
                survivors.append(name)
    return count, survivors


def plain(name):
    """A name without the brackets and blanks that versions of Python write differently."""
    return name.translate({ord(each): None for each in "() "})


def main():
    if not survives(Mutants(), (), traces()):
        sys.exit("motion.py does not do what motion.txt says: run check_motion.py")
    if "--list" in sys.argv:
        print(*(name for name, *_ in Mutants().all()), sep="\n")
        return
    of = multiprocessing.cpu_count()
    with multiprocessing.Pool(of) as pool:
        results = pool.map(part, [(first, of) for first in range(of)], chunksize=1)
    count = sum(count for count, _ in results)
    survivors = {name for _, names in results for name in names}
    survivors = {plain(name): name for name in survivors}
    equivalent = {plain(name): name for names in EQUIVALENT.values() for name in names.split("\n")}
    del equivalent[""]
    unknown = [name for key, name in survivors.items() if key not in equivalent]
    killed = [name for key, name in equivalent.items() if key not in survivors]
    print(
        f"{count} mutants: the vectors notice {count - len(survivors)}, "
        f"{len(survivors) - len(unknown)} are known to be equivalent"
    )
    for name in sorted(unknown):
        print(f"survives: {name}")
    for name in sorted(killed):
        print(f"in EQUIVALENT, but noticed or not there any more: {name}")
    sys.exit(1 if unknown or killed else 0)


if __name__ == "__main__":
    main()
