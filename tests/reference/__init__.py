"""The papers' formulas, written slowly and plainly, to compare against."""
