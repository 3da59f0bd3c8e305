#!/usr/bin/env python3
"""tool_test.py - the command `switchyard`: what it starts, says, measures and leaves behind.

    tool_test.py [PATH/switchyard] [WORD...]     only tests whose name contains one of the words

Prints a line per test and `N passed, N failed, N skipped` in the end; exits 1 if one failed.

GPUs are those of tests/tool/fake_gpu.c, which `make tests` builds: the driver and the compiler are
not there, the processor plays the kernels.

Sections: helpers | run | info | command line | bench: results | bench: numbers | bench: output |
bench: GPUs | bench: failures | launchers | the tests.
"""
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import xml.etree.ElementTree as xml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get('BUILD', 'build'), 'switchyard')
LIMIT_S = 150  # of one command; gpus_everything's four took 18 s, 144 beside a busy program
FAKE_SMS = 2  # of a GPU that is not there

# What launchers and our own tests may have put into the environment.
LAUNCHERS = ('SY_', 'RANK', 'WORLD_SIZE', 'LOCAL_', 'MASTER_', 'OMPI_', 'PMI', 'SLURM_',
             'SWITCHYARD_', 'TORCHELASTIC_')
ENV = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}


# ---- helpers -------------------------------------------------------------------------------------

class Skip(Exception):
    pass


def check(condition, text, *values):
    if not condition:
        raise AssertionError(text % values if values else text)


def tool(*args, status=0, env=None, **more):
    """Runs the command; its outcome, with stdout and stderr as text. status None: any."""
    done = subprocess.run([TOOL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=LIMIT_S, env=dict(ENV, **(env or {})), **more)
    check(status is None or done.returncode == status, '%s ended with %d:\n%s%s', ' '.join(args),
          done.returncode, done.stdout, done.stderr)
    return done


def shell(ranks, script, *options, **more):
    return tool('run', '-n', str(ranks), *options, '--', 'sh', '-c', script, **more)


def processes(mark):
    """Pids of processes that have the word in their command line, without this test's own."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                if mark.encode() in f.read() and int(pid) != os.getpid():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def wait_until(condition, seconds, text):
    deadline = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < deadline, text)
        time.sleep(0.02)


started = []


def start(*args):
    p = subprocess.Popen([TOOL, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=ENV)
    started.append(p)
    return p


def end_started():
    """A test that failed half-way may have left some."""
    while started:
        p = started.pop()
        if p.poll() is None:
            p.kill()
            p.communicate(timeout=10)


marks = itertools.count()


def new_mark():
    """Seconds to sleep that no other process sleeps: they find the processes of one test."""
    return '%d.%06d' % (3000 + next(marks), os.getpid())


def bench(*args, **more):
    return tool('bench', *args, **more)


SMALL = ('--hidden', '256', '--topk', '4', '--experts', '14', '--iters', '2', '--warmup', '0')


def report(*args, **more):
    """The JSON object of a bench."""
    return json.loads(bench(*args, '--json', '-', **more).stdout)


def gpus(folder, **more):
    """The environment in which there are four GPUs; caches and temporary files go to the folder."""
    fake = os.path.join(os.path.dirname(TOOL), 'tests', 'fake')
    library = os.path.join(fake, 'libcuda.so.1')
    check(os.path.exists(library), '%s is not built: make tests', library)
    return dict({'LD_LIBRARY_PATH': fake, 'SY_NVRTC': library, 'XDG_CACHE_HOME': folder,
                 'TMPDIR': folder}, **more)


# ---- run -----------------------------------------------------------------------------------------

def run_statuses():
    shell(3, 'exit 0')
    check(shell(3, 'test $SY_RANK != 1 || exit 7', status=7).stderr ==
          'switchyard run: rank 1 ended with status 7\n', 'the failure is not named')
    done = shell(3, 'test $SY_RANK != 2 || kill -USR1 $$', status=128 + signal.SIGUSR1)
    check('rank 2 was killed by signal %d' % signal.SIGUSR1 in done.stderr, done.stderr)
    tool('run', '-n', '2', '--', './there/is/no/such/program', status=127)
    tool('run', '-n', '2', '--', '/etc/passwd', status=126)


def run_first_failure_counts():
    """Rank 0 fails first; rank 1 fails otherwise when it is told to end."""
    done = shell(2, 'test $SY_RANK = 0 && exit 3; trap "exit 9" TERM; sleep 20 & wait', '-g', '0',
                 status=3)
    check('rank 0 ended with status 3' in done.stderr, done.stderr)


def run_environment():
    """Numbers, one id for all, and nothing of an outer launch."""
    done = shell(3, 'echo $SY_RANK $SY_RANKS $SY_ID',
                 env={'SY_RANK': '9', 'SY_RANKS': '10', 'SY_ID': 'x'})
    words = sorted(line.split() for line in done.stdout.splitlines())
    check([w[:2] for w in words] == [['0', '3'], ['1', '3'], ['2', '3']], '%s', words)
    ids = {w[2] for w in words}
    check(len(ids) == 1 and re.fullmatch('[0-9a-f]{256}', ids.pop()), 'ids: %s', words)
    check(shell(1, 'echo $SY_ID').stdout != shell(1, 'echo $SY_ID').stdout, 'ids repeat')


def run_ranks_meet():
    """Ranks that this command starts make a group."""
    done = tool('run', '-n', '3', '--', TOOL, 'bench', '--json', '-', '--tokens', '5', '--verify',
                *SMALL)
    results = json.loads(done.stdout)['results']
    check(results and all(r['ranks'] == 3 and r['verified'] for r in results), done.stdout)


def run_tags_lines():
    done = shell(2, 'printf "a\\nb"; echo c >&2', '--tag')
    check(sorted(done.stdout.splitlines()) == ['[0] a', '[0] b', '[1] a', '[1] b'], done.stdout)
    check(sorted(done.stderr.splitlines()) == ['[0] c', '[1] c'], done.stderr)
    done = shell(2, 'head -c 9000 /dev/zero | tr "\\0" x', '-t')
    lines = done.stdout.splitlines()
    check(all(re.fullmatch(r'\[[01]\] x+', line) for line in lines), 'a long line is torn')
    check(sum(line.count('x') for line in lines) == 18000, 'some of a long line is lost')
    check(shell(2, 'echo a').stdout == 'a\na\n', 'tags without --tag')


def run_stdin():
    done = shell(3, 'cat | sed "s/^/$SY_RANK /"', input='one\ntwo\n')
    check(done.stdout == '0 one\n0 two\n', done.stdout)


def run_grace():
    """A rank that ignores SIGTERM is killed after two graces, and not before."""
    begin = time.monotonic()
    shell(2, 'trap "" TERM; test $SY_RANK = 0 && exit 5; while :; do sleep 0.05; done', '-g', '1',
          status=5)
    took = time.monotonic() - begin
    check(1.9 < took < 8, 'it took %.1f s', took)
    # One that ends by itself within the grace is left alone.
    done = shell(2, 'trap "echo no" TERM; test $SY_RANK = 0 && exit 5; sleep 0.5; echo done', '-g',
                 '10', status=5)
    check(done.stdout == 'done\n', done.stdout)


def run_signals():
    mark = new_mark()
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        p = start('run', '-n', '3', '--', 'sleep', mark)
        # The ranks, the launcher, and the guard that it has.
        wait_until(lambda: len(processes(mark)) == 5, 10, 'the ranks do not start')
        p.send_signal(number)
        p.communicate(timeout=10)
        check(p.returncode == 128 + number, 'signal %d: status %d', number, p.returncode)
        check(not processes(mark), 'signal %d: ranks are left', number)


def run_passes_signals_on():
    """Ranks may take the signal as they like."""
    p = start('run', '-n', '2', '--', 'sh', '-c',
              'trap "echo heard; exit 0" INT; echo ready; while :; do sleep 0.02; done')
    check([p.stdout.readline() for _ in range(2)] == ['ready\n'] * 2, 'the ranks do not start')
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=10)
    check(out == 'heard\nheard\n', '%s', out)


def run_keeps_ignored_signals():
    """As under nohup."""
    p = subprocess.Popen(['sh', '-c', 'trap "" HUP; exec "$0" run -n 1 -- sh -c "sleep 0.6; echo '
                          'lived"', TOOL], stdout=subprocess.PIPE, text=True, env=ENV)
    time.sleep(0.3)
    p.send_signal(signal.SIGHUP)
    out, _ = p.communicate(timeout=10)
    check(p.returncode == 0 and out == 'lived\n', 'status %d: %s', p.returncode, out)


def run_leaves_nothing():
    """Neither what ranks started, nor when the launcher itself is killed."""
    mark = new_mark()
    shell(2, 'sleep %s & exit 0' % mark)
    check(not processes(mark), 'something is left after a good end')
    shell(2, 'sleep %s & test $SY_RANK = 0 || kill -9 $$; wait' % mark, '-g', '0', status=137)
    check(not processes(mark), 'something is left after a failure')
    p = start('run', '-n', '3', '--', 'sh', '-c', 'sleep %s & sleep %s; true' % (mark, mark))
    wait_until(lambda: len(processes('sleep\0' + mark)) == 6, 10, 'the ranks do not start')
    p.kill()
    p.communicate(timeout=10)
    wait_until(lambda: not processes(mark), 10, 'something is left after SIGKILL')


# ---- info ----------------------------------------------------------------------------------------

def info_tells():
    out = tool('info').stdout
    version = tool('--version').stdout.split()[1]
    check(out.startswith('switchyard %s' % version), out.splitlines()[0])
    check(re.search(r'^  cpu +available +CPU: %d cores' % len(os.sched_getaffinity(0)), out, re.M),
          'no CPU engine:\n%s', out)
    for engine in 'cuda', 'hip':
        check(re.search(r'^  %s +(not )?available +\S+: .{10}' % engine, out, re.M),
              '%s is not explained', engine)
    with open('/proc/meminfo', encoding='ascii') as f:
        total = int(f.readline().split()[1]) / (1 << 20)
    check('memory         %.1f GiB' % total in out, 'wrong memory')
    check('launcher       none' in out, 'a launcher is seen')
    for limit, least in ('ranks', 64), ('experts', 1024), ('topk_max', 64), ('tokens_max', 8192):
        found = re.search(r'^  %s +(\d+) ' % limit, out, re.M)
        check(found and int(found.group(1)) >= least, 'limit of %s', limit)


def info_parameters():
    out = tool('info', env={'SY_CPU_THREADS': '3'}).stdout
    check(re.search(r'^  SY_CPU_THREADS +3 threads \(environment; 1 to 64\)$', out, re.M), out)
    check(re.search(r'^  SY_TIMEOUT_MS +30000 ms \(default; 1 to \d+\)$', out, re.M), out)
    done = tool('info', status=1, env={'SY_CPU_THREADS': 'many', 'SY_BOOT_PORT': '70000'})
    check('wrong: SY_CPU_THREADS=many' in done.stdout, done.stdout)
    check('wrong: SY_BOOT_PORT=70000' in done.stdout, done.stdout)
    check('2 parameters cannot be used' in done.stderr, done.stderr)


def info_sees_launchers():
    for env, name in (({'RANK': '0', 'WORLD_SIZE': '2'}, 'torchrun'),
                      ({'OMPI_COMM_WORLD_RANK': '1'}, 'mpirun of Open MPI'),
                      ({'SLURM_PROCID': '0', 'SLURM_STEP_ID': '0'}, 'srun'),
                      ({'SY_RANK': '0'}, 'switchyard run')):
        out = tool('info', env=env).stdout
        check(re.search('^  launcher +%s' % name, out, re.M), '%s is not seen', name)
    check('launcher       none' in tool('info', env={'SLURM_PROCID': '0'}).stdout,
          'a batch script is taken for a step')


def info_without_gpus():
    """Where there is no driver: why, and what else would count."""
    with tempfile.TemporaryDirectory() as folder:
        out = tool('info', env={'XDG_CACHE_HOME': folder}).stdout
        if 'no NVIDIA driver (libcuda.so.1)' not in out:
            raise Skip('there is an NVIDIA driver')
        check(re.search(r'^GPUs\n  none: no NVIDIA driver \(libcuda.so.1\)$', out, re.M), out)
        check(re.search(r'^  kernel cache +%s/switchyard: not there yet$' % folder, out, re.M), out)


def info_of_gpus():
    with tempfile.TemporaryDirectory() as folder:
        env = gpus(folder)
        out = tool('info', env=env).stdout
        for number in range(4):
            check(re.search(r'^  %d +Fake GPU %d, sm_90, %d SMs at 1980 MHz\n'
                            r' +16.0 GiB; heaps by virtual memory, descriptors, cudaIpc\n'
                            r' +0000:1%d:00.0 GPU-4%d' % (number, number, FAKE_SMS, number, number),
                            out, re.M), 'GPU %d:\n%s', number, out)
        for a in range(4):
            row = ' +'.join([r'\.' if a == b else 'NVLink 0' for b in range(4)])
            check(re.search(r'^  %d +%s$' % (a, row), out, re.M), 'links of %d:\n%s', a, out)
        check('no peer access' not in out, out)
        library = re.escape(env['SY_NVRTC'])
        check(re.search(r'^  driver +for CUDA 13.0, %s$' % library, out, re.M), out)
        check(re.search(r'^  NVRTC +13.0, %s$' % library, out, re.M), out)
        out = tool('info', env=dict(env, FAKE_GPU_PEERS='0')).stdout
        check(re.search(r'^  2 +- +- +\. +NVLink 0$', out, re.M), out)
        check('-: no peer access; groups cannot have both GPUs' in out, out)
        out = tool('info', env=dict(env, SY_NVRTC='/nowhere/libnvrtc.so.13')).stdout
        check(re.search('^  NVRTC +not found: ', out, re.M), out)
        check(re.search('^  cuda +not available .*SY_NVRTC=/nowhere', out, re.M), out)


def info_of_the_cache():
    with tempfile.TemporaryDirectory() as folder:
        env = gpus(folder)

        def cache():
            return re.search(r'^  kernel cache +(.*)$', tool('info', env=env).stdout, re.M).group(1)

        place = os.path.join(folder, 'switchyard')
        check(cache() == place + ': not there yet', cache())
        bench('--engine', 'gpu', '--ranks', '2', '--tokens', '2', '--no-ceilings', *SMALL, env=env)
        kernels = [f for f in os.listdir(place) if f.endswith('.cubin')]
        check(len(kernels) >= 4, '%s', kernels)
        check(cache().startswith('%s: %d kernels, ' % (place, len(kernels))), cache())
        os.chmod(place, 0o755)
        check('not used' in cache(), cache())
        env['SY_CACHE'] = '0'
        check(cache() == 'off (SY_CACHE=0)', cache())


# ---- command line --------------------------------------------------------------------------------

def usage_errors():
    bad = ['', 'nothing', 'info x', 'info --what', 'run', 'run -n 2', 'run -n 0 -- true',
           'run -n 4096 -- true', 'run -n two -- true', 'run true', 'run -n 1 -g -1 -- true',
           'bench x', 'bench --what', 'bench --mode fast', 'bench --mode throughput,', 'bench --op',
           'bench --op sort', 'bench --layout expert', 'bench --dtype f9', 'bench --quant f',
           'bench --dtype f16 --quant f8', 'bench --out', 'bench --ranks 0', 'bench --ranks 2,x',
           'bench --tokens 0', 'bench --tokens 1,', 'bench --tokens 5 --total-tokens 5',
           'bench --hidden 0', 'bench --hidden 7', 'bench --dtype f8 --hidden 24',
           'bench --quant f8 --hidden 24', 'bench --topk 9 --experts 8', 'bench --iters 0',
           'bench --warmup -1', 'bench --skew x', 'bench --skew -1', 'bench --skew nan',
           'bench --routing n', 'bench --op route --mode latency',
           'bench --op combine --dtype opaque', 'bench --seed -1', 'bench --iters 1x',
           'bench --tokens ' + ','.join(['1'] * 17), 'bench --engine tpu',
           'bench --engine cpu --sms 2', 'bench --engine cpu --graph', 'bench --sms 0',
           'bench --skew 1,', 'bench --hidden 16,7', 'bench --topk 2,300']
    for line in bad:
        done = tool(*line.split(), status=2)
        check(not done.stdout and done.stderr.startswith('switchyard'), '%s: %s', line, done.stderr)
        check(re.search(r"Try 'switchyard( \w+)? --help'\.\n$", done.stderr), '%s: no hint', line)


def help_is_there():
    out = tool('--help').stdout
    check(all('  %s ' % command in out for command in ('run', 'info', 'bench')), out)
    for command in 'run', 'info', 'bench':
        done = tool(command, '--help')
        check(done.stdout.startswith('usage: switchyard %s' % command), done.stdout)
        check(all(len(line) <= 100 for line in done.stdout.splitlines()), 'a line is too long')
    out = tool('bench', '--help').stdout
    with open(os.path.join(ROOT, 'man/switchyard.1'), encoding='utf-8') as f:
        page = f.read()
    with open(os.path.join(ROOT, 'tools/bench_options.c'), encoding='utf-8') as f:
        options = re.findall(r'\{"([a-z-]+)", (?:required|no)_argument', f.read())
    check(len(options) > 20, 'the options are not found in the source')
    for option in options:
        check('--%s' % option in out, 'the help lacks --%s', option)
        check(option == 'help' or 'Fl -%s' % option in page, 'the manual page lacks --%s', option)


def full_disk():
    with open('/dev/full', 'w', encoding='ascii') as full:
        for args in ['--version'], ['--help'], ['info'], ['bench', '--help']:
            done = subprocess.run([TOOL, *args], stdout=full, stderr=subprocess.PIPE, text=True,
                                  timeout=LIMIT_S, env=ENV)
            check(done.returncode == 1 and 'stdout' in done.stderr, '%s: %s', args, done.stderr)


def manual_page():
    if not shutil.which('groff'):
        raise Skip('there is no groff')
    done = subprocess.run(['groff', '-mandoc', '-Tutf8', '-ww',
                           os.path.join(ROOT, 'man/switchyard.1')], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT_S)
    check(done.returncode == 0 and not done.stderr, done.stderr.decode())
    check(len(done.stdout) > 4000, 'the page is short')


# ---- bench: results ------------------------------------------------------------------------------

def all_verified(results):
    wrong = [r for r in results if r['verified'] is not True]
    check(not wrong, '%d of %d results are not verified, first %s', len(wrong), len(results),
          wrong[:1])


def bench_everything():
    """Every mode, layout, type, quantisation and place of rows is measured and right."""
    results = report('--ranks', '3', '--tokens', '21', '--layout', 'all', '--dtype', 'all',
                     '--quant', 'all', '--out', 'all', '--alignment', '4', '--verify',
                     *SMALL)['results']
    all_verified(results)
    types = 6 + 3  # quantised BF16 besides
    layouts = 4
    throughput = 3 * types * layouts  # places of rows
    latency = (2 * layouts + 1) * types  # a view in rank-major only
    dispatches = [r for r in results if r['op'] == 'dispatch']
    check(len(dispatches) == throughput + latency, '%d dispatches', len(dispatches))
    check(len([r for r in results if r['op'] == 'route']) == throughput, 'routes')
    combines = [r for r in results if r['op'] == 'combine']
    check(len(combines) == (throughput + latency) * (types - 1) // types, '%d combines',
          len(combines))
    kinds = {(r['mode'], r['layout'], r['dtype'], r['out']) for r in dispatches}
    check(len(kinds) == len(dispatches), 'some are measured twice')
    check({r['dtype'] for r in combines} == {'bf16', 'f16', 'f32'}, 'types of combine')


def bench_variants():
    """Halves, weights, less payload, routings, ranks and tokens."""
    base = ['--layout', 'all', '--verify', *SMALL]
    for more in (['--ranks', '2', '--tokens', '9', '--halves', '--weighted'],
                 ['--ranks', '5', '--tokens', '1,8', '--bare', '--threads', '2'],
                 ['--ranks', '1', '--tokens', '30']):
        all_verified(report(*base, *more)['results'])
    for routing in 'skew', 'spread', 'local', 'one':
        results = report(*base, '--ranks', '4', '--tokens', '17', '--routing', routing)['results']
        all_verified(results)
        check({r['routing'] for r in results} == {routing}, 'another routing')
    results = report(*base, '--ranks', '2', '--tokens', '3', '--halves')['results']
    check({r['op'] for r in results} == {'route', 'dispatch-send', 'dispatch-receive',
                                        'combine-send', 'combine-receive'}, 'halves')
    check(all(r['gbps_avg'] is None for r in results), 'halves have rates')


def bench_lists():
    results = report('--ranks', '1,3', '--tokens', '2,5', '--op', 'create,disp', *SMALL)['results']
    check({(r['mode'], r['op'], r['ranks'], r['tokens']) for r in results} ==
          set(itertools.product(('latency', 'throughput'), ('create', 'dispatch'), (1, 3), (2, 5))),
          'the combinations are not those of the lists')
    results = report('--ranks', '2,4', '--total-tokens', '24', '--op', 'route', *SMALL)['results']
    check({(r['ranks'], r['tokens']) for r in results} == {(2, 12), (4, 6)}, 'total tokens')


def bench_seed():
    """Another seed is another batch; the same one is the same."""
    def moved(seed):
        return [r['bytes'] for r in report('--ranks', '3', '--tokens', '40', '--seed', seed,
                                           '--mode', 'throughput', *SMALL)['results']]
    check(moved('5') == moved('5') != moved('6'), 'seeds')


# ---- bench: numbers ------------------------------------------------------------------------------

RESULT = {'op': str, 'mode': str, 'layout': str, 'dtype': str, 'engine': str, 'ranks': int,
          'tokens': int, 'hidden': int, 'topk': int, 'experts': int, 'us_min': float,
          'us_avg': float, 'us_max': float, 'bytes': int, 'gbps_avg': float,
          'ceiling_fraction': float, 'verified': bool}


def near(a, b):
    return abs(a - b) <= 1e-3 * max(abs(a), abs(b))


def json_schema():
    whole = report('--ranks', '2', '--tokens', '8', '--dtype', 'bf16', '--op', 'all', *SMALL)
    check(whole['schema'] == 'switchyard-bench-1', 'schema')
    check(whole['machine']['cores'] == len(os.sched_getaffinity(0)), 'machine')
    ceilings = {c['name']: c for c in whole['ceilings']}
    check(set(ceilings) == {'copy', 'copy_one'}, 'ceilings')
    for c in ceilings.values():
        check(c['value'] > 0 and c['unit'] == 'GB/s per rank' and c['row_bytes'] == 512, '%s', c)
    check(len(whole['results']) == 9, '%d results', len(whole['results']))
    for r in whole['results']:
        for name, kind in RESULT.items():
            check(name in r, '%s is missing', name)
            check(r[name] is None or isinstance(r[name], (kind, int)), '%s: %s', name, r[name])
        check((r['engine'], r['hidden'], r['topk'], r['experts']) == ('cpu', 256, 4, 14), '%s', r)
        check(0 < r['us_min'] <= r['us_avg'] <= r['us_max'], 'times: %s', r)
        check(r['verified'] is None, 'verified without --verify')
        if r['op'] in ('dispatch', 'combine'):
            check(near(r['gbps_avg'], r['bytes'] / r['us_avg'] / 1000), 'gbps_avg: %s', r)
            check(near(r['ceiling_fraction'], r['gbps_avg'] / ceilings['copy']['value']),
                  'ceiling_fraction: %s', r)
        else:
            check(r['bytes'] == 0 and r['gbps_avg'] is None and r['ceiling_fraction'] is None,
                  'rates of %s', r['op'])


def one_result(mode, *args):
    results = report('--mode', mode, '--op', 'dispatch', *args)['results']
    check(len(results) == 1, '%d results', len(results))
    return results[0]


def bytes_are_counted():
    """Against what follows from routings that are known beforehand: 6 tokens on each of 3 ranks,
    K of 4, 14 experts of which the ranks have 5, 5 and 4."""
    base = ['--ranks', '3', '--tokens', '6', *SMALL]
    for mode in 'throughput', 'latency':
        r = one_result(mode, *base, '--routing', 'one')  # each token once, to rank 0
        check(r['bytes'] == 6 * 512 and near(r['gbps_nccl_ep'], r['gbps_avg']), 'one: %s', r)
        check(r['bytes_remote'] == 6 * 512 * 2 // 3, 'one, over links: %s', r)
        r = one_result(mode, *base, '--routing', 'local')  # once, but for four experts
        pairs = 4 if mode == 'latency' else 1
        check(r['bytes'] == 6 * 512 and r['bytes_remote'] == 0, 'local: %s', r)
        check(near(r['gbps_nccl_ep'], pairs * r['gbps_avg']), 'local, NCCL-EP: %s', r)
        check(near(r['gbps_deepep'], pairs * r['gbps_avg']), 'local, DeepEP: %s', r)
        r = one_result(mode, *base, '--routing', 'spread')  # experts 3.5 apart: on all ranks
        check(r['bytes'] == 3 * 6 * 512 and r['bytes_remote'] == 2 * 6 * 512, 'spread: %s', r)
        # Rows of 256 bytes with two scales; DeepEP counts 16 more per row in its latency test.
        r = one_result(mode, *base, '--routing', 'one', '--quant', 'f8')
        head = 16 if mode == 'latency' else 0
        check(r['bytes'] == 6 * 264, 'f8: %s', r)
        check(near(r['gbps_nccl_ep'], r['gbps_avg'] * 256 / 264), 'f8, NCCL-EP: %s', r)
        check(near(r['gbps_deepep'], r['gbps_avg'] * (264 + head) / 264), 'f8, DeepEP: %s', r)


def memory_is_respected():
    args = ('--ranks', '2', '--mode', 'throughput', '--tokens', '4096', '--hidden', '4096',
            '--topk', '2', '--experts', '4', '--iters', '1', '--warmup', '0')
    whole = report(*args, '--memory', '120')
    tokens = {r['tokens'] for r in whole['results']}
    check(len(tokens) == 1 and tokens < {2048, 1024, 512, 256, 128, 64}, 'tokens: %s', tokens)
    check(len(whole['notes']) == 1 and '4096 tokens per rank would take' in whole['notes'][0],
          '%s', whole['notes'])
    done = bench(*args, '--memory', '1', status=1)
    check('even with one token per rank' in done.stderr, done.stderr)


# ---- bench: output -------------------------------------------------------------------------------

def table():
    out = bench('--ranks', '2', '--tokens', '8', '--verify', *SMALL).stdout
    lines = out.splitlines()
    for word in 'microseconds per rank', 'GB/s per rank', 'NCCL-EP', 'DeepEP', 'moved', 'reference':
        check(word in '\n'.join(lines[:2]), 'the head lacks %s', word)
    rows = [line for line in lines if re.match('  (route|dispatch|combine) ', line)]
    check(len(rows) == 5 and all(row.endswith('  yes') for row in rows), out)
    ends = {row.rindex('  yes') for row in rows}
    check(ends == {lines[1].rindex('  reference')}, 'columns are not aligned:\n%s', out)
    for name in 'copy', 'copy_one':
        check(re.search(r'^  %s .*rows of +512 bytes +[\d.]+ GB/s, ' % name, out, re.M), out)
    check('\033' not in out and '\r' not in out, 'control characters')


def progress_needs_a_terminal():
    args = ['bench', '--ranks', '2', '--tokens', '8', *SMALL]
    check(tool(*args).stderr == '', 'there is progress without a terminal')
    control, terminal = os.openpty()
    p = subprocess.Popen([TOOL, *args], stdout=subprocess.DEVNULL, stderr=terminal, env=ENV)
    os.close(terminal)
    seen = b''
    while True:
        try:
            part = os.read(control, 4096)
        except OSError:  # EIO: the last process closed it
            break
        if not part:
            break
        seen += part
    os.close(control)
    check(p.wait(LIMIT_S) == 0 and b'[1/2] 2 ranks, latency' in seen and seen.endswith(b'\033[K'),
          '%s', seen)


def svg(*args):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'plot.svg')
        bench('--plot', path, *args)
        root = xml.parse(path).getroot()
    space = '{http://www.w3.org/2000/svg}'
    check(root.tag == space + 'svg', root.tag)
    texts = [t.text for t in root.iter(space + 'text')]
    marks_drawn = len(list(root.iter(space + 'circle'))) + len(list(root.iter(space + 'rect')))
    return root, space, texts, marks_drawn


def plot():
    root, space, texts, marks_drawn = svg('--ranks', '2', '--tokens', '1,4,16', *SMALL)
    for text in 'microseconds', 'GB/s per rank', 'tokens per rank', '1', '4', '16':
        check(text in texts, 'the plot lacks %s', text)
    for series in ('dispatch: latency, rank-major, bf16, view',
                   'route: throughput, token-major, bf16, view', 'ceiling: copy of 512-byte rows'):
        check(series in texts, 'the legend lacks %s', series)
    check('prefers-color-scheme: dark' in root.find(space + 'style').text, 'no dark paper')
    check(marks_drawn > 12, '%d marks', marks_drawn)
    width, height = (float(root.get(name)) for name in ('width', 'height'))
    for text in root.iter(space + 'text'):
        if text.get('x'):
            check(0 <= float(text.get('x')) <= width and 0 <= float(text.get('y')) <= height,
                  'outside the paper: %s', text.text)
    texts = svg('--ranks', '1,2', '--total-tokens', '8', *SMALL)[2]
    check('ranks' in texts and 'tokens per rank' not in texts, 'x is not the ranks')
    svg('--ranks', '1', '--tokens', '1', '--op', 'create', *SMALL)  # one point, no rates
    for option, values, title in (('--hidden', '64,256', 'elements of a row'),
                                  ('--topk', '1,2,4', 'experts per token'),
                                  ('--skew', '0,0.5,2', 'skew')):
        texts = svg('--ranks', '2', '--tokens', '4', '--mode', 'latency', '--experts', '8',
                    '--iters', '1', option, values)[2]
        check(title in texts, 'x is not %s: %s', title, texts)
        check(all(v in texts for v in values.split(',')), '%s: %s', title, texts)


# ---- bench: GPUs ---------------------------------------------------------------------------------

def on_gpus(*args, **more):
    """Results of a bench on GPUs; nothing is left behind in the temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        whole = report('--engine', 'gpu', *args, env=gpus(folder, **more))
        check(os.listdir(folder) in ([], ['switchyard']), '%s', os.listdir(folder))
    check({r['engine'] for r in whole['results']} == {'cuda'}, 'another engine')
    return whole


def gpus_everything():
    """All that the CPU has is right in the memory of a GPU, too."""
    results, types, places = [], 3, 3
    for layout in ('token-major', 'expert-packed', 'expert-slabs', 'rank-major'):
        part = on_gpus('--ranks', '3', '--tokens', '21', '--layout', layout, '--dtype', 'bf16,f8',
                       '--quant', 'none,f8', '--out', 'all', '--alignment', '4', '--verify',
                       '--no-ceilings', *SMALL)['results']
        all_verified(part)
        dispatches = [r for r in part if r['op'] == 'dispatch']
        view = layout == 'rank-major'  # in latency mode; places do without it for the others
        check(len(dispatches) == types * (places + 2 + view), '%s: %d dispatches', layout,
              len(dispatches))
        results += part
    for r in results:
        check(r['us_avg'] > 0 and r['us_kernel_avg'] > 0, '%s', r)
        check(r['us_kernel_min'] <= r['us_kernel_avg'] <= r['us_kernel_max'], '%s', r)
        if r['mode'] == 'throughput':
            check(r['us_arrival_avg'] is None, 'arrival: %s', r)
        if r['op'] != 'route':
            check(near(r['gbps_avg'], r['bytes'] / r['us_kernel_avg'] / 1000), 'gbps_avg: %s', r)


def gpus_ways():
    """Graphs, halves, SMs; as many ranks as there are GPUs."""
    all_verified(on_gpus('--ranks', '2', '--tokens', '9', '--graph', '--weighted', '--verify',
                         '--no-ceilings', *SMALL)['results'])
    results = on_gpus('--ranks', '2', '--tokens', '9', '--graph', '--halves', '--verify',
                      '--no-ceilings', *SMALL)['results']
    all_verified(results)
    check(all(r['us_kernel_avg'] > 0 and r['graph'] for r in results), 'halves in graphs')
    results = on_gpus('--tokens', '9', '--sms', '1,2', '--no-ceilings', '--op', 'dispatch',
                      *SMALL, FAKE_GPUS='3')['results']
    check({(r['ranks'], r['sms']) for r in results} == {(3, 1), (3, 2)}, 'SMs')
    with tempfile.TemporaryDirectory() as folder:
        done = bench('--engine', 'gpu', '--sms', str(FAKE_SMS + 1), '--tokens', '2', *SMALL,
                     '--no-ceilings', status=1, env=gpus(folder))
        check('sms %d: the GPU has %d' % (FAKE_SMS + 1, FAKE_SMS) in done.stderr, done.stderr)


def gpus_are_counted():
    """By a child, since the driver's threads would take the launcher's signals: it would wait for
    ranks that have ended, now and then."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(6):
            out = bench('--tokens', '2', '--op', 'dispatch', '--mode', 'latency', '--no-ceilings',
                        *SMALL, env=gpus(folder, FAKE_GPUS='2')).stdout
            check(': 2 ranks, 2 tokens each' in out, out)
        done = bench('--tokens', '2', *SMALL, status=1,
                     env=gpus(folder, SY_NVRTC='/nowhere/lib', SY_CACHE='0'))
        check('SY_NVRTC=/nowhere/lib' in done.stderr and '--engine cpu' in done.stderr, done.stderr)
    if tool('info').stdout.count('no NVIDIA driver'):
        done = bench('--engine', 'gpu', '--tokens', '2', *SMALL, status=1)
        check('no NVIDIA driver' in done.stderr, done.stderr)
        for option in ('--graph',), ('--sms', '2'):
            done = bench('--ranks', '2', '--tokens', '2', *option, *SMALL, status=1)
            check('this is the CPU engine' in done.stderr, done.stderr)


def gpus_ceilings():
    whole = on_gpus('--ranks', '4', '--tokens', '8', '--op', 'dispatch,combine', *SMALL)
    times = {'flag', 'launch', 'in_graph'}
    found = {}
    for c in whole['ceilings']:
        check(c['value'] > 0 and c['ranks'] == 4, '%s', c)
        check(c['unit'] == ('us' if c['name'] in times else 'GB/s per rank'), '%s', c)
        found[c['name']] = c
    check(set(found) == {'stores', 'stores_paced', 'loads', 'local_copy'} | times, '%s', found)
    check(re.match(r'offered \d', found['stores_paced']['how']), '%s', found['stores_paced'])
    check(found['stores']['sms'] == FAKE_SMS, '%s', found['stores'])
    best = max(found['stores']['value'], found['stores_paced']['value'])
    for r in whole['results']:
        if r['op'] in ('dispatch', 'combine'):
            check(near(r['gbps_remote'], r['bytes_remote'] / r['us_kernel_avg'] / 1000), '%s', r)
            check(near(r['ceiling_fraction'], r['gbps_remote'] / best), '%s', r)
    whole = on_gpus('--ranks', '1', '--tokens', '8', *SMALL)
    check({c['name'] for c in whole['ceilings']} == {'local_copy', 'launch', 'in_graph'},
          'one GPU has no links')


def gpus_set_up():
    whole = on_gpus('--ranks', '2', '--tokens', '8', '--op', 'create,setup', *SMALL)
    check({r['op'] for r in whole['results']} == {'create', 'setup', 'setup-cold'}, 'operations')
    check(all(r['us_avg'] > 0 and r['us_kernel_avg'] is None for r in whole['results']), '%s',
          whole['results'])
    check(not whole['ceilings'], 'ceilings of nothing')
    whole = on_gpus('--ranks', '2', '--tokens', '8', '--op', 'setup', *SMALL, SY_CACHE='0')
    check({r['op'] for r in whole['results']} == {'setup', 'setup-cold'}, 'without a cache')


def times_of_ranks():
    with tempfile.TemporaryDirectory() as folder:
        for engine in 'cpu', 'gpu':
            args = ['--engine', engine, '--ranks', '3', '--tokens', '8', '--per-rank',
                    '--no-ceilings', *SMALL]
            results = report(*args, env=gpus(folder))['results']
            for r in results:
                ranks = r['per_rank']
                check([one['rank'] for one in ranks] == [0, 1, 2], '%s', ranks)
                check(near(sum(one['us'] for one in ranks) / 3, r['us_avg']), '%s', r)
                check((ranks[0]['us_kernel'] is None) == (engine == 'cpu'), '%s', ranks)
            out = bench(*args, env=gpus(folder)).stdout
            lines = re.findall(r'^  (?:route|dispatch|combine) +[0-2] .*$',
                               out.split('microseconds of each rank')[1], re.M)
            check(len(lines) == 3 * len(results), out)


# ---- bench: failures -----------------------------------------------------------------------------

def unwritable():
    args = ['--ranks', '1', '--tokens', '1', *SMALL]
    for option in '--json', '--plot':
        done = bench(*args, option, '/nowhere/file', status=1)
        check('/nowhere/file' in done.stderr, done.stderr)
        check('dispatch' in done.stdout, 'and the table is lost')
        check('/dev/full' in bench(*args, option, '/dev/full', status=1).stderr, 'full disk')


def refused_by_the_library():
    """Every rank fails alike: the text stands there once, with all ranks."""
    done = bench('--ranks', '3', '--tokens', '4', *SMALL, status=1, env={'SY_CPU_THREADS': '99'})
    check('SY_CPU_THREADS=99' in done.stderr, done.stderr)
    check(done.stderr.count('SY_CPU_THREADS') == 1, 'it is said more than once:\n%s', done.stderr)


def ranks_of(p):
    with open('/proc/%d/task/%d/children' % (p.pid, p.pid), encoding='ascii') as f:
        children = [int(pid) for pid in f.read().split()]
    ranks = {}
    for pid in children:
        with open('/proc/%d/environ' % pid, 'rb') as f:
            found = re.search(rb'(?:^|\0)SY_RANK=(\d+)\0', f.read())
        if found:
            ranks[int(found.group(1))] = pid
    return ranks


def killed_rank():
    mark = '--seed=%d' % (os.getpid() * 1000 + next(marks))
    p = start('bench', '--ranks', '4', '--tokens', '64', '--hidden', '1024', '--iters', '1000000',
              '--timeout', '600', mark)
    wait_until(lambda: len(ranks_of(p)) == 4, 10, 'the ranks do not start')
    time.sleep(0.7)  # until they measure
    os.kill(ranks_of(p)[2], signal.SIGKILL)
    begin = time.monotonic()
    _, err = p.communicate(timeout=30)
    check(p.returncode == 1, 'status %d', p.returncode)
    check(time.monotonic() - begin < 8, 'it took %.1f s', time.monotonic() - begin)
    check('rank 2 was killed by signal 9' in err, err)
    check(re.search(r'rank.* [013].*SY_PEER_LOST.*rank 2', err), 'the others do not say why:\n%s',
          err)
    check(not processes(mark), 'processes are left')


def killed_conductor():
    mark = '--seed=%d' % (os.getpid() * 1000 + next(marks))
    for number in signal.SIGINT, signal.SIGKILL:
        p = start('bench', '--ranks', '3', '--tokens', '64', '--iters', '1000000', mark)
        wait_until(lambda: len(ranks_of(p)) == 3, 10, 'the ranks do not start')
        p.send_signal(number)
        p.communicate(timeout=30)
        check(p.returncode != 0, 'signal %d: status 0', number)
        wait_until(lambda: not processes(mark), 10, 'processes are left')


# ---- launchers -----------------------------------------------------------------------------------

def under_torchrun():
    """Ranks as torchrun starts them, by its variables."""
    port = str(20000 + os.getpid() % 20000)
    ranks = [subprocess.Popen([TOOL, 'bench', '--tokens', '5', '--verify', '--json', '-', *SMALL],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=dict(ENV, RANK=str(r), WORLD_SIZE='3', LOCAL_WORLD_SIZE='3',
                                       MASTER_ADDR='127.0.0.1', MASTER_PORT=port))
             for r in range(3)]
    outs = [p.communicate(timeout=LIMIT_S) for p in ranks]
    check([p.returncode for p in ranks] == [0, 0, 0], '%s', outs)
    check(outs[1] == outs[2] == ('', ''), 'not only rank 0 speaks: %s', outs)
    results = json.loads(outs[0][0])['results']
    check({r['ranks'] for r in results} == {3}, 'ranks')
    all_verified(results)


def under_mpirun():
    if not shutil.which('mpirun'):
        raise Skip('there is no mpirun')
    root = ['--allow-run-as-root'] if os.geteuid() == 0 else []
    done = subprocess.run(['mpirun', '--oversubscribe', *root, '-n', '3', TOOL, 'bench', '--tokens',
                           '5', '--verify', '--json', '-', *SMALL], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=LIMIT_S, env=ENV)
    check(done.returncode == 0, done.stderr)
    results = json.loads(done.stdout)['results']
    check({r['ranks'] for r in results} == {3}, 'ranks')
    all_verified(results)


def ranks_are_the_launchers():
    tool('run', '-n', '2', '--', TOOL, 'bench', '--ranks', '2', '--tokens', '2', *SMALL)
    done = tool('run', '-n', '2', '--', TOOL, 'bench', '--ranks', '3', '--tokens', '2', *SMALL,
                status=1)
    check('--ranks: the launcher has started 2' in done.stderr, done.stderr)


# ---- the tests -----------------------------------------------------------------------------------

TESTS = [run_statuses, run_first_failure_counts, run_environment, run_ranks_meet, run_tags_lines,
         run_stdin, run_grace, run_signals, run_passes_signals_on, run_keeps_ignored_signals,
         run_leaves_nothing, info_tells, info_parameters, info_sees_launchers, info_without_gpus,
         info_of_gpus, info_of_the_cache, usage_errors, help_is_there, full_disk, manual_page,
         bench_everything, bench_variants, bench_lists, bench_seed, json_schema, bytes_are_counted,
         memory_is_respected, table, progress_needs_a_terminal, plot, gpus_everything, gpus_ways,
         gpus_are_counted, gpus_ceilings, gpus_set_up, times_of_ranks, unwritable,
         refused_by_the_library, killed_rank, killed_conductor, under_torchrun, under_mpirun,
         ranks_are_the_launchers]


def main():
    global TOOL
    words = sys.argv[1:]
    if words and os.path.sep in words[0]:
        TOOL = os.path.abspath(words.pop(0))
    passed = failed = skipped = 0
    for test in TESTS:
        if words and not any(word in test.__name__ for word in words):
            continue
        try:
            test()
            print('ok %s' % test.__name__)
            passed += 1
        except Skip as reason:
            print('skip %s: %s' % (test.__name__, reason))
            skipped += 1
        except (AssertionError, OSError, ValueError, KeyError, subprocess.SubprocessError) as e:
            where = traceback.extract_tb(e.__traceback__)[1]  # in the test itself
            print('FAIL %s: line %d: %s' % (test.__name__, where.lineno, e))
            failed += 1
        end_started()
        sys.stdout.flush()
    print('%d passed, %d failed, %d skipped' % (passed, failed, skipped))
    return failed != 0


if __name__ == '__main__':
    sys.exit(main())
