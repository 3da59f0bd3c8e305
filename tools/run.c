/* run.c - `switchyard run`: a program as N ranks on this machine. */
#define _GNU_SOURCE /* getopt_long */
#include <getopt.h>
#include <stdio.h>

#include "spawn.h"
#include "tool.h"

static void help(void)
{
    printf(
        "usage: switchyard run -n N [OPTIONS] -- PROGRAM [ARGUMENTS]\n"
        "\n"
        "Starts PROGRAM as N processes on this machine, ranks 0 to N-1 of one world. Each finds\n"
        "in its environment SY_RANK, SY_RANKS and SY_ID, from which sy_group_create() with\n"
        "SY_BOOT_ENV makes a group. Rank 0 has the stdin of this command if that is no terminal;\n"
        "the others have none.\n"
        "\n"
        "  -n, --ranks N        how many\n"
        "  -t, --tag            put \"[rank] \" in front of each line that a rank writes\n"
        "  -g, --grace SECONDS  when a rank fails, the others get so long to end by themselves,\n"
        "                       then SIGTERM, then so long again, then SIGKILL (2)\n"
        "  -h, --help\n"
        "\n"
        "SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to the ranks; a second one kills them.\n"
        "When this command ends, in whatever way, everything that it started has ended, except\n"
        "for processes that made themselves a session of their own.\n"
        "\n"
        "Exit status: 0 if all ranks ended with 0; otherwise that of the first rank that failed,\n"
        "128 + N if signal N killed it. 126 and 127: PROGRAM cannot be executed, or is not there.\n"
        "\n"
        "  switchyard run -n 8 -- ./my_program --its-option\n");
}

int tool_run(int argc, char **argv)
{
    static const struct option options[] = {{"ranks", required_argument, NULL, 'n'},
                                            {"tag", no_argument, NULL, 't'},
                                            {"grace", required_argument, NULL, 'g'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    struct spawn spawn = {.grace_ns = 2000000000u};
    int64_t value;
    int option;
    while ((option = getopt_long(argc, argv, "+n:tg:h", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            if (!tool_number(optarg, 1, 4095, &value))
                return tool_usage("-n %s: a number of ranks from 1 to 4095", optarg);
            spawn.ranks = (int32_t)value;
            break;
        case 't':
            spawn.tag = 1;
            break;
        case 'g':
            if (!tool_number(optarg, 0, 3600, &value))
                return tool_usage("--grace %s: seconds from 0 to 3600", optarg);
            spawn.grace_ns = (uint64_t)value * 1000000000u;
            break;
        case 'h':
            help();
            return TOOL_OK;
        default:
            return tool_usage(NULL);
        }
    }
    if (!spawn.ranks)
        return tool_usage("-n is missing: how many ranks?");
    if (optind == argc)
        return tool_usage("a program to run is missing");
    spawn.argv = argv + optind;
    return spawn_ranks(&spawn);
}
