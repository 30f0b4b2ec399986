"""What de-identification adds to a tagger: patterns, propagation, policy, redaction."""
