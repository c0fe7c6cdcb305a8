"""What visitors are told before a picture is sent, and which version of it they saw."""

from __future__ import annotations

from fer.config import Settings
from fer.web.texts import Texts

#: Counts up whenever the wording of a `notice.*` text changes its meaning; tests pin the wording.
NOTICE_REVISION = 2


def notice_version(settings: Settings) -> str:
    """Names the wording and the settings it was filled in with, such as `2-opt-out-30-365`."""
    return (
        f"{NOTICE_REVISION}-{settings.effective_collect}-"
        f"{settings.retention_days}-{settings.retention_reviewed_days}"
    )


def notice_sentences(settings: Settings, texts: Texts) -> list[str]:
    """The notice, sentence by sentence.

    What the machine guesses, where the law forbids that, what is kept, why, how long, and how to
    delete it.
    """
    sentences = [texts("notice.guess"), texts("notice.law")]
    if settings.effective_collect == "off":
        return [*sentences, texts("notice.nothing_kept")]
    return [
        *sentences,
        texts("notice.kept"),
        texts("notice.why"),
        texts(
            "notice.how_long",
            days=settings.retention_days,
            reviewed=settings.retention_reviewed_days,
        ),
        texts("notice.delete"),
    ]
