/* boot_test.c - the bootstrap (src/boot/boot.h) with real processes.
 *
 *   1  Worlds that form, in all ways      4  Ranks that are late or die
 *   2  Strangers and wrong secrets        5  Launchers
 *   3  Ranks that disagree                6  Ids: discarding, nobody comes, forks
 *                                         7  Every system call fails once
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "boot_world.h"

static void sort(uint64_t *values, int count)
{
    for (int i = 1; i < count; i++)
        for (int k = i; k && values[k] < values[k - 1]; k--) {
            uint64_t swap = values[k];
            values[k] = values[k - 1];
            values[k - 1] = swap;
        }
}

/* ---- 1. Worlds that form --------------------------------------------------------------------- */

/* Every size: all ranks have all parts. */
static int gathers_well(struct sy_boot *boot)
{
    static const size_t sizes[] = {0, 1, 8, 1000, 3000, SY_PART_BYTES_MAX};
    uint8_t *mine = malloc(SY_PART_BYTES_MAX);
    uint8_t *all = malloc((size_t)boot->ranks * SY_PART_BYTES_MAX);
    int good = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes && good; s++) {
        size_t n = sizes[s];
        for (size_t i = 0; i < n; i++)
            mine[i] = (uint8_t)(boot->rank * 31 + (int)i * 7 + (int)s);
        memset(all, 0xee, (size_t)boot->ranks * n);
        good &= sy_boot_allgather(boot, mine, all, n) == SY_OK;
        for (int r = 0; r < boot->ranks; r++)
            for (size_t i = 0; i < n; i++)
                good &= all[(size_t)r * n + i] == (uint8_t)(r * 31 + (int)i * 7 + (int)s);
        good &= sy_boot_barrier(boot) == SY_OK;
    }
    free(mine);
    free(all);
    return good;
}

static int agrees_well(struct sy_boot *boot)
{
    sy_status status = sy_boot_agree(boot, SY_OK);
    int good = status == SY_OK;
    int last = boot->ranks - 1;
    status = SY_OK;
    if (boot->rank == last)
        status = sy_fail(SY_NO_MEMORY, "rank %d has no cheese", last);
    status = sy_boot_agree(boot, status);
    good &= status == SY_NO_MEMORY && boot->culprit == last;
    good &= strstr(sy_last_error(), "has no cheese") != NULL;
    return good && sy_boot_barrier(boot) == SY_OK;
}

static void act_form(const struct scene *scene, int rank)
{
    struct sy_boot *boot;
    sy_status status = open_world(scene, rank, &boot);
    if (status == SY_OK && (boot->rank != rank || boot->ranks != scene->ranks))
        status = sy_fail(SY_STATE, "rank %d of %d", boot->rank, boot->ranks);
    if (status == SY_OK && !gathers_well(boot))
        status = sy_fail(SY_STATE, "allgather went wrong: %s", sy_last_error());
    if (status == SY_OK && !agrees_well(boot))
        status = sy_fail(SY_STATE, "agreement went wrong: %s", sy_last_error());
    record(rank, status);
    sy_boot_close(boot);
}

static void worlds(void)
{
    static const int sizes[] = {1, 2, 3, 8, 16};
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_USER; way++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct scene s = {.ranks = sizes[i], .way = way, .act = act_form};
            int bad = play(&s);
            check(!bad && all_ended(&s, -1, SY_OK, ""), "world %s %d", way_names[way], s.ranks);
        }
    }
}

static void act_open(const struct scene *scene, int rank)
{
    struct sy_boot *boot;
    sy_status status;
    atomic_fetch_add(&sh->step[0], 1); /* the time to fork so many is not the bootstrap's */
    while (atomic_load(&sh->step[0]) < scene->ranks)
        sched_yield();
    status = open_world(scene, rank, &boot);
    record(rank, status == SY_OK ? sy_boot_barrier(boot) : status);
    sy_boot_close(boot);
}

static void time_opening(int way, int ranks, unsigned limit_ms)
{
    uint64_t worst[5];
    int good = 1;
    for (int run = 0; run < 5; run++) {
        struct scene s = {.ranks = ranks, .way = way, .act = act_open};
        good &= !play(&s) && all_ended(&s, -1, SY_OK, "");
        worst[run] = 0;
        for (int i = 0; i < ranks; i++)
            if (sh->results[i].ns > worst[run])
                worst[run] = sh->results[i].ns;
    }
    sort(worst, 5);
    printf("  opening %d ranks by %s, slowest rank: best %.2f, median %.2f, worst %.2f ms\n", ranks,
           way_names[way], (double)worst[0] / 1e6, (double)worst[2] / 1e6, (double)worst[4] / 1e6);
    check(good && worst[2] < limit_ms * MS * SLOW, "open %d %s within %u ms", ranks, way_names[way],
          limit_ms);
}

static void timing(void)
{
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_USER; way++)
        time_opening(way, 8, 50);
    time_opening(SY_BOOT_ID, 64, 300);
    time_opening(SY_BOOT_ENV, 64, 300);
}

static int user_refuses(void *context)
{
    (void)context;
    return 7;
}

static int user_refuses_parts(void *context, const void *mine, void *all, size_t bytes)
{
    (void)mine;
    (void)all;
    (void)bytes;
    return user_refuses(context);
}

static void user_errors(void)
{
    sy_group_config config = {.boot = SY_BOOT_USER, .rank = 0, .ranks = 2,
                              .allgather = user_refuses_parts, .barrier = user_refuses};
    struct sy_boot *boot;
    check(sy_boot_open(&config, &boot) == SY_SYSTEM && !boot &&
              strstr(sy_last_error(), "allgather returned 7"),
          "user callback fails: %s", sy_last_error());
    config.barrier = NULL;
    check(sy_boot_open(&config, &boot) == SY_INVALID, "user callback missing: %s", sy_last_error());
    config.rank = 2;
    check(sy_boot_open(&config, &boot) == SY_INVALID, "user rank: %s", sy_last_error());
    config.boot = 9;
    check(sy_boot_open(&config, &boot) == SY_INVALID, "no such way: %s", sy_last_error());
    config.boot = SY_BOOT_ID;
    check(sy_boot_open(&config, &boot) == SY_INVALID, "empty id: %s", sy_last_error());
    config.ranks = 0;
    check(sy_boot_open(&config, &boot) == SY_INVALID, "no ranks: %s", sy_last_error());
}

/* ---- 2. Strangers ---------------------------------------------------------------------------- */

static int connect_to_id(const sy_id *id)
{
    struct sy_place place;
    int fd;
    if (sy_id_place(id, &place) != SY_OK)
        return -1;
    fd = socket(place.at.ss_family, SOCK_STREAM, 0);
    if (fd >= 0 && connect(fd, (const void *)&place.at, place.at_bytes)) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Rank 0 makes the id, all ranks wait until the strangers are there; the last process is they. */
static void act_beside_strangers(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    int fds[300];
    real.ranks--;
    if (rank < real.ranks) {
        if (rank == real.creator) {
            record(rank, sy_id_create(&sh->id));
            atomic_store(&sh->id_ready, 1);
            real.creator = -1;
        }
        wait_step(0, 1);
        act_form(&real, rank);
        atomic_fetch_add(&sh->step[1], 1);
        return;
    }
    while (!atomic_load(&sh->id_ready))
        sleep_ms(1);
    for (int i = 0; i < 300; i++) {
        char junk[300];
        memset(junk, i, sizeof junk);
        if (i % 5 == 4) { /* the beginning of a hello, and then nothing */
            struct sy_talk talk;
            struct sy_meeting meeting;
            uint8_t nonce[SY_NONCE_BYTES] = {0};
            sy_meeting_read(&sh->id, &meeting);
            sy_hello_write(&talk, meeting.group, nonce);
            memcpy(junk, talk.hello, sizeof talk.hello);
        }
        fds[i] = connect_to_id(&sh->id);
        if (fds[i] < 0)
            continue;
        if (i % 5 >= 2 && send(fds[i], junk, i % 5 == 4 ? 20 + (size_t)i / 10 : (size_t)i,
                               MSG_NOSIGNAL) < 0)
            sleep_ms(0);
        if (i % 5 == 1) {
            close(fds[i]);
            fds[i] = -1;
        }
        if (i == 100)
            atomic_store(&sh->step[0], 1);
    }
    wait_step(1, real.ranks);
    for (int i = 0; i < 300; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    record(rank, SY_OK);
}

/* The last process has the id with one bit changed: it gets nowhere, and the others do not
 * notice. */
static void act_changed_id(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    real.ranks--;
    if (rank < real.ranks) {
        if (rank == 1)
            wait_step(0, 1);
        act_form(&real, rank);
        return;
    }
    while (!atomic_load(&sh->id_ready))
        sleep_ms(1);
    {
        sy_group_config config = {.boot = SY_BOOT_ID, .rank = 1, .ranks = real.ranks,
                                  .timeout_ns = 5000 * MS};
        struct sy_boot *boot;
        config.id = sh->id;
        config.id.bytes[scene->number] ^= 1;
        record(rank, sy_boot_open(&config, &boot));
        sy_boot_close(boot);
    }
    atomic_store(&sh->step[0], 1);
}

/* A recorded handshake, played again on a new connection, proves nothing: the root's nonce is
 * new. */
static void act_replay(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    real.ranks--;
    if (rank < real.ranks) {
        if (rank == 1)
            wait_step(0, 1);
        act_form(&real, rank);
        return;
    }
    while (!atomic_load(&sh->id_ready))
        sleep_ms(1);
    {
        struct sy_claim claim = {.rank = 1, .ranks = real.ranks, .timeout_ns = MS,
                                 .patience_ns = MS};
        uint8_t nonce[SY_NONCE_BYTES] = {1}, byte;
        struct sy_meeting meeting;
        struct sy_talk talk;
        ssize_t n = 0;
        sy_meeting_read(&sh->id, &meeting);
        for (int round = 0; round < 2; round++) {
            int fd = connect_to_id(&sh->id);
            sy_hello_write(&talk, meeting.group, nonce);
            if (send(fd, talk.hello, sizeof talk.hello, 0) < 0)
                n = -2;
            if (!round) { /* what a listener on the wire would have: a proof for another nonce */
                uint8_t other[SY_NONCE_BYTES] = {2};
                sy_challenge_write(&talk, other);
                sy_proof_write(&talk, &claim, meeting.secret);
            }
            if (recv(fd, talk.challenge, sizeof talk.challenge, MSG_WAITALL) < 0 ||
                send(fd, talk.proof, sizeof talk.proof, 0) < 0)
                n = -2;
            n += recv(fd, &byte, 1, 0) > 0;
            close(fd);
        }
        record(rank, n ? SY_STATE : SY_OK);
    }
    atomic_store(&sh->step[0], 1);
}

static void strangers(void)
{
    struct scene s = {.ranks = 9, .way = SY_BOOT_ID, .act = act_beside_strangers};
    uint64_t slowest = 0;
    int bad = play(&s);
    for (int i = 0; i < 8; i++)
        slowest = sh->results[i].ns > slowest ? sh->results[i].ns : slowest;
    check(!bad && all_ended(&s, -1, SY_OK, "") && slowest < 3000 * MS * SLOW,
          "300 strangers while 8 ranks form: %.1f ms", (double)slowest / 1e6);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ID, .act = act_changed_id, .number = 50};
    check(!play(&s) && all_ended(&s, 3, SY_OK, "") && sh->results[3].status == SY_PROTOCOL,
          "wrong secret: %s", sh->results[3].text);
    s.number = 40;
    check(!play(&s) && all_ended(&s, 3, SY_OK, "") && sh->results[3].status == SY_PROTOCOL,
          "wrong group: %s", sh->results[3].text);
    s.number = 100;
    check(!play(&s) && all_ended(&s, 3, SY_OK, "") && sh->results[3].status == SY_INVALID,
          "damaged id: %s", sh->results[3].text);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ID, .act = act_replay};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "replayed handshake");
}

/* ---- 3. Ranks that disagree ------------------------------------------------------------------ */

enum { TWICE, BEYOND, NEGATIVE, MORE, CALLS, SIZES };

static void act_disagree(const struct scene *scene, int rank)
{
    struct sy_boot *boot;
    int odd = rank == scene->ranks - 1, claim = rank, ranks = scene->ranks;
    uint8_t mine[64] = {0}, all[64 * 8];
    sy_status status;
    if (odd && scene->number == TWICE)
        claim = scene->other;
    if (odd && scene->number == BEYOND)
        claim = ranks + 5;
    if (odd && scene->number == NEGATIVE)
        claim = -3;
    if (odd && scene->number == MORE)
        ranks++;
    if (scene->other == 2) /* the odd one comes last */
        sleep_ms(odd ? 30 : 0);
    status = open_as(scene, rank, claim, ranks, &boot);
    if (status == SY_OK && scene->number == CALLS && odd)
        status = sy_boot_barrier(boot);
    else if (status == SY_OK)
        status = sy_boot_allgather(boot, mine, all,
                                   odd && scene->number == SIZES ? 63 : sizeof mine);
    record(rank, status);
    sh->results[rank].culprit = boot ? boot->culprit : -2;
    if (status != SY_OK && boot) { /* and so for ever */
        char text[SY_ERROR_TEXT];
        snprintf(text, sizeof text, "%s", sy_last_error());
        if (sy_boot_barrier(boot) != status || strcmp(text, sy_last_error()))
            record(rank, sy_fail(SY_STATE, "second failure differs: %s", sy_last_error()));
    }
    sy_boot_close(boot);
}

static void disagreements(void)
{
    static const struct {
        const char *name, *text;
        int number, other;
    } cases[] = {
        {"rank 1 twice", "two processes say that they are rank 1 of 4", TWICE, 1},
        {"rank 0 twice", "two processes say that they are rank 0 of 4", TWICE, 0},
        {"rank 2 twice, late", "two processes say that they are rank 2 of 4", TWICE, 2},
        {"rank too large", "rank 9 of 4", BEYOND, 0},
        {"rank too large, late", "rank 9 of 4", BEYOND, 2},
        {"rank negative", "rank -3 of 4", NEGATIVE, 0},
        {"ranks differ", "5", MORE, 0},
        {"ranks differ, late", "rank 3 says that there are 5 ranks, rank", MORE, 2},
        {"calls differ", "a barrier", CALLS, 0},
        {"sizes differ", "an allgather of 63 bytes", SIZES, 0},
    };
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_ID; way++) {
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            struct scene s = {.ranks = 4, .way = way, .act = act_disagree, .creator = 0,
                              .number = cases[i].number, .other = cases[i].other,
                              .timeout_ms = 400 * SLOW}; /* the root waits so long for rank 4 */
            int bad;
            if (way == SY_BOOT_ENV && cases[i].number == NEGATIVE)
                continue; /* the environment holds no such number */
            bad = play(&s);
            check(!bad && all_ended(&s, -1, SY_MISMATCH, cases[i].text), "%s, %s: %s",
                  way_names[way], cases[i].name, sh->results[0].text);
        }
    }
}

/* ---- 4. Ranks that are late or die ----------------------------------------------------------- */

static void act_missing(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    uint8_t all[64];
    sy_status status;
    if (rank == scene->number && !scene->other) { /* never comes */
        record(rank, SY_OK);
        if (rank == scene->creator && scene->way == SY_BOOT_ID) {
            record(rank, sy_id_create(&sh->id));
            atomic_store(&sh->id_ready, 1);
        }
        sleep_ms(scene->timeout_ms + 300);
        return;
    }
    status = open_world(scene, rank, &boot);
    sh->results[rank].ns = now_ns();
    if (status == SY_OK && rank == scene->number) { /* is in, but does not come to the collective */
        sleep_ms(scene->timeout_ms + 200);
        status = sy_boot_allgather(boot, &rank, all, sizeof rank);
    } else if (status == SY_OK) {
        status = sy_boot_allgather(boot, &rank, all, sizeof rank);
    }
    sh->results[rank].ns = now_ns() - sh->results[rank].ns;
    record(rank, status);
    sy_boot_close(boot);
}

static void missing(void)
{
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_ID; way++) {
        struct scene s = {.ranks = 4, .way = way, .act = act_missing, .number = 2,
                          .timeout_ms = 400 * SLOW};
        int bad = play(&s);
        check(!bad && all_ended(&s, 2, SY_TIMEOUT, "rank 2"), "%s, rank 2 missing: %s",
              way_names[way], sh->results[0].text);
        s.other = 1;
        bad = play(&s);
        check(!bad && all_ended(&s, -1, SY_TIMEOUT, "rank 2 did not come to collective 1") &&
                  sh->results[0].ns < s.timeout_ms * MS,
              "%s, rank 2 late for a collective: %s", way_names[way], sh->results[0].text);
        s.other = 0;
        s.number = 0;
        bad = play(&s);
        check(!bad && all_ended(&s, 0, SY_TIMEOUT, "rank 0"), "%s, rank 0 missing: %s",
              way_names[way], sh->results[1].text);
    }
}

enum { DIE_FORMING, DIE_IDLE, DIE_CALLING, DIE_HALF, LEAVE, STOP };

/* Rank `number` comes to its end at a certain point; marks when. */
static void come_to_an_end(const struct scene *scene, int rank, struct sy_boot *boot)
{
    struct sy_head head = {.kind = SY_KIND_GATHER, .sequence = 1, .bytes = 64};
    uint8_t data[SY_HEAD_BYTES];
    if (scene->other == DIE_CALLING)
        sleep_ms(50); /* the others wait in the collective */
    if (scene->other == DIE_HALF) {
        sy_head_write(&head, data);
        if (send(boot->fd, data, 9, 0) != 9)
            record(rank, SY_SYSTEM);
        sleep_ms(20);
    }
    atomic_store(&sh->mark_ns, now_ns());
    if (scene->other == LEAVE) {
        record(rank, SY_OK);
        sy_boot_close(boot);
        return;
    }
    kill(getpid(), SIGKILL);
}

static void act_death(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    uint8_t mine[64] = {0}, all[64 * 8];
    sy_status status;
    if (scene->other == DIE_FORMING && rank == scene->number) {
        struct scene one = *scene;
        pid_t self = getpid();
        if (!fork()) { /* kills the rank while it waits for the group */
            sleep_ms(60);
            atomic_store(&sh->mark_ns, now_ns());
            kill(self, SIGKILL);
            _exit(0);
        }
        record(rank, open_world(&one, rank, &boot));
        return;
    }
    if (scene->other == DIE_FORMING && rank == scene->ranks - 1)
        sleep_ms(150); /* the group cannot form before the death, and this one hears of it late */
    status = open_world(scene, rank, &boot);
    if (status == SY_OK && rank == scene->number) {
        come_to_an_end(scene, rank, boot);
        return;
    }
    if (status == SY_OK && scene->other == DIE_IDLE)
        sleep_ms(50);
    if (status == SY_OK)
        status = sy_boot_allgather(boot, mine, all, sizeof mine);
    record(rank, status);
    sy_boot_close(boot);
}

static void deaths(void)
{
    static const char *const names[] = {"while forming", "idle", "in a collective",
                                        "half-way in a message", "leaving"};
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_ID; way++) {
        for (int point = DIE_FORMING; point <= LEAVE; point++) {
            for (int victim = 0; victim < 3; victim += 2) {
                struct scene s = {.ranks = 4, .way = way, .act = act_death, .number = victim,
                                  .other = point, .creator = 1};
                uint64_t latest = 0, mark;
                const char *text = victim ? "rank 2" : way == SY_BOOT_ENV ? "rank 0" : "rank 0 ";
                int bad;
                if (point == DIE_FORMING && way == SY_BOOT_ENV && !victim)
                    continue; /* below: then there is no root to tell late ranks */
                bad = play(&s);
                mark = atomic_load(&sh->mark_ns);
                for (int i = 0; i < 3; i++) /* not the late one */
                    if (i != victim && sh->results[i].at_ns > latest)
                        latest = sh->results[i].at_ns;
                check(!bad && all_ended(&s, victim, SY_PEER_LOST, text) &&
                          latest - mark < 200 * MS * SLOW,
                      "%s, rank %d dies %s: after %.1f ms: %s", way_names[way], victim,
                      names[point], ((double)latest - (double)mark) / 1e6,
                      sh->results[1].text);
            }
        }
    }
}

/* The root's process dies: it served rank 0 (env), or is rank 1 (id), or no rank at all. */
static void act_root_dies(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    struct sy_boot *boot = NULL;
    sy_status status;
    int all[8];
    if (scene->number == 3) { /* the last process only serves */
        real.ranks--;
        if (rank == real.ranks) {
            if (sy_id_create(&sh->id) == SY_OK)
                atomic_store(&sh->id_ready, 1);
            wait_step(0, real.ranks);
            atomic_store(&sh->mark_ns, now_ns());
            kill(getpid(), SIGKILL);
        }
    }
    status = open_world(&real, rank, &boot);
    if (rank == scene->number && status == SY_OK) {
        sleep_ms(50);
        atomic_store(&sh->mark_ns, now_ns());
        kill(getpid(), SIGKILL);
    }
    atomic_fetch_add(&sh->step[0], 1);
    if (status == SY_OK)
        status = sy_boot_allgather(boot, &rank, all, sizeof rank);
    if (status == SY_OK && scene->number == 3) {
        sleep_ms(100);
        status = sy_boot_barrier(boot);
    }
    record(rank, status);
    sy_boot_close(boot);
}

static void root_deaths(void)
{
    struct scene s = {.ranks = 4, .way = SY_BOOT_ENV, .act = act_root_dies, .number = 0};
    check(!play(&s) && all_ended(&s, 0, SY_PEER_LOST, "rank 0 died"), "env, root dies: %s",
          sh->results[1].text);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ID, .act = act_root_dies, .number = 1,
                       .creator = 1};
    check(!play(&s) && all_ended(&s, 1, SY_PEER_LOST, "rank 1 died"), "id, root is a rank: %s",
          sh->results[0].text);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ID, .act = act_root_dies, .number = 3,
                       .creator = 3};
    check(!play(&s) && all_ended(&s, 3, SY_PEER_LOST, "serves the bootstrap is gone"),
          "id, root is no rank: %s", sh->results[0].text);
}

/* A rank that is stopped for less than the timeout is late, not dead. */
static void act_stopped(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    sy_status status = open_world(scene, rank, &boot);
    int all[8];
    if (rank == 1 && status == SY_OK) {
        pid_t self = getpid(), waker = fork();
        if (!waker) {
            sleep_ms(20);
            kill(self, SIGSTOP);
            sleep_ms(300);
            kill(self, SIGCONT);
            _exit(0);
        }
        sleep_ms(40);
        waitpid(waker, NULL, 0);
    }
    if (status == SY_OK)
        status = sy_boot_allgather(boot, &rank, all, sizeof rank);
    record(rank, status);
    sy_boot_close(boot);
}

static void stopped(void)
{
    struct scene s = {.ranks = 3, .way = SY_BOOT_ENV, .act = act_stopped};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "a stopped rank is not dead");
}

/* ---- 5. Launchers ---------------------------------------------------------------------------- */

struct environment {
    const char *name;
    const char *variables[16]; /* NAME=value */
    int status, rank, ranks, local, machines;
    const char *launcher, *job; /* beginnings; or of the error's text */
};

#define ID_DIGITS                                                                                  \
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d" \
    "2e2f303132333435363738393a3b3c3d3e3f404142434445464748494a4b4c4d4e4f505152535455565758595a5b" \
    "5c5d5e5f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7D7E7F"

static const struct environment environments[] = {
    {"none", {NULL}, SY_OK, 0, 1, 1, 1, "no launcher", ""},
    {"own", {"SY_RANK=1", "SY_RANKS=3", "SY_ID=" ID_DIGITS, "RANK=7", "WORLD_SIZE=9"}, SY_OK, 1, 3,
     0, 0, "switchyard run", "0001020304"},
    {"own without number", {"SY_RANK=1", "SY_ID=" ID_DIGITS}, SY_INVALID, 0, 0, 0, 0,
     "the environment looks like switchyard run, but SY_RANKS is not set", ""},
    {"own without id", {"SY_RANK=1", "SY_RANKS=3"}, SY_INVALID, 0, 0, 0, 0,
     "the environment looks like switchyard run, but SY_ID is not set", ""},
    {"own with short id", {"SY_RANK=1", "SY_RANKS=3", "SY_ID=0011"}, SY_INVALID, 0, 0, 0, 0,
     "SY_ID is not an id", ""},
    {"torchrun",
     {"RANK=2", "WORLD_SIZE=4", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=127.0.0.1", "MASTER_PORT=29500",
      "TORCHELASTIC_RUN_ID=none", "TORCHELASTIC_RESTART_COUNT=1", "LOCAL_RANK=2"},
     SY_OK, 2, 4, 4, 0, "torchrun", "none restart 1 at 127.0.0.1:29500"},
    {"torchrun on two machines",
     {"RANK=5", "WORLD_SIZE=8", "LOCAL_WORLD_SIZE=4", "MASTER_ADDR=a", "MASTER_PORT=1"},
     SY_OK, 5, 8, 4, 0, "torchrun", "- restart 0 at a:1"},
    {"torchrun with words", {"RANK=two", "WORLD_SIZE=4"}, SY_INVALID, 0, 0, 0, 0, "RANK=two", ""},
    {"torchrun with overflow", {"RANK=1", "WORLD_SIZE=4294967298"}, SY_INVALID, 0, 0, 0, 0,
     "WORLD_SIZE=4294967298", ""},
    {"torchrun of nobody", {"RANK=0", "WORLD_SIZE=0"}, SY_INVALID, 0, 0, 0, 0,
     "torchrun says that there are 0 ranks", ""},
    {"a lonely RANK", {"RANK=2"}, SY_OK, 0, 1, 1, 1, "no launcher", ""},
    {"Open MPI",
     {"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_COMM_WORLD_LOCAL_SIZE=2",
      "PMIX_NAMESPACE=4711", "PMIX_RANK=1", "OMPI_MCA_ess_base_jobid=12",
      "OMPI_MCA_orte_hnp_uri=x;tcp"},
     SY_OK, 1, 2, 2, 0, "Open MPI", "4711 at x;tcp"},
    {"Open MPI without namespace",
     {"OMPI_COMM_WORLD_RANK=1", "OMPI_COMM_WORLD_SIZE=2", "OMPI_MCA_ess_base_jobid=12"},
     SY_OK, 1, 2, 0, 0, "Open MPI", "12 at -"},
    {"MPICH", {"PMI_RANK=3", "PMI_SIZE=4", "MPI_LOCALNRANKS=4", "PMI_FD=7"}, SY_OK, 3, 4, 4, 0,
     "MPICH", "launcher "},
    {"PMI in Slurm",
     {"PMI_RANK=3", "PMI_SIZE=4", "SLURM_JOB_ID=7", "SLURM_STEP_ID=1", "SLURM_STEP_NUM_NODES=2"},
     SY_OK, 3, 4, 0, 2, "MPICH", "slurm 7.1"},
    {"PMIx in Slurm",
     {"PMIX_RANK=1", "PMIX_NAMESPACE=slurm.pmix.7.0", "SLURM_NTASKS=2", "SLURM_NNODES=1"},
     SY_OK, 1, 2, 0, 1, "a PMIx launcher", "slurm.pmix.7.0"},
    {"PMIx alone", {"PMIX_RANK=1", "PMIX_NAMESPACE=n"}, SY_UNSUPPORTED, 0, 0, 0, 0, "PMIx", ""},
    {"srun",
     {"SLURM_PROCID=3", "SLURM_NTASKS=4", "SLURM_JOB_ID=11", "SLURM_STEP_ID=2", "SLURM_NNODES=1"},
     SY_OK, 3, 4, 0, 1, "srun", "11.2"},
    {"srun with a smaller step",
     {"SLURM_PROCID=1", "SLURM_NTASKS=8", "SLURM_STEP_NUM_TASKS=2", "SLURM_JOB_ID=11",
      "SLURM_STEP_ID=2", "SLURM_NNODES=4", "SLURM_STEP_NUM_NODES=1"},
     SY_OK, 1, 2, 0, 1, "srun", "11.2"},
    {"a batch script of Slurm", {"SLURM_PROCID=0", "SLURM_NTASKS=4", "SLURM_JOB_ID=11"}, SY_OK, 0, 1,
     1, 1, "no launcher", ""},
};

static void act_environment(const struct scene *scene, int rank)
{
    const struct environment *e = environments + scene->number;
    struct sy_launch launch;
    sy_status status;
    int good;
    clearenv();
    for (int i = 0; i < 16 && e->variables[i]; i++) {
        char text[400];
        snprintf(text, sizeof text, "%s", e->variables[i]);
        *strchr(text, '=') = 0;
        setenv(text, strchr(e->variables[i], '=') + 1, 1);
    }
    status = sy_boot_env(&launch);
    good = (int)status == e->status;
    if (good && status == SY_OK)
        good = launch.rank == e->rank && launch.ranks == e->ranks && launch.local == e->local &&
               launch.machines == e->machines &&
               !strncmp(launch.launcher, e->launcher, strlen(e->launcher)) &&
               !strncmp(launch.job, e->job, strlen(e->job)) &&
               (!launch.has_id || launch.id.bytes[127] == 127);
    else if (good)
        good = !strncmp(sy_last_error(), e->launcher, strlen(e->launcher));
    sh->results[rank].status = good ? SY_OK : SY_STATE;
    snprintf(sh->results[rank].text, SY_ERROR_TEXT, "%s", status == SY_OK ? launch.launcher
                                                                          : sy_last_error());
}

/* One process behind a shell of its own, the other not: both name the same launcher. */
static void act_shell(const struct scene *scene, int rank)
{
    static const char *const forms[] = {
        "exec env PMI_RANK=0 PMI_SIZE=3 %s --job",
        "exec env PMI_RANK=1 PMI_SIZE=3 sh -c '%s --job; true'",
        "exec env PMI_RANK=2 PMI_SIZE=3 sh -c \"sh -c '%s --job; true'; true\"",
    };
    char self[600], command[800];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    for (int i = 0; i < 3; i++) {
        struct result *r = &sh->results[rank + i];
        FILE *out;
        snprintf(command, sizeof command, i ? i == 1 ? forms[1] : forms[2] : forms[0], self);
        out = popen(command, "r");
        if (!out || !fgets(r->text, SY_ERROR_TEXT, out))
            r->status = SY_SYSTEM;
        if (out)
            pclose(out);
    }
    (void)scene;
}

static void act_spread(const struct scene *scene, int rank)
{
    struct sy_group_config config = {.boot = SY_BOOT_ENV};
    struct sy_boot *boot;
    set_torchrun(rank, scene->ranks);
    set_number("LOCAL_WORLD_SIZE", 1);
    record(rank, sy_boot_open(&config, &boot));
}

/* Three groups, one after the other and two at a time, of one launch. */
static void act_groups(const struct scene *scene, int rank)
{
    struct scene one = *scene;
    struct sy_boot *a = NULL, *b = NULL, *c = NULL;
    sy_status status;
    if (scene->number) { /* under `switchyard run`, whose id serves the first group only */
        char hex[SY_ID_HEX + 1];
        sy_group_config config = {.boot = SY_BOOT_ENV, .timeout_ns = 10000 * MS};
        if (!rank) {
            record(rank, sy_id_create(&sh->id));
            atomic_store(&sh->id_ready, 1);
        }
        while (!atomic_load(&sh->id_ready))
            sleep_ms(1);
        sy_id_to_hex(&sh->id, hex);
        setenv("SY_ID", hex, 1);
        set_number("SY_RANK", rank);
        set_number("SY_RANKS", scene->ranks);
        status = sy_boot_open(&config, &a);
        if (status == SY_OK)
            status = sy_boot_open(&config, &b);
        sy_boot_close(a);
        if (status == SY_OK)
            status = sy_boot_open(&config, &c);
    } else {
        status = open_world(&one, rank, &a);
        if (status == SY_OK)
            status = open_world(&one, rank, &b);
        sy_boot_close(a);
        if (status == SY_OK)
            status = open_world(&one, rank, &c);
    }
    if (status == SY_OK && (!gathers_well(b) || !gathers_well(c)))
        status = SY_STATE;
    record(rank, status);
    sy_boot_close(b);
    sy_boot_close(c);
}

/* The last process is another user. It takes the meeting place before the ranks come. */
static void act_squatter(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    struct sy_boot *boot;
    real.ranks--;
    if (rank == real.ranks) {
        struct sy_launch launch;
        struct sy_place place;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        set_torchrun(0, real.ranks);
        sy_boot_env(&launch);
        sy_launch_place(&launch, 0, &place);
        if (setuid(65534) || bind(fd, (const void *)&place.at, place.at_bytes) ||
            (scene->number && listen(fd, 10)))
            record(rank, sy_fail(SY_STATE, "cannot squat"));
        atomic_store(&sh->step[0], 1);
        wait_step(1, real.ranks);
        close(fd);
        return;
    }
    wait_step(0, 1);
    record(rank, open_world(&real, rank, &boot));
    sy_boot_close(boot);
    atomic_fetch_add(&sh->step[1], 1);
}

/* The last process is another user, and connects to the meeting place of the others. */
static void act_other_user(const struct scene *scene, int rank)
{
    struct scene real = *scene;
    real.ranks--;
    if (rank == real.ranks) {
        struct sy_launch launch;
        struct sy_place place;
        int dropped = 0;
        char byte;
        set_torchrun(0, real.ranks);
        sy_boot_env(&launch);
        sy_launch_place(&launch, 0, &place);
        if (setuid(65534))
            record(rank, sy_fail(SY_STATE, "cannot be another user"));
        for (int i = 0; i < 2000 && !dropped; i++) {
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);
            if (connect(fd, (const void *)&place.at, place.at_bytes))
                sleep_ms(1);
            else
                dropped = recv(fd, &byte, 1, 0) <= 0;
            close(fd);
        }
        if (!dropped)
            record(rank, sy_fail(SY_STATE, "was not dropped"));
        atomic_store(&sh->step[0], 1);
        return;
    }
    if (rank)
        wait_step(0, 1);
    act_form(&real, rank);
}

static void launchers(void)
{
    struct scene s;
    int count = (int)(sizeof environments / sizeof *environments);
    for (int i = 0; i < count; i++) {
        s = (struct scene){.ranks = 1, .act = act_environment, .number = i};
        check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "environment: %s: %s",
              environments[i].name, sh->results[0].text);
    }
    s = (struct scene){.ranks = 1, .act = act_shell};
    check(!play(&s) && all_ended(&s, -1, SY_OK, "launcher ") &&
              !strcmp(sh->results[0].text, sh->results[1].text) &&
              !strcmp(sh->results[0].text, sh->results[2].text),
          "a shell per rank: %s", sh->results[0].text);
    s = (struct scene){.ranks = 2, .act = act_spread};
    check(!play(&s) && all_ended(&s, -1, SY_UNSUPPORTED, "SY_BOOT_ID or SY_BOOT_USER"),
          "several machines: %s", sh->results[0].text);
    s = (struct scene){.ranks = 3, .way = SY_BOOT_ENV, .act = act_groups};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "three groups of one launch");
    s.number = 1;
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "three groups of switchyard run");
    if (geteuid()) {
        skip("other users", "only root can become one");
        return;
    }
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ENV, .act = act_squatter, .number = 1};
    check(!play(&s) && all_ended(&s, 3, SY_SYSTEM, "held by user 65534"), "squatter listens: %s",
          sh->results[0].text);
    s.number = 0;
    s.timeout_ms = 1500;
    check(!play(&s) && sh->results[0].status == SY_SYSTEM && sh->results[1].status == SY_TIMEOUT &&
              sh->results[2].status == SY_TIMEOUT,
          "squatter does not listen: %s; %s", sh->results[0].text, sh->results[1].text);
    s = (struct scene){.ranks = 4, .way = SY_BOOT_ENV, .act = act_other_user};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "another user is dropped");
}

/* ---- 6. Ids ---------------------------------------------------------------------------------- */

static void act_discard(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    sy_status status;
    if (rank == scene->ranks - 1) {
        status = sy_id_create(&sh->id);
        if (status == SY_OK && scene->number == 0) { /* before anybody has come */
            status = sy_id_discard(&sh->id);
            if (status == SY_OK && sy_serve_count())
                status = sy_fail(SY_STATE, "discarded, but served");
        }
        atomic_store(&sh->id_ready, 1);
        if (scene->number == 1) { /* while the group forms */
            sleep_ms(50);
            status = sy_id_discard(&sh->id);
        }
        if (scene->number == 2) { /* when it has formed */
            wait_step(0, scene->ranks - 1);
            status = sy_id_discard(&sh->id);
            if (status == SY_OK)
                status = sy_id_discard(&sh->id);
            atomic_store(&sh->step[1], 1);
        }
        record(rank, status);
        return;
    }
    {
        struct scene real = *scene;
        real.ranks -= scene->number == 2 ? 1 : 0;
        real.creator = -1;
        status = open_world(&real, rank, &boot);
        atomic_fetch_add(&sh->step[0], 1);
        if (scene->number == 2) {
            wait_step(1, 1);
            if (status == SY_OK && !gathers_well(boot))
                status = SY_STATE;
        }
    }
    record(rank, status);
    sy_boot_close(boot);
}

/* An id that nobody wants: its thread ends by itself. An address of choice. */
static void act_unused(const struct scene *scene, int rank)
{
    sy_id id;
    uint64_t begin = now_ns();
    setenv("SY_TIMEOUT_MS", "10", 1);
    record(rank, sy_id_create(&id));
    if (sy_serve_count() != 1)
        record(rank, sy_fail(SY_STATE, "not served"));
    while (sy_serve_count() && now_ns() - begin < 5000 * MS)
        sleep_ms(1);
    sh->results[rank].ns = now_ns() - begin;
    (void)scene;
}

static void act_port(const struct scene *scene, int rank)
{
    struct sy_meeting meeting;
    sy_id a, b;
    int port = 20000 + (int)getpid() % 20000;
    sy_status status = SY_OK;
    set_number("SY_BOOT_PORT", port);
    if (sy_id_create(&a) != SY_OK || !sy_meeting_read(&a, &meeting) || meeting.port != port)
        status = sy_fail(SY_STATE, "port %d instead of %d: %s", meeting.port, port,
                         sy_last_error());
    else if (sy_id_create(&b) == SY_OK && sy_id_discard(&b) == SY_OK)
        status = SY_OK; /* it found another address with this port */
    else if (!strstr(sy_last_error(), "SY_BOOT_PORT"))
        status = SY_STATE;
    record(rank, status);
    sy_id_discard(&a);
    (void)scene;
}

/* The usual launcher: makes the id, forks, and its children are the ranks. What they inherit of the
 * root does not keep it alive: when it dies, they hear of it. */
static void act_fork(const struct scene *scene, int rank)
{
    struct scene real = {.ranks = 3, .way = SY_BOOT_ID, .creator = -1};
    pid_t pids[3];
    sy_id id;
    if (sy_id_create(&id) != SY_OK)
        return;
    sh->id = id;
    atomic_store(&sh->id_ready, 1);
    for (int i = 0; i < real.ranks; i++) {
        pids[i] = fork();
        if (!pids[i]) {
            struct sy_boot *boot;
            sy_status status;
            if (sy_serve_count())
                _exit(1);
            status = open_world(&real, i, &boot);
            atomic_fetch_add(&sh->step[0], 1);
            if (status == SY_OK && scene->number) {
                sleep_ms(100);
                status = sy_boot_barrier(boot) == SY_PEER_LOST ? SY_OK : SY_STATE;
            }
            sy_boot_close(boot);
            record(i + 1, status);
            atomic_fetch_add(&sh->step[1], 1);
            _exit(status != SY_OK);
        }
    }
    if (scene->number) {
        wait_step(0, real.ranks);
        kill(getpid(), SIGKILL);
    }
    for (int i = 0; i < real.ranks; i++) {
        int code;
        waitpid(pids[i], &code, 0);
        if (code)
            record(rank, sy_fail(SY_STATE, "rank %d: %s", i, sh->results[i + 1].text));
    }
}

static void ids(void)
{
    struct scene s = {.ranks = 3, .way = SY_BOOT_ID, .act = act_discard, .number = 0};
    int bad;
    check(!play(&s) && all_ended(&s, 2, SY_PEER_LOST, "nobody serves at") && !sh->results[2].status,
          "id discarded before: %s", sh->results[0].text);
    s.number = 1;
    check(!play(&s) && all_ended(&s, 2, SY_ABORTED, "discarded") && !sh->results[2].status,
          "id discarded while forming: %s", sh->results[0].text);
    s.number = 2;
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "id discarded when formed");
    s = (struct scene){.ranks = 1, .act = act_unused};
    bad = play(&s);
    check(!bad && all_ended(&s, -1, SY_OK, "") && sh->results[0].ns >= 200 * MS &&
              sh->results[0].ns < 400 * MS * SLOW,
          "unused id ends after %.0f ms", (double)sh->results[0].ns / 1e6);
    s = (struct scene){.ranks = 1, .act = act_port};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "port of choice: %s", sh->results[0].text);
    {
        sy_id id;
        memset(&id, 0, sizeof id);
        check(sy_id_discard(&id) == SY_INVALID && sy_id_create(NULL) == SY_INVALID &&
                  sy_id_discard(NULL) == SY_INVALID,
              "ids that are none");
    }
    s = (struct scene){.ranks = 1, .act = act_fork};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "ranks forked after the id");
    s.number = 1;
    check(!play(&s), "forked ranks notice the death of the root");
    for (int i = 0; i < 2000 && atomic_load(&sh->step[1]) < 3; i++)
        sleep_ms(1);
    for (int i = 1; i < 4; i++)
        check(sh->results[i].at_ns && sh->results[i].status == SY_OK, "rank %d noticed", i - 1);
}

/* ---- 7. Every system call fails once --------------------------------------------------------- */

/* Rank `creator` has the n-th call of a kind fail: n in `other`, kind in `number` (with FLAKY_KINDS
 * added: and all later ones). */
static void act_flaky(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    uint8_t mine[3000] = {0}, all[3000 * 3];
    sy_status status;
    if (rank == scene->creator || scene->number == FLAKY_SIGNALS)
        be_flaky(scene->number == FLAKY_SIGNALS ? FLAKY_SIGNALS : scene->number % FLAKY_KINDS,
                 scene->other, scene->number >= FLAKY_KINDS);
    status = open_world(scene, rank, &boot);
    if (scene->way == SY_BOOT_ID && rank == scene->creator && !atomic_load(&sh->id_ready)) {
        memset(&sh->id, 0, sizeof sh->id); /* no id, and all must know */
        atomic_store(&sh->id_ready, 1);
    }
    if (status == SY_OK)
        status = sy_boot_allgather(boot, mine, all, sizeof mine);
    if (status == SY_OK)
        status = sy_boot_agree(boot, SY_OK);
    if (rank == scene->creator && atomic_load(&flaky_fired))
        atomic_store(&sh->step[7], 1);
    record(rank, status);
    sy_boot_close(boot);
    if (rank == scene->creator) { /* what the root still does fails no more */
        atomic_store(&flaky_kind, -1);
    }
}

/* Fails each call of a kind in turn, or, with FLAKY_KINDS added, all from the first three on.
 * Counts runs in *runs, and those where some rank succeeded while others did not in *split. */
static int fail_each(int way, int victim, int kind, int *runs, int *split)
{
    int good = 1;
    for (int nth = 1; nth < 200; nth++) {
        struct scene s = {.ranks = 3, .way = way, .creator = victim, .act = act_flaky,
                          .number = kind, .other = nth, .timeout_ms = 150 * SLOW};
        int bad = play(&s), succeeded = 0;
        for (int i = 0; i < s.ranks; i++) {
            const struct result *r = &sh->results[i];
            succeeded += r->status == SY_OK;
            if (r->ended && (r->status == SY_OK || *r->text) && !r->fds_left && !r->threads_left)
                continue;
            bad = 1;
            printf("  %s %d: rank %d: ended %d, status %d, %d descriptors, %d threads left\n",
                   flaky_names[kind % FLAKY_KINDS], nth, i, r->ended, r->status, r->fds_left,
                   r->threads_left);
        }
        good &= !bad;
        ++*runs;
        *split += succeeded && succeeded != s.ranks;
        if (!atomic_load(&sh->step[7]) || (kind >= FLAKY_KINDS && nth == 3))
            break;
    }
    return good;
}

static void failures(void)
{
    for (int way = SY_BOOT_ENV; way <= SY_BOOT_ID; way++) {
        for (int victim = 0; victim < 2; victim++) {
            int good = 1, runs = 0, split = 0;
            uint64_t begin = now_ns();
            for (int kind = 0; kind < FLAKY_KINDS; kind++)
                good &= fail_each(way, victim, kind, &runs, &split);
            for (int kind = 0; kind < FLAKY_KINDS; kind++)
                good &= kind == flaky_poll || fail_each(way, victim, kind + FLAKY_KINDS, &runs,
                                                        &split);
            check(good, "%s: each call of rank %d fails: %d runs, %d split, %.1f s",
                  way_names[way], victim, runs, split, (double)(now_ns() - begin) / 1e9);
        }
        {
            struct scene s = {.ranks = 3, .way = way, .act = act_flaky, .number = FLAKY_SIGNALS};
            check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "%s: signals interrupt all ranks",
                  way_names[way]);
        }
    }
}

/* What SY_BOOT_ENV finds here, for the test above and for trying real launchers. */
static int print_job(void)
{
    struct sy_launch launch;
    if (sy_boot_env(&launch) != SY_OK)
        return 1;
    printf("%s\n", launch.job);
    return 0;
}

static int only(int argc, char **argv, const char *name)
{
    return argc < 2 || !strcmp(argv[1], name);
}

int main(int argc, char **argv)
{
    int fds, names = count_names();
    if (argc > 1 && !strcmp(argv[1], "--job"))
        return print_job();
    sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 1;
    fds = count_entries("/proc/self/fd");
    if (only(argc, argv, "worlds"))
        worlds();
    if (only(argc, argv, "timing"))
        timing();
    if (only(argc, argv, "user"))
        user_errors();
    if (only(argc, argv, "strangers"))
        strangers();
    if (only(argc, argv, "disagreements"))
        disagreements();
    if (only(argc, argv, "missing"))
        missing();
    if (only(argc, argv, "deaths"))
        deaths();
    if (only(argc, argv, "roots"))
        root_deaths();
    if (only(argc, argv, "stopped"))
        stopped();
    if (only(argc, argv, "launchers"))
        launchers();
    if (only(argc, argv, "ids"))
        ids();
    if (only(argc, argv, "failures"))
        failures();
    for (int i = 0; i < 2000 && count_names() > names; i++)
        sleep_ms(1);
    check(count_names() <= names, "no socket names left");
    check(count_entries("/proc/self/fd") == fds, "no descriptors left");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
