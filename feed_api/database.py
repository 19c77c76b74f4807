"""The API's own relational store: API keys and stored answers, in SQLAlchemy Core.

SQLite under the home folder by default; the statements are plain SQL, so that a PostgreSQL URL
serves as well.
"""

from pathlib import Path
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    create_engine,
    event,
)
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection

METADATA: Final = MetaData()

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("key_id", String(16), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("secret_hash", LargeBinary(32), nullable=False),
    Column("scopes", String(256), nullable=False),  # words with a space between
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
)

STORED_ANSWERS: Final = Table(
    "stored_answers",
    METADATA,
    Column("caller", String(16), primary_key=True),  # key id
    Column("operation", String(64), primary_key=True),
    Column("idempotency_key", String(255), primary_key=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("stored_answers_by_age", "created_us"),
)


def home_url(home: Path) -> str:
    """Name the SQLite file of a home folder."""
    return f"sqlite:///{home / 'api.db'}"


def open_database(url: str) -> Engine:
    """Open a database and make the tables that it lacks."""
    engine = create_engine(url)
    if make_url(url).get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    METADATA.create_all(engine)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
