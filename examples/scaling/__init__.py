"""The shop with two worker processes behind one address, on Redis. `python -m examples.scaling` serves it.

Nothing in the shop knows of it: `store=` is another URL. Each answer says in a header which worker gave it:

    curl -sI http://localhost:8000 | grep -i x-worker

Sessions and their rate limits are shared by the workers. What the shop itself keeps in memory (its brake on guesses,
the live list of events) stays each worker's own, and its accounts are in a SQLite file: they are no part of this.
"""
