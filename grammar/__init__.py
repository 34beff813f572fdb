"""The language as written: its grammar, its parser, its printer. Columns and types come later."""
