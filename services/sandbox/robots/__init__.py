"""The people and systems outside: each hears its feed and plans what it will do."""
