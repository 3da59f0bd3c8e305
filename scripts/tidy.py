#!/usr/bin/env python3
"""tidy.py - the style of the project as a test.

Checks every C file, header, script and page of the repository: line and function length, file
length, layers, banned calls, vendor ifdefs, opening comments, white space. Prints one line per
finding and `tidy: N findings`; exits 1 if there are any. Exceptions are in the tables below, each
with a reason.
"""
import os
import re
import subprocess
import sys

COLUMNS = 100
FUNCTION_LINES = 70
FILE_LINES = 1000

# Layers of src/: what each may include besides itself, switchyard.h and system headers.
LAYERS = {
    'base': [],
    'layout': [],
    'plan': ['base', 'layout'],
    'boot': ['base'],
    'mem': ['base', 'layout', 'boot'],
    'device': ['layout'],
    'rt': ['base', 'layout', 'device'],
    'api': ['base', 'layout', 'plan', 'mem', 'boot', 'rt'],
    'ref': ['base'],
}

# Calls that library code makes only in the named files.
BANNED = {
    'getenv': ['src/base/params.c'],
    'exit': [], 'abort': [], 'printf': [], 'puts': [], 'fprintf': [], 'assert': [],
    'perror': [], 'system': [], 'popen': [],
    # the reference is not part of the library
    'malloc': [], 'calloc': ['src/ref/ref.c'], 'realloc': [], 'posix_memalign': ['src/base/os.c'],
    'strcpy': [], 'strcat': [], 'sprintf': [], 'vsprintf': [], 'gets': [], 'atoi': [],
    'time': [], 'rand': [], 'srand': [], 'random': [], 'usleep': [], 'sleep': [],
    'clock_gettime': ['src/base/os.c'],
    'nanosleep': ['src/base/os.c'],
    'mmap': ['src/base/os.c'], 'munmap': ['src/base/os.c'],
    'memfd_create': ['src/base/os.c'], 'ftruncate': ['src/base/os.c'],
    'socket': ['src/base/os.c'], 'connect': ['src/base/os.c'], 'accept': ['src/base/os.c'],
    'sendmsg': ['src/base/os.c'], 'recvmsg': ['src/base/os.c'],
    'dlopen': ['src/base/os.c'], 'dlsym': ['src/base/os.c'], 'dlclose': ['src/base/os.c'],
    'mkdir': ['src/base/os.c'], 'rename': ['src/base/os.c'], 'unlink': ['src/base/os.c'],
    'pthread_create': ['src/base/os.c'], 'getrandom': ['src/base/os.c'],
}

# Vendors' names in conditions belong in one compat header per target.
VENDOR = re.compile(r'#\s*(if|ifdef|ifndef|elif).*(__CUDA|__HIP|__NVCC|__AMD|NVRTC|HIPRTC)')
VENDOR_FILES = re.compile(r'^src/device/compat_\w+\.h$')

# Headers that only run-time compilation includes.
ENTRIES = {'entry_cuda.h'}


def tracked():
    out = subprocess.run(['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
                         capture_output=True, text=True, check=True).stdout
    return [f for f in out.split('\n') if f and os.path.isfile(f)]


def strip_comments(text):
    def blank(m):
        return re.sub(r'[^\n]', ' ', m.group(0))
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\\n])*"|\'(\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


def check_lines(path, lines, report):
    for n, line in enumerate(lines, 1):
        table = path.endswith('.md') and line.startswith('|')
        if len(line) > COLUMNS and 'http' not in line and not table:
            report(path, n, 'line of %d columns' % len(line))
        if line.rstrip() != line:
            report(path, n, 'white space at the end')
        if '\t' in line and not path.endswith('Makefile') and not path.endswith('.mk'):
            report(path, n, 'tab')
    if len(lines) > FILE_LINES:
        report(path, len(lines), 'file of %d lines' % len(lines))
    if lines and not lines[-1].strip():
        report(path, len(lines), 'empty last line')


def check_functions(path, code, report):
    """Bodies that open with a brace in column 0 (or end a parameter list) and close in column 0."""
    start = None
    for n, line in enumerate(code, 1):
        if line.startswith('{') and start is None:
            start = n
        elif line.startswith('}') and start is not None:
            if n - start + 1 > FUNCTION_LINES:
                report(path, start, 'function of %d lines' % (n - start + 1))
            start = None


def check_layers(path, text, report):
    m = re.match(r'src/(\w+)/', path)
    if not m or m.group(1) not in LAYERS:
        return
    layer = m.group(1)
    for n, line in enumerate(text.split('\n'), 1):
        inc = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if not inc or inc.group(1) == 'switchyard.h':
            continue
        target = inc.group(1)
        if target.startswith('../'):
            target = target[3:]
        other = target.split('/')[0] if '/' in target else layer
        if other != layer and other not in LAYERS[layer]:
            report(path, n, '%s may not include %s' % (layer, target))


def bare_spins(text):
    """Lines of `while (...)` loops with an empty body: waits without a bound."""
    for m in re.finditer(r'\bwhile\s*\(', text):
        depth, i = 1, m.end()
        while depth and i < len(text):
            depth += {'(': 1, ')': -1}.get(text[i], 0)
            i += 1
        if re.match(r'\s*(;|\{\s*\})', text[i:]) and not re.search(r'\}\s*$', text[:m.start()]):
            yield text[:m.start()].count('\n') + 1


def check_library(path, code, report):
    for n, line in enumerate(code, 1):
        for call in re.finditer(r'(?<![\w.>])([a-z_]\w*)\s*\(', line):
            name = call.group(1)
            if name in BANNED and path not in BANNED[name]:
                report(path, n, '%s() is banned here' % name)
        if VENDOR.search(line) and not VENDOR_FILES.match(path):
            report(path, n, 'vendor condition outside compat')
    if path.startswith('src/device/'):
        for n in bare_spins('\n'.join(code)):
            if not VENDOR_FILES.match(path):
                report(path, n, 'wait without a bound')


def check_names(files, report):
    seen = {}
    for f in files:
        if re.match(r'src/.*\.(c|h)$', f):
            name = os.path.basename(f)
            if name in seen:
                report(f, 1, 'file name already used by %s' % seen[name])
            seen[name] = f


def check_dead(files, texts, report):
    """A header or def file that nobody includes."""
    everything = '\n'.join(texts.values())
    for f in files:
        if re.match(r'(src|tests|tools)/.*\.(h|def)$', f) and os.path.basename(f) not in ENTRIES:
            if not re.search(r'#\s*include\s*"([\w./]*/)?%s"' % re.escape(os.path.basename(f)),
                             everything):
                report(f, 1, 'included by nobody')


def main():
    os.chdir(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    findings = []

    def report(path, line, text):
        findings.append('%s:%d: %s' % (path, line, text))

    files = tracked()
    texts = {}
    for path in files:
        if not re.search(r'\.(c|h|def|py|sh|md|cu)$|Makefile$|^\.ci/run$|^scripts/|\.1$', path):
            continue
        with open(path, encoding='utf-8') as f:
            text = f.read()
        texts[path] = text
        lines = text.split('\n')
        if lines and lines[-1] == '':
            lines.pop()
        else:
            report(path, len(lines), 'no newline at the end')
        check_lines(path, lines, report)
        if re.search(r'\.(c|h|cu)$', path):
            code = strip_comments(text).split('\n')
            check_functions(path, code, report)
            if not text.lstrip().startswith('/*'):
                report(path, 1, 'no opening comment')
            if path.startswith('src/'):
                check_layers(path, text, report)
                check_library(path, code, report)
    check_names(files, report)
    check_dead(files, texts, report)
    for line in findings:
        print(line)
    print('tidy: %d findings in %d files' % (len(findings), len(texts)))
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
