/* main.c - the command `switchyard`: its sub-commands, and what they have in common. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "switchyard.h"
#include "tool.h"

static const struct {
    const char *name, *title, *help;
    int (*main)(int argc, char **argv);
} commands[] = {
    {"run", "switchyard run", "start a program as N ranks on this machine", tool_run},
    {"info", "switchyard info", "what the library finds on this machine, and its parameters",
     tool_info},
    {"bench", "switchyard bench", "time dispatch and combine, beside the machine's own ceilings",
     tool_bench},
};

#define COMMANDS (sizeof commands / sizeof *commands)

static const char *title = "switchyard";

/* In one write, so that lines of several ranks do not mix. */
static void say(const char *format, va_list ap, const char *behind)
{
    char line[2048];
    int n = snprintf(line, sizeof line - 1, "%s: ", title);
    n += vsnprintf(line + n, sizeof line - 1 - (size_t)n, format, ap);
    if ((size_t)n > sizeof line - 2)
        n = (int)sizeof line - 2;
    snprintf(line + n, sizeof line - (size_t)n, "\n");
    fflush(stdout);
    fputs(line, stderr);
    fputs(behind, stderr);
}

void tool_say(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    say(format, ap, "");
    va_end(ap);
}

int tool_usage(const char *format, ...)
{
    char hint[64];
    va_list ap;
    snprintf(hint, sizeof hint, "Try '%s --help'.\n", title);
    va_start(ap, format);
    if (format)
        say(format, ap, hint);
    else
        fputs(hint, stderr);
    va_end(ap);
    return TOOL_USAGE;
}

int tool_end(int status)
{
    if (fflush(stdout) || ferror(stdout)) {
        tool_say("writing to stdout: %s", strerror(errno));
        return status ? status : TOOL_FAILED;
    }
    return status;
}

int tool_number(const char *text, int64_t least, int64_t most, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return *text && !*end && !errno && *value >= least && *value <= most;
}

uint64_t tool_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void help(void)
{
    printf("Switchyard carries the tokens of mixture-of-experts layers between ranks: dispatch to\n"
           "their experts, and combine back. This command looks at the library and measures it.\n"
           "\n"
           "usage: switchyard COMMAND [OPTIONS]\n"
           "\n");
    for (size_t i = 0; i < COMMANDS; i++)
        printf("  %-8s %s\n", commands[i].name, commands[i].help);
    printf("\n"
           "  switchyard COMMAND --help   says more about a command\n"
           "  switchyard --version\n"
           "\n"
           "Exit status: 0; 1 when something failed; 2 when the command line is wrong. `run` ends\n"
           "with the status of the rank that failed first.\n");
}

int main(int argc, char **argv)
{
    char title_arg[32];
    if (argc < 2)
        return tool_usage("a command is missing: run, info or bench");
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("switchyard %s\n", sy_version());
        return tool_end(TOOL_OK);
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        help();
        return tool_end(TOOL_OK);
    }
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name))
            continue;
        title = commands[i].title;
        snprintf(title_arg, sizeof title_arg, "%s", title); /* getopt names it in its messages */
        argv[1] = title_arg;
        return tool_end(commands[i].main(argc - 1, argv + 1));
    }
    return tool_usage("'%s' is no command; there are run, info and bench", argv[1]);
}
