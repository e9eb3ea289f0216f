"""Blueprints: made, changed, versions, activated and not; what a session takes from one."""
import pytest

from test_first_light import final_answer, text_of


def test_three_ship(berth):
    agents = {a["name"]: a for a in berth.call("GET", "/agents", 200).json()["agents"]}
    for name in ("desktop-assistant", "data-analyst", "coder"):
        assert agents[name]["status"] == "active" and agents[name]["version"] == 1 and len(agents[name]["system_prompt"]) > 300
    assert agents["coder"]["slot"] == {"kind": "headless"} and "bash" in agents["coder"]["tools"]


def test_made_changed_deleted(berth):
    made = berth.call("POST", "/agents", 201, json={"name": "crud-1", "description": "d", "budget": {"turns": 5}}).json()
    assert made["status"] == "active" and made["version"] == 1 and made["tools"] is None and made["approval"] == {}
    assert berth.call("GET", "/agents/crud-1", 200).json() == made
    assert berth.call("POST", "/agents", 409, json={"name": "crud-1"}).json()["error"]["code"] == "conflict"
    changed = berth.call("PATCH", "/agents/crud-1", 200, json={"description": None, "model": "gpt-5.2", "provider": "openai"}).json()
    assert changed["version"] == 2 and changed["description"] == "" and changed["budget"] == {"turns": 5}
    again = berth.call("PATCH", "/agents/crud-1", 200, json={"model": "gpt-5.2", "provider": "openai"}).json()
    assert again["version"] == 2 and again["updated_at"] == changed["updated_at"]
    off = berth.call("PATCH", "/agents/crud-1/status", 200, json={"status": "inactive"}).json()
    assert off["status"] == "inactive" and off["version"] == 2
    assert [a["name"] for a in berth.call("GET", "/agents?status=inactive", 200).json()["agents"]] == ["crud-1"]
    berth.call("DELETE", "/agents/crud-1", 204)
    for method, path, body in (("GET", "/agents/crud-1", None), ("DELETE", "/agents/crud-1", None), ("PATCH", "/agents/crud-1", {}), ("GET", "/agents/no_name", None)):
        berth.call(method, path, 404, json=body)
    assert berth.call("POST", "/agents", 201, json={"name": "crud-1"}).json()["version"] == 3
    berth.call("DELETE", "/agents/crud-1", 204)


def test_pages(berth):
    names, cursor = [], ""
    while cursor is not None:
        page = berth.call("GET", f"/agents?limit=2{'&cursor=' + cursor if cursor else ''}", 200).json()
        names += [a["name"] for a in page["agents"]]
        cursor = page["next_cursor"]
    assert names == sorted(names) and {"coder", "data-analyst", "desktop-assistant"} <= set(names)


@pytest.mark.parametrize("body,field", [
    ({}, "name"),
    ({"name": "a b"}, "name"),
    ({"name": "a", "other": 1}, "other"),
    ({"name": "a", "status": "on"}, "status"),
    ({"name": "a", "provider": "acme", "model": "m"}, "provider"),
    ({"name": "a", "provider": "openai"}, "provider"),
    ({"name": "a", "tools": ["b c"]}, "tools"),
    ({"name": "a", "tools": [1]}, "tools"),
    ({"name": "a", "approval": {"bash": "maybe"}}, "approval"),
    ({"name": "a", "mcp_servers": [{}]}, "mcp_servers"),
    ({"name": "a", "skills": ["x"]}, "skills"),
    ({"name": "a", "skills": [{"document_id": "x"}]}, "skills"),
    ({"name": "a", "skills": [{"tag": "a b"}]}, "skills"),
    ({"name": "a", "mcp_servers": [{"name": "x"}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x y", "url": "https://h.example/mcp"}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "url": "ftp://h.example/mcp"}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "url": "https://u:p@h.example/mcp"}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "url": "https://h.example/mcp", "command": ["x"]}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "url": "https://h.example/mcp", "headers": {"a b": "c"}}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "url": "https://h.example/mcp", "headers": {"a": "c\nd: e"}}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "command": ["p"]}, {"name": "x", "command": ["q"]}]}, "mcp_servers"),
    ({"name": "a", "mcp_servers": [{"name": "x", "command": ["p"], "protocol": "newest"}]}, "mcp_servers"),
    ({"name": "a", "output_schema": {"type": "text"}}, "output_schema"),
    ({"name": "a", "output_schema": {"pattern": "x"}}, "output_schema"),
    ({"name": "a", "slot": {"kind": "external"}}, "slot"),
    ({"name": "a", "slot": {"depth": 1}}, "slot"),
    ({"name": "a", "budget": {"turns": -1}}, "budget"),
    ({"name": "a", "network": {"mode": "sometimes"}}, "network"),
], ids=str)
def test_refused(berth, body, field):
    error = berth.call("POST", "/agents", 400, json=body).json()["error"]
    assert error["code"] == "bad_request"
    assert error.get("field") in (field, None) or field == "slot", error


def test_a_session_begins_with_it(berth):
    berth.call("POST", "/agents", 201, json={"name": "narrow", "system_prompt": "You are Narrow, of the 7th test.", "model": "demo", "tools": ["bash", "str_replace_based_edit_tool"],
                                             "approval": {"str_replace_based_edit_tool": "deny"}, "slot": {"kind": "headless"}, "budget": {"turns": 50}})
    try:
        berth.model_requests()
        turns = [{"tools": [["bash", {"command": "echo ran"}], ["document_put", {"path": "/etc/hostname"}], ["str_replace_based_edit_tool", {"command": "view", "path": "/"}]]}, {"text": "done"}]
        session = berth.create(turns, agent_name="narrow")["session_id"]
        done = berth.wait_status(session, "idle", "failed")
        assert done["status"] == "idle" and done["budget"] == {"turns": 50} and done["model"] == "demo" and done["agent_name"] == "narrow"
        results = [e for e in berth.events(session) if e["event_type"] == "post_tool"]
        assert text_of(results[0]) == "ran"
        assert "There is no tool named" in results[1]["error"] and results[2]["error"] and len(results) == 3
        request = berth.model_requests()[0]["body"]
        assert "You are Narrow" in str(request["system"])
        assert [t["name"] for t in request["tools"]] == ["bash"]
    finally:
        berth.call("DELETE", "/agents/narrow", 204)


def test_what_the_request_says_wins(berth):
    berth.call("POST", "/agents", 201, json={"name": "weak", "model": "other", "budget": {"turns": 5}})
    try:
        session = berth.create([{"text": "ok"}], agent_name="weak", model="demo", budget={"tokens": 100000})["session_id"]
        done = berth.wait_status(session, "idle", "failed")
        assert done["model"] == "demo" and done["budget"] == {"tokens": 100000}
    finally:
        berth.call("DELETE", "/agents/weak", 204)


def test_inactive_is_refused_and_unknown_is_a_label(berth):
    berth.call("POST", "/agents", 201, json={"name": "asleep", "status": "inactive"})
    try:
        error = berth.call("POST", "/sessions", 422, json={"kind": "headless", "agent_name": "asleep", "message": "hi"}).json()["error"]
        assert error["code"] == "unprocessable" and "inactive" in error["message"]
        session = berth.create([{"text": "ok"}], agent_name="nobody-knows-me")["session_id"]
        assert berth.wait_status(session, "idle", "failed")["status"] == "idle"
    finally:
        berth.call("DELETE", "/agents/asleep", 204)


def test_a_raised_budget_goes_on(berth):
    session = berth.create([{"tools": [["bash", {"command": "echo one"}]]}, {"text": "went on"}], budget={"turns": 1})["session_id"]
    berth.wait_status(session, "waiting", "failed", "idle")
    waits = [e["reason"] for e in berth.events(session) if e["event_type"] == "status" and e["to"] == "waiting"]
    assert waits == ["the session's budget of 1 turns is used up"]
    berth.call("PATCH", f"/sessions/{session}/metadata", 400, json={"budget": {"turns": -1}})
    raised = berth.call("PATCH", f"/sessions/{session}/metadata", 200, json={"budget": {"turns": 9, "seconds": 600}}).json()
    assert raised["budget"] == {"turns": 9, "seconds": 600}
    assert berth.wait_status(session, "idle", "failed")["status"] == "idle"
    assert final_answer(berth.events(session)) == "went on"


def test_versions_stay(berth):
    berth.call("POST", "/agents", 201, json={"name": "versioned", "description": "one", "skills": [{"tag": "how-to"}],
                                             "mcp_servers": [{"name": "tools", "url": "https://h.example/mcp", "headers": {"Authorization": "Bearer x"}}], "output_schema": {"type": "object"}})
    changed = berth.call("PATCH", "/agents/versioned", 200, json={"description": "two", "output_schema": None}).json()
    assert changed["version"] == 2 and changed["output_schema"] is None and changed["skills"] == [{"tag": "how-to"}] and changed["mcp_servers"][0]["name"] == "tools"
    first = berth.call("GET", "/agents/versioned/versions/1", 200).json()
    assert first["description"] == "one" and first["output_schema"] == {"type": "object"} and first["name"] == "versioned"
    page = berth.call("GET", "/agents/versioned/versions?limit=1", 200).json()
    assert [v["version"] for v in page["versions"]] == [2] and page["next_cursor"]
    rest = berth.call("GET", f"/agents/versioned/versions?limit=1&cursor={page['next_cursor']}", 200).json()
    assert [v["description"] for v in rest["versions"]] == ["one"]
    berth.call("DELETE", "/agents/versioned", 204)
    assert len(berth.call("GET", "/agents/versioned/versions", 200).json()["versions"]) == 2
    for path in ("/agents/versioned/versions/3", "/agents/versioned/versions/x", "/agents/nobody/versions", "/agents/a%20b/versions"):
        berth.call("GET", path, 404)
    berth.call("GET", "/agents/versioned/versions?cursor=!!", 400)
