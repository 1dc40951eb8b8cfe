"""How pages are run: what is right passes, and what is wrong fails with its line."""

from pathlib import Path

import pytest

from tests.support.pages import BlockError, Page, check, missing, slug

pytestmark = pytest.mark.programs

APP = """
```python
# shop.py
from amqpjobs import App

app = App("shop")


@app.job(queue="receipts")
async def send(to: str) -> str:
    return f"sent to {to}"
```
"""


def run(text: str, tmp_path: Path) -> None:
    """A page of this text."""
    path = tmp_path / "trial.md"
    path.write_text(f"# Trial\n\nA page.\n{text}")
    (tmp_path / "page").mkdir()
    check(Page(path), tmp_path / "page")


@pytest.mark.timeout(180)
def test_a_page_of_every_kind_of_block(tmp_path: Path) -> None:
    """Files, a test, awaiting and synchronous code, commands, one that goes on, hidden code."""
    run(
        APP
        + """
<!-- run
hidden = "ada"
-->

```python
from shop import app, send

job = await send.later(hidden)
await t.run_until_idle()
assert t.results(send) == ["sent to ada"]
```

```python
with app.blocking() as client:
    client.later(send.message("bob"))
```

```python
async with app.testing() as own:
    await send.later("eve")
    await own.run_until_idle()
```

- in a list:

  ```python
  # test_shop.py
  from shop import app, send


  async def test_it():
      async with app.testing() as t:
          await send.later("eve")
          await t.run_until_idle()
          assert t.results(send)
  ```

```console
$ export AMQPJOBS_APP=shop:app
$ amqpjobs consume receipts &
...worker is ready...
... send done ...
$ amqpjobs enqueue send \\
    --args '"ada"'
...-...
```

```python compile
while True:
    await send.later("for ever")
```

```sh
amqpjobs consume receipts --concurrency 3 > log 2>&1  # a comment
AMQPJOBS_APP=shop:app amqpjobs dead list receipts | jq .
docker run shop
```

```json
{"event": "one"}
{"event": "two"}
```
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("block", "line", "match"),
    [
        ("```python\nassert 1 == 2\n```", 5, "AssertionError"),
        ("```python\nimport warnings\nwarnings.warn('old')\n```", 5, "UserWarning: old"),
        ("```python compile\ndef\n```", 5, "invalid syntax"),
        ("```python\n# shop.py\nimport nothing_like_it\n```", 5, "nothing_like_it"),
        ("```python\n# test_it.py\ndef test_it():\n    assert 0\n```", 5, "1 failed"),
        ("```console\n$ false\n```", 5, "exit status 1"),
        ("```console\n$ echo a; echo b\nb\na\n```", 5, "is to print 'a'"),
        ("```console\n$ echo a &\nb\n```", 5, "is to print 'b'"),
        ("```sh\namqpjobs consumes receipts\n```", 5, "No such command"),
        ("```sh\namqpjobs consume --app a:b receipts --speed 3\n```", 5, "No such option"),
        ("```sh\namqpjobs consume receipts --concurrency many\n```", 5, "valid integer"),
        ("```toml\na = \n```", 5, "Invalid value"),
        ("```json\n{\n```", 5, "Expecting property name"),
        ("```yaml\na: b: c\n```", 5, "mapping values"),
        ("```python\n", 4, "has no end"),
    ],
    ids=lambda value: value.splitlines()[0].strip("`") if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(block: str, line: int, match: str, tmp_path: Path) -> None:
    """With the page, and the line of the block."""
    with pytest.raises(BlockError, match=match) as caught:
        run(f"{block}\n", tmp_path)
    assert f"{line}: " in str(caught.value).splitlines()[0]
    assert "trial.md" in str(caught.value)


def test_lines_appear_in_their_order() -> None:
    """With what varies, and whatever spaces a table has."""
    assert missing(["a ... c", "...", "d"], "x\na    b c\ny\nd\n") is None
    assert missing(["d", "a"], "a\nd\n") == "a"
    assert missing(["a"], "a b\n") == "a"


def test_the_anchor_of_a_heading() -> None:
    """As the site makes it."""
    assert slug("What `Retry(on=...)` does, and why") == "what-retryon-does-and-why"
