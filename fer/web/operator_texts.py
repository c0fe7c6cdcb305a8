"""Texts of the review console, in English and in Bahasa Indonesia."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fer.errors import FerError
from fer.web.texts import DEFAULT_LANGUAGE, LANGUAGES, load

_FOLDER = Path(__file__).parent / "assets" / "review" / "texts"


@cache
def load_console(language: str) -> dict[str, str]:
    """All texts of the console in one language, by key; the pages' label names included."""
    own: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    labels = {key: text for key, text in load(language).items() if key.startswith("label.")}
    return {**labels, **own}


@dataclass(frozen=True)
class ConsoleTexts:
    """The console's texts in one language."""

    language: str

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key`, its placeholders filled in.

        Raises:
            KeyError: no such key, or a placeholder without a value.
        """
        return load_console(self.language)[key].format(**values)

    def html(self, key: str, **values: object) -> str:
        """As `__call__`, escaped for HTML."""
        return html.escape(self(key, **values))

    def error(self, error: FerError) -> str:
        """The sentence for an error, by its code; its own English one for a code without."""
        texts = load_console(self.language)
        reason = error.details.get("reason")
        sentence = texts.get(f"error.{error.code}.{reason}") or texts.get(f"error.{error.code}")
        if sentence is None:
            return error.message
        try:
            return sentence.format(**error.details)
        except (KeyError, IndexError):
            return error.message


def console_texts(language: str) -> ConsoleTexts:
    """The texts of `language`, or of the default where there is no such language."""
    return ConsoleTexts(language if language in LANGUAGES else DEFAULT_LANGUAGE)
