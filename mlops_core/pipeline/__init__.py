"""Notebooks as stages: executed, watched, verified, summed up."""

import sys

# jsonschema, which every notebook tool imports, compiles a grammar of IRIs when it finds this package: 0.7 seconds for
# each stage, and nothing here validates IRIs. It stands here because this is imported before any other of the package.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
