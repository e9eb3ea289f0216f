"""Documents beyond the simple routes: renaming, tags of many at once, orders, versions."""
import json
import uuid

import pytest

from documents import docs, shared  # noqa: F401  (fixtures)


def test_rename(docs):
    d = docs.put(b"x", "old.txt", tags="a", metadata='{"description":"d"}').json()
    changed = docs.call("PATCH", f"/documents/{d['id']}", 200, json={"filename": "Neu ä.txt"}).json()
    assert changed == {**d, "filename": "Neu ä.txt", "updated_at": changed["updated_at"]} and changed["updated_at"] > d["updated_at"]
    assert docs.names(q="Neu") == ["Neu ä.txt"] and docs.names(q="old") == []
    assert "Neu" in docs.call("GET", d["url"], 200).headers["Content-Disposition"]
    both = docs.call("PATCH", f"/documents/{d['id']}", 200, json={"filename": "b", "tags": ["z"]}).json()
    assert (both["filename"], both["tags"], both["version"]) == ("b", ["z"], 1)
    for bad in ("", "a/b", "..", "a\nb", "x" * 256, "\u202ea", " ", 5, None, ["a"]):
        docs.call("PATCH", f"/documents/{d['id']}", 400, json={"filename": bad})
    assert docs.call("GET", f"/documents/{d['id']}/metadata", 200).json() == both


def test_tags_of_many(docs):
    ids = [docs.put(f"{i}".encode(), f"{i}", tags=t).json()["id"] for i, t in enumerate(["a,b", "b", "", "c"])]
    none = str(uuid.uuid4())
    def tags():
        return [docs.call("GET", f"/documents/{i}/metadata", 200).json()["tags"] for i in ids]
    assert docs.call("POST", "/documents/tags/edit", 200, json={"ids": ids[:3] + [none, ids[0]], "add": ["new", "b"], "remove": ["a"]}).json() == {"updated": 3, "missing": [none]}
    assert tags() == [["b", "new"], ["b", "new"], ["new", "b"], ["c"]]
    assert docs.call("POST", "/documents/tags/edit", 200, json={"ids": ids, "remove": ["b", "never"]}).json()["updated"] == 4
    assert tags() == [["new"], ["new"], ["new"], ["c"]]
    many = [f"t{i}" for i in range(50)]
    docs.call("POST", "/documents/tags/edit", 422, json={"ids": [ids[3], ids[0]], "add": many})
    assert tags() == [["new"], ["new"], ["new"], ["c"]], "none of them was changed"
    docs.call("POST", "/documents/tags/edit", 200, json={"ids": [ids[3]], "add": many, "remove": ["c"]})
    assert tags()[3] == many
    for bad in ({}, {"ids": ids}, {"ids": [], "add": ["x"]}, {"ids": ["x"], "add": ["x"]}, {"ids": [5], "add": ["x"]}, {"ids": ids, "add": ["a b"]}, {"ids": ids, "add": "x"},
                {"ids": ids, "remove": [""]}, {"ids": ids[0], "add": ["x"]}, {"ids": ids, "add": ["x"], "more": 1}, {"ids": [none] * 1001, "add": ["x"]}, {"ids": ids, "add": many + ["x"]},
                {"ids": ["{" + "0" * 35], "add": ["x"]}, {"ids": ids, "add": ["x" * 65]}, [], 5):
        docs.call("POST", "/documents/tags/edit", 400, json=bad)
    assert docs.call("POST", "/documents/tags/edit", 200, json={"ids": [none], "add": ["x"]}).json() == {"updated": 0, "missing": [none]}


def test_orders(docs):
    for name, size in (("b", 3), ("C", 1), ("a", 2), ("d", 2)):
        docs.put(b"x" * size, name)
    docs.call("PATCH", f"/documents/{docs.list().json()['documents'][-1]['id']}", 200, json={"tags": ["t"]})
    for sort, names in (("-created_at", "daCb"), ("created_at", "bCad"), ("-updated_at", "bdaC"), ("updated_at", "Cadb"), ("filename", "abCd"), ("-filename", "dCba"),
                        ("size_bytes", "Cdab"), ("-size_bytes", "bdaC")):
        assert "".join(docs.names(sort=sort)) == names, sort
        pages = [docs.list(sort=sort, limit=2, offset=o).json() for o in (0, 2, 4)]
        assert "".join(d["filename"] for p in pages for d in p["documents"]) == names and all(p["total"] == 4 for p in pages)
        if sort != "-created_at":
            pages, cursor = [], None
            while not pages or cursor:
                pages.append(docs.list(sort=sort, limit=2, **({"cursor": cursor} if cursor else {})).json())
                cursor = pages[-1]["next_cursor"]
            assert [d["filename"] for p in pages for d in p["documents"]] == docs.names(sort=sort), sort
    assert docs.names(sort="filename", tags="t") == ["b"] and docs.names(sort="filename", filename="c", q="C") == ["C"]
    for bad in ("", "name", "id", "filename desc", "--filename"):
        assert docs.list(sort=bad).status_code == 400
    assert docs.list(sort="filename", cursor=str(uuid.uuid4())).status_code == 400


def test_versions(docs):
    d = docs.put(b"one", "v.txt", "text/plain").json()
    for data in (b"two..", b"three"):
        docs.call("PUT", f"/documents/{d['id']}/content", 200, data=data, headers={"Content-Type": "text/markdown"})
    versions = docs.call("GET", f"/documents/{d['id']}/versions", 200).json()
    assert [(v["version"], v["size_bytes"], v["content_type"]) for v in versions["versions"]] == [(3, 5, "text/markdown"), (2, 5, "text/markdown"), (1, 3, "text/plain")]
    assert versions["next_cursor"] is None and versions["versions"][2]["checksum"] == d["checksum"]
    page = docs.call("GET", f"/documents/{d['id']}/versions?limit=2", 200).json()
    rest = docs.call("GET", f"/documents/{d['id']}/versions", 200, params={"cursor": page["next_cursor"]}).json()
    assert page["versions"] + rest["versions"] == versions["versions"]
    for v, data in zip(versions["versions"], (b"three", b"two..", b"one")):
        reply = docs.call("GET", v["url"], 200)
        assert reply.content == data and reply.headers["ETag"] == f'"{v["checksum"]}"' and reply.headers["Content-Type"].startswith(v["content_type"])
    assert docs.call("GET", d["url"], 200).content == b"three"
    assert docs.call("GET", d["url"] + "?version=1", 206, headers={"Range": "bytes=1-"}).content == b"ne"
    docs.call("GET", d["url"] + "?version=4", 404)
    for bad in ("0", "-1", "x", "", "99999999999"):
        docs.call("GET", d["url"], 400, params={"version": bad})
    docs.call("GET", f"/documents/{uuid.uuid4()}/versions", 404)
    docs.call("GET", f"/documents/{d['id']}/versions?cursor=xx", 400)
    docs.call("DELETE", d["url"], 204)
    docs.call("GET", d["url"] + "?version=1", 404)
    docs.assert_consistent()


def relations(docs, id, **query):
    return [(r["kind"], r["filename"]) for r in docs.call("GET", f"/documents/{id}/relations", 200, params=query).json()["relations"]]


def relate(docs, id, kind, other, expect=201):
    return docs.call("POST", f"/documents/{id}/relations", expect, json={"kind": kind, "document_id": other})


def test_relations(docs):
    a, b, c, d, e = (docs.put(n.encode(), n).json()["id"] for n in "abcde")
    assert relate(docs, a, "child", b).json() == {"kind": "child", "document_id": b}
    relate(docs, c, "parent", b)
    relate(docs, a, "child", b)                     # again: the same
    relate(docs, e, "related", a)
    relate(docs, a, "related", e)                   # the same from the other side
    relate(docs, d, "predecessor", a)
    assert relations(docs, a) == [("child", "b"), ("successor", "d"), ("related", "e")]
    assert relations(docs, b) == [("parent", "a"), ("child", "c")]
    assert relations(docs, d) == [("predecessor", "a")] and relations(docs, e) == [("related", "a")]
    assert relations(docs, a, limit=1, offset=1) == [("successor", "d")]
    assert docs.call("GET", f"/documents/{a}/relations", 200).json()["total"] == 3
    relate(docs, c, "parent", a, 409)               # a second parent
    relate(docs, a, "parent", c, 409)               # a circle
    relate(docs, a, "parent", b, 409)
    relate(docs, a, "parent", a, 400)
    none = str(uuid.uuid4())
    relate(docs, a, "related", none, 404)
    relate(docs, none, "related", a, 404)
    docs.call("GET", f"/documents/{none}/relations", 404)
    for bad in ({}, {"kind": "parent"}, {"document_id": b}, {"kind": "x", "document_id": b}, {"kind": "parent", "document_id": "x"}, {"kind": 1, "document_id": b},
                {"kind": "parent", "document_id": b, "more": 1}, []):
        docs.call("POST", f"/documents/{a}/relations", 400, json=bad)
    docs.call("DELETE", f"/documents/{a}/relations", 204, params={"kind": "related", "document_id": e})
    docs.call("DELETE", f"/documents/{a}/relations", 404, params={"kind": "related", "document_id": e})
    docs.call("DELETE", f"/documents/{a}/relations", 400, params={"kind": "x", "document_id": e})
    docs.call("DELETE", f"/documents/{a}/relations", 400)
    docs.call("DELETE", f"/documents/{a}", 204)      # with b and c below it; d and e stay
    assert sorted(docs.names()) == ["d", "e"] and relations(docs, d) == []
    docs.assert_consistent()
