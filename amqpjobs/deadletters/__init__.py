"""Dead letters as a workbench: `DeadLetters` is what ``app.dead_letters()`` returns."""

from amqpjobs.deadletters.letters import Group, Letter
from amqpjobs.deadletters.results import Look, Moved
from amqpjobs.deadletters.selection import Selection
from amqpjobs.deadletters.workbench import DeadLetters

__all__ = ["DeadLetters", "Group", "Letter", "Look", "Moved", "Selection"]
