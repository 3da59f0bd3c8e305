#!/usr/bin/env python3
"""lanes.py - looks for collectives that not all lanes of a warp come by, in compiled kernels.

    lanes.py NVDISASM FOLDER

All lanes of a warp must come by a vote, a shuffle or a reduction, or the kernel hangs. The sources
see to that; a compiler that moves one into a branch that only some lanes take does not (ptxas 13.0
did, docs/device.md). Reported is every collective whose execution hangs on a branch that compares
the number of the lane. Not reported are the shuffles with which the compiler hands out the result
of an addition that it has made once for all lanes. Functions that were not inlined are looked at by
themselves: what their callers hang on is not seen.

Prints a line per finding, then `N passed, N failed, N skipped`: a kernel is a test, and three texts
below, of which two are wrong. Without NVDISASM ('') or kernels in FOLDER it skips.
"""
import concurrent.futures
import glob
import os
import re
import subprocess
import sys

COLLECTIVE = re.compile(r'(VOTE|SHFL|C?REDUX|MATCH)\.')
WRITES_NOTHING = ('ST', 'RED', 'BRA', 'BAR', 'ISETP', 'CALL', 'BSSY', 'BSYNC', 'SYNCS', 'UBLKCP',
                  'BRX', 'CCTL', 'MEMBAR', 'EXIT', 'WARPSYNC')
INSTRUCTION = re.compile(r'^\s+/\*([0-9a-f]{4,6})\*/\s+(.*?)\s*;?\s*$')
PARTS = re.compile(r'(?:@(!?U?P\d+|!?U?PT)\s+)?(\S+)\s*(.*)')
ATOMIC_NEAR = 40  # instructions between an addition and the shuffle of its result

GOOD = """
.text.good:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   LOP3.LUT R7, R0, 0x1f, RZ, 0xc0, !PT ;
        /*0020*/                   VOTE.ANY P1, P0 ;
        /*0030*/                   ISETP.NE.AND P2, PT, R7, RZ, PT ;
        /*0040*/               @P2 BRA `(.L_x_1) ;
        /*0050*/                   STG.E desc[UR12][R4.64], R9 ;
.L_x_1:
        /*0060*/               @P1 EXIT ;
        /*0070*/                   EXIT ;
"""
BAD = """
.text.bad:
        /*0000*/                   S2R R0, SR_TID.X ;
        /*0010*/                   LOP3.LUT R7, R0, 0x1f, RZ, 0xc0, !PT ;
        /*0020*/                   ISETP.NE.AND P2, PT, R7, RZ, PT ;
        /*0030*/               @P2 BRA `(.L_x_1) ;
        /*0040*/                   STG.E desc[UR12][R4.64], R9 ;
        /*0050*/                   BRA.DIV UR4, `(.L_x_2) ;
.L_x_3:
        /*0060*/                   VOTE.ANY P1, P0 ;
.L_x_1:
        /*0070*/                   EXIT ;
.L_x_2:
        /*0080*/                   WARPSYNC.COLLECTIVE R16, `(.L_x_3) ;
        /*0090*/                   BRA `(.L_x_3) ;
"""


BAD_TABLE = """
.text.table:
        /*0000*/                   S2R R7, SR_LANEID ;
        /*0010*/                   BRX R7 -0x20    (*"BRANCH_TARGETS .L_x_1,.L_x_2"*) ;
.L_x_1:
        /*0020*/                   VOTE.ANY P1, P0 ;
.L_x_2:
        /*0030*/                   EXIT ;
"""


class Function:
    """Instructions (address, guard, operation, operands), and where each goes on."""

    def __init__(self, name):
        self.name = name
        self.code = []
        self.labels = {}

    def add(self, line):
        label = re.match(r'^(\.L_x_\d+|\$\S+):', line)
        if label:
            self.labels[label.group(1)] = len(self.code)
        found = INSTRUCTION.match(line)
        if found:
            guard, operation, operands = PARTS.match(found.group(2)).groups()
            self.code.append((found.group(1), guard, operation, operands))

    def after(self, i):
        """Where all lanes may go: what is out of line for lanes that parted (BRA.DIV) comes back
        to the place that it left."""
        _, guard, operation, operands = self.code[i]
        end = len(self.code)
        target = re.search(r'`\((\S+?)\)', operands)
        if operation.startswith('BRA') and '.DIV' not in operation and target:
            go = [self.labels.get(target.group(1), end)]
            # BRA.U has its condition among the operands
            if (guard and guard.strip('!') not in ('PT', 'UPT')) or re.match(r'!?U?P\d', operands):
                go.append(i + 1)
            return go
        if operation == 'BRX':
            go = [self.labels.get(x, end) for x in re.findall(r'\.L_x_\d+', operands)] or [end]
            return go + [i + 1] if guard else go
        if operation.startswith(('EXIT', 'RET')):
            return [end, i + 1] if guard else [end]
        return [i + 1]


def functions(text):
    found = []
    for line in text.split('\n'):
        name = re.match(r'^\.text\.(\S+):', line)
        if name:
            found.append(Function(name.group(1)))
        elif found:
            found[-1].add(line)
    return found


class Flow:
    """Blocks of a function and what each hangs on."""

    def __init__(self, f):
        n = len(f.code)
        go = [f.after(i) for i in range(n)]
        starts = {0} | set(f.labels.values())
        for i in range(n):
            if go[i] != [i + 1]:
                starts |= {i + 1} | set(go[i])
        self.starts = sorted(s for s in starts if s < n)
        self.of = {}
        for b, s in enumerate(self.starts):
            for i in range(s, self.end(b, n)):
                self.of[i] = b
        self.exit = len(self.starts)
        self.next = [sorted({self.of.get(t, self.exit) for t in go[self.end(b, n) - 1]})
                     for b in range(self.exit)]
        self.last = [self.end(b, n) - 1 for b in range(self.exit)]
        self.dominators()

    def end(self, b, n):
        return self.starts[b + 1] if b + 1 < len(self.starts) else n

    def order(self):
        """Blocks from which the end can be reached, the end first."""
        back = [[] for _ in range(self.exit + 1)]
        for b, targets in enumerate(self.next):
            for t in targets:
                back[t].append(b)
        seen, order, stack = {self.exit}, [], [(self.exit, iter(back[self.exit]))]
        while stack:
            b, rest = stack[-1]
            for t in rest:
                if t not in seen:
                    seen.add(t)
                    stack.append((t, iter(back[t])))
                    break
            else:
                order.append(b)
                stack.pop()
        return order[::-1]

    def dominators(self):
        """self.above[b]: the block that every way from b to the end comes by first."""
        order = self.order()
        place = {b: i for i, b in enumerate(order)}
        above = {self.exit: self.exit}
        changed = True
        while changed:
            changed = False
            for b in order[1:]:
                new = None
                for t in self.next[b]:
                    if t in above:
                        new = t if new is None else self.common(above, place, new, t)
                if above.get(b) != new:
                    above[b] = new
                    changed = True
        self.above = above

    @staticmethod
    def common(above, place, a, b):
        while a != b:
            while place[a] > place[b]:
                a = above[a]
            while place[b] > place[a]:
                b = above[b]
        return a

    def hangs_on(self):
        """Block: the blocks whose last instruction decides whether it runs."""
        deciders = {}
        for b in range(self.exit):
            if len(self.next[b]) < 2 or b not in self.above:
                continue
            for t in self.next[b]:
                while t != self.above[b] and t in self.above and t != self.exit:
                    deciders.setdefault(t, set()).add(b)
                    t = self.above[t]
        return deciders


class Values:
    """What registers and predicates may hold, by the instructions that may have set them last."""

    def __init__(self, f):
        self.code = f.code
        self.parts = [operands_of(c[3]) for c in f.code]
        self.before = [[] for _ in f.code]
        for i in range(len(f.code)):
            for t in f.after(i):
                if t < len(f.code):
                    self.before[t].append(i)

    def sets(self, i, name):
        _, _, operation, _ = self.code[i]
        parts = self.parts[i]
        if operation.startswith(WRITES_NOTHING) and not operation.startswith('ISETP'):
            return False
        if 'P' in name:
            return name in parts[:2] and not operation.startswith('SEL')
        if not re.match(r'R\d', parts[0] if parts else '') or not re.match(r'R\d', name):
            return False
        wide = 4 if '.128' in operation else 2 if re.search(r'\.64|WIDE', operation) else 1
        return 0 <= int(name[1:]) - int(parts[0][1:]) < wide

    def setters(self, i, name):
        """Of what `name` holds before instruction i."""
        found, seen, stack = [], set(), list(self.before[i])
        while stack:
            j = stack.pop()
            if j in seen:
                continue
            seen.add(j)
            if self.sets(j, name):
                found.append(j)
                if not self.code[j][1]:
                    continue
            stack.extend(self.before[j])
        return found

    def always(self, i, name, what):
        setters = self.setters(i, name)
        return bool(setters) and all(what(j) for j in setters)

    def is_thread(self, i):
        return self.code[i][2] == 'S2R' and 'SR_TID.X' in self.parts[i]

    def is_lane(self, i):
        """Copies are not followed: as an argument of a function, one becomes its result."""
        parts = self.parts[i]
        if 'SR_LANEID' in parts:
            return True
        return (self.code[i][2].startswith('LOP3') and len(parts) > 4 and parts[2] == '0x1f' and
                parts[4] == '0xc0' and self.always(i, parts[1], self.is_thread))

    def compares_lane(self, i):
        """And nothing else? With more in it, which may be the same for all lanes, it says
        nothing."""
        parts = self.parts[i]
        return (self.code[i][2].startswith('ISETP') and parts[-1] == 'PT' and
                any(re.match(r'R\d', p) and self.always(i, p, self.is_lane) for p in parts[2:]))


def operands_of(text):
    return [o.strip().replace('.reuse', '') for o in text.split(',')]


def findings(f):
    flow, values, found = Flow(f), Values(f), []
    deciders = flow.hangs_on()
    for i, (address, _, operation, operands) in enumerate(f.code):
        if not COLLECTIVE.match(operation):
            continue
        before = [c[2] for c in f.code[max(0, i - ATOMIC_NEAR):i]]
        if operation.startswith('SHFL.IDX') and any(o.startswith('ATOM') for o in before):
            continue
        for b in deciders.get(flow.of[i], ()):
            branch = flow.last[b]
            guard = (f.code[branch][1] or '').strip('!')
            table = f.code[branch][2] == 'BRX' and f.code[branch][3].split()[0]
            if (guard and values.always(branch, guard, values.compares_lane)) or (
                    table and values.always(branch, table, values.is_lane)):
                found.append('%s: %s %s at %s hangs on the lane at %s' % (
                    f.name, operation, operands, address, f.code[branch][0]))
    return found


def check(name, text, wanted):
    """Is it as wanted, and the lines that say so?"""
    found = [x for f in functions(text) for x in findings(f)]
    good = bool(found) == wanted and 'text.' in text
    head = '%s %s%s' % ('ok  ' if good else 'FAIL', name, '' if found else ', no finding')
    return good, [head] + ['     ' + line for line in found]


def check_file(job):
    nvdisasm, path = job
    done = subprocess.run([nvdisasm, '-c', path], capture_output=True, text=True, check=False)
    if done.returncode:
        return False, ['FAIL %s: %s' % (path, done.stderr.strip())]
    return check(os.path.basename(path), done.stdout, False)


def main():
    nvdisasm = sys.argv[1]
    paths = sorted(glob.glob(os.path.join(sys.argv[2], '*.cubin')))
    results = [check('a right text', GOOD, False), check('a wrong text', BAD, True),
               check('a wrong table', BAD_TABLE, True)]
    if nvdisasm and paths:
        with concurrent.futures.ProcessPoolExecutor() as pool:
            results += pool.map(check_file, [(nvdisasm, path) for path in paths])
    for _, lines in results:
        print('\n'.join(lines))
    missing = not (nvdisasm and paths)
    if missing:
        print('skip lanes: there is no %s' % ('compiled kernel' if nvdisasm else 'nvdisasm'))
    passed = sum(good for good, _ in results)
    print('%d passed, %d failed, %d skipped' % (passed, len(results) - passed, missing))
    return passed != len(results)


if __name__ == '__main__':
    sys.exit(main())
