/* plants.c - the table of plants.h: mistakes that real systems made. */
#include "plants.h"

#include <stddef.h>

#include "scenario.h"

#ifdef SY_PLANTS
int sy_sim_plant;
#endif

static const struct sim_plant plants[] = {
    {1, "senders-prefix", "combine takes the places of rows from the sender's prefix matrix",
     SIM_WORLD},
    {2, "hash-order", "rows of a unit are placed in another order than that of their tokens",
     SIM_WORLD},
    {3, "combine-too-early",
     "dispatch does not wait for its rows: what follows meets them in flight", SIM_WORLD},
    {4, "past-ranks", "a loop over ranks reads the per-rank table one entry too far", SIM_WORLD},
    {5, "no-release", "signals are sent without the fence before them", SIM_WORLD},
    {6, "rank-release", "fences before signals reach the own GPU only", SIM_WORLD},
    {7, "copy-not-done", "bulk copies are signalled before they have completed", SIM_WORLD},
    {8, "reused-early", "rows go back into buffers whose owner may still read the round before",
     SIM_WORLD},
    {9, "captured-epoch", "the epoch is that of the first launch, as if captured in a graph",
     SIM_WORLD},
    {10, "parity-per-handle", "halves of shared buffers go by the handle's parity, not the group's",
     SIM_WORLD},
    {11, "scratch-reused", "a scratch word is overwritten while the proxy may still read it",
     SIM_NETWORK},
    {12, "count-overtakes", "a receiver takes the arrival of a signal for that of its data",
     SIM_NETWORK},
    {13, "no-barrier", "the first block to leave clears the words that others still use",
     SIM_WORLD},
    {14, "atomic-slots", "slots at the receiver are given out by atomics, in the order of arrival",
     SIM_WORLD},
    {15, "past-capacity", "rows beyond the receiver's capacity are stored all the same", SIM_WORLD},
    {16, "no-deadline", "waits look neither at the clock nor at the stop word", SIM_WORLD},
    {17, "no-acquire", "words are read without acquire", SIM_WORLD},
    {18, "no-copy-fence", "no fence between ordinary stores to a stage and its bulk store",
     SIM_WORLD},
    {19, "stage-not-read", "a stage is filled again before bulk stores have read it", SIM_WORLD},
    {20, "one-start", "one copy of the start words: a peer's next operation overwrites them",
     SIM_WORLD},
    {21, "lost-route", "kernels of a stopped group use what failed kernels have left", SIM_WORLD},
    {22, "credit-ignored", "a sender has more operations on their way than the link takes",
     SIM_NETWORK},
    {23, "epoch-wraps", "epochs are counted in two bits", SIM_WORLD},
    {24, "counter-left", "one of the counters of a finished operation is not cleared", SIM_WORLD},
    {25, "lost-vote", "half of the votes on a fault are lost, and nobody asks again", SIM_WORLD},
    {26, "alloc-in-round", "each launch allocates memory", SIM_WORLD},
    {27, "leaked-descriptor", "the descriptors of heaps are not closed once they are mapped",
     SIM_WORLD},
    {28, "unmapped-peer", "a peer's heap whose mapping failed is used all the same", SIM_WORLD},
    {29, "null-table", "a launch is given a pointer that its device does not have", SIM_WORLD},
    {30, "one-book",
     "one copy of what ranks tell each other in routing: the next route overwrites it", SIM_WORLD},
    {31, "early-talker",
     "the block that only talks counts records before others have zeroed what they count into",
     SIM_WORLD},
    {32, "no-load-fence", "no fence between what was acquired and the bulk loads of it", SIM_WORLD},
};

const struct sim_plant *sim_plant_at(int number)
{
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++)
        if (plants[i].number == number)
            return plants + i;
    return NULL;
}
