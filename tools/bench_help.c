/* bench_help.c - what `switchyard bench --help` says; the manual page says the same. */
#include <stdio.h>

#include "bench.h"

static const char help_use[] =
    "usage: switchyard bench [OPTIONS]\n"
    "\n"
    "Times dispatch and combine of a mixture-of-experts layer between N ranks, and beside them\n"
    "what bare copies reach on this machine at the same moment. Without options: one rank per\n"
    "GPU, or 8 ranks on the CPU where there are none; rows of 7168 BF16 numbers, 8 of 256\n"
    "experts per token; 128 tokens per rank in latency mode and 4096 in throughput mode.\n"
    "\n"
    "Started by itself it makes its ranks here. Started by switchyard run, torchrun, mpirun or\n"
    "srun it is one rank of that launch, and rank 0 reports.\n"
    "\n"
    "Values of options marked * may be lists (a,b,c) or, of names, `all`; each combination is\n"
    "measured. Names may be shortened.\n"
    "\n"
    "What is measured\n"
    "  --engine ENGINE    auto, cpu, gpu. Rank r has GPU r, counted round; all buffers are in its\n"
    "                     memory (auto: GPUs if there are any)\n"
    "  --op OPS*          create (making a group), setup (from nothing until a batch has been\n"
    "                     there and back), route, dispatch, combine (route,dispatch,combine)\n"
    "  --mode MODES*      throughput, latency (both)\n"
    "  --layout LAYOUTS*  token-major, expert-packed, expert-slabs, rank-major (throughput:\n"
    "                     token-major; latency: rank-major)\n"
    "  --dtype TYPES*     bf16, f16, f32, f8 (with FP32 scales per 128), f8-ue8m0 (with UE8M0\n"
    "                     scales), opaque (as many bytes as BF16) (bf16)\n"
    "  --quant KINDS*     none, f8, f8-pow2, f8-ue8m0: BF16 rows become FP8 on the way (none)\n"
    "  --out PLACES*      where dispatched rows go: view (they stay in the group's heap), heap\n"
    "                     (sy_alloc), memory (the caller's own) (view; memory where latency\n"
    "                     mode has no views, which is in all layouts but rank-major)\n"
    "  --halves           dispatch and combine in two calls, send and receive, timed apart\n"
    "  --weighted         combine sums with weights; otherwise plainly\n"
    "  --bare             dispatch carries nothing but rows and scales; otherwise also weights\n"
    "                     and, in the layouts by token, expert ids\n"
    "  --graph            GPUs: the host's time is that of replaying a graph of one operation\n"
    "\n";

static const char help_size[] =
    "Size\n"
    "  --ranks N*         ranks (GPUs: as many; CPU: 8)\n"
    "  --tokens N*        tokens of each rank (latency 128, throughput 4096)\n"
    "  --total-tokens N   tokens of all ranks together, instead\n"
    "  --hidden N*        elements of a row (7168)\n"
    "  --topk N*          experts of a token (8)\n"
    "  --experts N        of all ranks (256)\n"
    "  --alignment N      expert-packed: groups start at multiples of N rows (1)\n"
    "  --threads N        CPU: that run kernels, of each rank (SY_CPU_THREADS, else 1)\n"
    "  --sms N*           GPUs: multiprocessors that operations may use (the library's choice)\n"
    "\n"
    "Routing\n"
    "  --routing KIND     uniform: any experts; skew: some more often; spread: on as many ranks\n"
    "                     as possible; local: only the own rank's; one: all tokens to one\n"
    "                     expert (uniform)\n"
    "  --skew S*          routing skew, the n-th most popular expert with weight 1/n^S (1)\n"
    "  --seed N           of routing and data (1)\n"
    "\n";

static const char help_run[] =
    "Run\n"
    "  --warmup N         iterations before the timed ones (by size)\n"
    "  --iters N          timed iterations (by size)\n"
    "  --verify           compare every result with the reference, bit for bit, before timing\n"
    "  --no-ceilings      do not measure what bare copies reach\n"
    "  --timeout SECONDS  longest wait for a rank (120)\n"
    "  --memory MIB       most memory of all ranks together (four fifths of what is available)\n"
    "  --per-rank         each rank's times besides\n"
    "  --json FILE        results as JSON; - is stdout, and then there is no table\n"
    "  --plot FILE        an SVG of times and rates against what varies most: tokens, SMs, "
    "hidden,\n"
    "                     top-k or skew; against ranks if those vary\n"
    "  -h, --help\n"
    "\n";

static const char help_times[] =
    "How to read it\n"
    "  Time of a rank: from the call until its stream is empty, on average over the iterations.\n"
    "  A barrier stands before each timed call, and is not part of the time. On the CPU the table\n"
    "  has minimum, average and maximum over the ranks; on GPUs it has averages over the ranks:\n"
    "  kernel   of the GPU alone: a graph of 20 operations, replayed back to back between two\n"
    "           events, over their number. With --halves: events around each half, launch\n"
    "           included\n"
    "  host     as above: calls of one operation at a time\n"
    "  arrival  latency mode: the kernel's time when all ranks begin together. A graph of 20\n"
    "           times (all ranks meet, operation) less one of 20 times (all ranks meet)\n"
    "  Latency mode's dispatch includes sy_route_set(), because there dispatch itself exchanges\n"
    "  the counts; throughput mode has `route` apart. The experts in between leave the rows as\n"
    "  they are; FP8 rows are followed by BF16 rows. `setup` is sy_group_create(),\n"
    "  sy_route_create() and one batch; on GPUs with all kernels in the cache, and `setup-cold`\n"
    "  with an empty cache of its own (NVRTC 13 has another one, which stays).\n"
    "\n"
    "  GB/s are 10^9 bytes per second and rank at the average time, on GPUs at the kernel's, by\n"
    "  these ways of counting:\n"
    "  NCCL-EP  as ep_bench (v0.1) does. Throughput: rows that a rank receives, once for all its\n"
    "           experts, its own tokens included, without scales. Latency: (token, expert)\n"
    "           pairs, whatever really crosses.\n"
    "  DeepEP   as test_intranode.py and test_low_latency.py do: the same rows, with scales;\n"
    "           latency FP8 with 16 bytes more per row.\n"
    "  moved    what must move: each row once to each rank that it goes to, the own rank\n"
    "           included, with its scales; in the layouts by expert, too.\n"
    "  links    GPUs: the same without the own rank, which is what crosses the links.\n"
    "  `of copy` is moved over the ceiling `copy`. Combine reads such rows and writes one per\n"
    "  token, which can be cheaper than a copy. `of stores` is links over the best of `stores`\n"
    "  and `stores_paced`, for combine as well.\n"
    "\n";

static const char help_ceilings[] =
    "Ceilings of the CPU, measured in the same run with the same rows, ranks and amounts\n"
    "  copy      all ranks at once: each copies its rows from private memory into the shared\n"
    "            memory of the ranks they go to, and does nothing else. The better of memcpy\n"
    "            and streaming stores; all bytes over the time from the first rank's begin to\n"
    "            the last one's end, best of five, per rank.\n"
    "  copy_one  the same by rank 0 while the others sleep.\n"
    "\n"
    "Ceilings of GPUs, measured in the same run, all ranks at once, for several numbers of SMs\n"
    "  stores        bulk stores of 3584 bytes to the peers in turn, by 4 warps of each SM\n"
    "  stores_paced  the same, each warp keeping an interval; the best of rates around what the\n"
    "                links carry unpaced, and which that was\n"
    "  loads         bulk loads of 14336 bytes from the peers in turn\n"
    "  flag          a word to a peer and one back, in microseconds\n"
    "  local_copy    the driver's copy inside a GPU, bytes read and written\n"
    "\n"
    "Tokens are halved, with a note, until everything fits into the memory.\n"
    "\n"
    "  switchyard bench --mode latency --layout all --dtype bf16 --quant all --verify\n"
    "  switchyard bench --tokens 1,8,64,512,4096 --plot tokens.svg\n"
    "  switchyard bench --mode throughput --sms 8,16,24,32,64,132 --plot sms.svg\n"
    "  switchyard bench --ranks 2,4,8,16 --total-tokens 16384 --mode throughput --json out.json\n";

void bench_help(void)
{
    fputs(help_use, stdout);
    fputs(help_size, stdout);
    fputs(help_run, stdout);
    fputs(help_times, stdout);
    fputs(help_ceilings, stdout);
}
