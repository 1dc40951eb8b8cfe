"""The OpenAPI document: each job with its own schemas, so that clients can be made of it."""

import httpx
import pytest

from amqpjobs import App
from amqpjobs.web.openapi import hoisted
from tests.support.web import served


async def test_every_job_has_a_path_of_its_own(client: httpx.AsyncClient) -> None:
    """Beside the general one, which has no schema."""
    document = (await client.get("/jobs/openapi.json")).json()
    paths = document["paths"]
    body = paths["/jobs/send_receipt"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["properties"]["id"] == {"minimum": 1, "title": "Id", "type": "integer"}
    answer = paths["/jobs/send_receipt/request"]["post"]["responses"]["200"]
    assert answer["content"]["application/json"]["schema"] == {"type": "string"}
    assert paths["/jobs/{name}"]["post"]["requestBody"]["content"]["application/json"] == {
        "schema": {}
    }
    assert "/jobs/docs" not in paths
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))


async def test_problems_are_described_as_what_they_are(client: httpx.AsyncClient) -> None:
    """As problem details; no other error body is promised."""
    document = (await client.get("/jobs/openapi.json")).json()
    for path in document["paths"].values():
        for operation in path.values():
            for status, response in operation["responses"].items():
                if int(status) >= 400:
                    assert list(response["content"]) == ["application/problem+json"]


async def test_the_page_shows_the_document(client: httpx.AsyncClient) -> None:
    """And may load what it needs for it, from one other place."""
    page = await client.get("/jobs/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "openapi.json" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy


def test_schemas_that_refer_to_others_keep_their_references() -> None:
    """Two jobs may have different models of one name."""
    schema = {
        "$defs": {"Node": {"properties": {"next": {"$ref": "#/$defs/Node"}}}},
        "properties": {"node": {"$ref": "#/$defs/Node"}},
    }
    schemas: dict[str, object] = {}
    first = hoisted(schema, "one job", schemas)
    second = hoisted(schema, "other", schemas)
    assert first["properties"]["node"]["$ref"] == "#/components/schemas/one_job.Node"
    assert second["properties"]["node"]["$ref"] == "#/components/schemas/other.Node"
    assert set(schemas) == {"one_job.Node", "other.Node"}
    assert "$defs" not in first


@pytest.mark.parametrize("name", ["a b", "a/b", "größe", "{x}"])
async def test_a_job_of_any_name_can_be_reached(shop_43: App, name: str) -> None:
    """Its path is what the document says."""

    @shop_43.job(queue="receipts", name=name)
    async def odd() -> None: ...

    async with served(shop_43) as client:
        paths = (await client.get("/jobs/openapi.json")).json()["paths"]
        summary = f"Enqueue a job: {name}"
        [path] = [p for p, o in paths.items() if o.get("post", {}).get("summary") == summary]
        answer = await client.post(path, json={})
    assert answer.json()["job"] == name
