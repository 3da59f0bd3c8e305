/* threads.h - what the library's host code is compiled with in the simulator (-include): its
 * threads are tasks, and its locks are ours (threads.c). Where a lock is taken or given back
 * another task may run. Its environment is the seed's (system.c). Only names change: <pthread.h>
 * and <stdlib.h> declare them, as they declare the system's. */
#ifndef SIM_THREADS_H
#define SIM_THREADS_H

#define pthread_mutex_init sim_mutex_init
#define pthread_mutex_destroy sim_mutex_destroy
#define pthread_mutex_lock sim_mutex_lock
#define pthread_mutex_unlock sim_mutex_unlock
#define pthread_cond_init sim_cond_init
#define pthread_cond_destroy sim_cond_destroy
#define pthread_cond_wait sim_cond_wait
#define pthread_cond_broadcast sim_cond_broadcast
#define pthread_cond_signal sim_cond_signal
#define pthread_join sim_thread_join
#define pthread_detach sim_thread_detach
#define getenv sim_getenv

#endif
