"""The notice says what the settings do, and its version follows wording and settings."""

from __future__ import annotations

import hashlib

import pytest

from fer.config import Settings
from fer.web.notice import NOTICE_REVISION, notice_sentences, notice_version
from fer.web.texts import LANGUAGES, Texts, load

#: SHA-256 over all `notice.*` texts, by revision. New wording: count `NOTICE_REVISION` up and add
#: its hash here; a revision that went out keeps its hash.
WORDING = {
    1: "48676f207d2e6eeb4aca76bde0789f8bd1250e590823d3329fae3a83aca1df79",
    2: "423ffaf870c92d93992e6251f620cf8606448c534022b6e4408dd75b1a23007c",
}


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)


def test_the_wording_belongs_to_the_revision() -> None:
    digest = hashlib.sha256()
    for language in LANGUAGES:
        for key, text in sorted(load(language).items()):
            if key.startswith("notice."):
                digest.update(f"{language}:{key}={text}\n".encode())
    assert WORDING[NOTICE_REVISION] == digest.hexdigest()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_notice_names_the_days(language: str) -> None:
    shown = " ".join(
        notice_sentences(settings(retention_days=17, retention_reviewed_days=423), Texts(language))
    )
    assert "17" in shown and "423" in shown


def test_where_nothing_is_kept_the_notice_says_so() -> None:
    shown = notice_sentences(settings(collect="off"), Texts())
    texts = Texts()
    assert shown == [texts("notice.guess"), texts("notice.law"), texts("notice.nothing_kept")]


@pytest.mark.parametrize(("language", "law"), [("en", "European Union"), ("id", "Uni Eropa")])
def test_notice_and_model_page_say_where_the_law_forbids_this(language: str, law: str) -> None:
    texts = Texts(language)
    for collect in ("opt-out", "opt-in", "off"):
        assert any(law in line for line in notice_sentences(settings(collect=collect), texts))
    assert law in texts("model.not_for2") and "5" in texts("model.not_for2")


def test_the_version_follows_the_settings_and_fits_its_column() -> None:
    assert notice_version(settings()) == f"{NOTICE_REVISION}-opt-out-30-365"
    assert notice_version(settings(host="0.0.0.0")) == f"{NOTICE_REVISION}-opt-in-30-365"
    long = settings(collect="opt-out", retention_days=99999, retention_reviewed_days=99999)
    assert len(notice_version(long)) <= 40
