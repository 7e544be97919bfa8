"""Runs blocking tasks in worker processes, one job per process at a time.

A job is one run of one task, a plain Python function. The pool keeps a bounded queue of jobs and a fixed
number of workers. Each worker is a process with one channel to the instance. When the client of a job is
gone, or its deadline has passed, the pool kills the worker and everything that worker started. No other job
is touched, and a fresh worker takes its place.

    pool.py    the slots for workers: what runs where, and when a job is refused
    queue.py   the jobs that wait
    job.py     one run of one task: its pickled request, its deadline, its outcome
    handle.py  a worker as the instance sees it: start, send, kill
    output.py  what a worker prints, as log lines
    wire.py    the frames on the channel between the two
    child.py   what runs in the worker process

This file imports nothing, and child.py and wire.py only the standard library and ``slowpool.linux``: a worker
imports them, and it starts as fast as they load.
"""
