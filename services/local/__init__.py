"""Embedded Kafka and PostgreSQL for one machine, and the supervisor of the processes on it."""
