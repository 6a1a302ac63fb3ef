"""The pipeline: structures, labels, learning, properties, screening, each step a jobflow job."""

__version__ = "0.1.0"
