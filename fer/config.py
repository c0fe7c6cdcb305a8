"""Settings: environment variables `FER_*` or a `.env` file. There is no global instance."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from limits import parse_many
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from fer.errors import ConfigError

CollectMode = Literal["opt-out", "opt-in", "off"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_loopback(host: str) -> bool:
    """Whether a server bound to `host` can be reached from this machine only."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks from a list by comma.

    Raises:
        ValueError: a part is neither.
    """
    return tuple(ipaddress.ip_network(part) for part in _parts(text))


def _parts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


class Settings(BaseSettings):
    """Everything that an administrator can set; `fer settings` prints it."""

    model_config = SettingsConfigDict(
        env_prefix="FER_",
        env_file=".env",
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        env_ignore_empty=True,
        protected_namespaces=(),
    )

    host: str = Field("127.0.0.1", description="Address the page is served on.")
    port: int = Field(7860, ge=0, le=65535, description="Port the page is served on.")
    root_path: str = Field("", description="Sub-path behind a reverse proxy, such as /fer.")
    trusted_proxies: str = Field(
        "", description="Addresses or networks, by comma, whose X-Forwarded-For counts."
    )
    allowed_hosts: str = Field(
        "", description="Names, by comma, that the server answers to; empty: any."
    )
    rate_classify: str = Field(
        "30/minute;900/hour", description="Pictures that a visitor may have read, or off."
    )
    rate_feedback: str = Field(
        "60/minute;600/hour", description="Opinions that a visitor may give, or off."
    )
    rate_forget: str = Field(
        "20/minute;200/hour", description="Receipts that a visitor may try, or off."
    )
    rate_sign_in: str = Field(
        "30/minute;200/hour", description="Attempts to sign in from one address, or off."
    )
    rate_other: str = Field(
        "240/minute;6000/hour", description="Other calls of the page by a visitor, or off."
    )
    rate_per_address: int = Field(
        10, ge=1, description="How many visitors' rates one address has; a class may share it."
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Lines of the log: text for people, json for programs."
    )
    metrics_token: SecretStr | None = Field(
        None, description="Token that /metrics asks for from other machines; unset: they get none."
    )
    data_dir: Path = Field(Path("collected_data"), description="Where samples are kept.")
    models_dir: Path = Field(Path("models"), description="Where model versions live.")
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; unset: SQLite at <data_dir>/fer.db."
    )

    max_image_mb: float = Field(10.0, gt=0, description="Largest picture, in megabytes.")
    max_uploads_mb: float = Field(
        1000.0, gt=0, description="Most megabytes of pictures that wait to be read, all together."
    )
    max_image_megapixels: float = Field(40.0, gt=0, description="Largest picture, in megapixels.")
    min_image_px: int = Field(32, ge=1, description="Shortest side a picture must have, in pixels.")
    max_faces: int = Field(20, ge=1, description="Most faces read in one picture.")
    abstain: float = Field(
        0.40, ge=0, le=1, description="Below this confidence the page says it is not sure."
    )
    threads: int = Field(2, ge=1, le=64, description="Pictures classified at the same time.")

    collect: CollectMode | None = Field(
        None,
        description="opt-out, opt-in or off; unset: opt-out on a loopback address, else opt-in.",
    )
    retention_days: int = Field(30, ge=1, description="Days an undecided sample is kept.")
    retention_reviewed_days: int = Field(365, ge=1, description="Days a decided sample is kept.")
    max_collected_mb: float = Field(
        10_000.0, gt=0, description="Size of the data folder at which saving stops, in megabytes."
    )

    audit_share: float = Field(
        0.20, ge=0, le=0.9, description="Share of visitors' sessions set aside for blind audit."
    )
    second_opinion: float = Field(
        0.0, ge=0, le=1, description="Share of decided samples shown to another operator, blind."
    )

    retrain_schedule: str = Field(
        "0 3 * * *", description="Cron expression for retraining beside the page, or off."
    )
    gate_tolerance: float = Field(
        0.01, ge=0, le=0.5, description="Loss of accuracy on the base hold-out that is tolerated."
    )
    base_data: Path | None = Field(
        None, description="Original training data, to rehearse on real pictures when retraining."
    )

    @field_validator("root_path")
    @classmethod
    def _root_path(cls, value: str) -> str:
        value = value.rstrip("/")
        if value and not value.startswith("/"):
            raise ValueError("must begin with /")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _trusted_proxies(cls, value: str) -> str:
        try:
            networks(value)
        except ValueError as error:
            raise ValueError("must be addresses or networks, by comma") from error
        return value

    @field_validator("rate_classify", "rate_feedback", "rate_forget", "rate_sign_in", "rate_other")
    @classmethod
    def _rate(cls, value: str) -> str:
        try:
            usable = value == "off" or all(item.amount > 0 for item in parse_many(value))
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be off, or rates such as 30/minute;900/hour")
        return value

    @property
    def effective_hosts(self) -> tuple[str, ...]:
        """`allowed_hosts`, one by one."""
        return _parts(self.allowed_hosts)

    @property
    def effective_collect(self) -> CollectMode:
        """`collect`, or its default for the address that the page is bound to."""
        if self.collect is not None:
            return self.collect
        return "opt-out" if is_loopback(self.host) else "opt-in"

    @property
    def effective_database_url(self) -> str:
        """`database_url`, or SQLite in the data folder."""
        return self.database_url or f"sqlite:///{(self.data_dir / 'fer.db').absolute()}"


def load_settings() -> Settings:
    """Settings from the environment and `.env`.

    Raises:
        ConfigError: a value that cannot be used; the message names its variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "FER_" + "_".join(str(part) for part in first["loc"]).upper()
        # Not the value itself: it may be a token or a password in a URL.
        raise ConfigError(f"{name} cannot be used: {first['msg']}.", setting=name) from error
