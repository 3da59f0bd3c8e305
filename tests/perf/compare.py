#!/usr/bin/env python3
"""compare.py - Switchyard beside a dispatch/combine over MPI_Alltoallv, alternately in one go.

Both programs make the same batches and time the same things (mpi_alltoallv.c says how). Each is run
in turn, some rounds long; of each operation the round with the least average counts, on both sides,
so that a disturbance of one round tells against nobody. Exits 1 if a result of either is wrong, or
if Switchyard is not as many times faster as --need says; 77 if there is no MPI here.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys

LATENCY_TOKENS = 512  # above, latency mode is not for it
OPS = ('dispatch', 'combine', 'both')


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--build', default='build', help='where switchyard and perf/ are (build)')
    p.add_argument('--ranks', type=int, default=8)
    p.add_argument('--tokens', default='128,4096', help='of each rank (128,4096)')
    p.add_argument('--hidden', type=int, default=7168)
    p.add_argument('--topk', type=int, default=8)
    p.add_argument('--experts', type=int, default=256)
    p.add_argument('--routing', default='uniform')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--need', type=float, default=2.0, help='times faster than MPI (2)')
    p.add_argument('--mpi-options', default='', help='more options for mpirun')
    return p.parse_args()


def run(command):
    """The JSON object that a program prints. Its errors are ours."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode:
        sys.exit('%s ended with %d' % (command[0], done.returncode))
    return json.loads(done.stdout)


def shape(a, tokens):
    iters = (50, 10) if tokens <= LATENCY_TOKENS else (5, 1)
    return ['--tokens', str(tokens), '--hidden', str(a.hidden), '--topk', str(a.topk), '--experts',
            str(a.experts), '--routing', a.routing, '--iters', str(iters[0]), '--warmup',
            str(iters[1])]


def switchyard(a, tokens, verify):
    """{mode: {op: us}}; dispatch with routing, as both modes need it for a new batch."""
    command = [os.path.join(a.build, 'switchyard'), 'bench', '--ranks', str(a.ranks), '--json', '-']
    if tokens > LATENCY_TOKENS:
        command += ['--mode', 'throughput']
    report = run(command + shape(a, tokens) + ['--verify'] * verify)
    modes = {}
    for r in report['results']:
        if r['verified'] is False or (verify and r['verified'] is not True):
            sys.exit('switchyard: a result of %s is wrong' % r['op'])
        if r['tokens'] != tokens:
            sys.exit('switchyard: there is no memory for %d tokens' % tokens)
        times = modes.setdefault(r['mode'], {'dispatch': 0, 'combine': 0})
        times['combine' if r['op'] == 'combine' else 'dispatch'] += r['us_avg']
    return modes


def mpi(a, tokens):
    command = ['mpirun', '--oversubscribe', '-n', str(a.ranks)]
    if os.geteuid() == 0:
        command.append('--allow-run-as-root')
    report = run(command + a.mpi_options.split() + [os.path.join(a.build, 'perf/mpi_alltoallv')] +
                 shape(a, tokens))
    if report['verified'] is not True:
        sys.exit('MPI: a result is wrong')
    us = {r['op']: r['us_avg'] for r in report['results']}
    return {'dispatch': us['route'] + us['dispatch'], 'combine': us['combine']}


def keep_least(kept, times):
    for op, us in times.items():
        kept[op] = min(us, kept.get(op, us))


def both(times):
    return dict(times, both=times['dispatch'] + times['combine'])


def compare(a, tokens):
    """Prints the rows of this number of tokens. The smaller ratio of dispatch and combine, of the
    mode that is faster there and back."""
    theirs, ours = {}, {}
    for i in range(a.rounds):
        print('%d tokens, round %d of %d' % (tokens, i + 1, a.rounds), file=sys.stderr)
        for mode, times in switchyard(a, tokens, i == 0).items():
            keep_least(ours.setdefault(mode, {}), times)
        keep_least(theirs, mpi(a, tokens))
    theirs = both(theirs)
    best = None
    for mode, times in ours.items():
        times = both(times)
        for op in OPS:
            print('%7d  %-10s  %-9s %12.0f %12.0f %8.2f' % (tokens, mode, op, theirs[op], times[op],
                                                          theirs[op] / times[op]))
        ratio = min(theirs[op] / times[op] for op in OPS)
        if best is None or times['both'] < best[0]:
            best = (times['both'], ratio, mode)
    return best[1], best[2]


def main():
    a = arguments()
    if not shutil.which('mpirun'):
        print('skip: there is no mpirun to compare with')
        return 77
    print('%d ranks, hidden %d, %d of %d experts, %s routing; microseconds, average over ranks;\n'
          'dispatch with routing; the best of %d rounds each\n' %
          (a.ranks, a.hidden, a.topk, a.experts, a.routing, a.rounds))
    print(' tokens  mode        operation   Alltoallv   switchyard    ratio')
    missed = 0
    for tokens in [int(t) for t in a.tokens.split(',')]:
        ratio, mode = compare(a, tokens)
        enough = ratio >= a.need
        missed += not enough
        print('         %s mode: at least %.2f times faster; %.2f are wanted%s\n' %
              (mode, ratio, a.need, '' if enough else ': MISSED'))
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
