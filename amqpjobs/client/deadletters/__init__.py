"""Dead letters as a workbench: `DeadLetters` is what ``app.dead_letters()`` returns."""

from amqpjobs.client.deadletters.dead_letters import DeadLetters
from amqpjobs.client.deadletters.letter import Group, Letter
from amqpjobs.client.deadletters.report import Look, Moved
from amqpjobs.client.deadletters.selection import Selection

__all__ = ["DeadLetters", "Group", "Letter", "Look", "Moved", "Selection"]
