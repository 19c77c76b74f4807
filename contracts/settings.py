"""All settings, read from `headwater.toml` and `HEADWATER_*`; the environment wins."""

from functools import lru_cache
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from contracts.errors import InvalidInput


class Settings(BaseSettings):
    """Settings of every command and server; each is documented in `docs/settings.md`."""

    model_config = SettingsConfigDict(
        env_prefix="HEADWATER_", toml_file="headwater.toml", extra="forbid", frozen=True
    )

    home: Path = Path("var")
    """Folder of all run-time data: event log, features, bundles, MLflow, records."""
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=1, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer requests; one of them writes."""
    ranker: Literal["in_process", "bentoml"] = "in_process"
    ranker_url: str = "http://127.0.0.1:8081"
    ranker_timeout_ms: int = Field(default=60, ge=1)
    source_deadline_ms: float = Field(default=40.0, gt=0)
    """Sources that would start later than this into retrieval are skipped, and it is said."""
    component_deadline_ms: float = Field(default=40.0, gt=0)
    """A component that can be left out and takes longer counts as failed; its answer is used."""
    feed_budget_ms: float = Field(default=150.0, gt=0)
    """When it is nearly spent before scoring, the feed falls to the next cheaper level."""
    recall_share: float = Field(default=0.002, ge=0, le=1)
    """Share of feeds whose candidates are compared with an exhaustive search, behind the answer."""
    online_store_url: str | None = None
    """Redis URL of Feast's online store; SQLite in `home` where it is absent."""
    cursor_secret: SecretStr | None = Field(default=None, min_length=16)
    """Key of feed cursors, 16 characters or more; made once and kept in `home` where absent."""
    snapshot_minutes: float = Field(default=30.0, gt=0)
    """How long a feed's later pages can be read."""
    record_days: int = Field(default=30, ge=1)
    """How long decision records are kept; the bundles that they name are needed as long."""
    clock_offset_seconds: int = 0
    """Added to the wall clock of the server, so that archived data can be served as fresh."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    require_services: bool = False
    """Tests: a service that is absent is a failure, not a skip."""
    data_dir: Path = Path("../shared/data")
    """Where the public data sets lie: for `headwater reproduce` without `--data`, and for tests."""

    def unhurried(self) -> "Settings":
        """Give these settings without deadlines: for one feed at a time, on a cold cache."""
        calm = ("source_deadline_ms", "component_deadline_ms", "feed_budget_ms")
        patient = {**dict.fromkeys(calm, 60_000.0), "ranker_timeout_ms": 60_000}
        return self.model_copy(update=patient)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the settings once a process; InvalidInput names each one that does not fit."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}"
            for e in error.errors(include_url=False, include_input=False)
        )
        msg = f"headwater.toml or HEADWATER_*: {problems}"
        raise InvalidInput(msg, hint="docs/settings.md lists the settings") from error
    except TOMLDecodeError as error:
        msg = f"headwater.toml is not TOML: {error}"
        raise InvalidInput(msg, hint="docs/settings.md lists the settings") from error
