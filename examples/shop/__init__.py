"""A small shop whose visitors have sessions. `python -m examples.shop` serves it.

Its parts:

    app.py           puts it together: the middleware, the headers, the pages for refusals
    shopping.py      catalogue, cart, checkout
    signing_in.py    register, login, logout        accounts.py      names and passwords
    confirming.py    asks for the password again    cart.py          what a cart is
    your_account.py  e-mail, password, devices      catalogue.py     what there is to buy
    admin.py         ends the sessions of others    journal.py       signals, remembered and passed on
    your_session.py  the session's facts, events    live.py          events of the account, over a WebSocket
    web.py           rendering, redirects, words
"""
