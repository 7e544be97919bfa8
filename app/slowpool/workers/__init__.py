"""Runs blocking tasks in worker processes, one job per process at a time.

A job is one run of one task, a plain Python function. The pool keeps a bounded queue of jobs and a fixed
number of workers. Each worker is a process with one channel to the instance. When the client of a job is
gone, or its deadline has passed, the pool kills the worker and everything that worker started. No other job
is touched, and a fresh worker takes its place, forked from a template that has imported what tasks need.

    pool.py      the slots for workers: what runs where, and when a job is refused
    queue.py     the jobs that wait
    refusals.py  what the log says about jobs that are refused
    job.py       one run of one task: its pickled request, its deadline, its items, its outcome
    pickled.py   large results, without holding up the event loop
    handle.py    a worker as the instance sees it: start, send, stack, kill
    process.py   its process, whoever its parent is
    output.py    what a worker prints, as log lines
    spawner.py   the template as the instance sees it: start, replace

    wire.py      the frames on the channel between instance and worker
    progress.py  how far a job is, in memory that both share
    stack.py     where a job is, likewise
    records.py   log records of a worker
    template.py  what runs in the template process
    warm.py      what it loads
    child.py     what runs in the worker process

This file imports nothing, and those from wire.py on only the standard library and ``slowpool.linux``: a
worker imports them, and it starts as fast as they load.
"""
