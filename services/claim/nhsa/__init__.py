"""The payer's messages in the standard's field names, and what differs by province."""
