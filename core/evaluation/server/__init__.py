"""The sandbox's server: started as `python <this folder>`, it forks one process a program and watches over it.

It is a process of its own, small and with one thread, because a fork of it costs about a millisecond and a fork of
the engine would copy torch's memory and locks. Its modules import each other by bare name: the folder is run as a
path, so that nothing that happens to be called `core` in the current directory is ever imported.
"""
