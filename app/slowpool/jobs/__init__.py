"""Accepted jobs: requests that are answered 202, run later or go on, and whose answer is fetched later.

An accepted job is a request that is kept, and what its handler answers. A slow instance with an idle worker
takes the oldest one that waits, has the application handle its request, and keeps the answer. Who dies
meanwhile loses its lease; then another instance takes the job, if it may run twice, or it has failed.

    record.py    what is kept of a job
    store.py     where it is kept: the interface, and the rules that both have
    sqlite.py    in a file, for the instances of one machine; tables.py has its tables
    valkey.py    in a Valkey or Redis server, for several machines; valkey.lua has its methods
"""
