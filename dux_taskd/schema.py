"""The tables of taskd. Bodies are JSON of the structs in model.py; the columns beside them are what is searched for."""

MIGRATIONS = [
    """
    CREATE TABLE tasks (
        task_id TEXT PRIMARY KEY, body BLOB NOT NULL, state TEXT NOT NULL, final INTEGER NOT NULL,
        proposing INTEGER NOT NULL, created_ms INTEGER NOT NULL);
    CREATE TABLE assignments (
        contract_id TEXT PRIMARY KEY, body BLOB NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL);
    CREATE INDEX assignments_state ON assignments (state);
    CREATE TABLE cases (
        contract_id TEXT PRIMARY KEY, body BLOB NOT NULL, state TEXT NOT NULL, created_ms INTEGER NOT NULL);
    CREATE INDEX cases_state ON cases (state);
    CREATE TABLE legs (
        contract_id TEXT PRIMARY KEY, task_id TEXT NOT NULL REFERENCES tasks, leg INTEGER NOT NULL);
    CREATE TABLE lines (
        number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT NOT NULL, at_ms INTEGER NOT NULL, text TEXT NOT NULL);
    CREATE INDEX lines_ref ON lines (ref);
    CREATE TABLE serving (service_id TEXT PRIMARY KEY);
    CREATE TABLE input_keys (blob TEXT PRIMARY KEY, key BLOB NOT NULL, audience BLOB NOT NULL);
    CREATE TABLE receipts (contract_id TEXT PRIMARY KEY, receipt BLOB NOT NULL);
    CREATE TABLE cursors (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    """,
    "CREATE TABLE stages (stages_id TEXT PRIMARY KEY, body BLOB NOT NULL);",
]
