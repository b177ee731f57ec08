"""What states are called on pages."""

from __future__ import annotations

#: The states of messages, :data:`inbox.messages.models.STATUSES`.
STATUS_WORDS = {
    "pending": "Waiting",
    "processing": "Being processed",
    "done": "Done",
    "failed": "To be tried again",
    "dead": "Given up",
}
#: The outcomes of attempts, :data:`inbox.messages.models.OUTCOMES`.
OUTCOME_WORDS = {"running": "Running", "done": "Done", "failed": "Failed", "lost": "Lost"}
IMPORT_WORDS = {"waiting": "Waiting", "reading": "Being read", "done": "Done", "failed": "Failed"}
#: Statuspage's indicators (https://www.githubstatus.com/api#status).
PROVIDER_WORDS = {
    "none": "Works",
    "minor": "Minor trouble",
    "major": "Major trouble",
    "critical": "Down",
    "maintenance": "In maintenance",
}
