"""One pydantic document per kind of result; every field described with its unit."""
