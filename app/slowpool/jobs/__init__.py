"""Accepted jobs: requests that are answered 202, run later or go on, and whose answer is fetched later.

An accepted job is a request that is kept, and what its handler answers. A slow instance with an idle worker
takes the oldest one that waits, has the application handle its request, and keeps the answer. An instance
that dies loses its lease: another one takes the job if it may run twice; otherwise the job has failed.

acceptor.py  decides whether a request is accepted, and answers its client
runner.py    takes the jobs that wait, has the application handle them, and keeps the answers
run.py       one that this instance runs
leases.py    says in the store that it still does
recorder.py  the connection of such a request: keeps the answer
handlers.py  the public routes of a job
document.py  a job as its client sees it
record.py    what is kept of a job
store.py     where it is kept: the interface
sqlite.py    in a file, for the instances of one machine
tables.py    what is in that file
valkey.py    in a Valkey or Redis server, for those of several
stores.py    which of them JOBS_URL names
"""
