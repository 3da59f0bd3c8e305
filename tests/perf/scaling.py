#!/usr/bin/env python3
"""scaling.py - what a rank pays when more ranks share the same tokens.

Runs `switchyard bench` with a fixed total number of tokens on 2 to 16 ranks. With more ranks a
token goes to more of them, so more bytes move in all; a rank's cost may grow as its bytes do, and
no faster. Cost is processor time: ranks that share a core pay only for their part of it. Exits 1 if
an operation's cost per byte at any number of ranks is above that of the fewest by more than
--tolerance.
"""
import argparse
import json
import os
import subprocess
import sys


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--build', default='build', help='where switchyard is (build)')
    p.add_argument('--ranks', default='2,4,8,16')
    p.add_argument('--total-tokens', type=int, default=8192)
    p.add_argument('--hidden', type=int, default=7168)
    p.add_argument('--mode', default='throughput')
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--tolerance', type=float, default=0.10)
    return p.parse_args()


def measure(a):
    """{(mode, op): {ranks: result}}: of each the round with the least time."""
    command = [os.path.join(a.build, 'switchyard'), 'bench', '--ranks', a.ranks, '--total-tokens',
               str(a.total_tokens), '--hidden', str(a.hidden), '--mode', a.mode, '--op',
               'dispatch,combine', '--json', '-']
    kept = {}
    cores = 1
    for i in range(a.rounds):
        print('round %d of %d' % (i + 1, a.rounds), file=sys.stderr)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600)
        if done.returncode:
            sys.exit('switchyard bench ended with %d' % done.returncode)
        report = json.loads(done.stdout)
        cores = report['machine']['cores']
        for r in report['results']:
            at = kept.setdefault((r['mode'], r['op']), {})
            if r['ranks'] not in at or r['us_avg'] < at[r['ranks']]['us_avg']:
                at[r['ranks']] = r
    return kept, cores


def main():
    a = arguments()
    results, cores = measure(a)
    worse = 0
    print('%d tokens in all, hidden %d, %d cores; the best of %d rounds\n' %
          (a.total_tokens, a.hidden, cores, a.rounds))
    print('mode        operation  ranks  us per rank  core us per rank  MB per rank  cost  bytes  '
          'cost/bytes')
    for (mode, op), at in results.items():
        first = None
        for ranks in sorted(at):
            r = at[ranks]
            cost = r['us_avg'] * min(cores, ranks) / ranks
            first = first or (cost, r['bytes'])
            grown, more = cost / first[0], r['bytes'] / first[1]
            bad = grown > more * (1 + a.tolerance)
            worse += bad
            print('%-10s  %-9s  %5d  %11.0f  %16.0f  %11.1f  %4.2f  %5.2f  %10.2f%s' %
                  (mode, op, ranks, r['us_avg'], cost, r['bytes'] / 1e6, grown, more, grown / more,
                   '  MORE THAN THE BYTES' if bad else ''))
    return 1 if worse else 0


if __name__ == '__main__':
    sys.exit(main())
