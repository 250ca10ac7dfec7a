#include "job.h"

void jobs_append(struct jobs *jobs, struct job *job) {
    job->list = jobs;
    job->next = NULL;
    job->before = jobs->last;
    *(jobs->last ? &jobs->last->next : &jobs->first) = job;
    jobs->last = job;
    jobs->count++;
}

void jobs_remove(struct job *job) {
    struct jobs *jobs = job->list;
    if (!jobs)
        return;
    *(job->before ? &job->before->next : &jobs->first) = job->next;
    *(job->next ? &job->next->before : &jobs->last) = job->before;
    job->list = NULL;
    jobs->count--;
}

struct job *jobs_take_first(struct jobs *jobs) {
    struct job *job = jobs->first;
    if (job)
        jobs_remove(job);
    return job;
}

bool job_is_large(const struct job *job) {
    return job->head.length > 0 && (uint64_t)job->head.length > job->capacity - job->head.size;
}
