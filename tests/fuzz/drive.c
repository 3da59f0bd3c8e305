/* drive.c - runs a fuzz target without a fuzzer: the corpus, then inputs made from it, by any
 * compiler.
 *
 *     drive [-n INPUTS] [-s SEED] [FILE or DIRECTORY ...]
 *
 * Without files it takes the corpus that it was built with. An input that makes the target fail is
 * left in ./fuzz-failure; give it as the only file to see it fail again. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "prng.h"

#ifndef SY_CORPUS
#define SY_CORPUS "tests/fuzz/corpus"
#endif

#define INPUT_MAX 4096
#define FILES_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    size_t size;
    uint8_t *data;
};

static struct input corpus[FILES_MAX];
static int files;
static uint8_t current[INPUT_MAX]; /* what runs, for the handler */
static size_t current_size;

/* ---- The corpus ------------------------------------------------------------------------------ */

static void add_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t data[INPUT_MAX];
    struct input *in = corpus + files;
    if (!file || files == FILES_MAX) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(2);
    }
    in->size = fread(data, 1, sizeof data, file);
    in->data = malloc(in->size + 1);
    memcpy(in->data, data, in->size);
    fclose(file);
    files++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In the order of names, so that a seed means the same inputs everywhere. */
static void add_path(const char *path)
{
    struct dirent **entries;
    struct stat info;
    char name[1024];
    int count;
    if (stat(path, &info) || !S_ISDIR(info.st_mode)) {
        add_file(path);
        return;
    }
    count = scandir(path, &entries, NULL, by_name);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            add_file(name);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

/* ---- Inputs ---------------------------------------------------------------------------------- */

static size_t insert(uint8_t *data, size_t size, size_t at, const uint8_t *from, size_t n)
{
    if (size + n > INPUT_MAX)
        n = INPUT_MAX - size;
    memmove(data + at + n, data + at, size - at);
    memcpy(data + at, from, n);
    return size + n;
}

/* One change of an input. */
static size_t change(struct sy_prng *p, uint8_t *data, size_t size)
{
    size_t at = size ? (size_t)sy_prng_below(p, (int64_t)size) : 0;
    size_t n = size ? (size_t)sy_prng_spread(p, 1, (int64_t)(size - at)) : 0;
    const struct input *other = files ? corpus + sy_prng_below(p, files) : NULL;
    uint8_t random[16];
    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (uint8_t)sy_prng_next(p);
    switch (size ? sy_prng_below(p, 7) : 3) {
    case 0:
        data[at] ^= (uint8_t)(1 << sy_prng_below(p, 8));
        return size;
    case 1:
        data[at] = random[0];
        return size;
    case 2:
        data[at] = (uint8_t)(data[at] + sy_prng_range(p, -3, 3));
        return size;
    case 3:
        return insert(data, size, at, random, (size_t)sy_prng_range(p, 1, sizeof random));
    case 4: /* a piece goes */
        memmove(data + at, data + at + n, size - at - n);
        return size - n;
    case 5: /* a piece comes twice */
        memcpy(random, data + at, n < sizeof random ? n : sizeof random);
        return insert(data, size, at, random, n < sizeof random ? n : sizeof random);
    default: /* the end of another input */
        if (!other || !other->size)
            return size;
        n = (size_t)sy_prng_below(p, (int64_t)other->size);
        return insert(data, at, at, other->data + n, other->size - n);
    }
}

static void make_input(uint64_t seed)
{
    struct sy_prng p = sy_prng_make(seed, 0);
    int changes = (int)sy_prng_spread(&p, 1, 12);
    current_size = 0;
    if (files && !sy_prng_once_in(&p, 8)) {
        const struct input *in = corpus + sy_prng_below(&p, files);
        current_size = in->size;
        memcpy(current, in->data, in->size);
    } else { /* any bytes, mostly small ones */
        current_size = (size_t)sy_prng_spread(&p, 0, 1000);
        for (size_t i = 0; i < current_size; i++)
            current[i] = (uint8_t)sy_prng_below(&p, sy_prng_once_in(&p, 2) ? 8 : 256);
    }
    while (changes--)
        current_size = change(&p, current, current_size);
}

/* ---- Running --------------------------------------------------------------------------------- */

static void run_current(void)
{
    uint8_t *copy = malloc(current_size + 1); /* exactly as long, for what looks beyond */
    uint8_t *exact = realloc(copy, current_size ? current_size : 1);
    memcpy(exact, current, current_size);
    LLVMFuzzerTestOneInput(exact, current_size);
    free(exact);
}

static void keep_failure(int signal_number)
{
    int fd = open("fuzz-failure", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, current, current_size) >= 0)
        close(fd);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

/* A hang is a failure, too. */
static void watch_over(void)
{
    static const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], keep_failure);
}

int main(int argc, char **argv)
{
    uint64_t inputs = 20000, seed = 1, done = 0;
    int option, given;
    while ((option = getopt(argc, argv, "n:s:")) != -1) {
        if (option == 'n')
            inputs = strtoull(optarg, NULL, 10);
        else if (option == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    given = argc - optind;
    for (int i = optind; i < argc; i++)
        add_path(argv[i]);
    if (!given)
        add_path(SY_CORPUS);
    watch_over();
    for (int i = 0; i < files; i++) {
        current_size = corpus[i].size;
        memcpy(current, corpus[i].data, current_size);
        alarm(20);
        run_current();
    }
    for (; done < (given == 1 && files == 1 ? 0 : inputs); done++) {
        make_input(seed + done);
        alarm(20);
        run_current();
    }
    printf("%d files and %llu inputs from seed %llu\n", files, (unsigned long long)done,
           (unsigned long long)seed);
    printf("%d passed, 0 failed, 0 skipped\n", files ? 2 : 1);
    for (int i = 0; i < files; i++)
        free(corpus[i].data);
    return 0;
}
