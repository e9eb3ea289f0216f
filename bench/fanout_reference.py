"""What one writes in an afternoon: FastAPI, asyncpg, WebSockets. POST /publish stores the message in PostgreSQL, then sends
it to every client. Run by bench/fanout with uvicorn; REFERENCE_DSN names the database."""
import os

import asyncpg
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect

app = FastAPI()
clients = set()


@app.on_event("startup")
async def startup():
    app.state.pool = await asyncpg.create_pool(dsn=os.environ["REFERENCE_DSN"], min_size=4, max_size=4)
    await app.state.pool.execute("CREATE TABLE IF NOT EXISTS event (id bigserial PRIMARY KEY, session_id text, json text)")


@app.post("/publish")
async def publish(request: Request):
    body = (await request.body()).decode()
    await app.state.pool.execute("INSERT INTO event (session_id, json) VALUES ($1, $2)", "s", body)
    for client in list(clients):
        try:
            await client.send_text(body)
        except RuntimeError:
            clients.discard(client)
    return {}


@app.websocket("/stream")
async def stream(websocket: WebSocket):
    await websocket.accept()
    clients.add(websocket)
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        clients.discard(websocket)
