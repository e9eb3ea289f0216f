"""openapi.json names exactly the routes that the gateway's tables have, and is what the gateway serves."""
import json
import re

from conftest import ROOT

METHODS = {"HTTP_GET": "get", "HTTP_POST": "post", "HTTP_PUT": "put", "HTTP_PATCH": "patch", "HTTP_DELETE": "delete"}
# The page and the demo's files are not part of the API.
NOT_API = re.compile(r"^/(demo/)?\{[a-z]+\.\.\.\}$|^/$")


def test_every_route_is_described():
    tables = set()
    for path in (ROOT / "gatewayd").glob("*.c"):
        for method, pattern in re.findall(r"\{\s*(HTTP_[A-Z]+),\s*\"(/[^\"]*)\"", path.read_text()):
            if not NOT_API.match(pattern):
                tables.add((METHODS[method], re.sub(r"\.\.\.\}", "}", pattern)))
    described = {(method, path) for path, item in json.loads((ROOT / "gatewayd" / "openapi.json").read_text())["paths"].items() for method in item}
    assert described == tables


def test_it_is_served(berth):
    assert berth.call("GET", "/openapi.json", 200, headers={"Authorization": ""}).json() == json.loads((ROOT / "gatewayd" / "openapi.json").read_text())


def test_examples_are_right(own_berth):
    """The example of each body, as the reference shows it, is not refused as wrong; what it names may be missing."""
    berth = own_berth()
    paths = json.loads((ROOT / "gatewayd" / "openapi.json").read_text())["paths"]
    for path, item in paths.items():
        for method, operation in item.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is None:
                continue
            assert "example" in body, f"{method} {path} has no example"
            answer = berth.http.request(method.upper(), berth.stack.url + re.sub(r"\{\w+\}", "none", path), json=body["example"])
            # 422 and 409 of an id that does not exist, 404, 503 of a model that is not there: the body was understood.
            assert answer.status_code in (200, 201, 202, 204, 404, 409, 422, 502, 503), f"{method} {path}: {answer.status_code} {answer.text}"
