"""Every visible text, in English and in Bahasa Indonesia."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fer.errors import FerError

#: Languages of the pages, the default first, and what each calls itself.
LANGUAGES = {"en": "English", "id": "Bahasa Indonesia"}

DEFAULT_LANGUAGE = "en"

_FOLDER = Path(__file__).parent / "assets" / "texts"


@cache
def load(language: str) -> dict[str, str]:
    """All texts of one language, by key."""
    texts: dict[str, str] = json.loads((_FOLDER / f"{language}.json").read_text(encoding="utf-8"))
    return texts


@dataclass(frozen=True)
class Texts:
    """The texts of one language.

    Raises:
        KeyError: `language` is none of `LANGUAGES`.
    """

    language: str = DEFAULT_LANGUAGE

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise KeyError(self.language)

    def __call__(self, key: str, **values: object) -> str:
        """The text of `key`, its placeholders filled in.

        Raises:
            KeyError: no such key, or a placeholder without a value.
        """
        return load(self.language)[key].format(**values)

    def html(self, key: str, **values: object) -> str:
        """As `__call__`, escaped for HTML."""
        return html.escape(self(key, **values))

    def label(self, name: str) -> str:
        """A label as visitors read it; one that has no translation as it is."""
        return load(self.language).get(f"label.{name.casefold()}", name)

    def error(self, error: FerError) -> str:
        """The sentence for an error, by its code; a general one for a code without a sentence."""
        texts = load(self.language)
        reason = error.details.get("reason")
        general = texts.get(f"error.{error.code}", texts["error.error"])
        sentence = texts.get(f"error.{error.code}.{reason}", general)
        values = {name: self._value(value) for name, value in error.details.items()}
        try:
            return sentence.format(**values)
        except KeyError:
            return texts["error.error"]

    def percent(self, share: float) -> str:
        """A share in 0…1 as whole percent: `87 %`; `<1 %`, `>99 %` where it rounds to 0, 100."""
        if 0 < share < 0.005:
            return "<1 %"
        if 0.995 <= share < 1:
            return ">99 %"
        return f"{100 * share:.0f} %"

    def number(self, value: float, digits: int = 3) -> str:
        """A number with a fixed count of decimals and the language's decimal mark."""
        text = f"{value:.{digits}f}"
        return text.replace(".", ",") if self.language == "id" else text

    def _value(self, value: object) -> object:
        """A detail of an error: words that are units are translated too."""
        return load(self.language).get(f"unit.{value}", value)


def preferred(accept_language: str) -> str:
    """The language of the pages that an `Accept-Language` header asks for first."""
    wanted: list[tuple[float, int, str]] = []
    for position, part in enumerate(accept_language.split(",")[:20]):
        tag, _, parameters = part.strip().partition(";")
        quality = 1.0
        if parameters.strip().startswith("q="):
            try:
                quality = float(parameters.strip()[2:])
            except ValueError:
                quality = 0.0
        # Browsers once called Indonesian `in`.
        language = {"in": "id"}.get(tag.split("-")[0].casefold(), tag.split("-")[0].casefold())
        if language in LANGUAGES and quality > 0:
            wanted.append((-quality, position, language))
    return min(wanted)[2] if wanted else DEFAULT_LANGUAGE
