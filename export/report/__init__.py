"""The evidence: tables, pictures and pages."""
