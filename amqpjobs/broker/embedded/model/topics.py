"""Which patterns of a topic exchange a routing key matches.

A key is words between dots. In a pattern ``*`` stands for one word and ``#`` for any number of
words, none included: https://www.rabbitmq.com/tutorials/tutorial-five-python
"""

from typing import Generic, TypeVar

T = TypeVar("T")

_REMEMBERED = 4096  # routing keys; strangers make them up


class Topics(Generic[T]):
    """Patterns, and what each leads to. One target may be bound by several patterns."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._known: dict[str, tuple[T, ...]] = {}

    def add(self, pattern: str, target: T) -> None:
        """Let the pattern lead to the target; a second time counts as a second binding."""
        node = self._root
        for word in _words(pattern):
            node = node.words.setdefault(word, _Node())
        node.targets[target] = node.targets.get(target, 0) + 1
        self._known.clear()

    def remove(self, pattern: str, target: T) -> None:
        """Take back one `add` of the same pattern and target."""
        path = [self._root]
        words = _words(pattern)
        for word in words:
            path.append(path[-1].words[word])
        targets = path[-1].targets
        targets[target] -= 1
        if not targets[target]:
            del targets[target]
        for node, parent, word in zip(path[:0:-1], path[-2::-1], reversed(words), strict=True):
            if not node.targets and not node.words:
                del parent.words[word]
        self._known.clear()

    def match(self, key: str) -> tuple[T, ...]:
        """Every target once that a pattern leads to which this routing key matches."""
        known = self._known.get(key)
        if known is None:
            found: dict[T, None] = {}
            _collect(self._root, _words(key), 0, found)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[key] = tuple(found)
        return known


class _Node(Generic[T]):
    __slots__ = ("targets", "words")

    def __init__(self) -> None:
        self.words: dict[str, _Node[T]] = {}
        self.targets: dict[T, int] = {}


def _words(key: str) -> list[str]:
    return key.split(".") if key else []  # RabbitMQ: the empty key has no word


def _collect(node: _Node[T], words: list[str], at: int, found: dict[T, None]) -> None:
    if (rest := node.words.get("#")) is not None:
        for start in range(at, len(words) + 1):
            _collect(rest, words, start, found)
    if at == len(words):
        found.update(dict.fromkeys(node.targets))
        return
    word = words[at]
    if (next_node := node.words.get("*")) is not None:
        _collect(next_node, words, at + 1, found)
    # "*" and "#" in a routing key are words like others, and match themselves only there.
    if word not in ("*", "#") and (next_node := node.words.get(word)) is not None:
        _collect(next_node, words, at + 1, found)
