"""Two audits side by side: what changed between them, whether by more than chance, and what does not compare."""
