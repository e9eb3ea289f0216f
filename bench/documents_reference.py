"""What one writes in an afternoon: FastAPI, asyncpg, files on the disk. Run by bench/documents with uvicorn; REFERENCE_DSN names the
database, REFERENCE_DIR the folder of the files."""
import hashlib
import json
import os
import pathlib
import uuid

import asyncpg
from fastapi import FastAPI, File, Form, UploadFile

app = FastAPI()
folder = pathlib.Path(os.environ["REFERENCE_DIR"])


@app.on_event("startup")
async def startup():
    app.state.pool = await asyncpg.create_pool(dsn=os.environ["REFERENCE_DSN"], min_size=4, max_size=4)
    await app.state.pool.execute(
        "CREATE TABLE IF NOT EXISTS document (id text PRIMARY KEY, filename text, content_type text, size_bytes bigint, checksum text, tags text[], "
        "metadata jsonb, created_at timestamptz DEFAULT now()); CREATE INDEX IF NOT EXISTS document_tags ON document USING gin (tags)")


@app.post("/documents", status_code=201)
async def post(file: UploadFile = File(...), tags: str = Form(""), metadata: str = Form("{}")):
    data = await file.read()
    checksum, name = hashlib.sha256(data).hexdigest(), str(uuid.uuid4())
    temporary = folder / f".{name}"
    with open(temporary, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    temporary.rename(folder / name)
    row = await app.state.pool.fetchrow(
        "INSERT INTO document (id, filename, content_type, size_bytes, checksum, tags, metadata) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *",
        name, file.filename, file.content_type, len(data), checksum, [t.strip() for t in tags.split(",") if t.strip()], json.dumps(json.loads(metadata)))
    return dict(row)
