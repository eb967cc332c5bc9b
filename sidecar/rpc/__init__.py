"""The gRPC side: thin. Decodes messages into columns, calls what is below, encodes answers.

Owns limits and statuses.
"""
