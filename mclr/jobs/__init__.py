"""One function per job of the workflow: read files, call the library, write files.

Each job gets its specification as a plain dictionary (made by ``mclr.planning.plan``) and paths;
nothing else decides its result.
"""
