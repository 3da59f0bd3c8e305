/* boot_test.c - the bootstrap (src/boot/boot.h) with real processes. Launchers and ids are in
 * launch_test.c.
 *
 *   1  Worlds that form, in all ways      4  Ranks that are late or die
 *   2  Strangers and wrong secrets        5  Every system call fails once
 *   3  Ranks that disagree
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
            record(rank, sy_fail_in(SY_STATE, "second failure differs"));
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

/* A busy machine can keep a rank from running for longer than a limit leaves: what has a limit is
 * played again when it misses that alone. */
#define TRIES 5

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
        for (int try = 0; try < TRIES; try++) {
            bad = play(&s) ||
                  !all_ended(&s, -1, SY_TIMEOUT, "rank 2 did not come to collective 1");
            if (bad || sh->results[0].ns < s.timeout_ms * MS)
                break;
        }
        check(!bad && sh->results[0].ns < s.timeout_ms * MS,
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

/* From the death to when the last of the others heard of it; the last rank comes late. Who heard of
 * it before it happened gives a time beyond every limit. */
static uint64_t heard_after_ns(int victim)
{
    uint64_t latest = 0;
    for (int i = 0; i < 3; i++)
        if (i != victim && sh->results[i].at_ns > latest)
            latest = sh->results[i].at_ns;
    return latest - atomic_load(&sh->mark_ns);
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
                const char *text = victim ? "rank 2" : way == SY_BOOT_ENV ? "rank 0" : "rank 0 ";
                uint64_t took = 0;
                int bad = 0;
                if (point == DIE_FORMING && way == SY_BOOT_ENV && !victim)
                    continue; /* below: then there is no root to tell late ranks */
                for (int try = 0; try < TRIES; try++) {
                    bad = play(&s) || !all_ended(&s, victim, SY_PEER_LOST, text);
                    took = heard_after_ns(victim);
                    if (bad || took < 200 * MS * SLOW)
                        break;
                }
                check(!bad && took < 200 * MS * SLOW,
                      "%s, rank %d dies %s: after %.1f ms: %s", way_names[way], victim,
                      names[point], (double)took / 1e6, sh->results[1].text);
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

/* The root does not run while the deadline passes, as on a busy machine. */
static void act_root_sleeps(const struct scene *scene, int rank)
{
    struct sy_boot *boot = NULL;
    pid_t self = getpid(), waker;
    if (rank == scene->number) { /* never comes */
        record(rank, SY_OK);
        return;
    }
    waker = rank ? 0 : fork();
    if (!rank && !waker) {
        sleep_ms(scene->timeout_ms / 2);
        kill(self, SIGSTOP);
        sleep_ms(scene->timeout_ms / 2 + 150);
        kill(self, SIGCONT);
        _exit(0);
    }
    record(rank, open_world(scene, rank, &boot));
    if (!rank)
        waitpid(waker, NULL, 0);
    sy_boot_close(boot);
}

static void stopped(void)
{
    struct scene s = {.ranks = 3, .way = SY_BOOT_ENV, .act = act_stopped};
    check(!play(&s) && all_ended(&s, -1, SY_OK, ""), "a stopped rank is not dead");
    s = (struct scene){.ranks = 3, .way = SY_BOOT_ENV, .act = act_root_sleeps, .number = 2,
                       .timeout_ms = 400 * SLOW};
    check(!play(&s) && all_ended(&s, 2, SY_TIMEOUT, "no word from rank 2"),
          "a late root still says who is missing: %s", sh->results[1].text);
}

/* ---- 5. Every system call fails once --------------------------------------------------------- */

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

int main(int argc, char **argv)
{
    static struct names names;
    int fds;
    read_names(&names);
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
    if (only(argc, argv, "failures"))
        failures();
    check(!names_left(&names), "no socket names left");
    check(count_entries("/proc/self/fd") == fds, "no descriptors left");
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed != 0;
}
