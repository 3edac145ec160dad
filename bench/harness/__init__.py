"""Whether the bench harness can be believed: its intervals, its gate, and what it costs itself."""
