CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE ids (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace TEXT NOT NULL,
    external TEXT NOT NULL,
    UNIQUE (namespace, external)
);
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    event_id INTEGER NOT NULL UNIQUE,
    type INTEGER NOT NULL,
    viewer_id INTEGER NOT NULL,
    post_id INTEGER,
    target_id INTEGER,
    event_time INTEGER NOT NULL,
    known_time INTEGER NOT NULL,
    known_assumed INTEGER NOT NULL,
    value REAL,
    feed_id INTEGER,
    position INTEGER
);
CREATE TABLE segments (
    path TEXT PRIMARY KEY,
    month TEXT NOT NULL,
    rows INTEGER NOT NULL,
    min_seq INTEGER NOT NULL,
    max_seq INTEGER NOT NULL,
    min_us INTEGER NOT NULL,
    max_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX segments_by_seq ON segments (max_seq);
CREATE TABLE event_id_runs (path TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE people (
    person_id INTEGER PRIMARY KEY,
    created INTEGER,
    language TEXT,
    attributes TEXT
);
CREATE TABLE posts (
    post_id INTEGER PRIMARY KEY,
    author_id INTEGER,
    text TEXT NOT NULL,
    topics BLOB NOT NULL,
    language TEXT,
    created INTEGER NOT NULL,
    known INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    deleted_at INTEGER
);
CREATE TABLE follows (
    follower_id INTEGER NOT NULL,
    followee_id INTEGER NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (follower_id, followee_id)
) WITHOUT ROWID;
CREATE TABLE blocks (
    blocker_id INTEGER NOT NULL,
    blocked_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    since INTEGER NOT NULL,
    PRIMARY KEY (blocker_id, blocked_id, kind)
) WITHOUT ROWID;
