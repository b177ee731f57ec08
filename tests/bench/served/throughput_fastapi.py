"""The same app in FastAPI: async views, SQLAlchemy's asyncio engine on asyncpg, answers by their models.

By FastAPI's manual: a return type, from which Pydantic writes JSON ("Custom Response": faster than
ORJSONResponse, which is deprecated), a session by a dependency that yields, what lives as long as the app in
its lifespan. By SQLAlchemy's: ``expire_on_commit=False``.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import aiohttp
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse
from fastapi.templating import Jinja2Templates
from items import LISTED, PEER_CONNECTIONS, PEER_URL, POOL, Columns, any_key, keys
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase

engine = create_async_engine(os.environ["BENCH_DATABASE_URL"], **POOL)
new_session = async_sessionmaker(engine, expire_on_commit=False)
templates = Jinja2Templates(directory=Path(__file__).with_name("templates"))


class Base(DeclarativeBase):
    """Base of the model."""


class Item(Columns, Base):
    """A row."""


class Shown(BaseModel):
    """A row as it is answered."""

    model_config = ConfigDict(from_attributes=True)
    id: int
    name: str
    value: int


async def session() -> AsyncIterator[AsyncSession]:
    """Yield a session for a request."""
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep connections to the peer, and close everything at the end."""
    connector = aiohttp.TCPConnector(limit=PEER_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as app.state.peers:
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/hello")
async def hello() -> dict[str, str]:
    """Answer one line."""
    return {"hello": "world"}


@app.get("/one/{key}", response_model=Shown)
async def one(key: int, session: Session):
    """Read a row."""
    return await _get(session, key)


@app.get("/twenty/{start}", response_model=list[Shown])
async def twenty(start: int, session: Session):
    """Read twenty rows, one after the other."""
    return [await _get(session, key) for key in keys(start)]


@app.post("/update", response_model=Shown)
async def update(by: Annotated[int, Body(embed=True)], session: Session):
    """Read a row, change it, commit."""
    item = await _get(session, any_key())
    item.value += by
    await session.commit()
    return item


@app.get("/page/{start}", response_class=HTMLResponse)
async def page(request: Request, start: int, session: Session):
    """Lay ten rows out."""
    found = select(Item).where(Item.id >= start).order_by(Item.id).limit(LISTED)
    items = (await session.scalars(found)).all()
    return templates.TemplateResponse(request=request, name="items.html", context={"items": items})


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    """Read what is sent, piece by piece."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return {"size": size}


@app.get("/slow")
async def slow(request: Request) -> dict[str, dict[str, str]]:
    """Ask the peer, which takes its time."""
    async with request.app.state.peers.get(PEER_URL) as answer:
        return {"peer": await answer.json()}


async def _get(session: AsyncSession, key: int) -> Item:
    item = await session.get(Item, key)
    if item is None:
        raise HTTPException(404)
    return item
