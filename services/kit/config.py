"""Settings of one process, from the environment (prefix `YAODA_`)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Where a process finds its broker, database, secrets and neighbours."""

    model_config = SettingsConfigDict(env_prefix="YAODA_", frozen=True)

    home: Path = Path(".yaoda/demo")
    pg_host: str = "127.0.0.1"
    pg_port: int = 5432
    pg_database: str = "yaoda"
    pg_user: str = ""
    pg_password: str = ""
    kafka: str = "127.0.0.1:9092"
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    slot: int = 0
    master_key_file: Path = Path(".yaoda/demo/secrets/master.key")
    tenants_file: Path = Path(".yaoda/demo/secrets/tenants.json")
    addresses: dict[str, str] = {}
    payer_url: str = "http://127.0.0.1:9101"
    payment_url: str = "http://127.0.0.1:9102"
    log_level: str = "INFO"

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Settings":
        """Those that a process with this environment would read."""
        values: dict[str, Any] = {
            name.removeprefix("YAODA_").lower(): value for name, value in environment.items()
        }
        if "addresses" in values:
            values["addresses"] = json.loads(values["addresses"])
        return cls(**values)
