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
