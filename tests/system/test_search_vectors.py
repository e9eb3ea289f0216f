"""Search by meaning: vectors of passages where the database has pgvector, words alone where it has not. The embedding endpoint is a fake."""
import embeddings
import pytest

from conftest import Berth, wait_until
from test_search import Library


@pytest.fixture(scope="module")
def endpoint():
    server = embeddings.serve()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def library(endpoint):
    b = Berth(workers=1, job_workers=1, settings={"jobs1": {"embedding_url": f"http://127.0.0.1:{endpoint.server_address[1]}", "embedding_model": "fake-embedding"}})
    try:
        yield Library(b.start())
    finally:
        b.close()


def search_state(library):
    daemons = library.berth.call("GET", "/status", 200).json()["daemons"]
    return next(d for d in daemons if d["name"] == "docserverd")["detail"].get("search", {})


def has_pgvector(library):
    return library.berth.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == "1"


def test_without_pgvector_searches_go_by_words_and_status_says_so(library):
    if has_pgvector(library):
        pytest.skip("this database has pgvector")
    wait_until(lambda: "pgvector" in search_state(library).get("why_no_vectors", ""), 30, lambda: search_state(library))
    library.read("word.txt", b"the vehicle stands in the yard", "text/plain")
    assert library.names("vehicle") == ["word.txt"] and library.names("automobile") == []
    assert library.search("vehicle")["mode"] == "text"


def test_meaning_is_found_with_pgvector(library, endpoint):
    if not has_pgvector(library):
        pytest.skip("this database has no pgvector: postgresql-17-pgvector on Debian 13")
    wait_until(lambda: search_state(library).get("vectors"), 30, lambda: search_state(library))
    assert search_state(library)["model"] == "fake-embedding"
    for name, text in (("car.txt", "the vehicle stands"), ("ship.txt", "the vessel floats"), ("soup.txt", "lentils simmer"), ("refused.txt", "REFUSE gargoyle")):
        library.read(name, text.encode(), "text/plain", tags="meaning")
    wait_until(lambda: library.berth.sql("SELECT count(*) FROM docs.passage WHERE embedded IS NULL") == "0", 60, lambda: f"vectors\n{library.berth.logs()}")
    assert library.berth.sql("SELECT count(*) FROM docs.passage_vector") == "3" and library.names("gargoyle", mode="text") == ["refused.txt"]
    hits = library.search("automobile")
    assert hits["mode"] == "hybrid" and hits["results"][0]["filename"] == "car.txt", hits
    assert "soup.txt" not in [r["filename"] for r in hits["results"]], "what is not alike is not found"
    assert library.names("boat floats")[0] == "ship.txt", "found by word and by meaning: first"
    assert library.names("automobile", mode="text") == [] and library.names("automobile", tags="other") == []
    top = library.search("vessel")["results"][0]["score"]
    assert abs(top - 2 / 61) < 1e-5, "first by words and by vectors: 1/(60+1) twice"
    endpoint.failing = 500
    try:
        assert library.search("vehicle")["mode"] == "text", "an endpoint that is away does not stop searches"
    finally:
        endpoint.failing = 0
