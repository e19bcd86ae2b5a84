"""Publishes the contract: documents and samples made from the models, and their comparison."""
