"""The API's own relational store: API keys and stored answers, in SQLAlchemy Core.

SQLite under the home folder by default; the statements are plain SQL, so that a PostgreSQL URL
serves as well.
"""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection

METADATA: Final = sa.MetaData()

API_KEYS: Final = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("key_id", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(64), nullable=False),
    sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("scopes", sa.String(256), nullable=False),  # words with a space between
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Column("revoked_us", sa.BigInteger),
)

STORED_ANSWERS: Final = sa.Table(
    "stored_answers",
    METADATA,
    sa.Column("caller", sa.String(16), primary_key=True),  # key id
    sa.Column("operation", sa.String(64), primary_key=True),
    sa.Column("idempotency_key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("created_us", sa.BigInteger, nullable=False),
    sa.Index("stored_answers_by_age", "created_us"),
)


def home_url(home: Path) -> str:
    """Name the SQLite file of a home folder."""
    return f"sqlite:///{home / 'api.db'}"


def open_database(url: str) -> sa.Engine:
    """Open a database and make the tables that it lacks."""
    engine = sa.create_engine(url)
    if make_url(url).get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    METADATA.create_all(engine)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
