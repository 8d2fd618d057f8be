"""Watching a run on another machine: drawn here, read there.

A connection is the system's `ssh` with a POSIX shell at its other end, which is sent `far.sh` and then answers
requests. What the run's folder holds in small files is mirrored into a folder of the cache, and every screen works on
that as on a run of this machine.

Why a shell and not this program there: reading must work wherever ssh does. On the far machine the program lies in a
virtual environment that a login without a terminal does not find, it may be of another version, and its import costs
more than all that is read; `sh`, `stat`, `tail` and `head` are everywhere. Commands are files in the run's folder,
which a shell leaves as well. Only restarting an ended run takes the program itself (`--remote-command`).
"""
