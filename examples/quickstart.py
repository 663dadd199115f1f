"""A counter in a session. Run it with: uvicorn examples.quickstart:app"""

import os

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from scsession_secure import SCsessionMiddleware
from scsession_secure.fastapi import CurrentSession

if not os.environ.get("SECRET_KEY"):
    make_one = 'export SECRET_KEY="$(python -c "import secrets; print(secrets.token_urlsafe(48))")"'
    raise SystemExit(f"SECRET_KEY is not set, and sessions are signed with it. Make one:\n\n    {make_one}\n")

app = FastAPI()
app.add_middleware(SCsessionMiddleware, secret_key=os.environ["SECRET_KEY"])


@app.get("/")
async def show(session: CurrentSession) -> dict[str, object]:
    return {"count": session.get("count", 0), "messages": session.get_flashed_messages()}


@app.post("/")
async def count(session: CurrentSession) -> RedirectResponse:
    session["count"] = session.get("count", 0) + 1
    session.flash("success", "Counted. This message is shown once.")
    return RedirectResponse("/", status_code=303)
