"""Chat completions against aimock, an independent fake of the cloud: tools, pictures, thinking, and going on with another model."""
import json

import pytest

from conftest import aimock, assert_gap_free, free_port
from test_first_light import final_answer, text_of, tools_of



def turn(index, response, said="go with the flow"):
    return {"match": {"userMessage": said, "turnIndex": index}, "response": response}


def call(name, arguments):
    return {"type": "toolCall", "name": name, "id": f"call_{name}", "arguments": json.dumps(arguments)}


FIXTURES = [
    turn(0, {"reasoning": "First the name.", "blocks": [{"type": "text", "text": "I look."}, call("bash", {"command": "echo one; exit 3"})]}),
    # The same id again in the next turn, as small servers do; two calls at once.
    turn(1, {"blocks": [call("bash", {"command": "echo two > /home/agent/f"}), call("str_replace_based_edit_tool", {"command": "view", "path": "/home/agent/f"})]}),
    turn(2, {"content": "It is done.", "usage": {"prompt_tokens": 120, "completion_tokens": 7}}),
]


@pytest.fixture(scope="module")
def openai_berth(tmp_path_factory):
    from conftest import Berth
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    port = free_port()
    command = aimock(fixtures, port, "-l", "0", "-c", "9")
    b = Berth(model_command=command, settings={"workerd": {"openai_url": f"http://127.0.0.1:{port}/v1/", "retries": "1", "fallback_models": "demo"}})
    try:
        yield b.start()
    finally:
        b.close()


def test_tools_over_several_turns(openai_berth):
    berth = openai_berth
    session = berth.create(message="go with the flow", model="openai/gpt-5.2")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=40)
    events = berth.events(session)
    assert done["status"] == "idle", done
    assert_gap_free(events)
    assert tools_of(events) == ["bash", "bash", "str_replace_based_edit_tool"]
    assert len({e["tool_call_id"] for e in events if e["event_type"] == "pre_tool"}) == 3
    outputs = [text_of(e) for e in events if e["event_type"] == "post_tool"]
    assert "two" in outputs[2]
    assert final_answer(events) == "It is done."
    assert [e["content"] for e in events if e["event_type"] == "thinking"] == ["First the name."]
    assert [e["turn"] for e in events if e.get("role") == "assistant"] == [1, 2, 3]
    assert done["usage"]["turns"] == 3 and done["usage"]["output_tokens"] >= 7


def test_another_model_goes_on(openai_berth):
    """aimock knows no such conversation and answers 404: the next model of the list takes over, as the other provider."""
    berth = openai_berth
    session = berth.create([{"text": "I helped out."}], model="openai/unknown")["session_id"]
    done = berth.wait_status(session, "idle", "failed", seconds=40)
    events = berth.events(session)
    assert done["status"] == "idle", done
    assert final_answer(events) == "I helped out."
    waits = [e["reason"] for e in events if e["event_type"] == "status" and e["to"] == "waiting"]
    assert len(waits) == 1 and "going on with demo" in waits[0], waits
