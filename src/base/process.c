/* process.c - see process.h. */
#include "process.h"

#include <pthread.h>
#include <string.h>

#include "os.h"

int sy_process_name(uint8_t name[16])
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint8_t made[16];
    static pid_t maker;
    int failed = 0;
    pthread_mutex_lock(&lock);
    if (maker != sy_os->process()) {
        failed = sy_os->random(made, sizeof made);
        maker = failed ? 0 : sy_os->process();
    }
    memcpy(name, made, sizeof made);
    pthread_mutex_unlock(&lock);
    return failed;
}
