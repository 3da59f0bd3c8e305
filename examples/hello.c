/* hello.c - four tokens of each rank visit their experts and come back.
 *     switchyard run -n 4 -- ./hello */
#include <stdio.h>
#include <switchyard.h>

#define TRY(call) if ((call) != SY_OK) return fprintf(stderr, "%s\n", sy_last_error()), 1
enum { T = 4, H = 8, K = 2, E = 8 };

int main(void)
{
    float x[T][H], y[T][H];
    int32_t ids[T][K] = {{0, 7}, {1, 6}, {2, 5}, {3, -1}}; /* experts of each token */
    sy_group *group; sy_route *route; sy_tensor rows;
    for (int i = 0; i < T * H; i++) x[i / H][i % H] = (float)i;

    sy_group_config config = {.size = sizeof config, .experts = E, .topk_max = K, .tokens_max = T,
                              .row_bytes_max = sizeof x[0]}; /* who and how many: the launcher */
    TRY(sy_group_create(&config, &group));
    TRY(sy_route_create(group, &(sy_route_config){.size = sizeof(sy_route_config),
        .mode = SY_THROUGHPUT, .layout = SY_TOKEN_MAJOR, .topk = K}, NULL, &route));

    TRY(sy_route_set(route, &(sy_route_input){.size = sizeof(sy_route_input),
        .ids = sy_tensor_2d(ids, SY_I32, T, K)}, NULL));
    TRY(sy_dispatch(route, &(sy_dispatch_args){.size = sizeof(sy_dispatch_args),
        .x = sy_tensor_2d(x, SY_F32, T, H), .view = &rows}, NULL));
    /* here experts would work on `rows`; untouched, each token returns once per rank it went to */
    TRY(sy_combine(route, &(sy_combine_args){.size = sizeof(sy_combine_args), .x = rows,
        .out = sy_tensor_2d(y, SY_F32, T, H)}, NULL));
    TRY(sy_stream_sync(group, NULL));

    printf("token 1: sent %g, got back %g\n", x[1][0], y[1][0]);
    sy_route_destroy(route);
    return sy_group_destroy(group) != SY_OK;
}
