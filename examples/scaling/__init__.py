"""The shop with two worker processes behind one address, on Redis. `python -m examples.scaling` serves it.

Nothing in the shop knows of it: `store=` is another URL. Each answer says in a header which worker gave it:

    curl -sI http://localhost:8000 | grep -i x-worker

Sessions, their rate limits and the brake on guesses are shared by the workers. What the shop itself keeps in memory
(the live list of events) stays each worker's own, and its accounts are in a SQLite file: they are no part of this.
"""
