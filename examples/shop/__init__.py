"""A small shop whose visitors have sessions. `python -m examples.shop` serves it.

Its parts:

    app.py           puts it together: the middleware, the headers, the pages for refusals
    shopping.py      catalogue, cart, checkout
    accounts.py      names and passwords            signing_in.py    register, login, logout
    throttle.py      how often one may guess        your_session.py  the session's facts, its live events, the theme
    cart.py          what a cart is                 journal.py       signals, remembered and passed on
    catalogue.py     what there is to buy           web.py           rendering, redirects, words
"""
