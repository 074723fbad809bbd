"""What every room stands on, and no user imports. Importing it loads nothing heavy."""
