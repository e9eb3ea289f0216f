/* Runs slow file work on one thread with one bounded queue and brings the results back into the
 * loop. */
#include "jobs.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct jobs {
        sd_event_source *source;
        int wake; /* eventfd: results are waiting */
        size_t max, count;
        pthread_t thread;
        bool started;

        pthread_mutex_t lock; /* for what follows */
        pthread_cond_t work;
        struct list queue, finished;
        bool stop;
};

static void give_back(struct jobs *q, struct job *j)
{
        list_push_back(&q->finished, &j->link);
        uint64_t one = 1;
        while (write(q->wake, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
}

static void *jobs_thread(void *userdata)
{
        struct jobs *q = userdata;
        (void) pthread_mutex_lock(&q->lock);
        while (!q->stop) {
                if (list_empty(&q->queue)) {
                        (void) pthread_cond_wait(&q->work, &q->lock);
                        continue;
                }
                struct job *j = list_first(&q->queue, struct job, link);
                list_remove(&j->link);
                (void) pthread_mutex_unlock(&q->lock);
                j->result = j->run(j);
                (void) pthread_mutex_lock(&q->lock);
                if (j->result == 1)
                        list_push_back(&q->queue, &j->link);
                else
                        give_back(q, j);
        }
        (void) pthread_mutex_unlock(&q->lock);
        return NULL;
}

static struct job *next_finished(struct jobs *q)
{
        (void) pthread_mutex_lock(&q->lock);
        struct job *j = list_first(&q->finished, struct job, link);
        if (j)
                list_remove(&j->link);
        (void) pthread_mutex_unlock(&q->lock);
        return j;
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct jobs *q = userdata;
        uint64_t count;
        if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN && errno != EINTR)
                return -errno;
        for (struct job *j; (j = next_finished(q));) {
                q->count--;
                j->done(j, j->result);
        }
        return 0;
}

/* The thread takes no signals: they belong to the loop. */
static int start_thread(struct jobs *q)
{
        sigset_t all, before;
        (void) sigfillset(&all);
        (void) pthread_sigmask(SIG_SETMASK, &all, &before);
        int r = pthread_create(&q->thread, NULL, jobs_thread, q);
        (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (r == 0) {
                q->started = true;
                (void) pthread_setname_np(q->thread, "files");
        }
        return -r;
}

int jobs_new(sd_event *e, size_t max, struct jobs **ret)
{
        CLEANUP(jobs_freep) struct jobs *q = xnew(struct jobs);
        q->max = max;
        (void) pthread_mutex_init(&q->lock, NULL);
        (void) pthread_cond_init(&q->work, NULL);
        list_init(&q->queue);
        list_init(&q->finished);
        q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (q->wake < 0)
                return -errno;
        int r = sd_event_add_io(e, &q->source, q->wake, EPOLLIN, on_wake, q);
        if (r < 0)
                return r;
        r = start_thread(q);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(q);
        return 0;
}

struct jobs *jobs_free(struct jobs *q)
{
        if (!q)
                return NULL;
        (void) pthread_mutex_lock(&q->lock);
        q->stop = true;
        (void) pthread_cond_signal(&q->work);
        (void) pthread_mutex_unlock(&q->lock);
        if (q->started)
                (void) pthread_join(q->thread, NULL);

        for (struct job *j; (j = list_first(&q->finished, struct job, link));) {
                list_remove(&j->link);
                j->done(j, j->result);
        }
        for (struct job *j; (j = list_first(&q->queue, struct job, link));) {
                list_remove(&j->link);
                j->done(j, -ECANCELED);
        }
        sd_event_source_disable_unref(q->source);
        fd_close(q->wake);
        (void) pthread_cond_destroy(&q->work);
        (void) pthread_mutex_destroy(&q->lock);
        free(q);
        return NULL;
}

int jobs_submit(struct jobs *q, struct job *j)
{
        (void) pthread_mutex_lock(&q->lock);
        int r = q->stop ? -ECANCELED : q->count >= q->max ? -EAGAIN : 0;
        if (r == 0) {
                q->count++;
                list_push_back(&q->queue, &j->link);
                (void) pthread_cond_signal(&q->work);
        }
        (void) pthread_mutex_unlock(&q->lock);
        return r;
}

size_t jobs_count(const struct jobs *q)
{
        return q->count;
}
